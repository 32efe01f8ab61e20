"""Vector fields of files: what a whole column holds, and the stream's columns made of it.

What type a field has is decided over the whole of it and never for a part: numbers of 64 bits become float32 only if
every one of them is the same number there.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_array, vector_type
from exitramp.errors import DataInvalid
from exitramp.records import DType, Metric, VectorField, VectorKind
from exitramp_adapters.stores.files.number_forms import NUMPY, Numbers, Where, take_apart

SHOWN: Final = 5
_EXACT: Final = {pa.float32(): DType.FLOAT32, pa.float16(): DType.FLOAT16, pa.int8(): DType.INT8}


class Look:
    """What was seen of one vector column, chunk by chunk."""

    def __init__(self, name: str, said: DType | None = None) -> None:
        self.name, self._said = name, said
        self._kind: VectorKind | None = None
        self._types: set[Any] = set()
        self._fits: dict[np.dtype[Any], bool] = {np.dtype("f4"): True, np.dtype("f8"): True}
        self._dimensions: dict[int, str] = {}
        self.rows = 0
        self.null = 0
        self.nulls: list[str] = []
        self.nonfinite = 0
        self.nonfinites: list[str] = []
        self._unfit: dict[Any, str] = {}

    def see(self, column: pa.Array, where: Where) -> pa.Array:
        """The column, or the same numbers in half the room where float32 holds each of them."""
        found = take_apart(column, where, self._said)
        self.rows += int(found.valid.sum())
        missing = np.flatnonzero(~found.valid)
        self.null += len(missing)
        self.nulls += [where(int(row)) for row in missing[: SHOWN - len(self.nulls)]]
        if not len(found.sizes):
            return column
        if self._kind not in (None, found.kind):
            raise DataInvalid(f"{where(0)}: '{self.name}' holds {found.kind} vectors, and {self._kind} ones before")
        self._kind = found.kind
        self._types.add(found.flat.dtype)
        self._see_dimensions(found, where)
        halved = self._halved(found)
        if halved is not None:
            return halved
        self._see_numbers(found, where)
        return column

    def _halved(self, found: Numbers) -> pa.Array | None:
        """Doubles that are finite floats all of them, as such: most are, and nothing else is to be told of those."""
        if found.kind is not VectorKind.DENSE or found.flat.dtype != np.float64 or not self._fits[np.dtype("f4")]:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            cast = found.flat.astype(np.float32)
        if not (np.isfinite(cast).all() and (cast == found.flat).all()):
            return None
        ends = _offsets(found)
        if not found.valid.all():  # a null in the offsets is a null row
            ends = pa.array(ends.to_numpy(), mask=np.append(~found.valid, False))
        return pa.ListArray.from_arrays(ends, pa.array(cast))

    def _see_dimensions(self, found: Numbers, where: Where) -> None:
        if found.kind is VectorKind.SPARSE:
            return
        sizes = found.sizes if found.inner is None else found.inner
        for at in np.sort(np.unique(sizes, return_index=True)[1]).tolist():
            size = sizes[at]
            row = int(np.flatnonzero(found.valid)[at]) if found.inner is None else found.row_of(int(sizes[:at].sum()))
            self._dimensions.setdefault(int(size) * (8 if found.packed else 1), where(row))
        if len(self._dimensions) > 1:
            told = ", ".join(f"{size} in {row}" for size, row in list(self._dimensions.items())[:SHOWN])
            raise DataInvalid(f"the vectors of '{self.name}' have differing dimensions: {told}")
        if 0 in self._dimensions:
            raise DataInvalid(f"{self._dimensions[0]}: the vector '{self.name}' has no numbers")

    def _see_numbers(self, found: Numbers, where: Where) -> None:
        flat = found.flat
        if flat.dtype.kind == "f":
            odd = np.flatnonzero(~np.isfinite(flat))
            if len(odd):
                rows = sorted({found.row_of(int(each)) for each in odd[:10_000]})
                self.nonfinite += len(rows)
                self.nonfinites += [where(row) for row in rows[: SHOWN - len(self.nonfinites)]]
        for kind in self._fits:
            if not self._fits[kind] or _holds_all(flat.dtype, kind):
                continue
            wrong = np.flatnonzero(~_survives(flat, kind))
            if len(wrong):
                self._fits[kind] = False
                self._unfit[kind] = where(found.row_of(int(wrong[0])))

    def field(self, name: str, metric: Metric) -> VectorField:
        """What the whole column is. Raises `DataInvalid` where it held nothing, or numbers that no type here keeps."""
        if self._kind is None:
            raise DataInvalid(
                f"no row has a vector in '{self.name}'", hint="is the column called so? ?vectors= names others"
            )
        dtype = self.dtype()
        dimensions = None if self._kind is VectorKind.SPARSE else next(iter(self._dimensions))
        if dtype is DType.BINARY and dimensions is not None and dimensions % 8:
            raise DataInvalid(f"'{self.name}' has {dimensions} bits, which come in eights")
        called = name or ("" if self._kind is VectorKind.DENSE else self.name)  # only dense fields go without a name
        return VectorField(called, self._kind, dtype, metric, dimensions)

    def dtype(self) -> DType:
        if self._kind is VectorKind.SPARSE:
            if not self._fits[np.dtype("f4")] and self._said is not DType.FLOAT32:
                raise DataInvalid(
                    f"{self._unfit[np.dtype('f4')]}: the sparse vector '{self.name}' has a number that float32 rounds",
                    hint="sparse vectors are float32 here: ?dtype=float32 says that they may be rounded",
                )
            return DType.FLOAT32
        if self._said is not None:
            return self._said
        exact = {_EXACT.get(pa.from_numpy_dtype(kind)) for kind in self._types}
        if len(exact) == 1 and None not in exact:
            return exact.pop()  # type: ignore[return-value]
        if self._fits[np.dtype("f4")]:
            return DType.FLOAT32
        if self._fits[np.dtype("f8")]:
            return DType.FLOAT64
        row = self._unfit[np.dtype("f8")]
        raise DataInvalid(f"{row}: the vector '{self.name}' holds a number that float64 rounds")


def stream_column(column: pa.Array, field: VectorField, where: Where, *, rounded: bool = False) -> pa.Array:
    """The column as the stream has it. `rounded`: somebody said the type, so that numbers may be rounded to it."""
    found = take_apart(column, where, field.dtype)
    rows = len(found.valid)
    flat = _as(found.flat, field, found, where, rounded=rounded)
    if found.kind is not field.kind and len(found.sizes):
        raise DataInvalid(f"{where(0)}: a {found.kind} vector where '{field.column}' has {field.kind} ones")
    if field.kind is VectorKind.SPARSE:
        layout = vector_type(field)
        indices = np.zeros(0, np.uint32) if found.indices is None else found.indices.astype(np.uint32)
        ends = _offsets(found)
        parts = [
            pa.ListArray.from_arrays(ends, pa.array(part), type=layout.field(number).type)
            for number, part in enumerate((indices, flat))
        ]
        return pa.StructArray.from_arrays(parts, fields=list(layout), mask=pa.array(~found.valid))
    items = field.item_count
    sizes = found.sizes if found.inner is None else found.inner
    wrong = np.flatnonzero(sizes != items)
    if len(wrong):
        raise DataInvalid(
            f"{where(0)} or after it: a vector of {sizes[wrong[0]]} numbers, of {items} in '{field.column}'"
        )
    matrix = flat.reshape(-1, items)
    if field.kind is VectorKind.MULTI:
        single = VectorField("", VectorKind.DENSE, field.dtype, field.metric, field.dimensions)
        mask = pa.array(~found.valid) if rows else None
        return pa.ListArray.from_arrays(
            _offsets(found), dense_array(matrix, single), type=vector_type(field), mask=mask
        )
    if found.valid.all():
        return dense_array(matrix, field)
    whole = np.zeros((rows, items), flat.dtype)
    whole[found.valid] = matrix
    return dense_array(whole, field, valid=found.valid)


def _as(flat: npt.NDArray[Any], field: VectorField, found: Numbers, where: Where, *, rounded: bool) -> npt.NDArray[Any]:
    wanted = NUMPY[field.dtype]
    if flat.dtype == wanted:
        return flat
    with np.errstate(over="ignore", invalid="ignore"):
        cast = flat.astype(wanted)
    wrong = np.flatnonzero(~_survives(flat, wanted))
    if len(wrong):
        row = where(found.row_of(int(wrong[0])))
        exact = not rounded or wanted.kind != "f"
        if exact or bool((np.isfinite(flat[wrong]) & ~np.isfinite(cast[wrong])).any()):
            raise DataInvalid(f"{row}: the vector '{field.column}' holds a number that {field.dtype} does not keep")
    return cast


def _holds_all(held: np.dtype[Any], kind: np.dtype[Any]) -> bool:
    """Whether every number of one type is the same in another. numpy calls int64 to float64 safe, and rounds."""
    return np.can_cast(held, kind, "safe") and not (held.kind in "iu" and held.itemsize == 8 and kind.kind == "f")


def _survives(flat: npt.NDArray[Any], kind: np.dtype[Any]) -> npt.NDArray[np.bool_]:
    """Which numbers are the same in another type."""
    if _holds_all(flat.dtype, kind):
        return np.ones(len(flat), bool)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = flat.astype(kind)
        if flat.dtype.kind in "iu" and kind.kind == "f":
            # An integer beyond what a float counts one by one is compared as an integer: as floats both are alike.
            small = np.abs(cast) < 2.0**63
            same: npt.NDArray[np.bool_] = np.zeros(len(flat), bool)
            same[small] = cast[small].astype(flat.dtype) == flat[small]
            return same
        back = cast.astype(flat.dtype)
    same = np.asarray(back == flat)
    if flat.dtype.kind == "f" and kind.kind == "f":
        same |= np.isnan(flat)
    return same


def _offsets(found: Numbers) -> pa.Array:
    lengths = np.zeros(len(found.valid), np.int64)
    lengths[found.valid] = found.sizes
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
