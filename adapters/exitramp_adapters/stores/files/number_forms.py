"""Vector columns of files taken apart: which forms there are, and the numbers in them.

A vector is a list of numbers (of fixed size or not), the text of a JSON array, raw little-endian bytes, a list of such
lists, a map of indices to values or a struct of both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from exitramp import canonical
from exitramp.errors import DataInvalid
from exitramp.records import DType, VectorKind

Where = Callable[[int], str]
"""How a row of a chunk is called in a message."""
NUMPY: Final[Mapping[DType, np.dtype[Any]]] = {
    DType.FLOAT32: np.dtype("<f4"),
    DType.FLOAT16: np.dtype("<f2"),
    DType.FLOAT64: np.dtype("<f8"),
    DType.INT8: np.dtype("i1"),
    DType.BINARY: np.dtype("u1"),
}


def is_certain(kind: pa.DataType) -> bool:
    """Whether a column of this type can be nothing but vectors: numbers in lists of one fixed size, or sparse ones."""
    if pa.types.is_fixed_size_list(kind):
        return bool(pa.types.is_floating(kind.value_type))
    return _is_sparse(kind)


def may_be(kind: pa.DataType) -> bool:
    """Whether a column of this type holds vectors where somebody says so."""
    if _is_list(kind):
        inner = kind.value_type
        plain = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
        return any(test(inner) for test in plain) or may_be(inner)
    return _is_sparse(kind) or _is_text(kind) or _is_bytes(kind) or bool(pa.types.is_null(kind))


@dataclass(frozen=True, slots=True)
class Numbers:
    """A chunk of a vector column taken apart: rows that have a value, in order, and all their numbers in one row.

    sizes: numbers in each of the `valid` rows; of a multi field vectors in each, and `inner` numbers in each of those.
    indices: of sparse vectors.
    """

    kind: VectorKind
    valid: npt.NDArray[np.bool_]
    sizes: npt.NDArray[np.int64]
    flat: npt.NDArray[Any]
    inner: npt.NDArray[np.int64] | None = None
    indices: npt.NDArray[Any] | None = None
    packed: bool = False

    def row_of(self, number: int) -> int:
        """The row of the chunk that a number of `flat` stands in."""
        ends = np.cumsum(self.sizes)
        if self.inner is not None:
            number = int(np.searchsorted(np.cumsum(self.inner), number, side="right"))
        return int(np.flatnonzero(self.valid)[np.searchsorted(ends, number, side="right")])


def take_apart(column: pa.Array, where: Where, said: DType | None = None) -> Numbers:
    """Raises `DataInvalid` naming the row of a vector with a hole in it, or that is none."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    kind = column.type
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_null(kind):
        return Numbers(VectorKind.DENSE, valid, np.zeros(0, np.int64), np.zeros(0, np.float32))
    if _is_text(kind):
        return take_apart(_parsed(column, where), where, said)
    if _is_bytes(kind):
        return _from_bytes(column, valid, where, said)
    if pa.types.is_map(kind):
        there = column.filter(pa.array(valid))  # a null row may have pairs behind it
        return _sparse(there, there.keys, there.items, valid, where)
    if pa.types.is_struct(kind):
        indices, values = (column.field(name) for name in ("indices", "values"))
        return _sparse(column, indices, values, valid, where)
    if not _is_list(kind):
        raise DataInvalid(f"{where(0)}: a {kind} is no vector")
    sizes = pc.list_value_length(column).drop_null().to_numpy(zero_copy_only=False).astype(np.int64)
    flat = column.flatten()
    if _is_list(flat.type):
        _refuse_holes(flat, sizes, valid, where)
        inner = pc.list_value_length(flat).to_numpy(zero_copy_only=False).astype(np.int64)
        numbers = flat.flatten()
        found = Numbers(VectorKind.MULTI, valid, sizes, np.zeros(0), inner)
        if numbers.null_count:
            hole = int(np.flatnonzero(numbers.is_null().to_numpy(zero_copy_only=False))[0])
            raise DataInvalid(f"{where(found.row_of(hole))}: a vector has a missing number")
        return Numbers(VectorKind.MULTI, valid, sizes, _plain(numbers, where), inner)
    _refuse_holes(flat, sizes, valid, where)
    if pa.types.is_boolean(flat.type):
        if said is not DType.BINARY:
            raise DataInvalid(f"{where(0)}: a list of booleans is a vector of bits only where ?dtype=binary says so")
        return _bits(valid, sizes, flat.to_numpy(zero_copy_only=False), where)
    return Numbers(VectorKind.DENSE, valid, sizes, _plain(flat, where), packed=said is DType.BINARY)


def _plain(flat: pa.Array, where: Where) -> npt.NDArray[Any]:
    if pa.types.is_null(flat.type):
        return np.zeros(0, np.float32)
    if not (pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type)):
        raise DataInvalid(f"{where(0)}: a list of {flat.type} is no vector")
    found: npt.NDArray[Any] = flat.to_numpy(zero_copy_only=False)
    return found


def _refuse_holes(flat: pa.Array, sizes: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_], where: Where) -> None:
    if flat.null_count:
        hole = int(np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))[0])
        row = int(np.flatnonzero(valid)[np.searchsorted(np.cumsum(sizes), hole, side="right")])
        raise DataInvalid(f"{where(row)}: a vector has a missing number")


