"""Vector facts against a plain walk over every number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp.arrow import dense_array, vector_type
from exitramp.errors import DataInvalid
from exitramp.records import DType, Metric, VectorField, VectorKind
from exitramp.vector_facts import VectorFacts, VectorTally

WIDTHS = {DType.FLOAT16: 16, DType.FLOAT32: 32, DType.FLOAT64: 64}
TINY = {DType.FLOAT16: 2.0**-14, DType.FLOAT32: 2.0**-126, DType.FLOAT64: 2.0**-1022}


def field_of(dtype: DType, kind: VectorKind = VectorKind.DENSE, dimensions: int | None = 3) -> VectorField:
    return VectorField("f", kind, dtype, Metric.DOT, dimensions)


def facts_of(column: pa.Array, field: VectorField) -> VectorFacts:
    tally = VectorTally(field)
    tally.add(column)
    return tally.value()


@st.composite
def float_rows(draw: st.DrawFn) -> tuple[DType, list[list[float] | None]]:
    dtype = draw(st.sampled_from(list(WIDTHS)))
    # A norm that float64 cannot hold is left out, so no numbers near its end.
    greatest = 1e300 if dtype is DType.FLOAT64 else None
    ordinary = st.floats(width=WIDTHS[dtype], allow_nan=False)
    number = ordinary.filter(lambda x: greatest is None or math.isinf(x) or abs(x) < greatest) | st.sampled_from(
        [0.0, -0.0, 1.0, math.nan, TINY[dtype], TINY[dtype] / 2]
    )
    return dtype, draw(st.lists(st.none() | st.lists(number, min_size=3, max_size=3), max_size=8))


def plain_facts(rows: list[list[float] | None], dtype: DType) -> VectorFacts:
    vectors = [row for row in rows if row is not None]
    numbers = [number for row in vectors for number in row]
    finite = [row for row in vectors if all(map(math.isfinite, row))]
    norms = [math.hypot(*row) for row in finite]
    smaller = {"float64": ["float32", "float16", "int8"], "float32": ["float16", "int8"], "float16": ["int8"]}[dtype]
    return VectorFacts(
        rows=len(rows),
        rows_missing=len(rows) - len(vectors),
        vectors=len(vectors),
        norm_minimum=min(norms, default=None),
        norm_maximum=max(norms, default=None),
        magnitude_maximum=max((abs(number) for number in numbers if math.isfinite(number)), default=None),
        zero_vectors=sum(not any(row) for row in vectors),
        nonfinite_values=sum(not math.isfinite(number) for number in numbers),
        subnormal_values=sum(0 < abs(number) < TINY[dtype] for number in numbers),
        negative_zero_values=sum(number == 0 and math.copysign(1, number) < 0 for number in numbers),
        exact_in=tuple(name for name in smaller if all(held_by(number, name) for number in numbers)) if vectors else (),
    )


def held_by(number: float, dtype: str) -> bool:
    if math.isnan(number):
        return dtype != "int8"
    if dtype == "int8":
        return number in range(-128, 128) and str(number) != "-0.0"
    with np.errstate(over="ignore"):
        return float(np.dtype(dtype).type(number)) == number


def column_of(rows: list[list[float] | None], field: VectorField) -> pa.Array:
    matrix = np.array([row or [7.0] * 3 for row in rows], dtype=np.dtype(field.dtype.value)).reshape(-1, 3)
    return dense_array(matrix, field, valid=np.array([row is not None for row in rows], dtype=bool))


@settings(max_examples=200, deadline=None)
@given(float_rows())
def test_facts_are_those_of_a_plain_walk(drawn: tuple[DType, list[list[float] | None]]) -> None:
    dtype, rows = drawn
    field = field_of(dtype)
    found, expected = facts_of(column_of(rows, field), field), plain_facts(rows, dtype)
    for name in ("norm_minimum", "norm_maximum"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None)
        assert one is None or one == pytest.approx(other, rel=1e-12, abs=1e-320)
    for name in set(VectorFacts.__slots__) - {"norm_minimum", "norm_maximum"}:
        assert getattr(found, name) == getattr(expected, name), name


@settings(max_examples=60, deadline=None)
@given(float_rows(), st.integers(0, 8))
def test_facts_of_parts_merge_into_those_of_the_whole(drawn: tuple[DType, list[list[float] | None]], cut: int) -> None:
    dtype, rows = drawn
    field = field_of(dtype)
    column = column_of(rows, field)
    whole = facts_of(column, field)
    assert facts_of(column.slice(0, cut), field).merge(facts_of(column.slice(cut), field)) == whole
    assert VectorFacts.from_json(whole.to_json()) == whole


def test_float64_norms_survive_squares_that_do_not() -> None:
    field = field_of(DType.FLOAT64)
    found = facts_of(column_of([[3e200, 4e200, 0.0], [3e-200, 4e-200, 0.0]], field), field)
    assert found.norm_maximum == pytest.approx(5e200)
    assert found.norm_minimum == pytest.approx(5e-200)


def test_many_blocks_count_as_one() -> None:
    field = field_of(DType.FLOAT32, dimensions=100)
    matrix = np.zeros((5000, 100), dtype=np.float32)
    matrix[4321, 7] = -0.5
    found = facts_of(dense_array(matrix, field), field)
    assert (found.zero_vectors, found.norm_maximum, found.magnitude_maximum) == (4999, 0.5, 0.5)


def test_int8_and_binary_fields_have_their_own_facts() -> None:
    small = field_of(DType.INT8)
    found = facts_of(dense_array(np.array([[-128, 0, 0], [0, 0, 0]], dtype=np.int8), small), small)
    assert (found.magnitude_maximum, found.norm_maximum, found.zero_vectors) == (128.0, 128.0, 1)
    packed = field_of(DType.BINARY, dimensions=16)
    found = facts_of(dense_array(np.array([[0, 0], [1, 0]], dtype=np.uint8), packed), packed)
    assert (found.zero_vectors, found.norm_minimum, found.norm_maximum) == (1, None, None)


def test_multi_vectors_are_measured_one_by_one() -> None:
    field = field_of(DType.FLOAT32, VectorKind.MULTI)
    rows: list[Any] = [[[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]], [], None, [[1.0, 0.0, 0.0]]]
    found = facts_of(pa.array(rows, type=vector_type(field)), field)
    assert (found.rows, found.rows_missing, found.vectors, found.entries_maximum) == (4, 1, 3, 2)
    assert (found.norm_minimum, found.norm_maximum, found.zero_vectors) == (0.0, 5.0, 1)


def test_sparse_vectors_are_measured_by_row() -> None:
    field = field_of(DType.FLOAT32, VectorKind.SPARSE, None)
    rows: list[Any] = [
        {"indices": [7, 2**32 - 1], "values": [3.0, -4.0]},
        {"indices": [], "values": []},
        None,
        {"indices": [0], "values": [math.nan]},
    ]
    found = facts_of(pa.array(rows, type=vector_type(field)), field)
    assert (found.rows, found.rows_missing, found.vectors) == (4, 1, 3)
    assert (found.entries_maximum, found.index_maximum) == (2, 2**32 - 1)
    assert (found.norm_minimum, found.norm_maximum, found.nonfinite_values) == (0.0, 5.0, 1)


def test_another_set_of_keys_is_refused() -> None:
    with pytest.raises(DataInvalid, match="more"):
        VectorFacts.from_json({**VectorFacts().to_json(), "more": 1})
