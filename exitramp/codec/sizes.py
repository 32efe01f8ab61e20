"""How much room a record takes in a request, for stores that take no request beyond a size.

Counted as JSON, whatever the store speaks: it is the longest form that one does, and a store's author can say its limit
without knowing ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Excess:
    """A record that is too large: how many bytes its payload has, or all of it, and how many it may have."""

    what: str
    size: int
    limit: int


def rows_over(batch: pa.RecordBatch, layout: Layout, limits: SinkLimits) -> dict[int, Excess]:
    """The rows of `batch` that are more than a sink with these limits takes of one record, and by how much.

    `batch` is of the original collection, and measured is what the sink would be given for it, marker and all.
    """
    told = {"payload": limits.payload_bytes, "record": limits.record_bytes}
    mosts = {what: most for what, most in told.items() if most is not None}
    if not mosts or not batch.num_rows:
        return {}
    # Only what could be too large is encoded to be measured: nothing, for records of a few thousand bytes.
    doubtful = np.zeros(batch.num_rows, np.bool_)
    for what, most in mosts.items():
        doubtful |= _bounds(batch, what == "payload") > most
    suspects = np.flatnonzero(doubtful).tolist()
    found: dict[int, Excess] = {}
    for row in suspects:
        payload, whole = _sizes_of(batch.slice(row, 1), layout, limits)
        for what, most in mosts.items():
            size = payload if what == "payload" else whole
            if size > most and row not in found:
                found[row] = Excess(what, size, most)
    return found


def size_of(record: pa.RecordBatch, layout: Layout, limits: SinkLimits) -> int:
    """The bytes of one record of the original collection, as the sink would be given it."""
    return _sizes_of(record, layout, limits)[1]


def payload_size_of(record: pa.RecordBatch, layout: Layout, limits: SinkLimits) -> int:
    """The bytes of one record's payload, as the sink would be given it."""
    return _sizes_of(record, layout, limits)[0]


def _sizes_of(record: pa.RecordBatch, layout: Layout, limits: SinkLimits) -> tuple[int, int]:
    native = record if limits.verbatim else encode_batch(record, layout, limits)
    texts = [native.column(name)[0].as_py() for name in ("id", "namespace", "document") if name in native.schema.names]
    payload = len((native.column("payload")[0].as_py() or "").encode("utf-8"))
    written = sum(len(json.dumps(text, ensure_ascii=False).encode("utf-8")) for text in texts if text is not None)
    return payload, written + payload + NUMBER_BYTES * int(_numbers(native)[0])


def largest_of(batch: pa.RecordBatch) -> int:
    """The row of the record that takes most, as far as can be told without encoding any."""
    return int(_bounds(batch).argmax())


def _bounds(batch: pa.RecordBatch, payload: bool = False) -> npt.NDArray[np.int64]:
    """int64[rows]: more than any sink could be given for each row, or for its payload alone."""
    total = np.full(batch.num_rows, _MARKER_BYTES, np.int64)
    for column in batch.columns:
        total += (_in_base64(column.type) if payload else _NUMBER_GROWTH) * _numbers_in(column)
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


def _in_base64(kind: pa.DataType) -> int:
    """The bytes of one number of such a column in the marker."""
    while pa.types.is_nested(kind):
        kind = kind.field("values").type if pa.types.is_struct(kind) else kind.value_type
    return 0 if pa.types.is_string(kind) else 4 * kind.bit_width // 3 // 8 + 1


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
