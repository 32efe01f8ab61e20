"""The file of a flat index, written and read by blocks of rows: a head, and the vectors one behind the other.

FAISS itself writes an index that is in memory, which held a collection three times: the rows, what FAISS made of them,
and what was there before.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.durable import READ, storage_errors
from exitramp.errors import StoreRejected
from exitramp.ports.side_car import FileState, written_meanwhile
from exitramp.ports.side_car_search import unit_rows
from exitramp.ports.side_car_vectors import Matrix, forward, numbers_of
from exitramp.records import Metric
from exitramp_adapters.stores.faiss.index import build_index, sdk

_COUNT: Final = slice(8, 16)
_NUMBERS: Final = slice(-8, None)
"""Where the head says how many rows there are, and how many numbers follow it."""
_BLOCK_ROWS: Final = 4096


class FlatFile:
    """A flat index that is to be written: `unit`, whether its vectors are of length one already."""

    def __init__(self, metric: Metric, matrix: Matrix, *, unit: bool) -> None:
        self._metric, self._matrix = metric, matrix
        self._scaled = metric is Metric.COSINE and not unit

    def write(self, path: Path) -> None:
        count, items = self._matrix.shape
        head = flat_head(self._metric, count, items)
        if head is None:  # a FAISS that writes another form than those that are known
            sdk().write_index(build_index("Flat", self._metric, self._matrix[:], unit=not self._scaled), str(path))
            return
        matrix = forward(self._matrix)
        with path.open("wb", buffering=0) as file:
            _put(file, memoryview(head))
            for start in range(0, count, _BLOCK_ROWS):
                block = matrix[start : start + _BLOCK_ROWS]
                block = np.ascontiguousarray(unit_rows(block) if self._scaled else block, np.float32)
                _put(file, block.data.cast("B"))


def _put(file: Any, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]


def flat_head(metric: Metric, count: int, items: int) -> bytes | None:
    """What stands before so many vectors; None where FAISS's own writing says that it is not known."""

    def saved(rows: int) -> bytes:
        index = build_index("Flat", metric, np.ones((rows, items), np.float32), unit=True)
        return bytes(sdk().serialize_index(index).tobytes())

    head = bytearray(saved(0))

    def of(rows: int) -> bytes:
        head[_COUNT] = rows.to_bytes(8, "little")
        head[_NUMBERS] = (rows * items).to_bytes(8, "little")
        return bytes(head)

    one = of(1) + np.ones(items, np.float32).tobytes()
    return of(count) if one == saved(1) else None


class FlatVectors:
    """The vectors of a flat index, in its file. Raises `StoreRejected` when that is not any more what it was."""

    def __init__(self, path: Path, state: FileState, at: int, shape: tuple[int, int]) -> None:
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self._path, self._state, self._at = path, state, at

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any, /) -> npt.NDArray[np.float32]:
        rows, items = numbers_of(which, len(self)), self.shape[1]
        found = np.empty((len(rows), items), np.float32)
        ends = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)] if len(rows) else [0]
        with storage_errors(self._path, READ), self._path.open("rb", buffering=0) as file:
            now = os.fstat(file.fileno())
            if (now.st_ino, now.st_mtime_ns, now.st_size) != self._state:
                raise written_meanwhile(self._path)
            for low, high in pairwise(ends):
                file.seek(self._at + int(rows[low]) * items * 4)
                left = found[low:high].data.cast("B")
                while left:
                    count = file.readinto(left)
                    if not count:
                        raise StoreRejected(f"{self._path} ends before its vectors do")
                    left = left[count:]
        return found
