"""What a sink holds until its next flush: batches of rows, and the last word on every key in them.

A key is a text here, or a pair of texts where it stands in a namespace, and a row is one number: objects for both took
three times as long as everything else that becomes of a row before it is written (2 us of 2.8).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.canonical import dumps, parse
from exitramp.errors import DataInvalid
from exitramp.payloads import canonical_faults
from exitramp.ports.set_aside import set_aside
from exitramp.records import RecordKey

Key = str | tuple[str, str]
"""An id, or a namespace and an id."""
_DELETED: Final = -1
_HELD_BYTES: Final = 32 * 2**20


def plain_keys(batch: pa.RecordBatch) -> Sequence[Key]:
    """The key of every row."""
    spaces = batch.column("namespace").to_pylist() if "namespace" in batch.schema.names else None
    return joined_keys(batch.column("id").to_pylist(), spaces)


def joined_keys(ids: Sequence[str], spaces: Sequence[str | None] | None) -> Sequence[Key]:
    """The keys of these ids in these namespaces."""
    if spaces is None or spaces.count(None) == len(spaces):
        return ids
    return [id_ if space is None else (space, id_) for id_, space in zip(ids, spaces, strict=True)]


class Gathered:
    """Rows and deletions in the order in which they came. `nbytes` is what the rows take.

    With a `folder` no more than some of them are in memory, and the others set aside there.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.nbytes = 0
        self._folder = folder
        self._aside = self._aside_bytes = 0  # so many batches, and bytes
        self._batches: list[pa.RecordBatch] = []
        self._starts = [0]
        self._latest: dict[Key, int] = {}  # the number of a row, counted through all batches

    def __bool__(self) -> bool:
        return bool(self._latest)

    @property
    def keys(self) -> Sequence[Key]:
        """Those that something was said of."""
        return list(self._latest)

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Of each of `keys` the number of its last row, counted through all batches; less than 0 where it is gone."""
        return np.fromiter(self._latest.values(), np.int64, len(self._latest))

    @property
    def gone(self) -> list[RecordKey]:
        """The keys that are to be deleted."""
        found = [key for key, number in self._latest.items() if number == _DELETED]
        return [RecordKey(key) if isinstance(key, str) else RecordKey(key[1], key[0]) for key in found]

    def add(self, batch: pa.RecordBatch, *, where: str) -> None:
        """Payloads may come in any order of keys, and are held in the canonical one.

        Raises `DataInvalid` for an id that stands twice, or a payload that is no JSON, naming its record.
        """
        keys = plain_keys(batch)
        if len(set(keys)) != len(keys):
            raise DataInvalid(f"{where}: an id stands twice in one batch")
        batch = _with_canonical_payloads(batch)
        start = self._starts[-1]
        self._batches.append(batch)
        self._starts.append(start + len(keys))
        self._latest.update(zip(keys, range(start, start + len(keys)), strict=True))
        self.nbytes += batch.nbytes
        if self._folder is not None and self.nbytes - self._aside_bytes > _HELD_BYTES:
            self._batches[self._aside :] = set_aside(self._batches[self._aside :], self._folder)
            self._aside, self._aside_bytes = len(self._batches), self.nbytes

    def remove(self, keys: Sequence[RecordKey]) -> None:
        self._latest.update((key.id if key.namespace is None else (key.namespace, key.id), _DELETED) for key in keys)

    def kept(self) -> Iterator[pa.RecordBatch]:
        """The rows that are the last word on their key, in the order in which they came."""
        for batch, rows in self.last():
            yield batch if len(rows) == batch.num_rows else batch.take(pa.array(rows))

    def last(self) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.int64]]]:
        """As `kept`, each batch with the numbers of such rows in it, if there are any."""
        last = np.zeros(self._starts[-1], dtype=bool)
        numbers = self.numbers
        last[numbers[numbers >= 0]] = True
        for batch, start in zip(self._batches, self._starts, strict=False):
            rows = np.flatnonzero(last[start : start + batch.num_rows])
            if len(rows):
                yield batch, rows


def _with_canonical_payloads(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows, with the payloads that are in another form in the canonical one: mostly there are none."""
    faults = canonical_faults(batch.column("payload"))
    if not faults:
        return batch
    texts: list[str | None] = batch.column("payload").to_pylist()
    for row in faults:
        try:
            texts[row] = dumps(parse(texts[row] or ""))
        except DataInvalid as error:
            spaces = batch.column("namespace") if "namespace" in batch.schema.names else pa.nulls(batch.num_rows)
            key = RecordKey(batch.column("id")[row].as_py(), spaces[row].as_py())
            raise DataInvalid(f"the payload of the record '{key}' is {error.message}") from error
    spot = batch.schema.get_field_index("payload")
    return batch.set_column(spot, batch.schema.field(spot), pa.array(texts, pa.string()))
