"""Whether what a shard decodes into is what was written to it: row for row, bit for bit, in one pass over bytes."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import dense_matrix
from exitramp.digests import leaf_digests
from exitramp.records import CollectionSpec, VectorKind


class ContentHash:
    """A hash over all rows in their order, however they are cut into batches.

    The digests would do as well, at 4 us a row: this takes 1.5, nearly all of it outside the interpreter's lock, so
    that reading a source goes on meanwhile. It notices another order of rows too.
    """

    def __init__(self, spec: CollectionSpec) -> None:
        self._spec = spec
        # One running hash for every part of a column, since the parts of two batches do not stand side by side.
        self._states: dict[tuple[str, str], Any] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next rows, whose columns are those of `stream_schema(spec)`."""
        for name in batch.schema.names:
            if pa.types.is_string(batch.schema.field(name).type):
                self._add_texts(name, batch.column(name))
        for field in self._spec.vectors:
            if field.kind is VectorKind.DENSE:
                self._add_dense(field.column, batch.column(field.column))
        if any(field.kind is not VectorKind.DENSE for field in self._spec.vectors):
            for name, leaves in leaf_digests(batch, self._spec).by_column.items():
                self._update(name, "leaves", leaves)

    def differences(self, other: ContentHash) -> tuple[str, ...]:
        """In what the two are not the same, named as digests are: `ids`, `payloads`, `vectors.COLUMN`."""
        keys = set(self._states) | set(other._states)
        return tuple(sorted({_digest_name(key[0]) for key in keys if self._digest(key) != other._digest(key)}))

    def _digest(self, key: tuple[str, str]) -> bytes | None:
        return self._states[key].digest() if key in self._states else None

    def _add_texts(self, name: str, column: pa.Array) -> None:
        lengths = pc.fill_null(pc.binary_length(column), -1)  # absent differs from empty
        self._update(name, "lengths", lengths.to_numpy(zero_copy_only=False))
        if column.null_count:
            column = pc.fill_null(column, "")  # whatever bytes stand under a null are nobody's concern
        offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, 4 * column.offset)
        data = column.buffers()[2]
        if data is not None:
            self._update(name, "bytes", memoryview(data)[int(offsets[0]) : int(offsets[-1])])

    def _add_dense(self, name: str, column: pa.Array) -> None:
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        self._update(name, "validity", np.ascontiguousarray(valid))
        matrix = dense_matrix(column)
        self._update(name, "numbers", np.ascontiguousarray(matrix[valid] if column.null_count else matrix))

    def _update(self, name: str, part: str, data: Any) -> None:
        raw = memoryview(data)
        if raw.nbytes:
            self._states.setdefault((name, part), hashlib.sha256()).update(raw.cast("B"))


def _digest_name(column: str) -> str:
    if column in ("id", "namespace"):
        return "ids"
    return "payloads" if column in ("document", "payload") else f"vectors.{column}"
