"""A store whose adapter raises what its port has no word for: told as the adapter's fault, in the port's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from exitramp.errors import ExitrampError, StoreProtocolError
from exitramp.ports.unforeseen import place_of

T = TypeVar("T")


class Guarded:
    """A policy under which a call raises `ExitrampError`, or what the machine does (`OSError`, `MemoryError`).

    A library's exceptions are the adapter's to translate. Of one that it forgot only kind and place are told: its words
    may hold a value or a key.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def run(self, operation: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except (ExitrampError, OSError, MemoryError):
            raise
        except Exception as error:
            raise StoreProtocolError(
                f"{self._what}: its adapter raised {place_of(error)} in {operation}, which no store's port knows",
                hint="tell whoever made the adapter; what it may raise stands in docs/write-an-adapter.md",
            ) from error
