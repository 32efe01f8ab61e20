"""The package beside this file is tested in an environment of its own, where it is installed, and not from here."""

collect_ignore = ["exitramp-jsonl-store"]
