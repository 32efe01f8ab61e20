"""Versioned prompts: checked for what makes them portable, and taken over from other tools."""
