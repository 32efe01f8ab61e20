"""Your own application as what is questioned: over HTTP, or as a command."""

from exitramp.evals.apps.file import AppFile, open_app, read_app

__all__ = ["AppFile", "open_app", "read_app"]
