"""The named steps that drills are composed of."""
