"""Whether a store that keeps records in another form answers a filter as the records themselves would.

A store looks at what stands natively in it. Where a marker holds the original of a payload key (a null in Chroma, a
timestamp, an integer beyond what the store counts to) the two may differ, and nobody would see it in the hits. So
before a filter's answer is believed, every record with a marker is asked twice: as it stands there, and as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exitramp import canonical
from exitramp.arrow import record_keys
from exitramp.codec import marker
from exitramp.codec.decoding import DecodingSource, decode_batch
from exitramp.codec.layout import Layout
from exitramp.codec.noticed import Noticed
from exitramp.codec.payload import FLOAT_TOLERANCE_ULP
from exitramp.errors import UsageError
from exitramp.filters import And, Exists, Field, Filter, In, Leaf, Not, Or, Range, holds, leaves, matches
from exitramp.ports import VectorSource
from exitramp.records import RecordKey

_BATCH_ROWS: Final = 500
# What is read may be as far from what the store compares as what it compares is from what was written.
_REACH_ULP: Final = 2 * FLOAT_TOLERANCE_ULP


class NativeFilters:
    """Tells which filters a store may be asked. `source` is undecoded, `decoded` the same with its layout.

    The first filter costs a scan of all records. A later one does only where a marker touches its keys, and that scan
    ends at the first record whose answer is another.
    """

    def __init__(self, source: VectorSource, decoded: DecodingSource) -> None:
        self._source = source
        self._decoded = decoded
        self._touched: set[str] | None = None
        self._known: dict[str, str | None] = {}

    def require_exact(self, where: Filter) -> None:
        """Raises `UsageError` naming the keys, where the store's answer would not be that of the records."""
        # Not the filter itself: to Python, 1 and True and 1.0 are the same key.
        name = repr(where)
        if name not in self._known:
            self._known[name] = self._objection(where)
        objection = self._known[name]
        if objection is not None:
            raise UsageError(objection, hint="filter on a key that the store keeps as it is")

    def _objection(self, where: Filter) -> str | None:
        known = self._touched
        if known is not None and not known & {leaf.field[0] for leaf in leaves(where)}:
            return None
        touched: set[str] = set()
        found: tuple[RecordKey, set[str]] | None = None
        for record in _marked(self._source, self._decoded.layout):
            if found is None and record.answer(where) is not matches(where, record.original):
                found = record.key, record.differing(where)
                if known is not None:
                    break
            touched |= record.touched()
        self._touched = known if known is not None else touched
        if found is None:
            return None
        keys = ", ".join(map(repr, sorted(found[1])))
        store = self._source.identity().adapter
        return f"{keys} is not kept natively in {store} (record '{found[0]}'): a filter on it cannot be answered"


@dataclass(frozen=True, slots=True)
class _Marked:
    """A record with a marker: its payload as the store holds it, marker and all, and as it was."""

    key: RecordKey
    native: Mapping[str, Any]
    original: Any
    entries: Mapping[str, Any]

    def touched(self) -> set[str]:
        """The top-level keys whose native value is not the original one."""
        document = {self.entries["doc"]["k"]} if "k" in self.entries.get("doc", {}) else set[str]()
        return {marker.MARKER_KEY, *self.entries.get("top", {})} | document

    def answer(self, where: Filter) -> bool | None:
        """What the store answers, None where that hangs on how it rounded a number."""
        match where:
            case And(parts):
                answers = {self.answer(part) for part in parts}
                return False if False in answers else None if None in answers else True
            case Or(parts):
                answers = {self.answer(part) for part in parts}
                return True if True in answers else None if None in answers else False
            case Not(part):
                answer = self.answer(part)
                return None if answer is None else not answer
        return None if self._hangs_on_rounding(where) else holds(where, self.native)

    def differing(self, where: Filter) -> set[str]:
        """The top-level keys on which the store's answer is another, or may be."""
        return {leaf.field[0] for leaf in leaves(where) if self.answer(leaf) is not holds(leaf, self.original)}

    def _hangs_on_rounding(self, leaf: Leaf) -> bool:
        """Whether a number of the filter lies so near to one that the store rounds that either may be less there."""
        entry = self.entries.get("top", {}).get(leaf.field[0])
        if entry is None or entry["n"] != marker.FLOAT_TOLERANT:
            return False
        for original in _floats_at(entry["o"], leaf.field[1:]):
            reach = _REACH_ULP * math.ulp(original)
            if any(original - reach <= number <= original + reach for number in _numbers(leaf)):
                return True
        return False


def _floats_at(value: Any, path: Field) -> list[float]:
    """The floats that a filter on this path looks at: the value there, or the items of a list."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if type(item) is float]


def _numbers(leaf: Leaf) -> Iterator[int | float]:
    match leaf:
        case Exists():
            return
        case Range(_, gte, gt, lte, lt):
            values: tuple[Any, ...] = (gte, gt, lte, lt)
        case In(_, several):
            values = several
        case _:
            values = (leaf.value,)
    yield from (value for value in values if type(value) is int or type(value) is float)


def _marked(source: VectorSource, layout: Layout) -> Iterator[_Marked]:
    """The records that carry a marker. Their vectors are left out, which halves the time of decoding."""
    bare = Layout(replace(layout.original, vectors=()), replace(layout.native, vectors=()), ())
    for partition in source.partitions(1):
        for page in source.scan(partition, batch_rows=_BATCH_ROWS):
            texts = page.batch.column("payload")
            suspects = pc.fill_null(pc.match_substring(texts, f'"{marker.MARKER_KEY}"'), False)
            rows = pa.array(np.flatnonzero(np.asarray(suspects)))
            if not len(rows):
                continue
            columns = [name for name in page.batch.schema.names if name in ("id", "namespace", "document", "payload")]
            batch = page.batch.select(columns).take(rows)
            decoded = decode_batch(batch, bare, Noticed())
            originals = decoded.column("payload").to_pylist()
            for key, text, original in zip(
                record_keys(decoded), batch.column("payload").to_pylist(), originals, strict=True
            ):
                native = canonical.loads(text)
                entries = marker.read(native.get(marker.MARKER_KEY)) if isinstance(native, dict) else None
                if entries is not None:
                    yield _Marked(key, native, None if original is None else canonical.loads(original), entries)
