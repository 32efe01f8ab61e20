"""Measured facts about a vector field: norms, and the numbers that some store would change or refuse.

A plan decides by them what survives a sink (a normalising one, one without subnormals, one with a smaller dtype), so
they are counted over every value and never sampled. Tallies of parts of a collection merge into that of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import dense_matrix
from exitramp.errors import DataInvalid
from exitramp.records import DType, VectorField, VectorKind

_Numbers = npt.NDArray[Any]

# Rows looked at in one go: 512 x 384 float32 is 0.75 MB, so that every pass after the first finds it in the cache.
_BLOCK_VALUES: Final = 200_000
# Per dtype: unsigned type of the same width, bits of the exponent's field moved left by one (so without the sign).
_LAYOUT: Final[dict[Any, tuple[Any, int, int]]] = {
    np.dtype(np.float16): (np.dtype(np.uint16), 0x0400 << 1, 0x7C00 << 1),
    np.dtype(np.float32): (np.dtype(np.uint32), 0x00800000 << 1, 0x7F800000 << 1),
    np.dtype(np.float64): (np.dtype(np.uint64), 0x0010000000000000 << 1, 0x7FF0000000000000 << 1),
}
_SMALLER: Final[Mapping[DType, tuple[DType, ...]]] = {
    DType.FLOAT64: (DType.FLOAT32, DType.FLOAT16, DType.INT8),
    DType.FLOAT32: (DType.FLOAT16, DType.INT8),
    DType.FLOAT16: (DType.INT8,),
    DType.INT8: (),
    DType.BINARY: (),
}


@dataclass(frozen=True, slots=True)
class VectorFacts:
    """What the values of one vector field are like.

    rows, rows_missing: records, and those without a vector in this field. vectors: vectors in them (in a multi field
    a record has several). norm_minimum, norm_maximum: Euclidean, in float64, over vectors of finite numbers only;
    None where there is none, and for binary fields. magnitude_maximum: of one finite number. exact_in: the smaller
    dtypes that would hold every number bit for bit (the sign of zero included); of float64, perhaps float32.
    entries_maximum, index_maximum: of sparse vectors. *_values count numbers, zero_vectors vectors.
    """

    rows: int = 0
    rows_missing: int = 0
    vectors: int = 0
    norm_minimum: float | None = None
    norm_maximum: float | None = None
    magnitude_maximum: float | None = None
    zero_vectors: int = 0
    nonfinite_values: int = 0
    subnormal_values: int = 0
    negative_zero_values: int = 0
    exact_in: tuple[str, ...] = ()
    entries_maximum: int | None = None
    index_maximum: int | None = None

    def merge(self, other: VectorFacts) -> VectorFacts:
        """The facts about both sets of rows together."""
        merged: dict[str, Any] = {}
        for item in fields(self):
            one, two = getattr(self, item.name), getattr(other, item.name)
            if item.name == "exact_in":
                merged[item.name] = self._exact_in_both(other)
            elif item.name.endswith("_minimum"):
                merged[item.name] = _least(one, two)
            elif item.name.endswith("_maximum"):
                merged[item.name] = _greatest(one, two)
            else:
                merged[item.name] = one + two
        return VectorFacts(**merged)

    def _exact_in_both(self, other: VectorFacts) -> tuple[str, ...]:
        if not self.vectors or not other.vectors:  # a side without vectors rules nothing out
            return other.exact_in if other.vectors else self.exact_in
        return tuple(name for name in self.exact_in if name in other.exact_in)

    def to_json(self) -> dict[str, Any]:
        return {**{item.name: getattr(self, item.name) for item in fields(self)}, "exact_in": list(self.exact_in)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """From `to_json`'s form. Raises `DataInvalid` for another set of keys."""
        names = {item.name for item in fields(cls)}
        if set(data) != names:
            raise DataInvalid(f"vector facts: the keys {sorted(set(data) ^ names)} are missing or unknown")
        return cls(**{**data, "exact_in": tuple(data["exact_in"])})


