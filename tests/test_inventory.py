"""The inventory against a plain walk over every payload."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.arrow import stream_schema
from exitramp.errors import DataInvalid
from exitramp.inventory import MAXIMUM_DEPTH, MAXIMUM_PATHS, FieldInventory, Inventory, path_text
from exitramp.records import CollectionSpec, IdKind
from exitramp.tally import CollectionTally

SPEC = CollectionSpec("plain", IdKind.STRING, ())
WIDE = CollectionSpec("wide", IdKind.STRING, (), has_namespaces=True, has_documents=True)


def batch_of(payloads: list[Any], spec: CollectionSpec = SPEC) -> pa.RecordBatch:
    rows = [
        {"id": f"{number:04d}", "payload": None if payload is ABSENT else canonical.dumps(payload)}
        for number, payload in enumerate(payloads)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=stream_schema(spec))


def inventory_of(payloads: list[Any], *, cut: int = 0) -> Inventory:
    tally = CollectionTally(SPEC)
    batch = batch_of(payloads)
    tally.add(batch.slice(0, cut))
    tally.add(batch.slice(cut))
    return tally.inventory()


ABSENT = object()
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=5)
    | st.binary(max_size=3)
)
KEYS = st.sampled_from(["a", "b", "a.b", "", "$exitramp:int"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
PAYLOADS = st.lists(st.dictionaries(KEYS, VALUES, max_size=4) | st.just(ABSENT), max_size=6)


def places(value: Any, path: tuple[str | None, ...] = ()) -> Iterator[tuple[tuple[str | None, ...], Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    if isinstance(value, list):
        for item in value:
            yield from places(item, (*path, None))


def plain_inventory(payloads: list[Any]) -> dict[tuple[str | None, ...], FieldInventory]:
    found: dict[tuple[str | None, ...], list[tuple[int, Any]]] = {}
    for row, payload in enumerate(payloads):
        if payload is not ABSENT:
            for path, value in places(payload):
                found.setdefault(path, []).append((row, value))
    result = {}
    for path, pairs in found.items():
        values = [value for _, value in pairs]
        names = [canonical.type_name(value) for value in values]
        integers = [value for value, name in zip(values, names, strict=True) if name == "int"]
        floats = [value for value, name in zip(values, names, strict=True) if name == "float"]
        lists = [value for value in values if isinstance(value, list)]
        texts = [value for value in values if isinstance(value, str)]
        result[path] = FieldInventory(
            path,
            {name: names.count(name) for name in names},
            rows=len({row for row, _ in pairs}),
            rows_null=len({row for row, value in pairs if value is None}),
            empty_lists=lists.count([]),
            empty_objects=values.count({}),
            mixed_lists=sum(
                len({canonical.type_name(item).replace("nonfinite", "float") for item in x}) > 1 for x in lists
            ),
            negative_zeros=sum(value == 0 and math.copysign(1, value) < 0 for value in floats),
            integer_bits=max(map(bits, integers), default=None),
            float_digits=max(
                (len(f"{x!r}".split("e")[0].replace(".", "").lstrip("-").strip("0")) or 1 for x in floats), default=None
            ),
            float_exponent=max((abs(int(f"{x:e}".split("e")[1])) for x in floats), default=None),
            string_bytes=max((len(x.encode()) for x in texts), default=None),
        )
    return result


def bits(value: int) -> int:
    return next(n for n in range(1, 80) if -(2 ** (n - 1)) <= value < 2 ** (n - 1))


@settings(max_examples=150, deadline=None)
@given(PAYLOADS, st.integers(0, 6))
def test_the_columnwise_inventory_is_that_of_a_plain_walk(payloads: list[Any], cut: int) -> None:
    found = dict(inventory_of(payloads, cut=cut).fields)
    expected = plain_inventory(payloads)
    expected.setdefault((), FieldInventory(()))
    assert found == expected


@settings(max_examples=60, deadline=None)
@given(PAYLOADS, PAYLOADS)
def test_inventories_of_parts_merge_into_that_of_the_whole(one: list[Any], other: list[Any]) -> None:
    whole = inventory_of(one + other)
    assert inventory_of(one).merge(inventory_of(other)) == whole
    assert Inventory.from_json(whole.to_json()) == whole


def test_null_missing_and_absent_are_told_apart() -> None:
    found = inventory_of([{"a": None}, {"a": 1}, {}, ABSENT]).to_json()
    [whole, field] = found["fields"]
    assert (field["rows_missing"], field["rows_null"], field["types"]) == (2, 1, {"int": 1, "null": 1})
    assert (whole["rows_missing"], whole["empty_objects"]) == (1, 1)


def test_a_row_counts_once_however_many_items_its_list_has() -> None:
    found = inventory_of([{"a": [{"b": None}, {"b": None}]}, {"a": [{"b": 1}]}]).fields
    assert (found[("a", None, "b")].rows, found[("a", None, "b")].rows_null) == (2, 1)
    assert found[("a", None, "b")].types == {"null": 2, "int": 1}


def test_documents_namespaces_and_ids_are_measured_in_bytes() -> None:
    rows = [
        {"id": "é", "namespace": "", "document": "\N{ROCKET}", "payload": "{}"},
        {"id": "a", "namespace": None, "document": None, "payload": "{}"},
    ]
    tally = CollectionTally(WIDE)
    tally.add(pa.RecordBatch.from_pylist(rows, schema=stream_schema(WIDE)))
    found = tally.inventory()
    assert (found.rows, found.id_bytes, found.document_bytes) == (2, 2, 4)
    assert (found.documents_missing, found.namespaces_missing) == (1, 1)
    assert (inventory_of([{}]).documents_missing, inventory_of([{}]).namespaces_missing) == (1, 1)


def test_no_value_appears_in_the_inventory() -> None:
    text = repr(inventory_of([{"a": "tell-nobody", "b": 987654321, "c": [0.123456789]}]).to_json())
    for value in ("tell-nobody", "987654321", "0.123456789"):
        assert value not in text


def test_a_key_that_has_the_shape_of_a_secret_is_masked() -> None:
    secret = "sk-" + "a1b2c3d4" * 3
    found = inventory_of([{secret: 1, "x": {secret: 2}}])
    assert secret not in repr(found)
    assert ("[secret]",) in found.fields


def test_too_deep_or_too_many_paths_leave_the_inventory_incomplete() -> None:
    deep: Any = 1
    for _ in range(MAXIMUM_DEPTH):
        deep = {"a": deep}
    assert inventory_of([deep]).complete
    assert not inventory_of([{"a": deep}]).complete
    many = [{f"key-{number}": 1} for number in range(MAXIMUM_PATHS + 5)]
    assert inventory_of(many[: MAXIMUM_PATHS - 1]).complete
    crowded = inventory_of(many)
    assert not crowded.complete
    assert len(crowded.fields) == MAXIMUM_PATHS
    halves = inventory_of(many[:1500]).merge(inventory_of(many[1500:]))
    assert not halves.complete
    assert len(halves.fields) == MAXIMUM_PATHS


@pytest.mark.parametrize("text", ["", "{", '{"a":1}x', "NaN", '{"a":Infinity}', '{"$exitramp:no":"1"}'])
def test_a_payload_that_is_no_json_is_refused_with_its_records_id_and_not_its_text(text: str) -> None:
    batch = pa.RecordBatch.from_pylist([{"id": "doc-7", "payload": text}], schema=stream_schema(SPEC))
    with pytest.raises(DataInvalid, match="'doc-7'") as caught:
        CollectionTally(SPEC).add(batch)
    assert not text or text not in str(caught.value)


def test_paths_are_shown_readably() -> None:
    assert path_text(()) == "$"
    assert path_text(("author", "names", None)) == "$.author.names[]"
    assert path_text(("a.b", "")) == '$."a.b".""'


def test_another_set_of_keys_is_refused() -> None:
    data = inventory_of([{"a": 1}]).to_json()
    with pytest.raises(DataInvalid, match="more"):
        Inventory.from_json({**data, "more": 1})
    data["fields"][0]["more"] = 1
    with pytest.raises(DataInvalid, match="more"):
        Inventory.from_json(data)
