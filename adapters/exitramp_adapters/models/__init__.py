"""Model vendors, one file per API shape."""
