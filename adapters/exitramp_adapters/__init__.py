"""Adapters: one file per vendor, found by entry point."""
