"""Qdrant's engine in process: what it keeps exactly, filters against the reference, and searches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from exitramp.errors import (
    DataInvalid,
    UsageError,
)
from exitramp.filters import And, Eq, Exists, Filter, In, Not, Or, Range
from exitramp.ports import IndexState, Origin, Partition, Query, SearchSettings, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing import Row, batch_from_rows, rows_from_batch
from exitramp.testing.reference import matches

PLAIN = CollectionSpec(
    "c", IdKind.UINT64, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2),), index={"made": "by hand"}
)
VECTOR = np.array([1.0, 2.0], np.float32)
ORIGIN = Origin(PLAIN, "0")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "db"


@contextmanager
def opened(db: Path, collection: str = "c") -> Iterator[Any]:
    store = open_store(f"qdrant:{db}#{quote(collection, safe='')}")
    try:
        yield store
    finally:
        store.close()


def row(id_: str, payload: dict[str, Any] | None = None, **vectors: Any) -> Row:
    return Row(id_, payload=payload, vectors=vectors or {"vector": VECTOR})


def put(db: Path, rows: Sequence[Row], spec: CollectionSpec = PLAIN, collection: str = "c") -> None:
    with opened(db, collection) as store:
        sink = store.sink()
        sink.create(spec, ORIGIN)
        sink.upsert(batch_from_rows(rows, spec))
        sink.flush()


ODD_VALUES: tuple[Any, ...] = (
    *(True, False, None, 0, 1, -1, 7, 2**53 - 1, 2**53, 2**53 + 1, 2**60 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)),
    *(0.0, -0.0, 1.0, 7.0, 7.5, 1e-300, 1e300, float(2**53)),
    *("", "1", "true", "7", "é", "e\u0301", "x"),
    *([], [None], [1], [1.0], [True], [7, "x"], [[7]], [7.5, 100], {}, {"x": 7}, [{"x": 7}], ["x", False]),
)
ODD_KEYS = ("k", "", "a.b", "a[0]", "a[]", "$x", "with space", "größe", "😀", "'", "k\n", "-")


def asked(field: tuple[str, ...]) -> list[Filter]:
    scalars = [value for value in ODD_VALUES if isinstance(value, bool | int | float | str)]
    some: list[Filter] = [Eq(field, value) for value in scalars]
    some += [Range(field, gte=7), Range(field, gt=0, lte=7), Range(field, lt=7.5), Range(field, gte=-0.0, lte=0.0)]
    some += [In(field, (1, "x", True)), In(field, ("x", "")), In(field, (7.5,))]
    some += [Not(part) for part in some[:12]]
    return [*some, And((Range(field, gte=1), Not(Eq(field, 7)))), Or((Eq(field, "x"), Eq(field, False)))]


@pytest.mark.parametrize("nested", [False, True], ids=["at the top", "inside an object"])
def test_every_filter_is_answered_as_the_reference_does_or_refused(db: Path, nested: bool) -> None:
    payloads: list[dict[str, Any]] = [{"k": value} for value in ODD_VALUES] + [{}, {"other": 1}]
    payloads += [{key: 7} for key in ODD_KEYS]
    if nested:
        payloads = [{"in": payload} for payload in payloads] + [{"in": 7}, {"in": [{"k": 7}]}, {"k": 7}]
    put(db, [row(str(number), payload) for number, payload in enumerate(payloads)])
    outside = ("in",) if nested else ()
    filters = asked((*outside, "k")) + [Eq((*outside, key), 7) for key in ODD_KEYS]
    answered = refused = 0
    with opened(db) as store:
        search = store.search()
        for where in filters:
            wanted = {str(number) for number, payload in enumerate(payloads) if matches(where, payload)}
            try:
                hits = search.search(Query(dense=VECTOR), k=1000, where=where, settings=SearchSettings(exact=True))
            except UsageError:
                refused += 1
                continue
            answered += 1
            assert {hit.id for hit in hits.keys} == wanted, f"{where}"
    assert answered > 50
    assert refused < 16


@pytest.mark.parametrize(
    ("where", "why"),
    [
        (Exists(("k",)), "exists"),
        (Not(Exists(("k",))), "exists"),
        (Eq(("k",), 2**53), "eq"),
        (Eq(("k",), 1e300), "eq"),
        (Eq(("k",), float("nan")), "eq"),
        (Range(("k",), gte=2**53), "range"),
        (Eq(('say "k"',), 1), "quote"),
        (Eq(("back\\slash",), 1), "backslash"),
        (And(()), "and"),
        (Or(()), "or"),
        (In(("k",), ()), "in"),
        (Range(("k",)), "range"),
    ],
)
def test_a_filter_that_has_no_exact_form_is_refused_by_name(db: Path, where: Filter, why: str) -> None:
    put(db, [row("1", {"k": 1})])
    with opened(db) as store, pytest.raises(UsageError, match=why):
        store.search().search(Query(dense=VECTOR), k=1, where=where)


def test_floats_of_fifteen_digits_come_back_and_longer_ones_may_not(db: Path) -> None:
    kept = [0.1, 1e22, 1e-22, 123456.789012345, 999999999999999.0, 5e-22, 1.5e21, -0.0]
    longer = [123456789.123456789 + number for number in range(40)]
    put(db, [row("1", {"kept": kept, "longer": longer})])
    with opened(db) as store:
        [page] = store.source().scan(Partition(), batch_rows=10)
        [found] = rows_from_batch(page.batch, PLAIN)
    payload = dict(found.payload or {})
    assert repr(payload["kept"]) == repr(kept)
    assert payload["longer"] != longer, "the engine reads all floats exactly now: float_digits can go"
    assert np.allclose(payload["longer"], longer, rtol=1e-15)


def test_no_payload_and_an_empty_one_are_the_same(db: Path) -> None:
    put(db, [row("1", None), row("2", {})])
    with opened(db) as store:
        assert not store.sink().limits().payload.absent_payload
        batch = store.source().fetch([RecordKey("1"), RecordKey("2")])
    assert batch.column("payload").to_pylist() == ["{}", "{}"]


def test_a_value_that_json_has_no_type_for_is_refused_by_the_record(db: Path) -> None:
    with pytest.raises(DataInvalid, match="'7'"):
        put(db, [row("7", {"k": b"bytes"})])


def test_an_empty_multi_vector_is_refused_before_anything_is_written(db: Path) -> None:
    late = VectorField("late", VectorKind.MULTI, DType.FLOAT32, Metric.DOT, 2)
    spec = CollectionSpec("c", IdKind.UINT64, (*PLAIN.vectors, late))
    rows = [row("1", vector=VECTOR), Row("2", vectors={"vector": VECTOR, "multi:late": np.zeros((0, 2), np.float32)})]
    with pytest.raises(DataInvalid, match="'2'"):
        put(db, rows, spec)
    with opened(db) as store:
        assert store.source().count() == 0


@pytest.mark.parametrize("id_", ["007", "-1", "18446744073709551616", "550E8400-E29B-41D4-A716-446655440000", "x", "٧"])
def test_an_id_that_would_come_back_as_another_is_refused(db: Path, id_: str) -> None:
    with pytest.raises(DataInvalid, match="neither"):
        put(db, [row("1"), row(id_)])
    with opened(db) as store:
        assert store.source().count() == 0, "the good record of the same batch was written"
        assert store.source().fetch([RecordKey(id_), RecordKey("1", "tenant")]).num_rows == 0
        store.sink().delete([RecordKey(id_)])


def test_an_id_twice_in_one_batch_is_refused(db: Path) -> None:
    with pytest.raises(DataInvalid, match="'5' stands twice"):
        put(db, [row("5"), row("5")])


def test_named_sparse_and_multi_vectors_are_searched(db: Path) -> None:
    fields = (
        VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.EUCLIDEAN, 2),
        VectorField("late", VectorKind.MULTI, DType.FLOAT32, Metric.DOT, 2),
        VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None),
    )
    spec = CollectionSpec("c", IdKind.UINT64, fields)
    far, near = np.array([9.0, 9.0], np.float32), np.array([1.0, 1.0], np.float32)
    word = {name: (np.array([name], np.uint32), np.array([2.0], np.float32)) for name in (3, 4)}
    rows = [
        Row("1", vectors={"vector": near, "multi:late": np.array([far, near]), "sparse:words": word[3]}),
        Row("2", vectors={"vector": far, "multi:late": np.array([near]), "sparse:words": word[4]}),
    ]
    put(db, rows, spec)
    with opened(db) as store:
        search = store.search()
        hits = search.search(Query(dense=near), k=2, with_records=True)
        assert [key.id for key in hits.keys] == ["1", "2"]
        assert hits.scores[0] == 0.0
        assert hits.records.num_rows == 2
        late = search.search(Query("late", multi=np.array([far, near])), k=1)
        assert (late.keys[0].id, late.scores[0]) == ("1", 162.0 + 18.0)
        words = search.search(Query("words", sparse=(np.array([4], np.uint32), np.array([1.0], np.float32))), k=5)
        assert [key.id for key in words.keys] == ["2"]


def test_a_search_that_cannot_be_honoured_is_refused(db: Path) -> None:
    put(db, [row("1")])
    with opened(db) as store:
        search = store.search()
        search.search(Query(dense=VECTOR), k=1, settings=SearchSettings(options={"hnsw_ef": 64}))
        with pytest.raises(UsageError, match="probes"):
            search.search(Query(dense=VECTOR), k=1, settings=SearchSettings(options={"probes": 3}))
        with pytest.raises(UsageError, match="hnsw_ef"):
            search.search(Query(dense=VECTOR), k=1, settings=SearchSettings(options={"hnsw_ef": "many"}))
        with pytest.raises(UsageError, match="one dense vector"):
            search.search(Query(multi=np.array([VECTOR])), k=1)
        with pytest.raises(DataInvalid, match="3 numbers"):
            search.search(Query(dense=np.zeros(3, np.float32)), k=1)
        with pytest.raises(UsageError, match="NaN"):
            search.search(Query(dense=np.array([np.nan, 1], np.float32)), k=1)
        with pytest.raises(DataInvalid, match="'title'"):
            search.search(Query("title", dense=VECTOR), k=1)


def test_the_index_is_building_until_it_was_built(db: Path) -> None:
    dimensions = 2048
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, dimensions)
    spec = CollectionSpec("c", IdKind.UINT64, (field,))
    matrix = np.random.default_rng(0).standard_normal((1500, dimensions)).astype(np.float32)
    with opened(db) as store:
        sink, search = store.sink(), store.search()
        sink.create(spec, ORIGIN)
        assert search.index_state() is IndexState.READY
        for start in range(0, len(matrix), 250):
            rows = [row(str(number), vector=matrix[number]) for number in range(start, start + 250)]
            sink.upsert(batch_from_rows(rows, spec))
        assert search.index_state() is IndexState.BUILDING
        assert search.coverage().is_exact, "what no index holds is compared"
        sink.flush()
        sink.finish(TransferAccount())
        assert search.index_state() is IndexState.READY
        assert (search.coverage().indexed, search.coverage().compared) == (1500, 0)
        assert search.search(Query(dense=matrix[7] * 10), k=1).keys == (RecordKey("7"),)
