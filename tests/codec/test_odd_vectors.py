"""What a store cannot hold of vectors goes into the marker, is judged there by what the store does, and comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.arrow import stream_schema
from exitramp.codec.decoding import decode_batch
from exitramp.codec.encoding import encode_batch
from exitramp.codec.layout import lay_out, restored_spec
from exitramp.codec.noticed import Noticed
from exitramp.errors import DataInvalid
from exitramp.ports import NameRule, Origin, PayloadLimits, SinkLimits
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.rows import NUMPY_TYPE, Row, batch_from_rows, rows_from_batch

TYPES = frozenset({"null", "bool", "int", "float", "string", "list", "object"})
PLAIN = SinkLimits(
    id_kinds=frozenset({IdKind.STRING}),
    metrics=frozenset(Metric),
    payload=PayloadLimits(types=TYPES, item_types=TYPES, nested=True, empty_lists=True, empty_objects=True),
    vector_kinds=frozenset(VectorKind),
    named_vectors=True,
    dense_fields=None,
    vectors_required=False,
    keeps_origin=True,
)
SCALES = replace(PLAIN, normalises=frozenset({Metric.COSINE}), unit_slack=2e-7, unit_dimensions=16)


def _field(
    kind: VectorKind = VectorKind.DENSE,
    dtype: DType = DType.FLOAT32,
    metric: Metric = Metric.COSINE,
    dimensions: int | None = 4,
    name: str = "",
) -> VectorField:
    return VectorField(name, kind, dtype, metric, None if kind is VectorKind.SPARSE else dimensions)


class Stored:
    """Rows as a store holds them, which `change` may do something to; `read` gives back rows and what was noticed."""

    def __init__(self, fields: tuple[VectorField, ...], limits: SinkLimits, rows: list[Row], **has: bool) -> None:
        self.spec = CollectionSpec("c", IdKind.STRING, fields, **has)
        self.layout = lay_out(self.spec, limits)
        self.native = encode_batch(batch_from_rows(rows, self.spec), self.layout, limits)

    def rows(self) -> list[Row]:
        return rows_from_batch(self.native, self.layout.native)

    def change(self, column: str, values: Mapping[int, Any]) -> None:
        rows = [
            replace(row, vectors={**row.vectors, column: values[n]}) if n in values else row
            for n, row in enumerate(self.rows())
        ]
        self.native = batch_from_rows(rows, self.layout.native)

    def read(self) -> tuple[list[Row], list[str]]:
        edits = Noticed()
        held = {each.original.column: each.native.name if each.native else None for each in self.layout.fields}
        layout = restored_spec(self.layout.native, Origin(self.spec, "test", held))
        back = rows_from_batch(decode_batch(self.native, layout, edits), layout.original)
        return back, [finding.message for finding in edits.findings()]


def _one(field: VectorField, *values: Any) -> list[Row]:
    return [Row(str(n), payload={}, vectors={field.column: value}) for n, value in enumerate(values)]


def _bytes(row: Row, field: VectorField) -> bytes:
    value = row.vectors[field.column]
    return b"".join(part.tobytes() for part in (value if isinstance(value, tuple) else (value,)))


def test_float16_under_a_store_that_scales_keeps_its_original_even_where_the_store_has_float16() -> None:
    field = _field(dtype=DType.FLOAT16)
    wanted = np.array([1, 2, 3, 60000], "f2")
    stored = Stored((field,), replace(SCALES, dtypes=frozenset({DType.FLOAT16})), _one(field, wanted))
    scaled = (wanted.astype("f4") / np.linalg.norm(wanted.astype("f4"))).astype("f2")
    stored.change("vector", {0: scaled})
    [row], noticed = stored.read()
    assert noticed == []
    assert _bytes(row, field) == wanted.tobytes()


def test_multi_vectors_that_a_store_scales_come_back_and_those_of_unit_length_are_not_doubled() -> None:
    field = _field(VectorKind.MULTI, name="m")
    unit, raw = np.array([[0.6, 0.8, 0, 0]], "f4"), np.array([[1, 2, 3, 4], [0, 0, 0, 2]], "f4")
    stored = Stored((field,), SCALES, _one(field, unit, raw))
    assert stored.rows()[0].payload == {}
    stored.change("multi:m", {1: raw / np.linalg.norm(raw, axis=1, keepdims=True)})
    back, noticed = stored.read()
    assert noticed == []
    assert [_bytes(row, field) for row in back] == [unit.tobytes(), raw.tobytes()]


def test_a_multi_vector_that_the_application_changed_wins_over_the_one_in_the_marker() -> None:
    field = _field(VectorKind.MULTI, name="m")
    stored = Stored((field,), SCALES, _one(field, np.array([[1, 2, 3, 4]], "f4")))
    other = np.array([[1, 0, 0, 0]], "f4")
    stored.change("multi:m", {0: other})
    [row], [noticed] = stored.read()
    assert _bytes(row, field) == other.tobytes()
    assert "changed in the store" in noticed


@pytest.mark.parametrize(
    ("field", "value", "lacks"),
    [
        (_field(VectorKind.MULTI, name="m"), np.zeros((0, 4), "f4"), {"empty_multi": False}),
        (_field(metric=Metric.DOT), np.array([1, np.nan, 0, 0], "f4"), {"nonfinite_vectors": False}),
        (_field(metric=Metric.DOT), np.array([1, 3e38, 0, 0], "f4"), {"vector_magnitude": 1e16}),
        (_field(metric=Metric.DOT), np.array([0, 1e-23, 0, 0], "f4"), {"vector_magnitude_least": 1e-21}),
        (_field(metric=Metric.DOT), np.zeros(4, "f4"), {"zero_vectors": False}),
        (_field(VectorKind.SPARSE, name="s"), (np.array([7, 7], "u4"), np.ones(2, "f4")), {"sparse_duplicates": False}),
        (_field(VectorKind.SPARSE, name="s"), (np.array([7], "u4"), np.full(1, np.inf, "f4")), {}),
    ],
    ids=["no vectors", "nan", "huge", "tiny", "zero", "an index twice", "an infinity in a sparse one"],
)
def test_what_a_store_cannot_take_stands_nowhere_and_comes_back(
    field: VectorField, value: Any, lacks: dict[str, Any]
) -> None:
    stored = Stored((field,), replace(PLAIN, **lacks), _one(field, value))
    assert stored.rows()[0].vectors == {}
    [row], noticed = stored.read()
    assert noticed == []
    assert _bytes(row, field) == _bytes(_one(field, value)[0], field)
    there = (np.array([1], "u4"), np.ones(1, "f4")) if isinstance(value, tuple) else np.eye(4, dtype="f4")
    there = there[0] if field.kind is VectorKind.DENSE else there
    stored.change(field.column, {0: there})  # the application gives the record a vector of its own
    [row], [noticed_now] = stored.read()
    assert _bytes(row, field) == _bytes(_one(field, there)[0], field)
    assert "changed in the store" in noticed_now


def test_a_store_that_wants_a_vector_for_every_record_gets_a_placeholder_instead() -> None:
    field = _field(metric=Metric.DOT)
    wanted = np.array([np.nan, 1, 1, 1], "f4")
    stored = Stored((field,), replace(PLAIN, vectors_required=True), _one(field, wanted))
    assert _bytes(stored.rows()[0], field) == np.array([1, 0, 0, 0], "f4").tobytes()
    assert _bytes(stored.read()[0][0], field) == wanted.tobytes()


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.DOT])
def test_limits_of_magnitude_hold_under_their_own_metrics_only(metric: Metric) -> None:
    field = _field(metric=metric)
    limits = replace(PLAIN, vector_magnitude=1e16, magnitude_metrics=frozenset({Metric.COSINE}))
    stored = Stored((field,), limits, _one(field, np.array([1e30, 1, 1, 1], "f4")))
    assert bool(stored.rows()[0].vectors) is (metric is Metric.DOT)


def test_numbers_that_vanish_beside_the_length_of_their_vector_are_kept_where_a_store_divides_by_it() -> None:
    field = _field()
    limits = replace(PLAIN, rounds=frozenset({Metric.COSINE}), subnormal_vectors=False)
    wanted = np.array([1e15, 1e-30, 1, 1], "f4")
    stored = Stored((field,), limits, _one(field, wanted))
    length = np.float32(np.linalg.norm(wanted))
    stored.change("vector", {0: (wanted / length) * length})
    [row], noticed = stored.read()
    assert noticed == []
    assert _bytes(row, field) == wanted.tobytes()


@pytest.mark.parametrize("value", [1e300, 1e-50, -1e-320])
def test_float64_beyond_the_range_of_float32_is_kept_whole(value: float) -> None:
    field = _field(dtype=DType.FLOAT64, metric=Metric.DOT)
    wanted = np.array([value, 0.5, 0.25, 1], "f8")
    stored = Stored((field,), PLAIN, _one(field, wanted))
    assert _bytes(stored.read()[0][0], field) == wanted.tobytes()


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.FLOAT32, DType.FLOAT64])
@pytest.mark.parametrize("kind", [VectorKind.DENSE, VectorKind.MULTI])
def test_the_bits_of_a_nan_survive_a_store_of_another_type(dtype: DType, kind: VectorKind) -> None:
    field = _field(kind, dtype, Metric.DOT, name="n")
    other = DType.FLOAT64 if dtype is not DType.FLOAT64 else DType.FLOAT32
    numbers = np.array([1, np.inf, 2, 3], NUMPY_TYPE[dtype])
    unsigned = np.dtype(f"u{numbers.dtype.itemsize}")
    numbers.view(unsigned)[1] += unsigned.type(5)  # a signalling NaN with bits of its own
    wanted = numbers if kind is VectorKind.DENSE else numbers[None]
    limits = replace(PLAIN, dtypes=frozenset({other}), nonfinite_vectors=True)
    stored = Stored((field,), limits, _one(field, wanted))
    back, noticed = stored.read()
    assert noticed == []
    assert _bytes(back[0], field) == wanted.tobytes()


def test_fields_of_one_name_get_names_of_their_own_where_a_store_has_one_name_space() -> None:
    fields = (_field(name="x"), _field(VectorKind.SPARSE, name="x", metric=Metric.DOT), _field(name="a/b"))
    limits = replace(PLAIN, shared_field_names=False, field_names=NameRule(r"[^/]*", 0, 200))
    values = {"vector:x": np.ones(4, "f4"), "sparse:x": (np.ones(1, "u4"), np.ones(1, "f4"))}
    row = Row("1", payload={}, vectors={**values, "vector:a/b": np.zeros(4, "f4")})
    stored = Stored(fields, limits, [row])
    names = [each.name for each in stored.layout.native.vectors]
    assert names[0] == "x"
    assert len(set(names)) == 3
    assert not any("/" in name for name in names)
    [back], noticed = stored.read()
    assert noticed == []
    assert {column: str(value) for column, value in back.vectors.items()} == {
        column: str(value) for column, value in row.vectors.items()
    }


def test_a_store_of_fields_that_share_names_gives_each_back_under_its_kind() -> None:
    fields = (_field(name="x"), _field(VectorKind.MULTI, name="x"))
    row = Row("1", payload={}, vectors={"vector:x": np.ones(4, "f4"), "multi:x": np.full((1, 4), 0.5, "f4")})
    [back], _ = Stored(fields, PLAIN, [row]).read()
    assert set(back.vectors) == {"vector:x", "multi:x"}


def test_sparse_vectors_under_a_metric_that_the_store_has_none_for_go_into_the_marker() -> None:
    field = _field(VectorKind.SPARSE, metric=Metric.COSINE, name="s")
    layout = lay_out(
        CollectionSpec("c", IdKind.STRING, (_field(), field)), replace(PLAIN, sparse_metrics=frozenset({Metric.DOT}))
    )
    assert [each.why for each in layout.fields] == ["", "the store has no sparse vectors under cosine"]


@pytest.mark.parametrize("mixed_lists", [True, False], ids=["all else is kept", "judged value by value"])
def test_payloads_deeper_than_a_store_reads_are_kept_as_a_text(mixed_lists: bool) -> None:
    value: Any = "x"
    for _ in range(300):
        value = [value]
    limits = replace(PLAIN, payload=replace(PLAIN.payload, depth=100, mixed_lists=mixed_lists))
    stored = Stored((_field(),), limits, [Row("1", payload={"deep": value, "flat": [[1]]}, vectors={})])
    [native] = stored.rows()
    assert set(native.payload or {}) == {"_exitramp", "flat"}
    assert stored.read()[0][0].payload_text == canonical.dumps({"deep": value, "flat": [[1]]})


def test_a_store_without_room_for_the_origin_tells_of_documents_even_where_the_first_records_have_none() -> None:
    from exitramp.codec import DecodingSource
    from exitramp.ports import Page, Partition, make_cursor

    field = _field(metric=Metric.DOT)
    limits = replace(PLAIN, keeps_origin=False)
    rows = [Row(f"{n:03d}", document="text" if n == 99 else None, payload={}, vectors={}) for n in range(100)]
    stored = Stored((field,), limits, rows, has_documents=True)

    class Source:
        def describe(self) -> CollectionSpec:
            return stored.layout.native

        def origin(self) -> None:
            return None

        def partitions(self, wanted: int) -> list[Partition]:
            return [Partition()]

        def scan(self, partition: Partition, *, batch_rows: int, after: Any = None) -> Any:
            for start in range(0, 100, batch_rows):
                yield Page(stored.native.slice(start, batch_rows), make_cursor(at=start), start + batch_rows >= 100)

    source = DecodingSource(Source())  # type: ignore[arg-type]
    assert source.describe().has_documents
    pages = list(source.scan(Partition(), batch_rows=50))
    documents = pa.concat_arrays([page.batch.column("document") for page in pages])
    assert documents.to_pylist() == [row.document for row in rows]
    assert pages[0].batch.schema == stream_schema(source.describe())


def test_a_collection_without_vector_fields_is_refused_with_what_to_do() -> None:
    limits = replace(PLAIN, vectors_required=True)
    with pytest.raises(DataInvalid, match="'c' has no vector field") as caught:
        lay_out(CollectionSpec("c", IdKind.STRING, ()), limits)
    assert "dump it" in (caught.value.hint or "")
    with pytest.raises(DataInvalid, match="none of these fields: sparse:s: it is not dense"):
        lay_out(CollectionSpec("c", IdKind.STRING, (_field(VectorKind.SPARSE, name="s"),)), limits)


def test_a_metric_for_a_field_that_is_not_there_is_not_overlooked() -> None:
    with pytest.raises(DataInvalid, match="'titel', which is not there") as caught:
        lay_out(CollectionSpec("c", IdKind.STRING, (_field(name="title"),)), PLAIN, metrics={"titel": Metric.DOT})
    assert "'title'" in (caught.value.hint or "")


def test_a_name_that_somebody_asked_for_is_taken_or_refused_and_never_changed() -> None:
    spec = CollectionSpec("Some Articles", IdKind.STRING, (_field(),))
    limits = replace(PLAIN, names=NameRule(r"[a-z0-9-]+", 3, 40))
    assert lay_out(spec, limits, name="mine").native.name == "mine"
    assert lay_out(spec, limits).native.name.startswith("some-articles-")
    with pytest.raises(DataInvalid, match="no collection named 'Mine'"):
        lay_out(spec, limits, name="Mine")
