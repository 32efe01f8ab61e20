"""Whatever single thing is done to one side, the comparison finds it, names the record, and does not pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.parity.records import RecordParity, compare_records
from exitramp.parity.tolerance import Tolerance
from exitramp.records import (
    CollectionSpec,
    DType,
    IdKind,
    Metric,
    RecordKey,
    VectorField,
    VectorKind,
    Verdict,
)
from exitramp.testing.data import hard_records
from exitramp.testing.rows import Row, rows_from_batch

SPEC = CollectionSpec(
    "c",
    IdKind.STRING,
    (
        VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 6),
        VectorField("bits", VectorKind.DENSE, DType.BINARY, Metric.HAMMING, 16),
        VectorField("late", VectorKind.MULTI, DType.FLOAT16, Metric.DOT, 3),
        VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None),
    ),
    has_namespaces=True,
    has_documents=True,
)
ROWS = [row for batch in hard_records(SPEC, 60, seed=7) for row in rows_from_batch(batch, SPEC)]
Mutation = Callable[[Row, Any], Row | None]


def compare(parity: Any, a: list[Row], b: list[Row], **more: Any) -> tuple[RecordParity, set[tuple[str, RecordKey]]]:
    named: set[tuple[str, RecordKey]] = set()
    result = compare_records(
        parity.Source(SPEC, a),
        parity.Source(SPEC, b),
        tolerances=more.pop("tolerances", {}),
        batch_rows=17,
        on_id=lambda kind, key: named.add((kind, key)),
        **more,
    )
    emitted = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert emitted["verdict"] == result.verdict
    return result, named


def with_vector(row: Row, column: str, value: Any) -> Row:
    return replace(row, vectors={**row.vectors, column: value})


def flipped(vector: Any, bit: int) -> Any:
    changed = np.array(vector, copy=True)
    raw = changed.reshape(-1).view(np.uint8)
    raw[bit // 8 % len(raw)] ^= 1 << (bit % 8)
    return changed


def change_payload(row: Row, draw: Any) -> Row | None:
    kind = draw(st.sampled_from(["key", "gone", "value", "type", "null"]))
    payload = dict(row.payload or {})
    if kind == "gone":
        return None if row.payload is None else replace(row, payload=None)
    if kind == "key" or not payload:
        return replace(row, payload={**payload, "added": None})
    key = draw(st.sampled_from(sorted(payload)))
    new = {"value": "changed", "type": [payload[key]], "null": None}[kind]
    if canonical.dumps(payload[key]) == canonical.dumps(new):
        return None
    return replace(row, payload={**payload, key: new})


def change_document(row: Row, draw: Any) -> Row | None:
    new = draw(st.sampled_from([None, "", "other", (row.document or "") + " "]))
    return None if new == row.document else replace(row, document=new)


def flip_dense_bit(row: Row, draw: Any) -> Row | None:
    column = draw(st.sampled_from(["vector", "vector:bits"]))
    if column not in row.vectors:
        return None
    return with_vector(row, column, flipped(row.vectors[column], draw(st.integers(0, 1000))))


def drop_vector(row: Row, draw: Any) -> Row | None:
    column = draw(st.sampled_from(sorted(row.vectors)))
    return replace(row, vectors={name: value for name, value in row.vectors.items() if name != column})


def change_multi(row: Row, draw: Any) -> Row | None:
    value = row.vectors.get("multi:late")
    if value is None:
        return None
    shorter = value[:-1]
    return with_vector(row, "multi:late", draw(st.sampled_from([shorter, flipped(value, draw(st.integers(0, 500)))])))


def change_sparse(row: Row, draw: Any) -> Row | None:
    found = row.vectors.get("sparse:words")
    if found is None:
        return None
    indices, values = found
    place = draw(st.integers(0, len(indices) - 1))
    moved = indices.copy()
    moved[place] ^= np.uint32(1)
    other = flipped(values, 32 * place + draw(st.integers(0, 31)))
    return with_vector(
        row,
        "sparse:words",
        draw(st.sampled_from([(indices[1:], values[1:]), (moved, values), (indices, other)])),
    )


CHANGES: dict[str, Mutation] = {
    "payload": change_payload,
    "document": change_document,
    "dense": flip_dense_bit,
    "null": drop_vector,
    "multi": change_multi,
    "sparse": change_sparse,
}
KIND = {"payload": "payload", "document": "document"}


@settings(max_examples=100, deadline=None)
@given(data=st.data(), index=st.integers(0, len(ROWS) - 1), change=st.sampled_from(sorted(CHANGES)))
def test_any_single_change_of_a_record_is_found_and_named(parity: Any, data: Any, index: int, change: str) -> None:
    changed = CHANGES[change](ROWS[index], data.draw)
    if changed is None:
        return
    order = data.draw(st.randoms(use_true_random=False))
    other = [*ROWS[:index], changed, *ROWS[index + 1 :]]
    order.shuffle(other)
    result, named = compare(parity, ROWS, other)
    kind = KIND.get(change, "vector")
    assert named == {(kind, changed.key)}
    assert result.verdict is Verdict.FAIL
    [finding] = [found for found in result.findings if found.verdict is Verdict.FAIL]
    assert (finding.code, finding.ids, finding.count) == (f"records.{kind}", (str(changed.key),), 1)
    digest = "payloads" if kind in KIND else "vectors"
    assert all(each.startswith(digest) for each in result.digests_a.differences(result.digests_b))
    assert result.digests_a != result.digests_b


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, len(ROWS) - 1), what=st.sampled_from(["lose", "add", "double", "rename", "move"]))
def test_any_single_loss_addition_double_or_new_name_is_found_and_named(parity: Any, index: int, what: str) -> None:
    row = ROWS[index]
    other = list(ROWS)
    if what == "lose":
        del other[index]
        expected = {("missing", row.key)}
    elif what == "add":
        added = replace(row, id=row.id + "x")
        other.insert(0, added)
        expected = {("extra", added.key)}
    elif what == "double":
        other.append(row)
        expected = {("duplicate", row.key)}
    else:
        other[index] = replace(row, id=f"0{row.id}") if what == "rename" else replace(row, namespace="elsewhere")
        expected = {("missing", row.key), ("extra", other[index].key)}
    result, named = compare(parity, ROWS, other)
    assert named == expected
    assert result.verdict is Verdict.FAIL
    assert {(found.code, *found.ids) for found in result.findings} == {
        (f"records.{k}", str(key)) for k, key in expected
    }


def test_the_same_records_in_any_order_pass_with_equal_digests(parity: Any) -> None:
    result, named = compare(parity, ROWS, ROWS[::-1])
    assert (result.verdict, named, result.findings) == (Verdict.PASS, set(), ())
    assert result.digests_a == result.digests_b
    assert result.compared == result.rows_a == result.rows_b == len(ROWS)
    assert [each.rows - each.bit_equal for each in result.fields] == [0, 0, 0, 0]
    assert "cosine min 1.000000000" in result.summary()


def test_two_empty_sides_are_inconclusive_and_one_empty_side_fails(parity: Any) -> None:
    assert compare(parity, [], [])[0].verdict is Verdict.INCONCLUSIVE
    assert compare(parity, ROWS, [])[0].verdict is Verdict.FAIL
    assert compare(parity, [], ROWS)[0].verdict is Verdict.FAIL


def sparse_row(indices: list[int], values: list[float]) -> Row:
    return Row("s", None, vectors={"sparse:words": (np.array(indices, np.uint32), np.array(values, np.float32))})


def test_the_order_of_sparse_indices_is_no_difference(parity: Any) -> None:
    result, named = compare(parity, [sparse_row([3, 1], [0.5, 2.0])], [sparse_row([1, 3], [2.0, 0.5])])
    assert (result.verdict, named) == (Verdict.PASS, set())
    assert result.digests_a == result.digests_b


def test_nan_is_equal_to_itself_and_negative_zero_is_not_zero_in_every_kind_of_vector(parity: Any) -> None:
    def rows(zero: float) -> list[Row]:
        dense, multi = (
            np.array([zero, np.nan, 1, 1, 1, 1], np.float32),
            np.array([[zero, np.nan, 1]], np.float16),
        )
        return [
            Row("d", None, vectors={"vector": dense}),
            Row("m", None, vectors={"multi:late": multi}),
            sparse_row([1, 2], [zero, float("nan")]),
        ]

    assert compare(parity, rows(0.0), rows(0.0))[0].verdict is Verdict.PASS
    _, named = compare(parity, rows(0.0), rows(-0.0))
    assert named == {("vector", RecordKey(id_)) for id_ in "dms"}


def test_vectors_within_the_tolerance_are_reported_as_rounded_and_pass(parity: Any) -> None:
    other = [with_vector(row, "vector", np.nextafter(row.vectors["vector"], np.float32(100))) for row in ROWS]
    result, named = compare(parity, ROWS, other, tolerances={"vector": Tolerance(ulp=4.0, source="the store rounds")})
    assert (result.verdict, named) == (Verdict.PASS, set())
    [finding] = result.findings
    assert (finding.code, finding.count, finding.verdict) == ("records.rounded", len(ROWS), None)
    [field] = [each for each in result.fields if each.column == "vector"]
    assert (field.bit_equal, field.beyond, field.ulp.maximum) == (0, 0, 1.0)
    assert compare(parity, ROWS, other)[0].verdict is Verdict.FAIL


def test_a_number_that_is_not_finite_on_one_side_fails_and_the_result_is_still_json(parity: Any) -> None:
    broken = ROWS[0].vectors["vector"].copy()
    broken[2] = np.inf
    other = [with_vector(ROWS[0], "vector", broken), *ROWS[1:]]
    result, named = compare(parity, ROWS, other, tolerances={"vector": Tolerance(ulp=4.0, cosine=-1.0, l2=1e30)})
    assert result.verdict is Verdict.FAIL
    assert named == {("vector", ROWS[0].key)}
    assert result.to_json()["fields"][0]["max_abs"] is None
    assert "one of them undefined in 1 of 60 rows" in result.summary()


def test_a_field_of_another_shape_or_missing_on_a_side_fails_by_name(parity: Any) -> None:
    narrow = CollectionSpec("c", IdKind.STRING, SPEC.vectors[:2], has_namespaces=True, has_documents=True)
    rows = [
        replace(row, vectors={k: v for k, v in row.vectors.items() if k in {"vector", "vector:bits"}}) for row in ROWS
    ]
    result = compare_records(parity.Source(SPEC, ROWS), parity.Source(narrow, rows), tolerances={}, batch_rows=50)
    assert result.verdict is Verdict.FAIL
    assert result.only_in_one == ("multi:late", "sparse:words")
    wider = replace(SPEC.vectors[0], dimensions=7)
    other = CollectionSpec("c", IdKind.STRING, (wider,))
    result = compare_records(parity.Source(SPEC, []), parity.Source(other, []), tolerances={}, batch_rows=50)
    assert "vector" in result.only_in_one


def test_another_metric_alone_is_no_difference_of_the_data(parity: Any) -> None:
    dot = replace(SPEC, vectors=(replace(SPEC.vectors[0], metric=Metric.DOT), *SPEC.vectors[1:]))
    result = compare_records(parity.Source(SPEC, ROWS), parity.Source(dot, ROWS), tolerances={}, batch_rows=50)
    assert result.verdict is Verdict.PASS


def test_at_most_twenty_ids_are_kept_and_all_are_handed_out(parity: Any) -> None:
    result, named = compare(parity, ROWS, ROWS[:10])
    [finding] = result.findings
    assert (finding.code, len(finding.ids), finding.count, len(named)) == ("records.missing", 20, 50, 50)


def test_payload_differences_are_counted_by_path_and_no_value_is_in_the_result(parity: Any) -> None:
    a = [
        Row("a", None, payload={"who": {"name": "confidential-1"}, "n": 1}),
        Row("b", None, payload={"n": 2}),
    ]
    b = [
        Row("a", None, payload={"who": {"name": "confidential-2"}, "n": 1.0}),
        Row("b", None, payload={"n": 2}),
    ]
    result, _ = compare(parity, a, b)
    assert result.paths == {"$.who.name": {"value": 1}, "$.n": {"type": 1}}
    assert "confidential" not in json.dumps(result.to_json()) + result.summary() + repr(result.findings)


@pytest.mark.parametrize("bucket_bytes", [1, 2000])
def test_the_result_does_not_depend_on_the_number_of_files(parity: Any, bucket_bytes: int) -> None:
    from exitramp.parity import alignment

    other = [*ROWS[3:], replace(ROWS[0], document="changed"), replace(ROWS[1], payload={"only": 1})]
    whole, named = compare(parity, ROWS, other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "BUCKET_BYTES", bucket_bytes)
        parts, named_in_parts = compare(parity, ROWS, other)
    assert named == named_in_parts
    assert whole.counts == parts.counts
    assert (whole.digests_a, whole.digests_b) == (parts.digests_a, parts.digests_b)
    assert [each.bit_equal for each in whole.fields] == [each.bit_equal for each in parts.fields]


def test_packed_bits_are_equal_or_not_and_have_no_cosine(parity: Any) -> None:
    at = next(number for number, row in enumerate(ROWS) if row.vectors.get("vector:bits") is not None)
    bits = np.array(ROWS[at].vectors["vector:bits"])
    bits[0] ^= 0b1000_0000
    changed = [*ROWS[:at], replace(ROWS[at], vectors={**ROWS[at].vectors, "vector:bits": bits}), *ROWS[at + 1 :]]
    result, named = compare(parity, ROWS, changed)
    assert named == {("vector", ROWS[at].key)}
    assert result.verdict is Verdict.FAIL
    field = next(each for each in result.fields if each.column == "vector:bits")
    assert (field.beyond, field.bit_equal) == (1, field.rows - 1)
    assert (field.cosine.minimum, field.l2.maximum) == (1.0, 0.0), "measured of the equal rows alone"
    assert f"undefined in 1 of {field.rows} rows" in result.summary()
