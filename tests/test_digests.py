"""The digests against a plain row-by-row rendering of their definition."""

from __future__ import annotations

import hashlib
import random
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp.arrow import empty_batch, stream_schema
from exitramp.digests import CollectionDigests, Digest, digest_batch, leaf_digests
from exitramp.errors import DataInvalid
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind

FORMATS = {DType.FLOAT32: "f", DType.FLOAT16: "e", DType.FLOAT64: "d", DType.INT8: "b", DType.BINARY: "B"}
DENSE = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 2)
HALF = VectorField("half", VectorKind.DENSE, DType.FLOAT16, Metric.DOT, 2)
BITS = VectorField("bits", VectorKind.DENSE, DType.BINARY, Metric.HAMMING, 16)
MULTI = VectorField("late", VectorKind.MULTI, DType.FLOAT32, Metric.COSINE, 2)
SPARSE = VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None)
PLAIN = CollectionSpec("plain", IdKind.STRING, (DENSE,))
WIDE = CollectionSpec("wide", IdKind.STRING, (DENSE, HALF, BITS, MULTI, SPARSE), True, True)

Row = dict[str, Any]


def batch_of(rows: list[Row], spec: CollectionSpec) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=stream_schema(spec))


def text(value: str | None) -> bytes:
    if value is None:
        return b"\xff\xff\xff\xff"
    data = value.encode()
    return struct.pack("<I", len(data)) + data


def content(value: Any, field: VectorField) -> bytes:
    head = text(field.name) + text(field.kind.value) + text(field.dtype.value)
    if value is None:
        return head + b"\x00"
    code = FORMATS[field.dtype]
    if field.kind is VectorKind.DENSE:
        return head + b"\x01" + struct.pack(f"<I{len(value)}{code}", field.dimensions, *value)
    if field.kind is VectorKind.MULTI:
        flat = [number for vector in value for number in vector]
        return head + b"\x01" + struct.pack(f"<II{len(flat)}{code}", len(value), field.dimensions, *flat)
    pairs = sorted(
        (index, struct.pack("<f", number)[::-1])
        for index, number in zip(value["indices"], value["values"], strict=True)
    )
    indices = b"".join(struct.pack("<I", index) for index, _ in pairs)
    return head + b"\x01" + struct.pack("<I", len(pairs)) + indices + b"".join(bits[::-1] for _, bits in pairs)


def plain_digest(rows: list[Row], domain: bytes, contents: list[bytes]) -> Digest:
    total = 0
    for row, tail in zip(rows, contents, strict=True):
        message = domain + text(row.get("namespace")) + text(row["id"]) + tail
        total += int.from_bytes(hashlib.sha256(message).digest(), "big")
    return Digest(len(rows), total % 2**256)


def plain_digests(rows: list[Row], spec: CollectionSpec) -> CollectionDigests:
    payloads = [text(row.get("document")) + text(row.get("payload")) for row in rows]
    return CollectionDigests(
        plain_digest(rows, b"exitramp-digest-1 ids\n", [b""] * len(rows)),
        plain_digest(rows, b"exitramp-digest-1 payloads\n", payloads),
        {
            field.column: plain_digest(
                rows, b"exitramp-digest-1 vectors\n", [content(row.get(field.column), field) for row in rows]
            )
            for field in spec.vectors
        },
    )


FLOAT32 = st.floats(width=32, allow_nan=False)
TEXT = st.text(max_size=12)
WIDE_ROW = st.fixed_dictionaries(
    {
        "id": TEXT,
        "namespace": st.none() | TEXT,
        "document": st.none() | TEXT,
        "payload": st.none() | st.sampled_from(["{}", '{"a":1}', '{"a":"é"}']),
        "vector": st.none() | st.lists(FLOAT32, min_size=2, max_size=2),
        "vector:half": st.none()
        | st.lists(st.floats(width=16, allow_nan=False).map(np.float16), min_size=2, max_size=2),
        "vector:bits": st.none() | st.lists(st.integers(0, 255), min_size=2, max_size=2),
        "multi:late": st.none() | st.lists(st.lists(FLOAT32, min_size=2, max_size=2), max_size=3),
        "sparse:words": st.none()
        | st.dictionaries(st.integers(0, 2**32 - 1), FLOAT32, max_size=4).map(
            lambda found: {"indices": list(found), "values": list(found.values())}
        ),
    }
)


@settings(max_examples=80, deadline=None)
@given(st.lists(WIDE_ROW, max_size=6))
def test_the_columnwise_digests_are_those_of_the_definition(rows: list[Row]) -> None:
    assert digest_batch(batch_of(rows, WIDE), WIDE) == plain_digests(rows, WIDE)


@settings(max_examples=40, deadline=None)
@given(st.lists(WIDE_ROW, min_size=1, max_size=6), st.integers(0, 6), st.randoms())
def test_order_and_division_do_not_count(rows: list[Row], cut: int, rng: random.Random) -> None:
    whole = digest_batch(batch_of(rows, WIDE), WIDE)
    rng.shuffle(rows)
    batch = batch_of(rows, WIDE)
    first, second = (digest_batch(part, WIDE) for part in (batch.slice(0, cut), batch.slice(cut)))
    assert first.merge(second) == whole
    assert whole.subtract(second) == first


def test_no_rows_digest_to_nothing() -> None:
    assert digest_batch(empty_batch(WIDE), WIDE) == CollectionDigests.empty(WIDE)


