"""Filters on columns of payload texts mean what they mean on one record, and proposed ones are worth asking."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.codec import DecodingSearch, DecodingSource, EncodingSink
from exitramp.filters import And, Eq, Exists, Filter, In, Not, Or, Range, matches
from exitramp.parity.filters import LEAST_SHARE, MOST_SHARE, Payloads, propose_filters
from exitramp.parity.neighbour_result import NeighbourParity
from exitramp.parity.neighbours import compare_neighbours
from exitramp.ports import Origin, PayloadLimits, Query
from exitramp.records import Verdict
from exitramp.testing.memory import LIMITS, MemoryStore
from exitramp.testing.rows import batch_from_rows
from exitramp.testing.within import rows_within, spec_within

KEYS = st.sampled_from(["a", "b", "a.b", 'q"', "$exitramp:int", "ü", ""])
SCALARS = st.sampled_from(
    [True, False, 0, 1, -1, 2**60, 0.0, 1.0, 1.5, "", "a", "true", "1", 'q"', "ü\n", "$exitramp:x"]
)
LEAVES = SCALARS | st.none() | st.sampled_from([float("nan"), float("inf"), b"a"])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
PAYLOADS = st.none() | st.dictionaries(KEYS, VALUES, max_size=4)
FIELDS = st.lists(KEYS, min_size=1, max_size=2).map(tuple)
BOUNDS = st.none() | st.sampled_from([-1, 0, 0.5, 1, 1.5, 2**60])
FILTERS: st.SearchStrategy[Filter] = st.recursive(
    st.builds(Eq, FIELDS, SCALARS)
    | st.builds(In, FIELDS, st.lists(SCALARS, min_size=1, max_size=3).map(tuple))
    | st.builds(Range, FIELDS, BOUNDS, BOUNDS, BOUNDS, BOUNDS)
    | st.builds(Exists, FIELDS),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(And, st.lists(inner, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, max_size=3).map(tuple))
    ),
    max_leaves=5,
)


def texts(payloads: list[Any]) -> list[str | None]:
    return [None if payload is None else canonical.dumps(payload) for payload in payloads]


@settings(max_examples=400, deadline=None)
@given(where=FILTERS, payloads=st.lists(PAYLOADS, max_size=12))
def test_a_filter_on_a_column_lets_through_what_it_lets_through_one_by_one(where: Filter, payloads: list[Any]) -> None:
    expected = [matches(where, payload) for payload in payloads]
    assert Payloads(texts(payloads)).mask(where).tolist() == expected


@pytest.mark.parametrize(
    ("where", "payload", "expected"),
    [
        (Eq(("a",), 1), {"a": True}, False),
        (Eq(("a",), True), {"a": 1}, False),
        (Eq(("a",), 1), {"a": 1.0}, True),
        (Eq(("a",), "x"), {"a": ["y", "x"]}, True),
        (Eq(("a",), "x"), {"b": "x"}, False),
        (Eq(("a.b",), "x"), {"a": {"b": "x"}}, False),
        (Eq(("a", "b"), "x"), {"a": {"b": "x"}}, True),
        (Not(Eq(("a",), "x")), {}, True),
        (Not(Eq(("a",), "x")), {"a": None}, True),
        (Exists(("a",)), {"a": None}, True),
        (Exists(("a",)), {"b": "a"}, False),
        (Range(("a",), gte=1), {"a": True}, False),
        (Range(("a",), gte=1, lt=2), {"a": 2}, False),
        (Range(("a",), lt=float("inf")), {"a": [1]}, False),
        (Eq(("a",), 2**60), {"a": 2**60}, True),
        (Eq(("$exitramp:int",), "5"), {"$exitramp:int": "5"}, True),
    ],
)
def test_a_filter_on_one_payload(where: Filter, payload: Any, expected: bool) -> None:
    assert matches(where, payload) is expected
    assert Payloads(texts([payload])).mask(where).tolist() == [expected]


def test_no_payload_passes_only_a_negation() -> None:
    assert not matches(Exists(("a",)), None)
    assert matches(Not(Exists(("a",))), None)


def test_a_slice_of_a_column_is_read_where_it_begins() -> None:
    column = pa.array(texts([{"a": 0}, {"a": 1}, None, {"a": 1}]), pa.string()).slice(1)
    assert Payloads(column).mask(Eq(("a",), 1)).tolist() == [True, False, True]


def test_rows_that_cannot_pass_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = canonical.loads
    monkeypatch.setattr(canonical, "loads", lambda text: read.append(text) or real(text))
    held = Payloads(texts([{"a": "yes"}, {"a": "no"}, {"b": "yes"}, {"b": 1}]))
    assert held.mask(Eq(("a",), "yes")).tolist() == [True, False, False, False]
    assert held.mask(In(("a",), ("yes", "other"))).sum() == 1
    assert read == ['{"a":"yes"}']


SAMPLE = [
    {
        "chapter": f"confidential {number % 7}",
        "page": number,
        "score": number / 8 + 1e-9,
        "flag": number % 2 == 0,
        "title": f"unique {number}",
        "kind": "most" if number % 10 else "rare",
        "mixed": number if number % 2 else "text",
        "odd.key": "a" if number % 3 else "b",
        **({"seen": True} if number % 4 == 0 else {}),
    }
    for number in range(300)
]


@pytest.mark.parametrize("seed", range(12))
def test_proposed_filters_let_a_small_part_through_and_name_no_value(seed: int) -> None:
    sample = texts(SAMPLE)
    found = propose_filters(sample, seed=seed, wanted=5)
    assert [name.partition(":")[0] for name, _ in found] == ["eq", "range", "in", "not", "exists"]
    assert len({name for name, _ in found}) == 5
    for name, where in found:
        share = Payloads(sample).mask(where).mean()
        assert LEAST_SHARE <= share <= MOST_SHARE, name
        assert "confidential" not in name
        assert "odd.key" not in name
        assert "mixed" not in name


def test_proposals_follow_from_sample_and_seed_and_not_from_the_order() -> None:
    sample = texts(SAMPLE)
    assert propose_filters(sample, seed=1) == propose_filters(sample[::-1], seed=1)
    assert any(propose_filters(sample, seed=1) != propose_filters(sample, seed=seed) for seed in range(2, 9))


def test_no_two_proposals_let_the_same_rows_through() -> None:
    sample = texts([{"kind": "most" if number % 5 else "rare"} for number in range(100)])
    [(name, where)] = propose_filters(sample, seed=0, wanted=5)
    assert name == "eq:kind"
    assert Payloads(sample).mask(where).sum() == 20


def test_bounds_of_a_float_range_lie_away_from_every_value() -> None:
    sample = texts([{"score": float(value)} for value in np.random.default_rng(0).uniform(0, 1, 300)])
    for seed in range(20):
        for _, where in propose_filters(sample, seed=seed, wanted=1):
            assert isinstance(where, Range)
            values = [canonical.loads(text or "")["score"] for text in sample]
            for bound in (where.gt, where.lt):
                assert min(abs(value - bound) for value in values) > 1e-9


@pytest.mark.parametrize("payloads", [[], [None] * 50, [{}] * 50, [{"a": "same"}] * 50, [{"a": [1]}, {"a": {}}] * 20])
def test_where_nothing_is_worth_asking_nothing_is_proposed(payloads: list[Any]) -> None:
    assert propose_filters(texts(payloads), seed=0) == []


KEPT_BESIDE = replace(LIMITS, payload=PayloadLimits(frozenset({"string", "int", "float"}), float_digits=15))
MIXED: list[Any] = ["a", None, "b", ["a"], "a", 2**70, "a", 7]


@pytest.fixture
def both() -> tuple[MemoryStore, MemoryStore]:
    """A holds every record as it is, B nulls, lists and large integers beside its own payload."""
    name = f"filters-{uuid4()}"
    stores = MemoryStore(name, "a"), MemoryStore(name, "b", limits=KEPT_BESIDE)
    spec = spec_within(LIMITS, "c")
    rows = [
        replace(
            row, payload={"plain": "x" if number % 2 else "y", "odd": MIXED[number % len(MIXED)], "long": 0.1 + 0.2}
        )
        for number, row in enumerate(rows_within(spec, LIMITS, 80, seed=3))
    ]
    for store in stores:
        sink = EncodingSink(store.sink())
        sink.create(spec, Origin(spec, "0"))
        sink.upsert(batch_from_rows(rows, spec))
    return stores


def compared(both: tuple[MemoryStore, MemoryStore], where: Filter) -> NeighbourParity:
    a, b = both
    return compare_neighbours(
        DecodingSource(a.source()),
        DecodingSource(b.source()),
        a.search(),
        DecodingSearch(b.search(), b.source()),
        queries=80,
        k=3,
        filters=[("where", where)],
        wait_seconds=0,
    )


@pytest.mark.parametrize("where", [Eq(("odd",), "a"), Not(Eq(("odd",), "a")), Exists(("odd",)), Eq(("odd",), 2**70)])
def test_a_filter_on_what_a_store_keeps_beside_its_payload_is_inconclusive(
    both: tuple[MemoryStore, MemoryStore], where: Filter
) -> None:
    result = compared(both, where)
    assert result.verdict is Verdict.INCONCLUSIVE
    [finding] = [each for each in result.findings if each.verdict is not None]
    assert finding.code == "neighbours.refused"
    assert "'odd' is not kept natively in memory" in finding.message
    assert [part.verdict for part in result.parts] == [Verdict.PASS, Verdict.INCONCLUSIVE]


def test_the_store_itself_would_have_answered_and_wrongly(both: tuple[MemoryStore, MemoryStore]) -> None:
    query = Query(dense=np.ones(16, np.float32))
    answers = [store.search().search(query, k=80, where=Exists(("odd",))).keys for store in both]
    assert len(answers[0]) == 80 > len(answers[1])


@pytest.mark.parametrize("bound", [0.3, 0.1 + 0.2])
def test_a_bound_that_a_rounded_number_may_lie_on_either_side_of_is_inconclusive(
    both: tuple[MemoryStore, MemoryStore], bound: float
) -> None:
    """The memory store rounds nothing; one with these limits may."""
    assert compared(both, Range(("long",), lte=bound)).verdict is Verdict.INCONCLUSIVE
    assert compared(both, Range(("long",), lte=0.30000000000001)).verdict is Verdict.PASS


@pytest.mark.parametrize("where", [Eq(("plain",), "x"), Range(("odd",), gte=1, lt=9), Eq(("odd",), 7)])
def test_a_filter_whose_answer_hangs_on_nothing_kept_beside_is_answered(
    both: tuple[MemoryStore, MemoryStore], where: Filter
) -> None:
    result = compared(both, where if where.field == ("plain",) else And((Eq(("plain",), "x"), where)))
    assert (result.verdict, result.findings) == (Verdict.PASS, ())
