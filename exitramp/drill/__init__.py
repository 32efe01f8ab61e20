"""Drills: a stack is taken out, cut off and replaced under measurement, and every step is written down."""
