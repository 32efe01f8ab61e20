"""Records in one order, for stores that have all their keys at hand: parts of it, and cursors that resume behind one.

A place outlives whatever is written meanwhile, as an offset does not.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

from exitramp.errors import UsageError
from exitramp.ports.reading import Cursor, Partition, make_cursor, read_cursor
from exitramp.records import RecordKey

Place = tuple[bool, str, str]
"""Where a record stands: those in no namespace first, then by namespace and id, by code points."""


def place_of(key: RecordKey) -> Place:
    return (key.namespace is not None, key.namespace or "", key.id)


def parts_of(places: Sequence[Place], wanted: int) -> list[Partition]:
    """At most `wanted` ranges with about equally many records now; the first and the last are open, so later ones fit.
    `places` are sorted."""
    parts = max(1, min(wanted, len(places)))
    bounds = [None, *(places[len(places) * part // parts] for part in range(1, parts)), None]
    return [Partition(part, parts, json.dumps(bounds[part : part + 2])) for part in range(parts)]


def cursor_behind(place: Place | None) -> Cursor:
    """A cursor that resumes behind `place`; None: at the beginning."""
    return make_cursor(place=place)


def span(places: Sequence[Place], partition: Partition, after: Cursor | None) -> tuple[int, int]:
    """From where to where in the sorted `places` a scan of `partition` goes that resumes `after` a cursor."""
    start, end = (_place(bound) for bound in json.loads(partition.token or "[null, null]"))
    behind = None if after is None else _place(read_cursor(after).get("place"))
    low = 0 if start is None else bisect_left(places, start)
    if behind is not None:
        low = max(low, bisect_right(places, behind))
    return low, len(places) if end is None else bisect_left(places, end)


def require_page_rows(batch_rows: int) -> None:
    """Raises `UsageError` for a page without room for a record."""
    if batch_rows < 1:
        raise UsageError(f"a page of {batch_rows} rows cannot be read")


def _place(value: Any) -> Place | None:
    return None if value is None else (bool(value[0]), str(value[1]), str(value[2]))
