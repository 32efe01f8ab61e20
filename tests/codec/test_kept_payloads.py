"""What is said to be kept without being looked into is what looking into it would find."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.codec.kept import kept_as_they_stand
from exitramp.codec.payload import encode_keys
from exitramp.ports import PayloadLimits

TYPES: Final = frozenset({"null", "bool", "int", "float", "string", "list", "object"})
ROUNDING: Final = PayloadLimits(
    TYPES,
    TYPES,
    mixed_lists=True,
    nested=True,
    empty_lists=True,
    empty_objects=True,
    negative_zero=False,
    integer_maximum=2**64 - 1,
    float_digits=15,
)
CHOOSY: Final = replace(ROUNDING, key_pattern=r"(?!a|exitramp:)[^\n]+", float_digits=None, negative_zero=True)
FLAT: Final = PayloadLimits(frozenset({"string", "int", "float"}))
FLOATS = st.floats(allow_nan=False) | st.decimals(-(10**17), 10**17, places=3, allow_nan=False).map(float)
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | st.text(st.characters(codec="utf-8"), max_size=5)
VALUES = st.recursive(
    SCALARS | st.just(-0.0),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab_é", max_size=3), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.text("ab.e-0", max_size=4) | st.sampled_from(["_exitramp", "$exitramp:int"])
PAYLOADS = st.dictionaries(KEYS, VALUES, max_size=4)


@settings(max_examples=600, deadline=None)
@given(st.lists(PAYLOADS, max_size=4), st.sampled_from([ROUNDING, CHOOSY]))
def test_nothing_that_would_be_encoded_is_passed_over(payloads: list[dict[str, object]], limits: PayloadLimits) -> None:
    texts = pa.array([canonical.dumps(payload) for payload in payloads], pa.string())
    for payload, kept in zip(payloads, kept_as_they_stand(texts, limits), strict=True):
        if kept:
            assert encode_keys(payload, limits) == (payload, {})
            assert canonical.dumps(encode_keys(payload, limits)[0]) == canonical.dumps(payload)


@pytest.mark.parametrize(
    ("payload", "kept"),
    [
        ({"score": 0.1234, "n": 9007199254740992, "deep": [{"a": None}]}, True),
        ({"score": 0.12345678901234567}, False),
        ({"score": 1e-300}, False),
        ({"score": -0.0}, False),
        ({"n": 2**60}, False),
        ({"text": "0123456789.0123456789"}, False),
        ({"_exitramp": 1}, False),
    ],
)
def test_ordinary_payloads_need_no_second_look(payload: dict[str, object], kept: bool) -> None:
    assert kept_as_they_stand(pa.array([canonical.dumps(payload)]), ROUNDING) == [kept]


def test_a_sink_that_does_not_take_every_key_has_the_keys_looked_at() -> None:
    deep: object = 1
    for _ in range(201):
        deep = [deep]
    payloads: list[object] = [{"b": {"a": 1}}, {"a": 1}, {"b": 1}, {}, {"exitramp:b": 1}, {"b\n": 1}, {"b": deep}, 7]
    texts = pa.array([*map(canonical.dumps, payloads), None, r'{"b":"\ud800"}'], pa.string())
    assert kept_as_they_stand(texts, CHOOSY) == [True, False, True, True, *[False] * 4, True, False]


def test_a_sink_that_keeps_no_nesting_has_every_payload_looked_into() -> None:
    assert kept_as_they_stand(pa.array(["{}", None], pa.string()), FLAT) == [False, False]
