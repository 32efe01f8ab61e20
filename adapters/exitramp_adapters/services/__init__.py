"""Things that a drill starts and breaks, each a process of its own."""
