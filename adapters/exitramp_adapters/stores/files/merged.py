"""Files and the segments that were written since as one collection: of each key the latest write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import stream_schema
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, Finding, RecordKey
from exitramp_adapters.stores.files.growing import Growing
from exitramp_adapters.stores.files.staging import Segment
from exitramp_adapters.stores.files.store import Snapshot, hashes_of, key_hash

_ROWS: Final = 4096


class Merged:
    """A collection whose files and segments are one: of each key the latest write."""

    findings: tuple[Finding, ...] = ()

    def __init__(
        self,
        spec: CollectionSpec,
        origin: Origin | None,
        base: Snapshot | None,
        segments: Sequence[Segment],
        mark: str,
        vectors: Growing | None = None,
    ) -> None:
        self.spec, self.origin, self.mark = spec, origin, mark
        self._base, self._vectors = base, vectors
        self._parts: list[Snapshot | Segment] = [*([] if base is None else [base]), *segments]
        self._alive = _alive(self._parts)
        sizes = [
            part.rows if alive is None else len(alive) for part, alive in zip(self._parts, self._alive, strict=True)
        ]
        self._starts = [0, *np.cumsum(sizes, dtype=np.int64).tolist()]
        self.rows = self._starts[-1]
        self.parts = range(0, self.rows, _ROWS)

    def hashes(self) -> npt.NDArray[np.int64]:
        found = [np.zeros(0, np.int64)]
        for part, alive in zip(self._parts, self._alive, strict=True):
            found.append(part.hashes() if alive is None else part.hashes()[alive])
        return np.concatenate(found)

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        schema = stream_schema(self.spec)
        for part, low, high, rows in self._inside(start, stop):
            at = low
            for batch in part.read(low, high):
                at += batch.num_rows
                if rows is not None:
                    batch = batch.take(pa.array(_within(rows, at - batch.num_rows, at)))
                if batch.num_rows:
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    def keys(self, start: int, stop: int) -> Iterator[list[RecordKey]]:
        for part, low, high, rows in self._inside(start, stop):
            at = low
            for keys in part.keys(low, high):
                at += len(keys)
                yield keys if rows is None else [keys[row] for row in _within(rows, at - len(keys), at).tolist()]

    def _inside(self, start: int, stop: int) -> Iterator[tuple[Any, int, int, npt.NDArray[np.int64] | None]]:
        """Each part that has some of these rows, from which to which of its own they stand, and which they are."""
        for number, (part, alive) in enumerate(zip(self._parts, self._alive, strict=True)):
            low, high = max(start, self._starts[number]), min(stop, self._starts[number + 1])
            if low >= high:
                continue
            low, high = low - self._starts[number], high - self._starts[number]
            rows = None if alive is None else alive[low:high]
            yield (part, low, high, None) if rows is None else (part, int(rows[0]), int(rows[-1]) + 1, rows)

    def grown(self) -> Growing | None:
        """The file of the vectors, where it holds just these rows in this order."""
        segments = [part for part in self._parts if isinstance(part, Segment)]
        if not self.rows or len(segments) < len(self._parts) or any(alive is not None for alive in self._alive):
            return None
        stops = [0, *(segment.stop for segment in segments)]
        whole = [segment.first for segment in segments] == stops[:-1] and stops[-1] == self.rows
        return self._vectors if whole else None

    def require_unchanged(self) -> None:
        """The files are held open, and segments stay until the files are there."""

    def close(self) -> None:
        if self._base is not None:
            self._base.close()


def _within(rows: npt.NDArray[np.int64], low: int, high: int) -> npt.NDArray[np.int64]:
    """Those of the sorted `rows` from `low` to `high`, counted from `low`."""
    first, last = np.searchsorted(rows, [low, high])
    return rows[first:last] - low


def _alive(parts: Sequence[Any]) -> list[npt.NDArray[np.int64] | None]:
    """Of each part the rows that no later one wrote again or deleted; None: all of them.

    Keys are compared by their hashes first. Only those that share one with another are looked at themselves, which in a
    plain load are none.
    """
    gone = [getattr(part, "gone", []) for part in parts]
    hashes = [part.hashes() for part in parts]
    every = np.concatenate([np.zeros(0, np.int64), *hashes, *(hashes_of(keys, len(keys)) for keys in gone)])
    values, counts = np.unique(every, return_counts=True)
    shared = values[counts > 1]
    if not len(shared):
        return [None] * len(parts)
    latest: dict[RecordKey, tuple[int, int]] = {}
    dead: list[list[int]] = [[] for _ in parts]
    wanted = set(shared.tolist())
    for number, part in enumerate(parts):
        for key in gone[number]:
            if key_hash(key) in wanted and key in latest:
                where, row = latest.pop(key)
                dead[where].append(row)
        suspects = np.flatnonzero(np.isin(hashes[number], shared))
        for row, key in _keys_at(part, suspects):
            if key in latest:
                where, before = latest[key]
                dead[where].append(before)
            latest[key] = number, row
    return [
        None if not rows else np.setdiff1d(np.arange(len(found)), np.array(rows, np.int64))
        for rows, found in zip(dead, hashes, strict=True)
    ]


def _keys_at(part: Any, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, RecordKey]]:
    if not len(rows):
        return
    at, wanted = int(rows[0]), set(rows.tolist())
    for keys in part.keys(at, int(rows[-1]) + 1):
        for key in keys:
            if at in wanted:
                yield at, key
            at += 1