def _sparse(
    column: pa.Array, indices: pa.Array, values: pa.Array, valid: npt.NDArray[np.bool_], where: Where
) -> Numbers:
    if pa.types.is_map(column.type):
        offsets = column.offsets.to_numpy()
        first, last = int(offsets[0]), int(offsets[len(column)])
        indices, values = indices.slice(first, last - first), values.slice(first, last - first)
        sizes = np.diff(offsets).astype(np.int64)
    else:
        parts = [part.filter(pa.array(valid)) for part in (indices, values)]
        sizes, others = (
            pc.fill_null(pc.list_value_length(part), missing).to_numpy(zero_copy_only=False).astype(np.int64)
            for part, missing in zip(parts, (-1, -2), strict=True)
        )
        if len(wrong := np.flatnonzero(sizes != others)):
            at = int(np.flatnonzero(valid)[wrong[0]])
            raise DataInvalid(f"{where(at)}: a sparse vector has not as many values as indices")
        indices, values = (part.flatten() for part in parts)
    for part in (indices, values):
        _refuse_holes(part, sizes, valid, where)
    places = indices.to_numpy(zero_copy_only=False) if len(indices) else np.zeros(0, np.uint32)
    numbers = _plain(values, where) if len(values) else np.zeros(0, np.float32)
    found = Numbers(VectorKind.SPARSE, valid, sizes, numbers, indices=places)
    if places.dtype.kind not in "iu":
        raise DataInvalid(f"{where(0)}: the indices of a sparse vector are {places.dtype}, and no integers")
    wrong = np.flatnonzero((places < 0) | (places > 2**32 - 1))
    if len(wrong):
        raise DataInvalid(f"{where(found.row_of(int(wrong[0])))}: an index of a sparse vector is not within 32 bits")
    return found


def _parsed(column: pa.Array, where: Where) -> pa.Array:
    """Texts of JSON as what they hold; the words NaN and Infinity too, as Python writes them."""
    values = []
    for row, text in enumerate(column.to_pylist()):
        try:
            values.append(None if text is None else _loads(text))
        except ValueError as error:
            raise DataInvalid(f"{where(row)}: a vector's text is no JSON array of numbers") from error
    try:
        return pa.array(values, pa.list_(pa.float64()))
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pass
    try:
        return pa.array(values, pa.list_(pa.list_(pa.float64())))
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        for row, value in enumerate(values):
            flat = value if isinstance(value, list) else None
            if value is not None and not (flat is not None and all(type(each) in (int, float) for each in flat)):
                raise DataInvalid(f"{where(row)}: a vector's text is no JSON array of numbers") from None
        raise DataInvalid(f"{where(0)}: vectors of several kinds") from None


def _loads(text: str) -> Any:
    if "true" in text or "false" in text:  # which Arrow would make 1 and 0 of
        raise ValueError("a boolean")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text, parse_float=canonical.finite)


def _from_bytes(column: pa.Array, valid: npt.NDArray[np.bool_], where: Where, said: DType | None) -> Numbers:
    if said is None:
        raise DataInvalid(
            f"{where(0)}: vectors of raw bytes", hint="say what their numbers are, e.g. ?dtype=float32 (little-endian)"
        )
    kind = NUMPY[said]
    parts = [part for part in column.to_pylist() if part is not None]
    for row, part in zip(np.flatnonzero(valid).tolist(), parts, strict=True):
        if len(part) % kind.itemsize:
            raise DataInvalid(f"{where(row)}: {len(part)} bytes are no whole number of {said} numbers")
    sizes = np.array([len(part) // kind.itemsize for part in parts], np.int64)
    return Numbers(VectorKind.DENSE, valid, sizes, np.frombuffer(b"".join(parts), kind), packed=said is DType.BINARY)


def _bits(valid: npt.NDArray[np.bool_], sizes: npt.NDArray[np.int64], flat: npt.NDArray[Any], where: Where) -> Numbers:
    if len(sizes) and (len(np.unique(sizes)) > 1 or sizes[0] % 8):
        raise DataInvalid(f"{where(0)} or after it: vectors of bits have one length, in eights")
    items = int(sizes[0]) if len(sizes) else 8
    packed = np.packbits(flat.astype(bool).reshape(-1, items), axis=1)
    return Numbers(VectorKind.DENSE, valid, sizes // 8, packed.reshape(-1), packed=True)


def _is_list(kind: pa.DataType) -> bool:
    named = ("is_list", "is_large_list", "is_fixed_size_list", "is_list_view", "is_large_list_view")
    return any(getattr(pa.types, name, lambda kind: False)(kind) for name in named)


def _is_sparse(kind: pa.DataType) -> bool:
    if pa.types.is_map(kind):
        return bool(pa.types.is_integer(kind.key_type) and pa.types.is_floating(kind.item_type))
    if not pa.types.is_struct(kind) or {part.name for part in kind} != {"indices", "values"}:
        return False
    indices, values = kind.field("indices").type, kind.field("values").type
    return _is_list(indices) and _is_list(values) and not _is_text(indices.value_type)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))
