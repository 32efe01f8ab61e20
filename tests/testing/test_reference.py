"""What filters and metrics mean, by example: everything else is compared with this."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from exitramp.errors import CollectionMissing, DataInvalid, UsageError
from exitramp.filters import And, Eq, Exists, Filter, In, Not, Or, Range
from exitramp.ports import Query, make_cursor
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.testing import MemoryStore, Row, batch_from_rows, rows_from_batch
from exitramp.testing.conformance.steps import origin_of
from exitramp.testing.reference import matches, score


def _array(dtype: type[np.generic]) -> Callable[[Any], npt.NDArray[Any]]:
    return lambda numbers: np.array(numbers, dtype)


f32, u8, i8, u32 = _array(np.float32), _array(np.uint8), _array(np.int8), _array(np.uint32)


PAYLOAD = {
    "flag": True,
    "one": 1,
    "one_float": 1.0,
    "big": 2**53 + 1,
    "text": "x",
    "nothing": None,
    "list": ["a", 1, None],
    "empty": [],
    "nested": {"a": {"b": 2}, "a.b": 3},
    "a.b": 4,
    "nan": math.nan,
}


@pytest.mark.parametrize(
    ("where", "passes"),
    [
        (Eq(("flag",), True), True),
        (Eq(("flag",), 1), False),
        (Eq(("one",), True), False),
        (Eq(("one",), 1.0), True),
        (Eq(("one_float",), 1), True),
        (Eq(("one",), "1"), False),
        (Eq(("big",), 2**53), False),
        (Eq(("big",), float(2**53)), False),
        (Eq(("nothing",), "x"), False),
        (Eq(("missing",), "x"), False),
        (Not(Eq(("nothing",), "x")), True),
        (Not(Eq(("missing",), "x")), True),
        (Exists(("nothing",)), True),
        (Exists(("missing",)), False),
        (Exists(("nested", "a", "b")), True),
        (Exists(("nested", "a", "b", "c")), False),
        (Eq(("list",), "a"), True),
        (Eq(("list",), 1), True),
        (Eq(("list",), "b"), False),
        (In(("list",), ("b", "a")), True),
        (Eq(("empty",), "a"), False),
        (In(("text",), ("y", "x")), True),
        (In(("text",), ("y",)), False),
        (Eq(("nested", "a", "b"), 2), True),
        (Eq(("nested", "a.b"), 3), True),
        (Eq(("a.b",), 4), True),
        (Eq(("a", "b"), 4), False),
        (Range(("one",), gte=1), True),
        (Range(("one",), gt=1), False),
        (Range(("one",), lte=1.0, gt=0.5), True),
        (Range(("one",), lt=1), False),
        (Range(("flag",), gte=0), False),
        (Range(("text",), gte=0), False),
        (Range(("list",), gte=0), False),
        (Range(("nan",), gte=0), False),
        (Not(Range(("missing",), gte=0)), True),
        (And((Eq(("one",), 1), Eq(("text",), "x"))), True),
        (And((Eq(("one",), 1), Eq(("text",), "y"))), False),
        (Or((Eq(("one",), 2), Eq(("text",), "x"))), True),
        (Not(Or((Eq(("one",), 2), Eq(("text",), "y")))), True),
    ],
)
def test_a_filter_passes_what_its_words_say(where: Filter, passes: bool) -> None:
    assert matches(where, PAYLOAD) is passes


def test_a_record_without_a_payload_has_no_field() -> None:
    assert not matches(Exists(("a",)), None)
    assert matches(Not(Eq(("a",), 1)), None)


def dense(metric: Metric, dtype: DType = DType.FLOAT32, dimensions: int = 2) -> VectorField:
    return VectorField("", VectorKind.DENSE, dtype, metric, dimensions)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Metric.DOT, 3 * 4 + 4 * 3),
        (Metric.COSINE, 24 / 25),
        (Metric.EUCLIDEAN, math.sqrt(2)),
        (Metric.MANHATTAN, 2.0),
        (Metric.HAMMING, 2.0),
    ],
)
def test_a_metric_is_the_textbooks(metric: Metric, expected: float) -> None:
    assert score(dense(metric), f32([3, 4]), f32([4, 3])) == pytest.approx(expected, abs=1e-12)


def test_hamming_counts_bits_of_packed_vectors() -> None:
    field = dense(Metric.HAMMING, DType.BINARY, 16)
    assert score(field, u8([0b1010_0000, 255]), u8([0b0110_0000, 254])) == 3.0


def test_cosine_with_a_zero_vector_is_zero() -> None:
    assert score(dense(Metric.COSINE), f32([0, 0]), f32([1, 2])) == 0.0


def test_int8_vectors_do_not_overflow() -> None:
    assert score(dense(Metric.DOT, DType.INT8), i8([127, 127]), i8([127, 127])) == 2 * 127 * 127


def test_multi_vectors_sum_the_best_of_each_query_vector() -> None:
    field = VectorField("m", VectorKind.MULTI, DType.FLOAT32, Metric.DOT, 2)
    query, record = f32([[1, 0], [0, 1]]), f32([[2, 0], [1, 1], [0, 3]])
    assert score(field, query, record) == 2 + 3


def test_sparse_vectors_meet_at_their_indices() -> None:
    field = VectorField("s", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None)
    one = (u32([7, 2**32 - 1]), f32([2, 3]))
    other = (u32([1, 7]), f32([5, 4]))
    assert score(field, one, other) == 8.0


SPEC = CollectionSpec(
    "c",
    IdKind.STRING,
    (dense(Metric.DOT), VectorField("m", VectorKind.MULTI, DType.FLOAT32, Metric.DOT, 2)),
    has_namespaces=True,
)


def filled(name: str, rows: list[Row]) -> MemoryStore:
    store = MemoryStore(name, "c")
    store.sink().create(SPEC, origin_of(SPEC))
    store.sink().upsert(batch_from_rows(rows, SPEC))
    return store


def vectors(*numbers: float) -> dict[str, Any]:
    return {"vector": f32(numbers)}


def test_ties_go_by_key_and_nan_comes_last_and_records_without_the_vector_never() -> None:
    rows = [
        Row("b", vectors=vectors(1, 0)),
        Row("a", vectors=vectors(1, 0)),
        Row("nan", vectors=vectors(math.nan, 0)),
        Row("none", vectors={"multi:m": np.zeros((0, 2), np.float32)}),
        Row("c", vectors=vectors(0, 1)),
    ]
    search = filled("ties", rows).search()
    hits = search.search(Query(dense=f32([1, 0])), k=9)
    assert [key.id for key in hits.keys] == ["a", "b", "c", "nan"]
    assert search.search(Query("m", multi=np.ones((1, 2), np.float32)), k=9).keys == ()


def test_records_come_in_the_order_of_namespace_and_id() -> None:
    keys = [RecordKey("1", "b"), RecordKey("2"), RecordKey("10"), RecordKey("1", ""), RecordKey("1", "a")]
    store = filled("order", [Row(key.id, key.namespace, vectors=vectors(1, 1)) for key in keys])
    [page] = store.source().scan(store.source().partitions(1)[0], batch_rows=9)
    assert [row.key for row in rows_from_batch(page.batch, SPEC)] == [
        RecordKey("10"),
        RecordKey("2"),
        RecordKey("1", ""),
        RecordKey("1", "a"),
        RecordKey("1", "b"),
    ]
    assert page.cursor == make_cursor(place=[True, "b", "1"])


def test_an_id_that_stands_twice_in_a_batch_is_the_callers_error_and_writes_nothing() -> None:
    store = filled("twice", [])
    with pytest.raises(DataInvalid, match="row 1: the id 'a'"):
        store.sink().upsert(batch_from_rows([Row("a"), Row("a")], SPEC))
    assert store.source().count() == 0


def test_payloads_are_kept_in_canonical_form_whatever_order_they_come_in() -> None:
    store = filled("canonical", [])
    batch = batch_from_rows([Row("a", payload={"b": 1, "a": 2})], SPEC)
    spot = batch.schema.get_field_index("payload")
    store.sink().upsert(batch.set_column(spot, batch.schema.field(spot), pa.array(['{"b": 1, "a": 2}'])))
    assert store.source().fetch([RecordKey("a")]).column("payload")[0].as_py() == '{"a":2,"b":1}'
    with pytest.raises(DataInvalid, match="the payload of 'a'"):
        store.sink().upsert(batch.set_column(spot, batch.schema.field(spot), pa.array(['{"a":1,"a":2}'])))


def test_stores_of_one_name_are_one_store_and_others_are_others() -> None:
    filled("shared", [Row("a")])
    assert MemoryStore("shared", "c").source().count() == 1
    with pytest.raises(CollectionMissing):
        MemoryStore("not shared", "c").source().count()


def test_a_query_holds_one_vector_of_the_fields_kind() -> None:
    search = filled("queries", [Row("a", vectors=vectors(1, 1))]).search()
    two = np.ones((1, 2), np.float32)
    for query in (Query(), Query(dense=two[0], multi=two), Query("", multi=two), Query("m", dense=two[0])):
        with pytest.raises(UsageError):
            search.search(query, k=1)
