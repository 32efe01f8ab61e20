"""Packaged drills: YAML, no code."""
