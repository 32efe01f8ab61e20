"""A filter leaves what it says, on records of every type and on those that the store keeps in another form; or it is
refused. No answer is ever another one without a word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, cast

import numpy as np
import pytest

from exitramp.codec import DecodingSearch
from exitramp.errors import UsageError
from exitramp.filters import And, Eq, Exists, Filter, In, Not, Or, Range, Scalar, matches
from exitramp.ports import Hits, Page, Partition, PayloadLimits, Query, SearchSettings, VectorSearch, VectorSource
from exitramp.testing.conformance.harness import Feature, StoreHarness, need
from exitramp.testing.conformance.steps import NAME, limits_of, opened, write
from exitramp.testing.conformance.truth import EXACT, assert_recall, seed_searchable
from exitramp.testing.rows import Row
from exitramp.testing.within import rows_within, spec_within

FILTERS: dict[str, Filter] = {
    "a text": Eq(("group",), "even"),
    "an integer": Eq(("number",), 7),
    "true": Eq(("flag",), True),
    "false": Eq(("flag",), False),
    "one of several texts": In(("group",), ("odd", "none such")),
    "one of several integers": In(("number",), (3, 5, 8, 13, 21)),
    "one of a hundred integers": In(("number",), tuple(range(0, 300, 3))),
    "a range of integers": Range(("number",), gte=50, lt=90),
    "a range of floats": Range(("score",), gt=3.0, lte=9.25),
    "a field that some lack": Eq(("sometimes",), "here"),
    "not equal, where some lack the field": Not(Eq(("sometimes",), "here")),
    "not in a range, where some lack the field": Not(Range(("rarely",), gte=0)),
    "present": Exists(("sometimes",)),
    "absent": Not(Exists(("sometimes",))),
    "both": And((Eq(("group",), "even"), Range(("number",), lt=100))),
    "either": Or((Eq(("number",), 3), Eq(("sometimes",), "here"))),
    "neither": Not(Or((Eq(("group",), "even"), Range(("number",), lt=100)))),
    "nothing matches": Eq(("group",), "no such group"),
    "a field nobody has": Eq(("nobody",), "x"),
}
LIST_FILTERS: dict[str, Filter] = {
    "an item of a list": Eq(("tags",), "third"),
    "any item of a list": In(("tags",), ("third", "fifth")),
}
NESTED_FILTERS: dict[str, Filter] = {"a nested field": Eq(("inside", "group"), "odd")}

# One key holds all of these in different records, and beside them one of the odd values.
MIXED: Final[tuple[Any, ...]] = (
    *(True, False, 0, 1, 1.0, "1", 7, "7", 7.5, 0.5, "", "a", "A", "true", "é", "e\u0301"),
    *(["a", "b"], ["7"], [7, 8], [0.5], [True]),
)
ODD: Final[dict[str, Any]] = {
    "nothing": "a",
    "null": None,
    "empty list": [],
    "list with a null": ["a", None],
    "mixed list": ["a", 1, True],
    "list of lists": [["a"]],
    "list of objects": [{"in": "a"}],
    "object": {"in": "a", "deep": {"er": 7}},
    "object with a null": {"in": None},
    "empty object": {},
    "minus zero": -0.0,
    "long float": 0.1 + 0.2,
    "list of long floats": [0.1 + 0.2],
    "nan": float("nan"),
    "infinity": float("inf"),
    "past a double": 2**53 + 1,
    "past 63 bits": 2**63,
    "past 64 bits": 2**64,
    "below 64 bits": -(2**63) - 1,
    "timestamp": datetime(2024, 1, 1, tzinfo=UTC),
    "decimal": Decimal("7"),
    "bytes": b"a",
}
_SCALARS: Final[tuple[Scalar, ...]] = (True, 0, 1, 1.0, "7", 7, 0.5, 0.1 + 0.2, "", "a")
_MORE: Final[tuple[Scalar, ...]] = (
    *(2**53, 2**53 + 1, 2**63, 2**64, float("inf"), False),
    *("true", "é", "2024-01-01T00:00:00+00:00"),
)
MISSING_ROWS: Final = 3


def _filters_on(key: str, odd: Any) -> Iterator[Filter]:
    """Each of `_MORE` is asked for where all values are tame, and of the others what is of the odd value's own kind."""
    field = (key,)
    more = _MORE if odd == "a" else [value for value in _MORE if type(value) is type(odd) or type(odd) is datetime]
    yield from (Eq(field, value) for value in (*_SCALARS, *more))
    yield In(field, (1, "7", True))
    yield In(field, ("a", "none such"))
    for bounds in ({"gte": 1}, {"lt": 1}, {"gt": 0.5, "lte": 7}, {"gte": 0.1 + 0.2, "lt": 0.31}, {"gt": 2**53}):
        yield Range(field, **bounds)
    yield Exists(field)
    yield from (Eq((key, "in"), "a"), Eq((key, "deep", "er"), 7), Exists((key, "in")), Eq((key, "none"), "a"))


def mixed_keys(limits: PayloadLimits) -> dict[str, str]:
    """A key for each odd value, of characters that the store takes in one, if it takes them all in one of two forms."""
    forms = ({name: f"k {name}" for name in ODD}, {name: f"k_{name.replace(' ', '_')}" for name in ODD})
    return next(
        (keys for keys in forms if all(re.fullmatch(limits.key_pattern, key) for key in keys.values())), forms[0]
    )


