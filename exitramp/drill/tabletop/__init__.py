"""Table-top drills: injects are read out, people decide, and what they decided is written down. Nothing is switched."""
