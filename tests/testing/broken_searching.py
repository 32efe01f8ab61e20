"""Searches that answer something else than they were asked, and the tests that must notice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from exitramp.filters import And, Eq, Exists, Filter, In, Leaf, Not, Or, Range, leaves
from exitramp.ports import (
    DEFAULT_SETTINGS,
    Hits,
    IndexCoverage,
    Query,
    SearchSettings,
)
from exitramp.records import Metric
from exitramp.testing import Feature
from exitramp.testing.memory import MemorySearch
from exitramp.testing.memory_records import MemoryCollection
from tests.testing.broken import Broken, Searches, any_spec, with_metric
from tests.testing.test_memory import MemoryHarness


class IgnoresFilters(Searches):
    def asked(self, where: Filter | None, settings: SearchSettings) -> tuple[Filter | None, SearchSettings]:
        return None, settings


class IgnoresSettings(Searches):
    def asked(self, where: Filter | None, settings: SearchSettings) -> tuple[Filter | None, SearchSettings]:
        return where, DEFAULT_SETTINGS


class AnswersFarthestFirst(Searches):
    def answered(self, hits: Hits) -> Hits:
        return Hits(hits.keys[::-1], hits.scores[::-1], hits.records)


class AnswersOneTooFew(Searches):
    def answered(self, hits: Hits) -> Hits:
        return Hits(hits.keys[:-1], hits.scores[:-1], hits.records)


class SaysOfAnIndexThatItIsNone(MemorySearch):
    """It misses the third nearest, as an index may, and tells that every vector was compared."""

    def search(self, query: Query, *, k: int, **more: Any) -> Hits:
        hits = super().search(query, k=k + 1, **more)
        kept = [place for place in range(len(hits.keys)) if place != 2 or len(hits.keys) <= k]
        return Hits(tuple(hits.keys[p] for p in kept), tuple(hits.scores[p] for p in kept), hits.records)


class CountsAVectorTooMany(MemorySearch):
    def coverage(self) -> IndexCoverage:
        return IndexCoverage(super().coverage().compared, 1)


class FiltersAfterSearching(Searches):
    """Asks for k, then drops what does not match, so that hits go missing."""

    def search(self, query: Query, *, k: int, where: Filter | None = None, **more: Any) -> Hits:
        matching = set(super().search(query, k=10_000, where=where).keys)
        hits = super().search(query, k=k, **more)
        kept = [place for place, key in enumerate(hits.keys) if key in matching]
        return Hits(tuple(hits.keys[p] for p in kept), tuple(hits.scores[p] for p in kept), hits.records)


class MeasuresByDot(MemorySearch):
    def search(self, query: Query, **more: Any) -> Hits:
        held = self._store.collection()
        told, held.spec = held.spec, with_metric(held.spec, Metric.DOT)
        try:
            return super().search(query, **more)
        finally:
            held.spec = told


class GivesScoresBackwards(Searches):
    def answered(self, hits: Hits) -> Hits:
        return Hits(hits.keys, (*hits.scores[1:], *hits.scores[:1]), hits.records)


class GivesNoRecordsWithHits(Searches):
    def answered(self, hits: Hits) -> Hits:
        return Hits(hits.keys, hits.scores, None)


class SearchesWhatItLoadedFirst(MemorySearch):
    """As an index does that is not told of deletions and replacements."""

    def search(self, query: Query, **more: Any) -> Hits:
        held = self._store.collection()
        loaded = self._store.__dict__.setdefault("loaded", dict(held.records))
        now, held.records = held.records, loaded
        try:
            return super().search(query, **more)
        finally:
            held.records = now


class RewritesFilters(Searches):
    """Asks for something that is nearly the filter."""

    def rewritten(self, leaf: Leaf) -> Filter:
        return leaf

    def negated(self, part: Filter) -> Filter:
        return Not(self.whole(part))

    def whole(self, where: Filter) -> Filter:
        match where:
            case And(parts):
                return And(tuple(self.whole(part) for part in parts))
            case Or(parts):
                return Or(tuple(self.whole(part) for part in parts))
            case Not(part):
                return self.negated(part)
        return self.rewritten(where)

    def asked(self, where: Filter | None, settings: SearchSettings) -> tuple[Filter | None, SearchSettings]:
        return (None if where is None else self.whole(where)), settings


class NegatesAsSqlDoes(RewritesFilters):
    """A record that lacks the field is neither equal nor unequal."""

    def negated(self, part: Filter) -> Filter:
        there = tuple(Exists(leaf.field) for leaf in leaves(part) if not isinstance(leaf, Exists))
        return And((*there, Not(self.whole(part))))


class TakesOpenBoundsForClosed(RewritesFilters):
    def rewritten(self, leaf: Leaf) -> Filter:
        if isinstance(leaf, Range) and leaf.gt is not None:
            return replace(leaf, gt=None, gte=leaf.gt)
        return leaf


class ComparesTextsAndNumbers(RewritesFilters):
    """As one does that keeps every value as text beside its index."""

    def rewritten(self, leaf: Leaf) -> Filter:
        if isinstance(leaf, Eq) and type(leaf.value) is int:
            return In(leaf.field, (leaf.value, str(leaf.value)))
        return leaf


class TakesTrueForOne(RewritesFilters):
    def rewritten(self, leaf: Leaf) -> Filter:
        if isinstance(leaf, Eq) and isinstance(leaf.value, bool):
            return In(leaf.field, (leaf.value, int(leaf.value)))
        return leaf


class FoldsTheCaseOfTexts(RewritesFilters):
    def rewritten(self, leaf: Leaf) -> Filter:
        if isinstance(leaf, Eq) and isinstance(leaf.value, str):
            return In(leaf.field, (leaf.value, leaf.value.upper()))
        return leaf


class SplitsKeysAtDots(RewritesFilters):
    def rewritten(self, leaf: Leaf) -> Filter:
        return replace(leaf, field=tuple(part for key in leaf.field for part in key.split(".")))


class MistakesAbsentForEmpty(RewritesFilters):
    """As one does whose only test for a key is whether something is in it."""

    def rewritten(self, leaf: Leaf) -> Filter:
        return Or((Range(leaf.field, gte=-1e300), Eq(leaf.field, True))) if isinstance(leaf, Exists) else leaf


class MakesCollectionsBySearching(MemorySearch):
    def search(self, query: Query, **more: Any) -> Hits:
        name = self._store.address.require_collection()
        self._store.everything().setdefault(name, MemoryCollection(any_spec(name), None))
        return super().search(query, **more)


class AsksWithTheFirstOfAMultiVector(MemorySearch):
    def search(self, query: Query, **more: Any) -> Hits:
        first = query if query.multi is None else replace(query, multi=query.multi[:1])
        return super().search(first, **more)


COVERED = "test_a_store_that_tells_how_it_answers_tells_the_truth"
NEAREST = "test_the_nearest_are_found_by_every_metric"
FILTERED = "test_filters_leave_what_the_reference_leaves"
REFUSED = "test_what_cannot_be_honoured_is_refused"
MIXED = "test_a_filter_on_records_kept_in_another_form_is_right_or_refused"
UNFILTERED = "test_a_store_without_filters_refuses_one"

WITHOUT_FILTERS = MemoryHarness.lacks | {Feature.FILTERS: "it has none"}
SEARCHING = (
    Broken("ignores filters", (FILTERED,), search=IgnoresFilters),
    Broken("filters after searching", (FILTERED,), search=FiltersAfterSearching),
    Broken("ignores settings", (REFUSED,), search=IgnoresSettings),
    Broken("answers the farthest first", (NEAREST,), search=AnswersFarthestFirst),
    Broken(
        "answers one too few", ("test_fewer_are_returned_only_where_there_are_fewer", NEAREST), search=AnswersOneTooFew
    ),
    Broken("says of an index that it is none", (COVERED,), search=SaysOfAnIndexThatItIsNone),
    Broken("counts a vector too many", (COVERED,), search=CountsAVectorTooMany),
    Broken("measures by dot", (NEAREST,), search=MeasuresByDot),
    Broken("gives scores backwards", ("test_scores_go_with_the_order_of_the_hits",), search=GivesScoresBackwards),
    Broken(
        "gives no records with hits",
        ("test_hits_carry_the_records_own_ids_and_whole_records",),
        search=GivesNoRecordsWithHits,
    ),
    Broken(
        "searches what it loaded first",
        ("test_a_deleted_record_is_not_found_and_a_replaced_one_by_its_new_vector",),
        search=SearchesWhatItLoadedFirst,
    ),
    Broken(
        "negates as SQL does",
        (
            FILTERED,
            MIXED,
        ),
        search=NegatesAsSqlDoes,
    ),
    Broken(
        "takes open bounds for closed",
        (MIXED,),
        search=TakesOpenBoundsForClosed,
    ),
    Broken("compares texts and numbers", (MIXED,), search=ComparesTextsAndNumbers),
    Broken("takes true for one", (MIXED,), search=TakesTrueForOne),
    Broken("folds the case of texts", (MIXED,), search=FoldsTheCaseOfTexts),
    Broken("splits keys at dots", (MIXED,), search=SplitsKeysAtDots),
    Broken(
        "mistakes absent for empty",
        (
            FILTERED,
            MIXED,
        ),
        search=MistakesAbsentForEmpty,
    ),
    Broken(
        "has no filters and ignores them",
        (UNFILTERED,),
        search=IgnoresFilters,
        lacks=WITHOUT_FILTERS,
    ),
    Broken(
        "makes collections by searching",
        ("test_searching_a_missing_collection_names_it_and_does_not_make_it",),
        search=MakesCollectionsBySearching,
    ),
    Broken(
        "asks with the first of a multi vector",
        ("test_sparse_and_multi_vectors_are_searched_where_the_store_holds_them",),
        search=AsksWithTheFirstOfAMultiVector,
    ),
)
