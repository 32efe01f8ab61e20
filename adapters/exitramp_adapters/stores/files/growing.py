"""The vectors of segments in one file, which needs nothing but its head to be the matrix that `finish` is to write.

Room for the head is left at its beginning, then come rows, one after the other, as they were flushed. How many of them
count is said by the segments, and by them alone: what stands behind is of a flush that was killed, and the next one
writes over it. So the head may be written at any time, and again. Of 20,000 x 384 (30 MB) a segment that held them too
took the processor 15 ms, and copying them out of it into the matrix 10.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from exitramp.arrow import dense_array, dense_matrix
from exitramp.durable import READ, storage_errors
from exitramp.errors import IntegrityError
from exitramp.records import VectorField
from exitramp_adapters.stores.files.number_forms import NUMPY
from exitramp_adapters.stores.files.syncing import Syncing


@dataclass(frozen=True, slots=True)
class Growing:
    """Rows of `field` in the file at `path`, from byte `begin` on."""

    path: Path
    begin: int
    field: VectorField

    def _end(self, rows: int) -> int:
        return self.begin + rows * self.field.item_count * NUMPY[self.field.dtype].itemsize

    def require(self, rows: int) -> None:
        """Raises `IntegrityError` where it holds fewer."""
        with storage_errors(self.path, READ):
            size = self.path.stat().st_size if self.path.exists() else 0
        if size < self._end(rows):
            raise IntegrityError(f"{self.path} is damaged: it is shorter than the {rows} vectors that were written")

    @contextmanager
    def added(self, first: int) -> Iterator[Callable[[pa.RecordBatch], None]]:
        """Takes batches whose rows stand from number `first` on; once the block is left, they are on the disk."""
        if first:
            self.require(first)
        else:
            self.path.unlink(missing_ok=True)  # whoever reads the one that was there goes on with it
        with self.path.open("r+b" if first else "xb") as file, Syncing(self.path) as syncing:
            file.truncate(self._end(first))
            file.seek(self._end(first))

            def add(batch: pa.RecordBatch) -> None:
                matrix = np.ascontiguousarray(dense_matrix(batch.column(self.field.column)))
                syncing.write_soon(partial(file.write, matrix.data), matrix.nbytes)

            yield add
            syncing.settle()
            file.flush()

    def beside(self, batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
        """The batch with the vectors of the rows from number `first` on as its last column."""
        shape = (batch.num_rows, self.field.item_count)
        with storage_errors(self.path, READ):
            found = np.memmap(self.path, NUMPY[self.field.dtype], "r", self._end(first), shape)
        return batch.append_column(self.field.column, dense_array(found.view(np.ndarray), self.field))

    def complete(self, head: bytes, rows: int) -> None:
        """Make it a file of this head and so many rows, and return when it is that on the disk."""
        assert len(head) == self.begin
        self.require(rows)
        with self.path.open("r+b") as file:
            file.write(head)
            file.truncate(self._end(rows))
            file.flush()
            os.fsync(file.fileno())
