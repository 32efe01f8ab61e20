"""Two runs of one set compared: pairs, verdicts, and what flipped."""
