"""Payload differences are named by path and kind, all of them, and never by value."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.parity.payloads import differing_paths

KEYS = st.text("ab.$", min_size=0, max_size=2)
SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, -0.0, 1.0, 2.5]) | st.text("xy", max_size=2)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
PAYLOADS = st.dictionaries(KEYS, VALUES, max_size=4)


def between(a: Any, b: Any) -> list[tuple[str, str]]:
    return list(differing_paths(canonical.dumps(a), canonical.dumps(b)))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"x": 1}, {"x": 1}, []),
        ({"x": 1}, {"x": 1.0}, [("$.x", "type")]),
        ({"x": 1}, {"x": True}, [("$.x", "type")]),
        ({"x": 0.0}, {"x": -0.0}, [("$.x", "value")]),
        ({"x": None}, {}, [("$.x", "missing")]),
        ({}, {"x": None}, [("$.x", "extra")]),
        (
            {"x": {"y": 1, "z": 2}},
            {"x": {"y": 3, "w": 2}},
            [("$.x.w", "extra"), ("$.x.y", "value"), ("$.x.z", "missing")],
        ),
        ({"x": [1, 2]}, {"x": [1]}, [("$.x[]", "value")]),
        ({"x": [{"y": 1}, {"y": 2}]}, {"x": [{"y": 5}, {"y": 6}]}, [("$.x[].y", "value")]),
        ({"x": []}, {"x": {}}, [("$.x", "type")]),
        ({"x": float("nan")}, {"x": float("nan")}, []),
        ({"x": float("nan")}, {"x": None}, [("$.x", "type")]),
        ({"x": 2**70}, {"x": 2**70 + 1}, [("$.x", "value")]),
        ({"x": b"1"}, {"x": "1"}, [("$.x", "type")]),
    ],
)
def test_a_difference_is_named_by_path_and_kind(a: Any, b: Any, expected: list[tuple[str, str]]) -> None:
    assert between(a, b) == expected


def test_no_payload_is_not_an_empty_one() -> None:
    assert list(differing_paths(None, "{}")) == [("$", "extra")]
    assert list(differing_paths("{}", None)) == [("$", "missing")]
    assert list(differing_paths(None, None)) == []


@given(a=PAYLOADS, b=PAYLOADS)
def test_a_path_is_named_exactly_when_the_texts_differ(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert bool(between(a, b)) == (canonical.dumps(a) != canonical.dumps(b))
    assert between(a, copy.deepcopy(a)) == []


@given(a=PAYLOADS, b=PAYLOADS)
def test_swapping_the_sides_swaps_missing_and_extra_and_nothing_else(a: dict[str, Any], b: dict[str, Any]) -> None:
    other = {"missing": "extra", "extra": "missing"}
    assert sorted((path, other.get(kind, kind)) for path, kind in between(a, b)) == sorted(between(b, a))


def test_values_stand_in_no_path() -> None:
    found = between({"k": ["confidential-1"], "m": "confidential-2"}, {"k": ["confidential-3"], "n": "confidential-4"})
    assert found
    assert "confidential" not in repr(found)
