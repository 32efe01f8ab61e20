"""Searching finds what exact arithmetic finds, by the metric that was asked for, under filters too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from exitramp.codec import DecodingSearch
from exitramp.errors import CollectionMissing, UsageError
from exitramp.filters import And, Eq, Exists, Filter, In, Not, Or, Range
from exitramp.ports import Hits, IndexState, Query, SearchSettings, SinkLimits
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField
from exitramp.testing.conformance.compare import assert_same_records
from exitramp.testing.conformance.harness import Feature, StoreHarness, need
from exitramp.testing.conformance.steps import NAME, limits_of, opened, origin_of, upsert_rows, write
from exitramp.testing.data import ordinary_matrix
from exitramp.testing.reference import matches
from exitramp.testing.rows import Row, rows_from_batch
from exitramp.testing.within import combinations, rows_within, spec_within

ROWS = 300
QUERIES = 20
K = 10
LEAST_RECALL = 0.95
EXACT = SearchSettings(exact=True)

FILTERS: dict[str, Filter] = {
    "a text": Eq(("group",), "even"),
    "an integer": Eq(("number",), 7),
    "true": Eq(("flag",), True),
    "false": Eq(("flag",), False),
    "one of several texts": In(("group",), ("odd", "none such")),
    "one of several integers": In(("number",), (3, 5, 8, 13, 21)),
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


@dataclass(frozen=True, slots=True)
class Seeded:
    """A collection that was written, and what was written into it."""

    spec: CollectionSpec
    rows: list[Row]
    limits: SinkLimits

    @property
    def field(self) -> VectorField:
        return self.spec.vectors[0]

    def queries(self, count: int = QUERIES) -> list[Query]:
        matrix = ordinary_matrix(self.field, count, np.random.default_rng(99))
        return [Query(self.field.name, dense=vector) for vector in matrix]

    def truth(self, query: Query, *, where: Filter | None = None) -> tuple[list[RecordKey], npt.NDArray[np.float64]]:
        """All matching records, nearest first, and how far each is (a similarity turned round)."""
        rows = [row for row in self.rows if where is None or matches(where, row.payload)]
        matrix = np.array([row.vectors[self.field.column] for row in rows]).reshape(len(rows), self.field.item_count)
        distance = distances(self.field, np.asarray(query.dense), matrix)
        order = np.argsort(distance, kind="stable")
        return [rows[place].key for place in order], distance[order]


def distances(field: VectorField, query: npt.NDArray[Any], matrix: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """float64[rows]: smaller is nearer, similarities being negated."""
    if field.dtype is DType.BINARY:
        query, matrix = np.unpackbits(query), np.unpackbits(matrix, axis=1)
    one, many = query.astype(np.float64), matrix.astype(np.float64)
    found: npt.NDArray[np.float64]
    match field.metric:
        case Metric.DOT:
            found = -(many @ one)
        case Metric.COSINE:
            found = -(many @ one) / (np.linalg.norm(many, axis=1) * np.linalg.norm(one))
        case Metric.EUCLIDEAN:
            found = np.sqrt(((many - one) ** 2).sum(axis=1))
        case Metric.MANHATTAN:
            found = np.abs(many - one).sum(axis=1)
        case Metric.HAMMING:
            found = (many != one).sum(axis=1).astype(np.float64)
    return found


class SearchConformance:
    def test_the_nearest_are_found_by_every_metric(self, harness: StoreHarness) -> None:
        need(harness, Feature.SEARCH)
        for pair in combinations(limits_of(harness)):
            seeded = _seed(harness, f"search-{pair[0].value}-{pair[1].value}", pair)
            with opened(harness, seeded.spec.name) as store:
                search = store.search()
                assert search.index_state() in {IndexState.READY, IndexState.UNKNOWN}
                _assert_recall(seeded, lambda query, k, settings: search.search(query, k=k, settings=settings))  # noqa: B023

    def test_metrics_are_told_apart(self, harness: StoreHarness) -> None:
        """The truth of each metric differs from that of the others on this data, so no metric can pass for another."""
        need(harness, Feature.SEARCH)
        limits = limits_of(harness)
        numeric = [pair for pair in combinations(limits) if pair[0] is DType.FLOAT32]
        seeded = _rows(spec_within(limits, NAME, pair=numeric[0]) if numeric else spec_within(limits, NAME), limits)
        tops = {}
        for dtype, metric in numeric:
            field = replace(seeded.field, dtype=dtype, metric=metric)
            other = replace(seeded, spec=replace(seeded.spec, vectors=(field,)))
            tops[metric] = [set(other.truth(query)[0][:K]) for query in seeded.queries()]
        for one in tops:
            for two in tops:
                if one != two:
                    overlap = np.mean([len(a & b) / K for a, b in zip(tops[one], tops[two], strict=True)])
                    assert overlap < 0.9, f"{one} and {two} agree on this data to {overlap:.2f}: it tells nothing"

    def test_filters_leave_what_the_reference_leaves(self, harness: StoreHarness) -> None:
        need(harness, Feature.SEARCH, Feature.FILTERS)
        seeded = _seed(harness, NAME)
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
                _assert_recall(
                    seeded,
                    lambda query, k, settings: search.search(query, k=k, where=where, settings=settings),  # noqa: B023
                    where=where,
                    what=f"filter '{name}'",
                    queries=5,
                )
        assert "a text" in honoured, "not even equality with a text is honoured: put FILTERS into `lacks`"

    def test_fewer_are_returned_only_where_there_are_fewer(self, harness: StoreHarness) -> None:
        need(harness, Feature.SEARCH)
        seeded = _seed(harness, NAME, count=7)
        with opened(harness) as store:
            for k, wanted in ((1, 1), (7, 7), (50, 7)):
                hits = store.search().search(seeded.queries(1)[0], k=k)
                assert len(hits.keys) == wanted, f"{len(hits.keys)} hits of {wanted} for k={k} of 7 records"
                assert len(set(hits.keys)) == len(hits.scores) == wanted

    def test_hits_carry_the_records_own_ids_and_whole_records(self, harness: StoreHarness) -> None:
        need(harness, Feature.SEARCH)
        limits = limits_of(harness)
        spec = replace(spec_within(limits, NAME), id_kind=IdKind.STRING, has_documents=True)
        ids = ("7", "007", "é", "x" * 300, "a/b", "🚀", "6ba7b810-9dad-11d1-80b4-00c04fd430c8")
        rows = [
            replace(row, id=id_, payload={"text": id_, "odd": [None, 0.1 + 0.2]}, document=f"document {place}")
            for place, (row, id_) in enumerate(zip(rows_within(spec, limits, len(ids), 3), ids, strict=True))
        ]
        write(harness, spec, rows)
        seeded = Seeded(spec, rows, limits)
        with opened(harness) as store:
            search = DecodingSearch(store.search(), store.source())
            for query in seeded.queries(3):
                hits = search.search(query, k=4, with_records=True)
                assert hits.records is not None
                by_key = {row.key: row for row in rows}
                assert_same_records(
                    [by_key[key] for key in hits.keys], rows_from_batch(hits.records, spec), spec, limits, "hits"
                )
                assert search.search(query, k=4).keys == hits.keys

    def test_what_cannot_be_honoured_is_refused(self, harness: StoreHarness) -> None:
        need(harness, Feature.SEARCH)
        seeded = _seed(harness, NAME, count=5)
        [query] = seeded.queries(1)
        vector = np.asarray(query.dense)
        with opened(harness) as store:
            search = store.search()
            refused: dict[str, Callable[[], Hits]] = {
                "a query of other dimensions": lambda: search.search(
                    Query(query.field, dense=np.concatenate([vector, vector])), k=2
                ),
                "an unknown field": lambda: search.search(Query("no-such-field", dense=vector), k=2),
                "an empty query": lambda: search.search(Query(query.field), k=2),
                "no neighbours": lambda: search.search(query, k=0),
                "an unknown setting": lambda: search.search(
                    query, k=2, settings=SearchSettings(options={"no_such_option": 1})
                ),
            }
            for name, action in refused.items():
                with pytest.raises(UsageError):
                    action()
                    pytest.fail(f"{name} was answered")

    def test_searching_a_missing_collection_names_it_and_does_not_make_it(self, harness: StoreHarness) -> None:
        need(harness, Feature.SEARCH)
        query = Query(dense=np.zeros(16, np.float32))
        with opened(harness, "not-there") as store, pytest.raises(CollectionMissing):
            store.search().search(query, k=1)
        if Feature.RAW_COLLECTIONS not in harness.lacks:
            assert "not-there" not in harness.raw_collections()

    def test_a_deleted_record_is_not_found_and_a_replaced_one_by_its_new_vector(self, harness: StoreHarness) -> None:
        need(harness, Feature.SEARCH, Feature.CHANGES)
        seeded = _seed(harness, NAME, count=60)
        column = seeded.field.column
        gone, moved = seeded.rows[3], seeded.rows[4]
        elsewhere = rows_within(seeded.spec, seeded.limits, 1, 77)[0].vectors[column]
        with opened(harness) as store:
            sink = store.sink()
            sink.create(seeded.spec, origin_of(seeded.spec))
            sink.delete([gone.key])
            upsert_rows(sink, seeded.spec, [replace(moved, vectors={column: elsewhere})])
            sink.flush()
        left = [row for row in seeded.rows if row is not gone and row is not moved]
        left.append(replace(moved, vectors={column: elsewhere}))
        with opened(harness) as store:
            search = store.search()
            after = Seeded(seeded.spec, left, seeded.limits)
            _assert_recall(after, lambda query, k, settings: search.search(query, k=k, settings=settings))


def _seed(harness: StoreHarness, name: str, pair: tuple[DType, Metric] | None = None, *, count: int = ROWS) -> Seeded:
    limits = limits_of(harness)
    seeded = _rows(spec_within(limits, name, pair=pair), limits, count)
    write(harness, seeded.spec, seeded.rows, encoded=False)
    return seeded


def _rows(spec: CollectionSpec, limits: SinkLimits, count: int = ROWS) -> Seeded:
    """Ordinary vectors of differing norm, and payloads to filter by as far as the store keeps them natively."""
    kept = limits.payload
    rows = []
    for number, row in enumerate(rows_within(spec, limits, count, 31)):
        payload: dict[str, Any] = {"group": "odd" if number % 2 else "even", "number": number, "flag": number % 3 == 0}
        payload["score"] = number / 8
        payload |= {"sometimes": "here" if number % 4 else "there"} if number % 5 else {}
        payload |= {"rarely": number} if number % 7 == 0 else {}
        payload["tags"] = ["first", "third" if number % 3 == 0 else "second", "fifth" if number % 5 == 0 else "fourth"]
        payload["inside"] = {"group": "odd" if number % 2 else "even"}
        names = {bool: "bool", int: "int", float: "float", str: "string", list: "list", dict: "object"}
        native = {key: value for key, value in payload.items() if names[type(value)] in kept.types}
        if not kept.nested:
            native.pop("inside", None)
        if "string" not in kept.item_types:
            native.pop("tags", None)
        rows.append(replace(row, payload=native or (None if kept.absent_payload else {})))
    return Seeded(spec, rows, limits)


def _assert_recall(
    seeded: Seeded,
    ask: Callable[[Query, int, SearchSettings], Hits],
    *,
    where: Filter | None = None,
    what: str = "",
    queries: int = QUERIES,
) -> None:
    """Exactly the truth where the store honours `exact`; otherwise a mean recall@10 of at least 0.95.

    A hit counts when it is no further than the truth's last by more than rounding, so that ties are nobody's fault.
    """
    what = f"{seeded.field.dtype} under {seeded.field.metric}: {what}"
    asked = seeded.queries(queries)
    for settings, least in ((EXACT, 1.0), (SearchSettings(), LEAST_RECALL)):
        recalls: list[float] = []
        for query in asked:
            keys, far = seeded.truth(query, where=where)
            try:
                hits = ask(query, K, settings)
            except UsageError:
                break  # it has no exact search and says so
            wanted = min(K, len(keys))
            assert len(hits.keys) == wanted, f"{what}: {len(hits.keys)} hits of {wanted}"
            assert len(set(hits.keys)) == len(hits.keys), f"{what}: a record is among the hits twice"
            distance = dict(zip(keys, far, strict=True))
            wrong = [key for key in hits.keys if key not in distance]
            assert not wrong, f"{what}: {len(wrong)} hits do not match, e.g. {wrong[0]!r}"
            if wanted:
                recalls.append(_recall(hits.keys, distance, far, wanted))
                _assert_order(hits.keys, distance, what)
        mean = float(np.mean(recalls)) if recalls else 1.0
        assert mean >= least, f"{what}: recall@{K} is {mean:.3f}, of at least {least} (exact={settings.exact})"


def _recall(
    keys: Sequence[RecordKey], distance: dict[RecordKey, float], far: npt.NDArray[np.float64], wanted: int
) -> float:
    last = float(far[wanted - 1])
    allowed = last + 1e-5 * max(1.0, abs(last))
    return sum(distance[key] <= allowed for key in keys) / wanted


def _assert_order(keys: Sequence[RecordKey], distance: dict[RecordKey, float], what: str) -> None:
    far = [distance[key] for key in keys]
    for nearer, further in pairwise(far):
        assert nearer <= further + 1e-5 * max(1.0, abs(further)), f"{what}: the hits are not in the order of nearness"
