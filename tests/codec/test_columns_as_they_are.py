"""Columns that a sink takes as they are, told at once, are what each row by itself would be written as."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.arrow import dense_array, stream_schema
from exitramp.codec import encoding
from exitramp.codec.layout import layout_for
from exitramp.ports import DocumentRoom, PayloadLimits, SinkLimits
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 2)
IDS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["", "7", "é" * 4, "a" * 9])
TEXTS = st.none() | st.sampled_from(
    [*("{}", '{"a":1}', '{"a":-0.0}', '{"a":{"$exitramp:int":"9007199254740993"}}'), '{"_exitramp":"mine"}', '{"":[]}']
)
ANY = PayloadLimits(
    types=frozenset({"null", "bool", "int", "float", "string", "list", "object"}),
    item_types=frozenset({"null", "bool", "int", "float", "string", "list", "object"}),
    mixed_lists=True,
    nested=True,
    empty_lists=True,
    empty_objects=True,
)
LIMITS = SinkLimits(
    id_kinds=frozenset(IdKind), metrics=frozenset(Metric), payload=ANY, documents=DocumentRoom.NATIVE, keeps_origin=True
)
SOME_LIMITS = st.builds(
    lambda payload, id_bytes, namespaces, documents, keeps_origin, pattern: replace(
        LIMITS,
        payload=payload,
        id_bytes=id_bytes,
        namespaces=namespaces,
        documents=documents,
        keeps_origin=keeps_origin,
        id_pattern=pattern,
    ),
    st.builds(
        lambda absent, empty, zero: replace(ANY, absent_payload=absent, empty_payload=empty, negative_zero=zero),
        *[st.booleans()] * 3,
    ),
    st.sampled_from([None, 8]),
    st.booleans(),
    st.sampled_from([DocumentRoom.NATIVE, DocumentRoom.PAYLOAD]),
    st.booleans(),
    st.sampled_from([None, "[a-z]*"]),
)
ROWS = st.lists(
    st.tuples(
        IDS, st.sampled_from([None, "", "x"]), TEXTS, st.sampled_from([None, "", "text"]), st.sampled_from([0.0, 1.0])
    ),
    max_size=4,
    unique_by=lambda row: row[0],
)


@settings(max_examples=400, deadline=None)
@given(ROWS, SOME_LIMITS, st.booleans(), st.booleans())
def test_a_column_at_once_is_what_row_by_row_would_be(
    rows: list[tuple[str, str | None, str | None, str | None, float]],
    limits: SinkLimits,
    has_namespaces: bool,
    has_documents: bool,
) -> None:
    spec = CollectionSpec("c", IdKind.STRING, (FIELD,), has_namespaces, has_documents)
    columns = {
        "id": pa.array([row[0] for row in rows], pa.string()),
        "namespace": pa.array([row[1] for row in rows], pa.string()),
        "payload": pa.array([row[2] for row in rows], pa.string()),
        "document": pa.array([row[3] for row in rows], pa.string()),
        "vector": dense_array(np.array([[row[4], 1] for row in rows], np.float32).reshape(-1, 2), FIELD),
    }
    schema = stream_schema(spec)
    batch = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
    layout = layout_for(spec, limits)
    at_once = encoding.encode_batch(batch, layout, limits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "are_taken_as_is", lambda ids, limits: False)
        patch.setattr(encoding, "kept_as_they_stand", lambda texts, limits: [False] * len(texts))
        row_by_row = encoding.encode_batch(batch, layout, limits)
    names = [name for name in at_once.schema.names if name != "payload"]
    assert at_once.select(names).equals(row_by_row.select(names))
    read = [
        [None if text is None else canonical.loads(text) for text in each.column("payload").to_pylist()]
        for each in (at_once, row_by_row)
    ]
    assert repr(read[0]) == repr(read[1])


def test_columns_that_are_taken_as_they_are_are_not_written_anew() -> None:
    spec = CollectionSpec("c", IdKind.STRING, (FIELD,))
    columns = [pa.array(["a", "b"]), pa.array(['{"a":1}', "{}"]), dense_array(np.ones((2, 2), np.float32), FIELD)]
    batch = pa.RecordBatch.from_arrays(columns, schema=stream_schema(spec))
    written = encoding.encode_batch(batch, layout_for(spec, LIMITS), LIMITS)
    for name in batch.schema.names:
        assert written.column(name).buffers()[-1].address == batch.column(name).buffers()[-1].address
