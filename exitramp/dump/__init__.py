"""Dumps: a collection as a folder of open files, and just another store to read from or write to."""
