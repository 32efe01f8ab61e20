"""Runs: a set asked of something, kept in a folder."""
