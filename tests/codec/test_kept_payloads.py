"""What is said to be kept without being looked into is what looking into it would find."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.codec.payload import encode_keys, kept_as_they_stand
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
@given(st.lists(PAYLOADS, max_size=4))
def test_nothing_that_would_be_encoded_is_passed_over(payloads: list[dict[str, object]]) -> None:
    texts = pa.array([canonical.dumps(payload) for payload in payloads], pa.string())
    for payload, kept in zip(payloads, kept_as_they_stand(texts, ROUNDING), strict=True):
        if kept:
            assert encode_keys(payload, ROUNDING) == (payload, {})
            assert canonical.dumps(encode_keys(payload, ROUNDING)[0]) == canonical.dumps(payload)


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


def test_a_sink_that_keeps_no_nesting_has_every_payload_looked_into() -> None:
    assert kept_as_they_stand(pa.array(["{}", None], pa.string()), FLAT) == [False, False]
