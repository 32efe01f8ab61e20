"""Whether every id stands once, in memory that does not grow with the collection."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import record_keys
from exitramp.digests import LeafArray
from exitramp.records import RecordKey

Prefixes = npt.NDArray[np.uint64]
"""The first eight bytes of id leaves."""

_MEMORY_ROWS: Final = 4_000_000  # 32 MB, and as much again while they are divided
_PARTS: Final = 256
_MOST_NAMED: Final = 1000


def prefixes(leaves: LeafArray) -> Prefixes:
    """The first eight bytes of every id leaf, as numbers."""
    return np.ascontiguousarray(leaves[:, :8]).view(np.uint64).reshape(-1)


class DoubleFinder:
    """Takes the id leaves of all rows and says which stand more than once.

    Eight bytes of each are kept, in memory up to `memory_rows` and beyond that in temporary files divided by their
    first byte. Two different ids agree in them once in some 10^19 pairs, so what is found is a suspicion:
    `named_doubles` looks at the ids themselves.
    """

    def __init__(self, *, memory_rows: int = _MEMORY_ROWS) -> None:
        self._memory_rows = memory_rows
        self._kept: list[Prefixes] = []
        self._kept_rows = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def add(self, leaves: LeafArray) -> None:
        """Take the id leaves, uint8[n, 32], of some rows."""
        self.add_prefixes(prefixes(leaves))

    def add_prefixes(self, found: Prefixes) -> None:
        """Take what `prefixes` made of the id leaves of some rows."""
        self._kept.append(found)
        self._kept_rows += len(found)
        if self._kept_rows > self._memory_rows:
            self._spill()

    def suspects(self) -> Prefixes:
        """Sorted prefixes that stand more than once, at most a thousand of them."""
        if self._folder is None:
            return _repeated(np.concatenate([np.empty(0, dtype=np.uint64), *self._kept]))[:_MOST_NAMED]
        self._spill()
        found = np.empty(0, dtype=np.uint64)
        for part in range(_PARTS):
            path = self._part(part)
            if path.exists() and len(found) < _MOST_NAMED:
                found = np.concatenate([found, _repeated(np.fromfile(path, dtype=np.uint64))])
        return np.sort(found)[:_MOST_NAMED]

    def close(self) -> None:
        """Remove the temporary files; calling it again does nothing."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self._kept = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _part(self, number: int) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / f"{number:03d}"

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="exitramp-ids-")
        if not self._kept:
            return
        ordered = np.sort(np.concatenate(self._kept))
        self._kept, self._kept_rows = [], 0
        bounds = np.searchsorted(ordered, np.arange(_PARTS, dtype=np.uint64) << np.uint64(56))
        for number, (begin, end) in enumerate(zip(bounds, [*bounds[1:], len(ordered)], strict=True)):
            if end > begin:
                with self._part(number).open("ab") as file:
                    ordered[begin:end].tofile(file)


def named_doubles(keys: Iterable[tuple[pa.RecordBatch, LeafArray]], suspects: Prefixes) -> list[RecordKey]:
    """The keys that really stand more than once, sorted, out of `keys` (batches with their id leaves)."""
    found: Counter[RecordKey] = Counter()
    for batch, leaves in keys:
        [rows] = np.nonzero(np.isin(prefixes(leaves), suspects))
        if len(rows):
            found.update(record_keys(batch.take(pa.array(rows))))
    doubled = [key for key, count in found.items() if count > 1]
    return sorted(doubled, key=lambda key: (key.namespace is not None, key.namespace or "", key.id))


def _repeated(values: Prefixes) -> Prefixes:
    unique, counts = np.unique(values, return_counts=True)
    return unique[counts > 1]
