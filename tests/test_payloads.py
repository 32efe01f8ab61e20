"""Whole columns of payloads are judged as single payloads would be."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.errors import DataInvalid
from exitramp.payloads import canonical_faults, canonical_objects, decoded_payloads, parsed_payloads, payload_array
from exitramp.testing.hard_values import HARD_PAYLOADS

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
OTHER_TEXTS = st.sampled_from(
    [
        *("", "{", "{},{}", '{"a":1', '"b":2}', "[", "]", "NaN", '{"b":1,"a":2}', '{"a":1,"a":1}', '{"a": 1}', "1e5"),
        *("-0", '{"a":"}', '{"}', "1,2", "1e999", '"\\u0041"', '"\\ud800"', '"\\/"', "9007199254740993", " 1", "1 "),
        *("01", "1.50", '{"$exitramp:int":"1"}', '{"$exitramp:no":"1"}', '{"a":[9007199254740993]}', "[" * 2000),
        "-9007199254740993",
        *("1e16", "1e+16", "1e-7", "1e-07", "0.00001", "1e-05", "0.0001", "12345678901234567.0", '{"a":1E5}', "0.10"),
        *('{"a": 18446744073709551616}', "[1,\t123456789012345678901]", "null", '"\\u001f"', '"\x7f"', "[" * 1020),
    ]
)
TEXTS = st.none() | VALUES.map(canonical.dumps) | VALUES.map(json.dumps) | OTHER_TEXTS


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=6))
def test_the_faults_of_a_column_are_those_of_its_texts(texts: list[str | None]) -> None:
    expected = [row for row, text in enumerate(texts) if text is not None and not canonical.is_canonical(text)]
    assert canonical_faults(pa.array(texts, pa.string())) == expected


OBJECTS = (
    st.none()
    | st.dictionaries(st.text(max_size=4), VALUES, max_size=3).map(canonical.dumps)
    | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), VALUES, max_size=3).map(json.dumps)
    | st.tuples(TEXTS, TEXTS).map(lambda two: f'{{"k": {two[0] or 1}\n, "a":{two[1] or 2}}}')
    | st.tuples(TEXTS, TEXTS).map(lambda two: f'{{"k":{two[0] or 1},"k":{two[1] or 2}}}')
    | OTHER_TEXTS
)


def object_text(text: str) -> str | None:
    """By our own rules, one after the other."""
    value = canonical.parse(text)
    if value is not None and not isinstance(value, dict):
        raise DataInvalid("no object")
    return None if value is None else canonical.dumps(value)


@settings(max_examples=600, deadline=None)
@given(st.lists(OBJECTS, max_size=3))
def test_objects_that_others_wrote_are_rewritten_as_each_would_be_alone(texts: list[str | None]) -> None:
    expected: list[str | None] = []
    wrong: int | None = None
    for row, text in enumerate(texts):
        try:
            expected.append(None if text is None else object_text(text))
        except DataInvalid:
            wrong = row
            break
    if wrong is None:
        assert canonical_objects(pa.array(texts, pa.string()), str, tags=True).to_pylist() == expected
    else:
        with pytest.raises(DataInvalid, match=f"^{wrong} is "):
            canonical_objects(pa.array(texts, pa.string()), str, tags=True)


@settings(max_examples=300, deadline=None)
@given(st.lists(OBJECTS, max_size=4), st.sampled_from(["3e", "0.0000", "\\u", "3e5", "$exitramp:", "1" * 16]))
def test_what_stands_in_one_text_does_not_hide_the_faults_of_others(texts: list[str | None], odd: str) -> None:
    texts = [*texts, json.dumps({"odd": odd}, separators=(",", ":"))]
    expected = [row for row, text in enumerate(texts) if text is not None and not canonical.is_canonical(text)]
    assert canonical_faults(pa.array(texts, pa.string())) == expected


def test_hard_payloads_have_no_faults() -> None:
    texts = [None if payload is None else canonical.dumps(payload) for payload in HARD_PAYLOADS.values()]
    assert canonical_faults(pa.array(texts, pa.string())) == []


@pytest.mark.parametrize(
    "texts", [["{},{}", '{"a":"}', '{"}'], ["[1", "2]", "3,4"], ["1,2", ""], [""], ["{},\n,{}", ""]]
)
def test_texts_that_only_together_are_json_are_faults(texts: list[str]) -> None:
    assert canonical_faults(pa.array(texts)) == list(range(len(texts)))


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=6)
    | st.sampled_from(["1" * 16, 10**15, -(10**16), 1.2345678901234567, 1234567890123456.5, "\n", "$exitramp:int"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4) | st.just("$exitramp:x"), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(JSON_VALUES, max_size=6))
def test_the_texts_of_a_column_are_those_of_its_payloads(values: list[object]) -> None:
    expected = [None if value is None else canonical.dumps(value) for value in values]
    assert payload_array(values).to_pylist() == expected


def test_a_lone_surrogate_in_a_column_is_refused_by_its_path() -> None:
    with pytest.raises(DataInvalid, match=r"lone surrogate at \$\.b"):
        payload_array([{"a": 1}, {"b": "\ud800"}])


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=6))
def test_what_a_column_decodes_into_is_what_each_text_does(texts: list[str | None]) -> None:
    column = pa.array(texts, pa.string())
    try:
        expected = [None if text is None else canonical.loads(text) for text in texts]
    except DataInvalid:
        with pytest.raises(DataInvalid):
            decoded_payloads(column)
        return
    assert repr(decoded_payloads(column)) == repr(expected)  # types, -0.0 and NaN included


@settings(max_examples=2000, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_at_fault_exactly_if_it_is_not_written_as_ours(value: float) -> None:
    texts = [repr(value), f"{value:.17g}", f"{value:.6f}", f"{value:e}", canonical.dumps(value)]
    expected = [row for row, text in enumerate(texts) if not canonical.is_canonical(text)]
    assert canonical_faults(pa.array(texts)) == expected
    assert decoded_payloads(pa.array(texts)) == [
        float(text) if "." in text or "e" in text else int(text) for text in texts
    ]


def test_a_payload_that_is_no_json_is_named_and_one_that_is_null_in_json_is_none_missing() -> None:
    names = ["id", "payload"]
    assert parsed_payloads(pa.record_batch([pa.array(["a", "b"]), pa.array(["null", None], pa.string())], names)) == [
        None
    ]
    with pytest.raises(DataInvalid, match="'b'"):
        parsed_payloads(pa.record_batch([pa.array(["a", "b"]), pa.array(["{}", "{"])], names))


@pytest.mark.parametrize("depth", [canonical.MOST_DEPTH, canonical.MOST_DEPTH + 1, 600, 990, 1500])
@pytest.mark.parametrize("as_object", [False, True])
def test_what_is_written_of_nested_payloads_is_what_is_read(depth: int, as_object: bool) -> None:
    value: object = 1
    for _ in range(depth):
        value = {"a": value} if as_object else [value]
    head, foot = ('{"a":', "}") if as_object else ("[", "]")
    text = head * depth + "1" + foot * depth
    if depth > canonical.MOST_DEPTH:
        for write in (canonical.dumps, lambda each: payload_array([each])):
            with pytest.raises(DataInvalid, match="nested"):
                write(value)
        assert canonical_faults(pa.array([text])) == [0]
    else:
        assert canonical.dumps(value) == payload_array([value])[0].as_py() == text
        assert canonical_faults(pa.array([text])) == []
