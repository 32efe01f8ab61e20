"""One value has one canonical text, and the text gives the value back."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.errors import DataInvalid

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals()
    | st.uuids()
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=5, minutes=30))))
    | st.dates()
    | st.times()
)
KEYS = st.text() | st.sampled_from(["$exitramp:int", "$exitramp:esc:int", "$exitramp:", ""])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, Decimal):
        return str(a) == str(b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return bool(a == b)


@given(VALUES)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    text = canonical.dumps(value)
    assert _same(canonical.loads(text), value)
    assert _same(canonical.parse(text), value)
    assert canonical.is_canonical(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e16, "1e+16"),
        (2**53, "9007199254740992"),
        (2**53 + 1, '{"$exitramp:int":"9007199254740993"}'),
        (0.1234567890123456, "0.1234567890123456"),
        (math.nan, '{"$exitramp:float":"NaN"}'),
        (b"\x00\xff", '{"$exitramp:bytes":"AP8="}'),
        ({"b": 1, "a": [None, True]}, '{"a":[null,true],"b":1}'),
        ({"$exitramp:int": "5"}, '{"$exitramp:esc:int":"5"}'),
        (datetime(2026, 1, 2, tzinfo=UTC), '{"$exitramp:timestamp":"2026-01-02T00:00:00+00:00"}'),
        (date(2026, 1, 2), '{"$exitramp:date":"2026-01-02"}'),
        (time(1, 2), '{"$exitramp:time":"01:02:00"}'),
        (UUID(int=7), '{"$exitramp:uuid":"00000000-0000-0000-0000-000000000007"}'),
        ({"é": 1, "z": 2, "😀": 3}, '{"z":2,"é":1,"😀":3}'),
    ],
)
def test_the_text_is_this(value: Any, text: str) -> None:
    assert canonical.dumps(value) == text


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":2}', '"\\ud800"', "NaN", '{"$exitramp:wat":"1"}', '{"$exitramp:int":"x"}', "{"]
)
def test_what_is_no_canonical_value_is_refused(text: str) -> None:
    with pytest.raises(DataInvalid):
        canonical.parse(text)


@pytest.mark.parametrize("value", [{1: 2}, {"a": {None: 1}}, object(), {"a": {1, 2}}, "\ud800", {"\ud800": 1}])
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(DataInvalid):
        canonical.dumps(value)


@pytest.mark.parametrize("text", ['{"b":1,"a":2}', '{"a": 1}', "1e5", "1.00", '"\\u00e9"', "9007199254740993"])
def test_another_writing_of_a_value_is_not_canonical(text: str) -> None:
    assert not canonical.is_canonical(text)


def test_what_is_nested_beyond_all_measure_is_an_error_of_ours() -> None:
    deep: object = 2**60  # written as a tag, so that every level is walked
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(DataInvalid, match="nested more than 400 deep"):
        canonical.dumps(deep)
    with pytest.raises(DataInvalid):
        canonical.loads('{"a":' * 5000 + '{"$exitramp:int":"9007199254740993"}' + "}" * 5000)


@pytest.mark.parametrize("text", ["1e400", '{"a": [-1e309]}', '{"a": %s.0}' % ("9" * 400)])
def test_a_number_that_no_float_holds_is_not_read_as_infinity(text: str) -> None:
    with pytest.raises(DataInvalid, match="beyond those that a float"):
        canonical.parse(text)


def test_a_moment_of_pandas_with_nanoseconds_has_no_canonical_form() -> None:
    pandas = pytest.importorskip("pandas")
    assert canonical.dumps(pandas.Timestamp("2020-01-01")) == '{"$exitramp:timestamp":"2020-01-01T00:00:00"}'
    with pytest.raises(DataInvalid, match="nanoseconds"):
        canonical.dumps(pandas.Timestamp(1))
