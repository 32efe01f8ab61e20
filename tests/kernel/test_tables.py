"""A table's typed columns as payloads: exactly, or as text that says everything."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.errors import DataInvalid, UsageError
from exitramp.ports.tables import payload_column, plain_values, roles_in, textual_columns
from exitramp.records import DType, Metric, VectorField, VectorKind
from exitramp.urls import Address

ADDRESS = "duckdb:./x.duckdb"
VECTORS = {"emb": VectorField("emb", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 4)}
MAP = pa.map_(pa.string(), pa.int64())

_NANO = "1970-01-01T00:00:00.00000000{}"
CASES: list[tuple[pa.Array, list[Any]]] = [
    (pa.array([1, None], pa.timestamp("ns")), ["1970-01-01T00:00:00.000000001", None]),
    (pa.array([1, None], pa.timestamp("ns", "Europe/Berlin")), ["1970-01-01T00:00:00.000000001Z", None]),
    (pa.array([1, None], pa.timestamp("us", "UTC")), [datetime(1970, 1, 1, 0, 0, 0, 1, UTC), None]),
    (pa.array([1, None], pa.time64("ns")), ["00:00:00.000000001", None]),
    (pa.array([90, None], pa.duration("s")), ["90 s", None]),
    (pa.array([(1, 2, 3), None], pa.month_day_nano_interval()), ["P1M2DT3ns", None]),
    (pa.array([[("a", 1)], None, [("b", 2), ("b", 3)], []], MAP), [{"a": 1}, None, [["b", 2], ["b", 3]], {}]),
    (pa.array([[1], None, []], pa.list_(pa.duration("us"))), [["1 us"], None, []]),
    (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [[1, 2], None]),
    (pa.array([{"a": 1}, None], pa.struct([("a", pa.int64())])), [{"a": 1}, None]),
    (pa.array([Decimal("1.20")], pa.decimal128(9, 2)), [Decimal("1.20")]),
    (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    (pa.array([b"\x00", None]), [b"\x00", None]),
    (pa.array([UUID(int=5).bytes, None], pa.uuid()), [UUID(int=5), None]),
    (pa.array(['{"b": [1.0, 1]}', None, "null"], pa.json_()), [{"b": [1.0, 1]}, None, None]),
    (
        pa.array([[1], None, [2, 3]], pa.list_view(pa.timestamp("ns"))),
        [[_NANO.format(1)], None, list(map(_NANO.format, (2, 3)))],
    ),
    (pa.array([[1], None], pa.large_list_view(pa.int64())), [[1], None]),
    (pa.RunEndEncodedArray.from_arrays(pa.array([1, 3]), pa.array([1, None], pa.duration("s"))), ["1 s", None, None]),
    (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0], pa.int8())), [True, None, False]),
]


@pytest.mark.parametrize(("column", "values"), CASES, ids=[str(case[0].type) for case in CASES])
def test_a_column_gives_its_values_whole_and_cut(column: pa.Array, values: list[Any]) -> None:
    assert plain_values(column) == values
    assert plain_values(column[1:]) == values[1:]


def test_pairs_behind_a_null_of_a_map_are_not_the_next_rows() -> None:
    whole = pa.MapArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), pa.array(["x", "y", "z"]), pa.array([1, 2, 3]))
    entries = pa.StructArray.from_arrays(
        [whole.keys, whole.items], fields=[whole.type.key_field, whole.type.item_field]
    )
    holed = pa.MapArray.from_buffers(whole.type, 3, [pa.py_buffer(b"\x05"), whole.buffers()[1]], children=[entries])
    assert plain_values(holed) == [{"x": 1}, None, {"z": 3}]
    assert plain_values(holed[1:]) == [None, {"z": 3}]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([86_400_000_000]).view(pa.time64("us")), "that no clock shows"),
        (pa.array([86_400], pa.int32()).view(pa.time32("s")), "that no clock shows"),
        (pa.array([-1]).view(pa.time64("us")), "that no clock shows"),
        (pa.array([86_400_001]).view(pa.date64()), "with a time of day in it"),
        (pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), "two fields have one name"),
    ],
)
def test_what_python_would_make_something_else_of_is_refused(column: pa.Array, said: str) -> None:
    with pytest.raises(DataInvalid, match=said):
        plain_values(column)


UNIONS = [
    pa.UnionArray.from_sparse(
        pa.array([0, 1, 1], pa.int8()), [pa.array([7, None, None]), pa.array([None, "x", None])], ["n", "s"]
    ),
    pa.UnionArray.from_dense(
        pa.array([0, 1, 1], pa.int8()),
        pa.array([0, 0, 1], pa.int32()),
        [pa.array([7]), pa.array(["x", None])],
        ["n", "s"],
    ),
]


@pytest.mark.parametrize("column", UNIONS, ids=["sparse", "dense"])
def test_a_value_of_a_union_tells_which_alternative_it_is(column: pa.Array) -> None:
    assert plain_values(column) == [{"n": 7}, {"s": "x"}, None]
    assert plain_values(column[1:]) == [{"s": "x"}, None]


def test_a_moment_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(DataInvalid, match="calendar"):
        plain_values(pa.array([2**62], pa.timestamp("us")))


def test_columns_in_which_something_becomes_text_are_told() -> None:
    inner = pa.struct([("when", pa.list_(pa.timestamp("ns")))])
    schema = pa.schema([("a", pa.int64()), ("b", inner), ("c", pa.timestamp("us")), ("d", MAP)])
    assert textual_columns(schema, ["a", "b", "c", "d"]) == ["b"]


_TYPES = st.recursive(
    st.sampled_from([pa.int64(), pa.string(), pa.bool_(), pa.float64(), pa.binary()]),
    lambda inner: st.one_of(inner.map(pa.list_), inner.map(lambda kind: pa.struct([("x", kind), ("y", pa.int8())]))),
    max_leaves=4,
)


@given(kind=_TYPES, data=st.data())
@settings(max_examples=100, deadline=None)
def test_nested_columns_give_what_arrow_gives(kind: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(st.lists(_values(kind), max_size=5))
    column = pa.array(values, kind)
    cut = data.draw(st.integers(0, len(values)))
    assert plain_values(column[cut:]) == column[cut:].to_pylist()


def _values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_list(kind):
        return st.none() | st.lists(_values(kind.value_type), max_size=3)
    if pa.types.is_struct(kind):
        parts = {kind.field(number).name: _values(kind.field(number).type) for number in range(kind.num_fields)}
        return st.none() | st.fixed_dictionaries(parts)
    plain: dict[str, st.SearchStrategy[Any]] = {
        "int64": st.integers(-(2**63), 2**63 - 1),
        "int8": st.integers(-128, 127),
        "string": st.text(max_size=3),
        "bool": st.booleans(),
        "double": st.floats(allow_nan=False),
        "binary": st.binary(max_size=3),
    }
    return st.none() | plain[str(kind)]


def test_columns_and_an_object_make_one_payload() -> None:
    found = payload_column(["a", "b"], {"price": [Decimal("1.0"), None]}, [{"k": 1}, None])
    assert [canonical.loads(text) for text in found.to_pylist()] == [{"k": 1, "price": Decimal("1.0")}, {"price": None}]


def test_an_absent_object_without_columns_stays_absent() -> None:
    assert payload_column(["a", "b"], {}, [None, {}]).to_pylist() == [None, "{}"]
    assert payload_column(["a", "b"], {}, None).to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("objects", "said"),
    [([{}, {"price": 1}], "'b' has the key 'price'"), ([{}, [1]], "'b' is no object"), ([{}, {"x": object()}], "'b'")],
)
def test_an_object_that_does_not_fit_is_named_by_its_id(objects: list[Any], said: str) -> None:
    with pytest.raises(DataInvalid, match=said):
        payload_column(["a", "b"], {"price": [1, 2]}, objects)


def test_what_is_not_said_is_a_key_of_the_payload() -> None:
    roles = roles_in(Address.parse(ADDRESS), ["k", "emb", "text", "meta"], key=["k"], vectors=VECTORS)
    assert (roles.id, roles.document, roles.payload, roles.values) == ("k", None, None, ("text", "meta"))


def test_an_address_says_what_columns_are() -> None:
    address = Address.parse(f"{ADDRESS}?id=text&document=k&payload=meta&vectors=")
    roles = roles_in(address, ["k", "emb", "text", "meta"], key=["k"], vectors=VECTORS)
    assert (roles.id, roles.document, roles.payload, roles.values) == ("text", "k", "meta", ())
    assert (dict(roles.vectors), roles.unread) == ({}, ("emb",))


@pytest.mark.parametrize(
    ("options", "key", "said"),
    [
        ("", [], "no primary key"),
        ("", ["a", "b"], "a, b"),
        ("?id=nope", ["k"], "there is no such column"),
        ("?id=emb", ["k"], "something else already"),
        ("?id=k&document=k", ["k"], "something else already"),
        ("?vectors=text", ["k"], "no such vector column"),
    ],
)
def test_what_cannot_be_is_refused_with_the_columns_there_are(options: str, key: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        roles_in(Address.parse(ADDRESS + options), ["k", "emb", "text"], key=key, vectors=VECTORS)
    assert said in json.dumps(caught.value.message)