class VectorTally:
    """Counts the facts about one vector field, batch by batch."""

    def __init__(self, field: VectorField) -> None:
        self._field = field
        self._rows = self._rows_missing = self._vectors = 0
        self._zero_vectors = self._nonfinite = self._subnormal = self._negative_zero = 0
        self._norm_minimum: float | None = None
        self._norm_maximum: float | None = None
        self._magnitude: float | None = None
        self._entries: int | None = None
        self._index: int | None = None
        self._exact = list(_SMALLER[field.dtype])

    def add(self, column: pa.Array) -> None:
        """Count the rows of `column`, which has the field's Arrow type."""
        self._rows += len(column)
        self._rows_missing += column.null_count
        present = column.drop_null() if column.null_count else column
        if self._field.kind is VectorKind.SPARSE:
            self._add_sparse(present)
            return
        if self._field.kind is VectorKind.MULTI:
            self._entries = _greatest(self._entries, pc.max(present.value_lengths()).as_py())
            present = present.flatten()
        self._vectors += len(present)
        for block in _blocks(dense_matrix(present)):
            self._add_block(block)

    def value(self) -> VectorFacts:
        """The facts so far."""
        return VectorFacts(
            rows=self._rows,
            rows_missing=self._rows_missing,
            vectors=self._vectors,
            norm_minimum=self._norm_minimum,
            norm_maximum=self._norm_maximum,
            magnitude_maximum=self._magnitude,
            zero_vectors=self._zero_vectors,
            nonfinite_values=self._nonfinite,
            subnormal_values=self._subnormal,
            negative_zero_values=self._negative_zero,
            exact_in=tuple(dtype.value for dtype in self._exact) if self._vectors else (),
            entries_maximum=self._entries,
            index_maximum=self._index,
        )

    def _add_block(self, block: _Numbers) -> None:
        if self._field.dtype is DType.BINARY:
            self._zero_vectors += int((~block.any(axis=1)).sum())
            return
        self._add_norms(_norms(block))
        self._add_numbers(block)

    def _add_norms(self, norms: npt.NDArray[np.float64]) -> None:
        finite = norms[np.isfinite(norms)]
        if len(finite):
            self._zero_vectors += int((finite == 0).sum())
            self._norm_minimum = _least(self._norm_minimum, float(finite.min()))
            self._norm_maximum = _greatest(self._norm_maximum, float(finite.max()))

    def _add_numbers(self, numbers: _Numbers) -> None:
        """Everything that is counted number by number, whatever vectors they stand in."""
        if not numbers.size:
            return
        if numbers.dtype == np.int8:
            self._magnitude = _greatest(self._magnitude, float(np.abs(numbers.astype(np.int16)).max()))
            return
        unsigned, smallest_normal, infinity = _LAYOUT[numbers.dtype]
        # Without the sign bit, bit patterns are ordered as magnitudes are. Two reductions say whether there is
        # anything to count at all: 0.03 s for 100k x 384 instead of 0.12 for the four counts.
        magnitudes = np.ascontiguousarray(numbers).view(unsigned) << unsigned.type(1)
        if magnitudes.min() < smallest_normal:
            zeros = magnitudes == 0
            self._negative_zero += int(np.signbit(numbers[zeros]).sum())
            self._subnormal += int((magnitudes < smallest_normal).sum() - zeros.sum())
        greatest = magnitudes.max()
        if greatest >= infinity:
            finite = magnitudes < infinity
            self._nonfinite += int(finite.size - finite.sum())
            greatest = magnitudes[finite].max() if finite.any() else None
        if greatest is not None:
            magnitude = np.array([greatest], dtype=unsigned) >> unsigned.type(1)
            self._magnitude = _greatest(self._magnitude, float(magnitude.view(numbers.dtype)[0]))
        # One inexact number settles a dtype for good, so that ordinary data pays for this once.
        self._exact = [dtype for dtype in self._exact if _is_exact(numbers, dtype, unsigned)]

    def _add_sparse(self, column: pa.Array) -> None:
        indices, values = column.flatten()
        lengths = values.value_lengths().to_numpy(zero_copy_only=False)
        numbers = values.flatten().to_numpy(zero_copy_only=False)
        self._vectors += len(column)
        if not len(column):
            return
        self._entries = _greatest(self._entries, int(lengths.max()))
        self._index = _greatest(self._index, pc.max(indices.flatten()).as_py())
        rows = np.repeat(np.arange(len(column)), lengths)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.bincount(rows, weights=numbers.astype(np.float64) ** 2, minlength=len(column))
            self._add_norms(np.sqrt(squares))
        self._add_numbers(numbers)


def _blocks(matrix: _Numbers) -> Iterator[_Numbers]:
    rows = max(1, _BLOCK_VALUES // max(1, matrix.shape[1]))
    for begin in range(0, len(matrix), rows):
        yield matrix[begin : begin + rows]


def _norms(block: _Numbers) -> npt.NDArray[np.float64]:
    """float64[rows]; not finite where a number is not, and where float64 cannot hold the norm."""
    wide = block.astype(np.float64, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        norms: npt.NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        if block.dtype == np.float64:
            # Squares of float32 never leave float64; its own do, at both ends. Such rows are scaled first.
            odd = ~np.isfinite(norms) | (norms < 1e-140)
            if odd.any():
                scale = np.abs(wide[odd]).max(axis=1)
                scale[scale == 0] = 1.0
                norms[odd] = np.sqrt(((wide[odd] / scale[:, None]) ** 2).sum(axis=1)) * scale
    return norms


def _is_exact(numbers: _Numbers, dtype: DType, unsigned: np.dtype[Any]) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        back = numbers.astype(np.dtype(dtype.value)).astype(numbers.dtype)
    return bool(np.array_equal(np.ascontiguousarray(numbers).view(unsigned), back.view(unsigned)))


def _least(known: Any, found: Any) -> Any:
    return found if known is None else known if found is None else min(known, found)


def _greatest(known: Any, found: Any) -> Any:
    return found if known is None else known if found is None else max(known, found)
