"""Rows of columns that need not be in memory: those of a side-car, where they lie, and what is made of them.

Documents, payloads and originals are most of what an index file holds besides its index: 0.6 KB a row of texts in the
benchmark, and 1.5 KB of originals, which no scan needs longer than a page. Whoever asks in ascending order is given one
group of rows after the other; for whoever asks anyhow all of them are set aside once, unpacked, outside of memory.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from exitramp.errors import IntegrityError
from exitramp.ports.set_aside import set_aside

Numbers = npt.NDArray[np.int64]
GROUP_ROWS: Final = 4096
"""So many rows are encoded and decoded at once. Arrow takes 4 bytes for each number of a vector to say where it
belongs, and more for what it reads ahead: of 25,000 x 384 in one group, which are 37 MiB, 290 were in memory for a
moment."""
ASIDE_BYTES: Final = 16 * 2**20
"""So much is set aside in one file."""


class Rows(Protocol):
    """Rows from 0 on, each with the same columns."""

    def __len__(self) -> int: ...

    def take(self, rows: Numbers) -> pa.RecordBatch:
        """These rows, in this order. Raises `IntegrityError` where a file is damaged."""
        ...

    def forward(self, names: Sequence[str]) -> Rows:
        """The same rows with these columns, for one who takes them in ascending order and on one thread."""
        ...


def located(starts: Numbers, rows: Numbers) -> Iterator[tuple[int, Any, Numbers]]:
    """In which piece these rows stand, of pieces that start at `starts`: for each such piece the places in `rows`, and
    what they are in the piece. Places are a slice where the rows of a piece stand together."""
    if not len(rows):
        return
    at = np.searchsorted(starts, rows, side="right") - 1
    order = None if (np.diff(at) >= 0).all() else np.argsort(at, kind="stable")
    at = at if order is None else at[order]
    bounds = [0, *(np.flatnonzero(np.diff(at)) + 1).tolist(), len(rows)]
    for low, high in pairwise(bounds):
        piece = int(at[low])
        spots: Any = slice(low, high) if order is None else order[low:high]
        yield piece, spots, rows[spots] - starts[piece]


def is_run(rows: Numbers) -> bool:
    return int(rows[-1]) - int(rows[0]) == len(rows) - 1 and bool((np.diff(rows) == 1).all())


class _InPieces:
    """Rows that stand in pieces, one behind the other."""

    def __init__(self, schema: pa.Schema, counts: Sequence[int]) -> None:
        self.schema = schema
        self.starts = np.cumsum([0, *counts[:-1]], dtype=np.int64)
        self.count = sum(counts)

    def __len__(self) -> int:
        return self.count

    def taken(self, piece: int, rows: Numbers) -> pa.RecordBatch:
        raise NotImplementedError

    def take(self, rows: Numbers) -> pa.RecordBatch:
        parts, places = [], []
        for piece, spots, inside in located(self.starts, rows):
            found = self.taken(piece, inside)
            parts.append(
                pa.RecordBatch.from_arrays(found.columns, schema=self.schema)
            )  # files differ in what may be null
            places.append(spots)
        if not parts:
            return pa.RecordBatch.from_pylist([], self.schema)
        whole = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
        if all(isinstance(spots, slice) for spots in places):
            return whole
        back = np.empty(len(rows), np.int64)
        back[np.concatenate(places)] = np.arange(len(rows))
        return whole.take(pa.array(back))


def _picked(batch: pa.RecordBatch, rows: Numbers) -> pa.RecordBatch:
    return batch.slice(int(rows[0]), len(rows)) if is_run(rows) else batch.take(pa.array(rows))


class Pieces(_InPieces):
    """Rows that are there: in memory, or set aside."""

    def __init__(self, schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> None:
        super().__init__(schema, [batch.num_rows for batch in batches])
        self._batches = batches

    def taken(self, piece: int, rows: Numbers) -> pa.RecordBatch:
        return _picked(self._batches[piece], rows)

    def forward(self, names: Sequence[str]) -> Rows:
        if list(names) == self.schema.names:
            return self
        schema = pa.schema([self.schema.field(name) for name in names])
        return Pieces(schema, [batch.select(list(names)) for batch in self._batches])


class Joined(_InPieces):
    """Some rows of one behind some rows of another, as `columns` says which."""

    def __init__(self, schema: pa.Schema, parts: Sequence[tuple[Rows, Numbers]]) -> None:
        super().__init__(schema, [len(rows) for _, rows in parts])
        self._parts = parts

    def taken(self, piece: int, rows: Numbers) -> pa.RecordBatch:
        source, chosen = self._parts[piece]
        return source.take(chosen[rows])

    def forward(self, names: Sequence[str]) -> Rows:
        schema = pa.schema([self.schema.field(name) for name in names])
        return Joined(schema, [(source.forward(names), chosen) for source, chosen in self._parts])


class FileRows(_InPieces):
    """Some columns of a Parquet file that stays open: a file that takes its name changes nothing here.

    Page checksums are looked at with every page that is read.
    """

    def __init__(self, path: Path, file: pq.ParquetFile, names: Sequence[str], one: threading.Lock) -> None:
        about, schema = file.metadata, file.schema_arrow
        counts = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
        super().__init__(pa.schema([schema.field(name) for name in names]), counts)
        self._path, self._file, self._names = path, file, list(names)
        self._fine = max(counts, default=0) <= GROUP_ROWS  # files of others may be one group
        self._one = one  # of the file, which is read at one place at a time
        self._aside: Pieces | None = None

    def forward(self, names: Sequence[str]) -> Rows:
        return _Forward(self, names) if self._fine else self._set_aside().forward(names)

    def take(self, rows: Numbers) -> pa.RecordBatch:
        return self._set_aside().take(rows)

    def group(self, number: int, names: Sequence[str]) -> pa.RecordBatch:
        with self._one, _damage(self._path):
            table = self._file.read_row_group(number, columns=list(names), use_threads=False)
            [batch] = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
        return batch

    def _set_aside(self) -> Pieces:
        with self._one:
            if self._aside is None:
                kept: list[pa.RecordBatch] = []
                waiting: list[pa.RecordBatch] = []
                with _damage(self._path):
                    for batch in self._file.iter_batches(GROUP_ROWS, columns=self._names, use_threads=False):
                        waiting.append(batch)
                        if sum(each.nbytes for each in waiting) >= ASIDE_BYTES:
                            kept += set_aside(waiting, Path(tempfile.gettempdir()))
                            waiting = []
                kept += set_aside(waiting, Path(tempfile.gettempdir())) if waiting else []
                pa.default_memory_pool().release_unused()
                self._aside = Pieces(self.schema, kept)
            return self._aside


class _Forward(_InPieces):
    """One pass through a file, of which one group is held."""

    def __init__(self, source: FileRows, names: Sequence[str]) -> None:
        self.schema = pa.schema([source.schema.field(name) for name in names])
        self.starts, self.count = source.starts, source.count
        self._source, self._names = source, names
        self._last: tuple[int, pa.RecordBatch] | None = None

    def taken(self, piece: int, rows: Numbers) -> pa.RecordBatch:
        if self._last is None or self._last[0] != piece:
            self._last = None  # let go of before the next is made
            self._last = piece, self._source.group(piece, self._names)
        return _picked(self._last[1], rows)

    def forward(self, names: Sequence[str]) -> Rows:
        return self._source.forward(names)


class _damage:
    """What Arrow says of a file that it cannot read, as the file's damage."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError | pa.ArrowException):
            raise IntegrityError(f"{self._path} is damaged") from error
