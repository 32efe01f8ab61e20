"""Leaving an embedding model: the documents embedded anew, or their vectors mapped, and what that costs."""