def test_absent_differs_from_empty_everywhere() -> None:
    full: Row = {
        "id": "a",
        "namespace": "",
        "document": "",
        "payload": "{}",
        "vector": [0.0, 0.0],
        "vector:half": [np.float16(0), np.float16(0)],
        "vector:bits": [0, 0],
        "multi:late": [],
        "sparse:words": {"indices": [], "values": []},
    }
    whole = digest_batch(batch_of([full], WIDE), WIDE)
    for column, differs in (
        ("document", ("payloads",)),
        ("payload", ("payloads",)),
        ("multi:late", ("vectors.multi:late",)),
    ):
        assert digest_batch(batch_of([{**full, column: None}], WIDE), WIDE).differences(whole) == differs
    for field in WIDE.vectors:
        changed = digest_batch(batch_of([{**full, field.column: None}], WIDE), WIDE)
        assert changed.differences(whole) == (f"vectors.{field.column}",)
    assert "ids" in digest_batch(batch_of([{**full, "namespace": None}], WIDE), WIDE).differences(whole)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"id": "ab", "namespace": "c"}, {"id": "b", "namespace": "ca"}),
        ({"id": "a", "document": "b", "payload": None}, {"id": "a", "document": None, "payload": "b"}),
        ({"id": "a", "vector": [0.0, 1.0]}, {"id": "a", "vector": [-0.0, 1.0]}),
    ],
)
def test_neighbouring_fields_never_run_into_each_other_and_bits_count(one: Row, other: Row) -> None:
    assert digest_batch(batch_of([one], WIDE), WIDE) != digest_batch(batch_of([other], WIDE), WIDE)


def test_nan_payload_bits_count() -> None:
    def with_bits(bits: int) -> pa.RecordBatch:
        numbers = np.array([bits, 0], dtype=np.uint32).view(np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(numbers), type=stream_schema(PLAIN).field("vector").type)
        return pa.RecordBatch.from_arrays([pa.array(["a"]), pa.array(["{}"]), column], schema=stream_schema(PLAIN))

    assert digest_batch(with_bits(0x7FC00000), PLAIN) != digest_batch(with_bits(0x7FC00001), PLAIN)


def test_a_record_that_stands_twice_does_not_cancel_out() -> None:
    row: Row = {"id": "a", "payload": "{}", "vector": [1.0, 2.0]}
    twice = digest_batch(batch_of([row, row], PLAIN), PLAIN)
    assert twice.rows == 2
    assert twice.ids.total != 0


def test_a_sparse_vector_digests_alike_in_any_order_even_with_an_index_twice() -> None:
    def row(indices: list[int], values: list[float]) -> pa.RecordBatch:
        return batch_of([{"id": "a", "sparse:words": {"indices": indices, "values": values}}], WIDE)

    assert digest_batch(row([3, 1, 3], [0.5, 1.0, -0.5]), WIDE) == digest_batch(row([3, 3, 1], [-0.5, 0.5, 1.0]), WIDE)
    assert digest_batch(row([3, 1], [0.5, 1.0]), WIDE) != digest_batch(row([3, 1], [1.0, 0.5]), WIDE)


def test_a_sparse_vector_with_more_indices_than_values_is_refused() -> None:
    batch = batch_of([{"id": "a", "sparse:words": {"indices": [1, 2], "values": [1.0]}}], WIDE)
    with pytest.raises(DataInvalid, match="as many values as indices"):
        digest_batch(batch, WIDE)


def test_the_combined_vector_leaf_is_the_sum_of_the_fields_leaves_with_its_carries() -> None:
    rows: list[Row] = [{"id": str(number), "vector": [float(number), 1.0]} for number in range(40)]
    leaves = leaf_digests(batch_of(rows, WIDE), WIDE)
    combined = leaves.vectors
    for row in range(40):
        parts = (int.from_bytes(column[row].tobytes(), "big") for column in leaves.by_column.values())
        assert int.from_bytes(combined[row].tobytes(), "big") == sum(parts) % 2**256
    alone = leaf_digests(batch_of([{"id": "0", "vector": [0.0, 1.0]}], PLAIN), PLAIN)
    assert alone.vectors.tobytes() == alone.by_column["vector"].tobytes()


def test_a_collection_without_vectors_has_zero_vector_leaves() -> None:
    spec = CollectionSpec("bare", IdKind.STRING, ())
    leaves = leaf_digests(batch_of([{"id": "a", "payload": "{}"}], spec), spec)
    assert not leaves.vectors.any()
    assert leaves.digests().vectors == {}


def test_summing_leaves_loses_no_carry() -> None:
    leaves = np.full((70_000, 32), 255, dtype=np.uint8)
    assert Digest.of_leaves(leaves) == Digest(70_000, 70_000 * (2**256 - 1) % 2**256)


def test_text_and_json_forms_read_back() -> None:
    found = digest_batch(batch_of([{"id": "a", "vector": [1.0, 2.0]}], WIDE), WIDE)
    assert CollectionDigests.from_json(found.to_json()) == found
    assert Digest.parse(str(found.ids)) == found.ids
    assert str(found.ids).startswith("1:")


@pytest.mark.parametrize(
    "damage",
    [
        {"rows": -1},
        {"rows": True},
        {"rows": "1"},
        {"ids": "00"},
        {"payloads": "G" * 64},
        {"vectors": []},
        {"more": 1},
    ],
)
def test_a_malformed_json_form_is_refused(damage: dict[str, Any]) -> None:
    good = CollectionDigests.empty(WIDE).to_json()
    with pytest.raises(DataInvalid):
        CollectionDigests.from_json({**good, **damage})


def test_other_vector_fields_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="not the same"):
        CollectionDigests.empty(WIDE).merge(CollectionDigests.empty(PLAIN))


def test_more_rows_cannot_be_taken_than_there_are() -> None:
    one = digest_batch(batch_of([{"id": "a"}], PLAIN), PLAIN)
    with pytest.raises(ValueError, match="cannot be taken"):
        CollectionDigests.empty(PLAIN).subtract(one)
