"""Whatever a sink can hold, encoding and then decoding gives every record back as it was."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.arrow import stream_schema
from exitramp.codec.decoding import decode_batch
from exitramp.codec.encoding import encode_batch
from exitramp.codec.layout import lay_out, restored_spec
from exitramp.codec.noticed import Noticed
from exitramp.ports import NameRule, Origin, PayloadLimits, SinkLimits
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind

SCALARS = frozenset({"bool", "int", "float", "string"})
NARROW = SinkLimits(
    id_kinds=frozenset({IdKind.UINT64, IdKind.UUID}),
    metrics=frozenset({Metric.COSINE, Metric.DOT}),
    payload=PayloadLimits(
        types=SCALARS | {"list"},
        item_types=SCALARS,
        negative_zero=False,
        float_digits=15,
        key_pattern=r"[^$#].*",
        empty_payload=False,
        string_bytes=200,
    ),
    names=NameRule(r"[a-z0-9-]+", 3, 63),
    negative_zero_vectors=False,
    zero_vectors=False,
    keeps_origin=True,
)
WIDE = SinkLimits(
    id_kinds=frozenset({IdKind.UINT64, IdKind.UUID}),
    metrics=frozenset(Metric),
    payload=PayloadLimits(
        types=SCALARS | {"null", "list", "object"},
        item_types=SCALARS | {"null", "list", "object"},
        mixed_lists=True,
        nested=True,
        empty_lists=True,
        empty_objects=True,
        absent_payload=False,
    ),
    keeps_origin=True,
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=4)
    | st.just(Decimal("1.10"))
    | st.just(datetime(2026, 1, 2, tzinfo=UTC)),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=6), children, max_size=3),
    max_leaves=6,
)
KEYS = st.text(max_size=5) | st.sampled_from(["_exitramp", "document", "$x", "#d", "a.b", ""])
PAYLOADS = st.none() | st.dictionaries(KEYS, JSON, max_size=4)
SPEC = CollectionSpec(
    "Some Articles",
    IdKind.STRING,
    (
        VectorField("title", VectorKind.DENSE, DType.FLOAT16, Metric.COSINE, 4),
        VectorField("body", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 3),
        VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None),
        VectorField("late", VectorKind.MULTI, DType.INT8, Metric.DOT, 2),
    ),
    has_namespaces=True,
    has_documents=True,
)


def _batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=stream_schema(SPEC))


def _row(index: int, payload: Any, document: str | None, namespace: str | None, vector: Any) -> dict[str, Any]:
    return {
        "id": f"{index:03d}" if index % 2 else str(index),
        "namespace": namespace,
        "document": document,
        "payload": None if payload is None else canonical.dumps(payload),
        "vector:title": vector,
        "vector:body": [0.0, -0.0, 1e-45],
        "sparse:words": {"indices": [1, 2**32 - 1], "values": [0.5, -1.0]} if index % 2 else None,
        "multi:late": [[1, -128], [127, 0]] if index % 3 else [],
    }


@pytest.mark.parametrize("limits", [NARROW, WIDE], ids=["narrow", "wide"])
@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            PAYLOADS,
            st.none() | st.text(max_size=300),
            st.none() | st.sampled_from(["", "tenant"]),
            st.none() | st.lists(st.floats(width=16), min_size=4, max_size=4),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_every_record_comes_back_as_it_was(limits: SinkLimits, rows: list[tuple[Any, ...]]) -> None:
    batch = _batch([_row(index, *row) for index, row in enumerate(rows)])
    layout = lay_out(SPEC, limits)
    native = encode_batch(batch, layout, limits)
    edits = Noticed()
    back = decode_batch(native, restored_spec(layout.native, Origin(SPEC, "test")), edits)
    assert edits.findings() == []
    _assert_same(back, batch)
    for text in native.column("payload").to_pylist():
        _assert_within(text, limits.payload)


def _assert_same(found: pa.RecordBatch, wanted: pa.RecordBatch) -> None:
    assert found.schema == wanted.schema
    for name in wanted.schema.names:
        if name.startswith("vector"):
            for one, other in zip(found.column(name), wanted.column(name), strict=True):
                assert one.is_valid == other.is_valid
                if one.is_valid:
                    assert one.values.to_numpy().tobytes() == other.values.to_numpy().tobytes()
        else:
            assert found.column(name).to_pylist() == wanted.column(name).to_pylist(), name


def _assert_within(text: str | None, limits: PayloadLimits) -> None:
    if text is None:
        assert limits.absent_payload
        return
    payload = canonical.loads(text)
    assert payload or limits.empty_payload
    for key, value in payload.items():
        kind = canonical.type_name(value)
        assert kind in limits.types
        if key != "_exitramp" and kind == "string" and limits.string_bytes:
            assert len(value.encode()) <= limits.string_bytes
        if kind == "float" and not limits.negative_zero:
            assert not (value == 0 and math.copysign(1, value) < 0)


def test_an_edit_by_the_application_wins_and_is_named() -> None:
    batch = _batch([_row(1, {"n": -0.0, "s": "kept"}, None, None, [1, 0, 0, 0])])
    layout = lay_out(SPEC, NARROW)
    native = encode_batch(batch, layout, NARROW)
    payload = canonical.loads(native.column("payload")[0].as_py())
    payload["n"] = 5.5
    index = native.schema.names.index("payload")
    native = native.set_column(index, native.schema.field(index), pa.array([canonical.dumps(payload)], pa.string()))
    edits = Noticed()
    back = decode_batch(native, restored_spec(layout.native, Origin(SPEC, "test")), edits)
    assert canonical.loads(back.column("payload")[0].as_py()) == {"n": 5.5, "s": "kept"}
    [finding] = edits.findings()
    assert finding.code == "codec.edited"
    assert finding.ids == ("001",)


def test_a_store_without_the_metric_refuses_and_says_what_could_be_done() -> None:
    from exitramp.errors import DataInvalid

    limits = replace(NARROW, metrics=frozenset({Metric.EUCLIDEAN}))
    with pytest.raises(DataInvalid, match="no metric cosine") as caught:
        lay_out(SPEC, limits)
    assert "?metric=" in str(caught.value)
    replaced = lay_out(SPEC, limits, metrics={"title": Metric.EUCLIDEAN})
    assert replaced.native.vectors[0].metric is Metric.EUCLIDEAN


def test_007_and_7_do_not_meet_on_one_native_id() -> None:
    batch = _batch([_row(7, {}, None, None, None), _row(8, {}, None, None, None)])
    ids = pa.array(["007", "7"], pa.string())
    batch = batch.set_column(0, batch.schema.field(0), ids)
    native = encode_batch(batch, lay_out(SPEC, WIDE), WIDE)
    first, second = native.column("id").to_pylist()
    assert second == "7"
    assert first != second


def test_no_dense_field_is_left_out_without_a_word() -> None:
    layout = lay_out(SPEC, NARROW)
    assert [field.native.name if field.native else field.why for field in layout.fields] == [
        "",
        "the store has room for 1 dense vector field",
        "the store has no sparse vectors",
        "the store has no multi vectors",
    ]
    assert np.dtype("<f4").name == layout.native.vectors[0].dtype.value


@pytest.mark.parametrize("dtype", [DType.INT8, DType.FLOAT16])
@pytest.mark.parametrize("store", ["normalises", "rounds"])
def test_a_narrow_type_comes_back_exactly_from_a_store_that_scales_or_rounds(dtype: DType, store: str) -> None:
    field = VectorField("", VectorKind.DENSE, dtype, Metric.COSINE, 3)
    spec = CollectionSpec("c", IdKind.STRING, (field,))
    limits = replace(WIDE, id_kinds=frozenset({IdKind.STRING}), **{store: frozenset({Metric.COSINE})})
    rows = [{"id": str(n), "payload": "{}", "vector": vector} for n, vector in enumerate([[7, -7, 1], [-128, 127, 3]])]
    batch = pa.RecordBatch.from_pylist(rows, schema=stream_schema(spec))
    layout = lay_out(spec, limits)
    native = encode_batch(batch, layout, limits)
    matrix = np.array([value.as_py() for value in native.column("vector")], np.float32)
    if store == "normalises":
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    else:
        matrix = np.nextafter(matrix, np.float32(0))
    index = native.schema.names.index("vector")
    changed = pa.array(list(matrix), native.schema.field(index).type)
    edits = Noticed()
    back = decode_batch(
        native.set_column(index, native.schema.field(index), changed),
        restored_spec(layout.native, Origin(spec, "test")),
        edits,
    )
    assert edits.findings() == []
    assert back.column("vector").to_pylist() == batch.column("vector").to_pylist()


def test_a_number_that_only_the_narrower_type_makes_subnormal_is_kept_too() -> None:
    field = VectorField("", VectorKind.DENSE, DType.FLOAT64, Metric.DOT, 2)
    spec = CollectionSpec("c", IdKind.STRING, (field,))
    limits = replace(WIDE, id_kinds=frozenset({IdKind.STRING}), subnormal_vectors=False)
    small = float(np.float32(1e-40))
    rows = [{"id": "a", "payload": "{}", "vector": [small, 1.0]}]
    batch = pa.RecordBatch.from_pylist(rows, schema=stream_schema(spec))
    layout = lay_out(spec, limits)
    native = encode_batch(batch, layout, limits)
    flushed = pa.array([np.array([0.0, 1.0], np.float32)], native.schema.field("vector").type)
    index = native.schema.names.index("vector")
    native = native.set_column(index, native.schema.field(index), flushed)
    back = decode_batch(native, restored_spec(layout.native, Origin(spec, "test")), Noticed())
    assert back.column("vector").to_pylist() == [[small, 1.0]]


def test_the_one_field_that_a_store_can_hold_is_not_taken_for_another_of_the_same_size() -> None:
    spec = CollectionSpec(
        "c",
        IdKind.STRING,
        (
            VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.MANHATTAN, 2),
            VectorField("b", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 2),
        ),
    )
    limits = replace(NARROW, id_kinds=frozenset({IdKind.STRING}))
    rows = [{"id": "a", "payload": "{}", "vector": [1.0, 2.0], "vector:b": [3.0, 4.0]}]
    batch = pa.RecordBatch.from_pylist(rows, schema=stream_schema(spec))
    layout = lay_out(spec, limits)
    held = {field.original.column: field.native.name if field.native else None for field in layout.fields}
    assert held == {"vector": None, "vector:b": ""}
    edits = Noticed()
    back = decode_batch(
        encode_batch(batch, layout, limits), restored_spec(layout.native, Origin(spec, "test", held)), edits
    )
    assert edits.findings() == []
    _assert_same(back, batch)