def mixed_rows(rows: list[Row], keys: Mapping[str, str]) -> list[Row]:
    """Rows with one key for each odd value. It holds `MIXED` value by value, then the odd one, and is missing at last.

    Beside that each has a key with a dot in it and the object that the dot might be taken for, and each a document.
    """
    values = len(MIXED) + 1
    found = []
    for number, row in enumerate(rows):
        payload: dict[str, Any] = {}
        if number < values:
            payload = {keys[name]: MIXED[number] if number < len(MIXED) else odd for name, odd in ODD.items()}
        payload |= {"x.y": "dot"} if number % 2 else {"x": {"y": "path"}}
        found.append(replace(row, payload=payload, document=None if number % 3 else f"document {number % 2}"))
    return [*found[:-1], replace(found[-1], payload=None)]


class FilterConformance:
    def test_filters_leave_what_the_reference_leaves(self, harness: StoreHarness) -> None:
        need(harness, Feature.SEARCH, Feature.FILTERS)
        seeded = seed_searchable(harness, NAME)
        types = seeded.limits.payload
        filters = dict(FILTERS)
        if {"list"} <= types.types and "string" in types.item_types:
            filters |= LIST_FILTERS
        if types.nested and "object" in types.types:
            filters |= NESTED_FILTERS
        honoured = []
        with opened(harness) as store:
            search = store.search()
            for name, where in filters.items():
                try:
                    search.search(seeded.queries(1)[0], k=1, where=where)
                except UsageError:
                    continue  # said so instead of answering something else
                honoured.append(name)
                assert_recall(
                    seeded,
                    lambda query, k, settings: search.search(query, k=k, where=where, settings=settings),  # noqa: B023
                    where=where,
                    what=f"filter '{name}'",
                    queries=5,
                )
                try:
                    found = _all_hits(search, seeded.queries(1)[0], len(seeded.rows), where).keys
                except UsageError:
                    continue  # more than it answers with, and it says so
                wanted = {row.key for row in seeded.rows if matches(where, row.payload)}
                assert set(found) == wanted, f"filter '{name}': {len(found)} hits where {len(wanted)} records match"
        assert "a text" in honoured, "not even equality with a text is honoured: put FILTERS into `lacks`"

    def test_a_filter_on_records_kept_in_another_form_is_right_or_refused(self, harness: StoreHarness) -> None:
        """What the store keeps beside its own payload it cannot filter by, and must not seem to."""
        need(harness, Feature.SEARCH, Feature.FILTERS)
        limits = limits_of(harness)
        spec = replace(spec_within(limits, NAME), has_documents=True)
        keys, kept = mixed_keys(limits.payload), limits.payload
        rows = mixed_rows(rows_within(spec, limits, len(MIXED) + 1 + MISSING_ROWS, 41), keys)
        write(harness, spec, rows)
        filters = [where for name, odd in ODD.items() for where in _filters_on(keys[name], odd)]
        filters += [Eq(("x.y",), "dot"), Eq(("x", "y"), "path"), Eq(("x", "y"), "dot"), Eq(("x.y",), "path")]
        filters += [Eq(("document",), "document 0"), Exists(("document",)), Exists(("_exitramp",))]
        query = Query(spec.vectors[0].name, dense=np.asarray(rows[0].vectors[spec.vectors[0].column]))
        honoured = set()
        with opened(harness) as store:
            source = cast(VectorSource, _ReadOnce(store.source()))
            search = DecodingSearch(store.search(), source, verbatim=limits.verbatim)
            for number, each in enumerate(filters):
                for where in (each, Not(each))[: 1 + (number % 3 == 0)]:
                    try:
                        found = {key.id for key in _all_hits(search, query, len(rows), where).keys}
                    except UsageError:
                        continue
                    wanted = {row.id for row in rows if matches(where, row.payload)}
                    assert found == wanted, f"{where} let {len(found)} records through where {len(wanted)} match"
                    honoured.add(repr(where))
        texts_stay = {"string", "list"} <= kept.types and "string" in kept.item_types
        if texts_stay and re.fullmatch(kept.key_pattern, keys["nothing"]):
            where = Eq((keys["nothing"],), "a")
            assert repr(where) in honoured, (
                f"{where} is refused: a text among values of other types, which the limits say is kept as it is"
            )

    def test_a_store_without_filters_refuses_one(self, harness: StoreHarness) -> None:
        """Left out without a word it would make the answers look good."""
        need(harness, Feature.SEARCH)
        if Feature.FILTERS not in harness.lacks:
            pytest.skip("filters: the store has them")
        seeded = seed_searchable(harness, NAME, count=9)
        with opened(harness) as store:
            search = store.search()
            for where in (Eq(("group",), "even"), Not(Eq(("group",), "even")), Exists(("group",))):
                with pytest.raises(UsageError):
                    search.search(seeded.queries(1)[0], k=2, where=where)
                    pytest.fail(f"FILTERS is in `lacks`, and yet {where} was answered")


class _ReadOnce:
    """The source, which answers the same scan a second time with the pages of the first.

    Hundreds of filters each have the collection looked through for what is kept in another form, and nothing is written
    meanwhile. From a server that was half of the test's 45 s.
    """

    def __init__(self, source: VectorSource) -> None:
        self._source = source
        self._pages: dict[tuple[Partition, int], list[Page]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def scan(self, partition: Partition, *, batch_rows: int) -> Iterator[Page]:
        asked = partition, batch_rows
        if asked not in self._pages:
            self._pages[asked] = list(self._source.scan(partition, batch_rows=batch_rows))
        return iter(self._pages[asked])


def _all_hits(search: VectorSearch, query: Query, k: int, where: Filter) -> Hits:
    """Every record that passes; by a full scan where the store has one."""
    try:
        return search.search(query, k=k, where=where, settings=EXACT)
    except UsageError:
        return search.search(query, k=k, where=where, settings=SearchSettings())
