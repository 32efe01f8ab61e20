"""Searching finds what exact arithmetic finds, by the metric that was asked for, under filters too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from exitramp.codec import DecodingSearch
from exitramp.errors import CollectionMissing, UsageError
from exitramp.ports import Hits, IndexCoverage, IndexState, Query, SearchSettings, Store, TellsCoverage
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.conformance.compare import assert_same_records
from exitramp.testing.conformance.harness import Feature, StoreHarness, need
from exitramp.testing.conformance.steps import NAME, limits_of, opened, origin_of, upsert_rows, write
from exitramp.testing.conformance.truth import ROWS, K, Seeded, assert_recall, searchable_rows, seed_searchable
from exitramp.testing.data import ordinary_matrix
from exitramp.testing.reference import nearest_first, score
from exitramp.testing.rows import Row, rows_from_batch
from exitramp.testing.within import combinations, rows_within, spec_within


class SearchConformance:
    def test_the_nearest_are_found_by_every_metric(self, harness: StoreHarness) -> None:
        need(harness, Feature.SEARCH)
        for pair in combinations(limits_of(harness)):
            seeded = seed_searchable(harness, f"search-{pair[0].value}-{pair[1].value}", pair)
            with opened(harness, seeded.spec.name) as store:
                search = store.search()
                assert search.index_state() in {IndexState.READY, IndexState.UNKNOWN}
                assert_recall(seeded, lambda query, k, settings: search.search(query, k=k, settings=settings))  # noqa: B023

    def test_a_store_that_tells_how_it_answers_tells_the_truth(self, harness: StoreHarness) -> None:
        """`coverage` accounts for every vector, and where none is in an index, each answer is the exact one."""
        need(harness, Feature.SEARCH)
        for count in (0, ROWS):
            seeded = seed_searchable(harness, f"coverage-{count}", count=count)
            with opened(harness, seeded.spec.name) as store:
                search = store.search()
                told = search.coverage() if isinstance(search, TellsCoverage) else IndexCoverage()
                assert (told.indexed is None) == (told.compared is None), f"{told}: half of it is not known"
                if told.indexed is None or told.compared is None:
                    return
                assert min(told.indexed, told.compared) >= 0, f"{told}: fewer than none"
                assert told.indexed + told.compared == count, f"{told}: of {count} records, with one vector each"
                if told.is_exact and count:
                    assert_recall(seeded, lambda query, k, settings: search.search(query, k=k), least=1.0)  # noqa: B023

    def test_metrics_are_told_apart(self, harness: StoreHarness) -> None:
        """The truth of each metric differs from that of the others on this data, so no metric can pass for another."""
        need(harness, Feature.SEARCH)
        limits = limits_of(harness)
        numeric = [pair for pair in combinations(limits) if pair[0] is DType.FLOAT32]
        seeded = searchable_rows(
            spec_within(limits, NAME, pair=numeric[0]) if numeric else spec_within(limits, NAME), limits
        )
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

    def test_fewer_are_returned_only_where_there_are_fewer(self, harness: StoreHarness) -> None:
        need(harness, Feature.SEARCH)
        seeded = seed_searchable(harness, NAME, count=7)
        with opened(harness) as store:
            for k, wanted in ((1, 1), (7, 7), (50, 7)):
                hits = store.search().search(seeded.queries(1)[0], k=k)
                assert len(hits.keys) == wanted, f"{len(hits.keys)} hits of {wanted} for k={k} of 7 records"
                assert len(set(hits.keys)) == len(hits.scores) == wanted

    def test_scores_go_with_the_order_of_the_hits(self, harness: StoreHarness) -> None:
        """In the store's own units: similarities that fall, or distances that rise, but one score to every hit."""
        need(harness, Feature.SEARCH)
        for pair in combinations(limits_of(harness)):
            seeded = seed_searchable(harness, f"scores-{pair[0].value}-{pair[1].value}", pair, count=40)
            with opened(harness, seeded.spec.name) as store:
                for query in seeded.queries(4):
                    hits = store.search().search(query, k=K)
                    assert len(hits.scores) == len(hits.keys), "not every hit has a score"
                    assert len(set(hits.scores)) > 1, f"{pair}: every hit has the same score"
                    falling = [near - far for near, far in pairwise(hits.scores)]
                    slack = 1e-5 * max(1.0, *(abs(score) for score in hits.scores))
                    assert min(falling) >= -slack or max(falling) <= slack, f"{pair}: scores do not go with the order"

    def test_sparse_and_multi_vectors_are_searched_where_the_store_holds_them(self, harness: StoreHarness) -> None:
        need(harness, Feature.SEARCH)
        limits = limits_of(harness)
        plain = spec_within(limits, NAME)
        metric = plain.vectors[0].metric
        others = [
            VectorField("late", VectorKind.MULTI, plain.vectors[0].dtype, metric, 16),
            VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None),
        ]
        others = [field for field in others if field.kind in limits.vector_kinds and limits.named_vectors]
        if not others:
            pytest.skip("vector_kinds: the store declares neither sparse nor multi vectors beside a dense one")
        spec = replace(plain, vectors=(*plain.vectors, *others))
        rows = _with_other_vectors(spec, rows_within(plain, limits, ROWS, 33), others)
        write(harness, spec, rows, encoded=False)
        refused = []
        with opened(harness) as store:
            search = store.search()
            for field in others:
                for row in rows[:10]:
                    query = _query_of(field, row)
                    asked = row.vectors[field.column]
                    scored = [(score(field, asked, other.vectors[field.column]), other.id) for other in rows]
                    truth = {id_ for _, id_ in nearest_first(field.metric, scored)[:K]}
                    try:
                        hits = search.search(query, k=K)
                    except UsageError:
                        refused.append(field.column)  # held, but not searched, and it says so
                        break
                    found = len(truth & {key.id for key in hits.keys}) / K
                    assert found >= 0.9, f"'{field.column}': recall@{K} is {found} for one query"
        if len(refused) == len(others):
            pytest.skip(f"the store holds {refused} and refuses to search them")

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
            search = DecodingSearch(store.search(), store.source(), verbatim=limits.verbatim)
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
        seeded = seed_searchable(harness, NAME, count=5)
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
        missing = spec_within(limits_of(harness), "not-there").name
        with opened(harness, missing) as store, pytest.raises(CollectionMissing):
            store.search().search(query, k=1)
        if Feature.RAW_COLLECTIONS not in harness.lacks:
            assert missing not in harness.raw_collections()

    def test_a_deleted_record_is_not_found_and_a_replaced_one_by_its_new_vector(self, harness: StoreHarness) -> None:
        need(harness, Feature.SEARCH, Feature.CHANGES)
        seeded = seed_searchable(harness, NAME, count=60)
        column = seeded.field.column
        gone, moved = seeded.rows[3], seeded.rows[4]
        elsewhere = rows_within(seeded.spec, seeded.limits, 1, 77)[0].vectors[column]
        with opened(harness) as store:
            store.search().search(seeded.queries(1)[0], k=1)  # an index that is loaded once shows itself afterwards
            sink = store.sink()
            sink.create(seeded.spec, origin_of(seeded.spec))
            sink.delete([gone.key])
            upsert_rows(sink, seeded.spec, [replace(moved, vectors={column: elsewhere})])
            sink.flush()
            left = [row for row in seeded.rows if row is not gone and row is not moved]
            after = Seeded(seeded.spec, [*left, replace(moved, vectors={column: elsewhere})], seeded.limits)
            _assert_found(store, after)
        with opened(harness) as store:
            _assert_found(store, after)


def _assert_found(store: Store, seeded: Seeded) -> None:
    search = store.search()
    assert_recall(seeded, lambda query, k, settings: search.search(query, k=k, settings=settings))


def _with_other_vectors(spec: CollectionSpec, plain: Sequence[Row], others: Sequence[VectorField]) -> list[Row]:
    """The rows with a value in every field: two vectors of a multi field, eight of forty indices of a sparse one."""
    rng = np.random.default_rng(34)
    rows = []
    for row in plain:
        vectors = dict(row.vectors)
        for field in others:
            if field.kind is VectorKind.MULTI:
                vectors[field.column] = ordinary_matrix(field, 2, rng)
            else:
                places = np.sort(rng.choice(40, 8, replace=False)).astype(np.uint32)
                vectors[field.column] = (places, rng.uniform(0.1, 1.0, 8).astype(np.float32))
        rows.append(replace(row, vectors=vectors))
    return rows


def _query_of(field: VectorField, row: Row) -> Query:
    value = row.vectors[field.column]
    if isinstance(value, tuple):
        return Query(field.name, sparse=(value[0].astype(np.uint32), value[1].astype(np.float32)))
    return Query(field.name, multi=value)
