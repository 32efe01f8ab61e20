"""A filter that lets nothing through: by which of its keys, and whether any record has that key at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from exitramp.codec import DecodingSource
from exitramp.filters import Exists, Field, Filter, leaves, matches
from exitramp.parity.alignment import read_all
from exitramp.parity.neighbour_result import NeighbourParity
from exitramp.payloads import decoded_payloads
from exitramp.records import Finding
from exitramp.wording import counted

_BATCH_ROWS = 1000


def unmatched(source: DecodingSource, filters: Mapping[str, Filter], found: NeighbourParity) -> Iterator[Finding]:
    """What is to be said of those of the user's `filters` (by name) under which A has nothing to find.

    Reads A once more where there is one. That nothing was measured is a finding already.
    """
    empty = {part.name: filters[part.name] for part in found.parts if part.name in filters and not part.matching}
    fields = {leaf.field for where in empty.values() for leaf in leaves(where)}
    if not fields:
        return
    rows, having = _rows_having(source, fields)
    for name, where in empty.items():
        asked = dict.fromkeys(leaf.field for leaf in leaves(where))
        told = "; ".join(_told(field, having[field]) for field in asked)
        step = (
            {} if all(having[field] for field in asked) else {"next": "exitramp inspect shows the keys that there are"}
        )
        text = f"none of A's {counted(rows, 'record')} passes the filter {name}: {told}"
        yield Finding("neighbours.unmatched", text, detail={"part": name, **step})


def key_text(field: Field) -> str:
    """A field of a filter as it is written there: one key, or a list of them."""
    return field[0] if len(field) == 1 else json.dumps(list(field), ensure_ascii=False)


def _told(field: Field, rows: int) -> str:
    has = counted(rows, "record has", "records have") if rows else "no record has"
    return f"{has} the payload key {key_text(field)!r}"


def _rows_having(source: DecodingSource, fields: set[Field]) -> tuple[int, dict[Field, int]]:
    rows, having = 0, dict.fromkeys(fields, 0)
    for batch in read_all(source, batch_rows=_BATCH_ROWS):
        rows += len(batch)
        for payload in decoded_payloads(batch.column("payload")):
            for field in fields:
                having[field] += matches(Exists(field), payload)
    return rows, having
