"""How much room a record takes in a request, for stores that take no request beyond a size.

Counted as JSON, whatever the store speaks: it is the longest form that one does, and a store's author can say its limit
without knowing ours.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from exitramp.codec.encoding import encode_batch
from exitramp.codec.layout import Layout
from exitramp.ports import SinkLimits

NUMBER_BYTES: Final = 20
"""A float32 written as a double has some 18 digits, a sign and a comma."""

# The most that a byte of a text, or a number of a vector, becomes once it stands natively and in the marker too. A
# control character is six bytes in JSON and seven in JSON within JSON; of a payload each key may get a hash beside it.
_TEXT_GROWTH: Final = 13
_NUMBER_GROWTH: Final = NUMBER_BYTES + 12
_MARKER_BYTES: Final = 4096


def rows_over(batch: pa.RecordBatch, layout: Layout, limits: SinkLimits) -> dict[int, int]:
    """The rows of `batch` that are more than a sink with these limits takes of one record, and how many bytes each is.

    `batch` is of the original collection, and measured is what the sink would be given for it, marker and all.
    """
    most = limits.record_bytes
    if most is None or not batch.num_rows:
        return {}
    # Only what could be too large is encoded to be measured: nothing, for records of a few thousand bytes.
    suspects = np.flatnonzero(_bounds(batch) > most).tolist()
    found: dict[int, int] = {}
    for row in suspects:
        size = size_of(batch.slice(row, 1), layout, limits)
        if size > most:
            found[row] = size
    return found


def size_of(record: pa.RecordBatch, layout: Layout, limits: SinkLimits) -> int:
    """The bytes of one record of the original collection, as the sink would be given it."""
    native = record if limits.verbatim else encode_batch(record, layout, limits)
    texts = [native.column(name)[0].as_py() for name in ("id", "namespace", "document") if name in native.schema.names]
    payload = native.column("payload")[0].as_py()
    written = sum(len(json.dumps(text, ensure_ascii=False).encode("utf-8")) for text in texts if text is not None)
    return written + len((payload or "").encode("utf-8")) + NUMBER_BYTES * int(_numbers(native)[0])


def largest_of(batch: pa.RecordBatch) -> int:
    """The row of the record that takes most, as far as can be told without encoding any."""
    return int(_bounds(batch).argmax())


def _bounds(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """int64[rows]: more than any sink could be given for each row."""
    total = np.full(batch.num_rows, _MARKER_BYTES, np.int64) + _NUMBER_GROWTH * _numbers(batch)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_string(column.type):
            total += _TEXT_GROWTH * _filled(pc.binary_length(column))
        else:
            total += 4 * len(name.encode("utf-8"))
    return total


def _numbers(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """int64[rows]: the numbers of each row's vectors, in all fields together; a null dense vector counts too."""
    total = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        total += _numbers_in(column)
    return total


def _numbers_in(column: pa.Array) -> Any:
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        return kind.list_size
    if pa.types.is_list(kind):
        return _filled(pc.list_value_length(column)) * kind.value_type.list_size
    if pa.types.is_struct(kind):
        return 2 * _filled(pc.list_value_length(column.field("indices")))
    return 0


def _filled(lengths: pa.Array) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return found
