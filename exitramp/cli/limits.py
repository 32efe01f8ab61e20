"""Limits of reading for commands that keep nothing of what they read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from exitramp.cli.options import LIMITS, limited
from exitramp.errors import SpendExceeded
from exitramp.registry import store_adapter
from exitramp.wrappers.opening import parse_address


def limited_pair(a: str, b: str, options: dict[str, Any]) -> tuple[str, str]:
    """Both addresses, the limits that were given, which are taken out of `options`, in each that counts its reading.

    Each side is limited by itself. Raises `UsageError` where neither counts.
    """
    given = {name: options.pop(name) for name in LIMITS}
    if all(value is None for value in given.values()):
        return a, b
    counting = [store_adapter(parse_address(each).scheme).counts_reading for each in (a, b)]
    if not any(counting):
        return limited(a, given), b
    found = [limited(each, dict(given)) if counts else each for each, counts in zip((a, b), counting, strict=True)]
    return found[0], found[1]


@contextmanager
def nothing_kept() -> Iterator[None]:
    """A limit that is met inside ends a command that begins anew the next time, and its error says so."""
    try:
        yield
    except SpendExceeded as error:
        error.hint = (
            "nothing is kept of what this command read: give a limit above what 'exitramp inspect' reckons for a whole "
            "reading, or dump it first, which goes on where a limit ended it, and use the dump"
        )
        raise
