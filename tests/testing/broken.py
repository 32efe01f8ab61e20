"""What a store that is broken on purpose is made of: the reference store with one part in place of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from exitramp.filters import Filter
from exitramp.ports import (
    DEFAULT_SETTINGS,
    Hits,
    Query,
    SearchSettings,
    SinkLimits,
    Store,
    StoreAdapter,
)
from exitramp.records import CollectionSpec, Metric
from exitramp.testing import Feature
from exitramp.testing.memory import ADAPTER, LIMITS, MemorySearch, MemorySink, MemorySource, MemoryStore
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp.testing.within import spec_within
from tests.testing.test_memory import MemoryHarness


@dataclass(frozen=True)
class Broken:
    """A store that does one thing wrong, and the tests of which each must fail on it."""

    name: str
    caught_by: tuple[str, ...]
    source: type[MemorySource] = MemorySource
    sink: type[MemorySink] = MemorySink
    search: type[MemorySearch] = MemorySearch
    store: type[MemoryStore] = MemoryStore
    limits: SinkLimits = LIMITS
    lacks: Mapping[Feature, str] = field(default_factory=lambda: MemoryHarness.lacks)
    adapter: StoreAdapter = ADAPTER

    def opened(self, harness: MemoryHarness, collection: str) -> Store:
        parts = self

        class BrokenStore(parts.store):  # type: ignore[name-defined, misc]
            def source(self) -> MemorySource:
                return parts.source(self)

            def sink(self) -> MemorySink:
                return parts.sink(self)

            def search(self) -> MemorySearch:
                return parts.search(self)

        store: Store = BrokenStore(harness.name, collection, limits=self.limits)
        return store

    def harness(self) -> MemoryHarness:
        broken = self

        class BrokenHarness(MemoryHarness):
            lacks = broken.lacks

            def adapter(self) -> StoreAdapter:
                return broken.adapter

            def open(self, collection: str) -> Store:
                return broken.opened(self, collection)

        return BrokenHarness()


class RewritesRows(MemorySink):
    """Changes each row on its way in."""

    def change(self, row: Row) -> Row:
        raise NotImplementedError

    def upsert(self, batch: pa.RecordBatch) -> None:
        held = self._store.collection()
        changed = {row.key: row for row in map(self.change, rows_from_batch(batch, held.spec))}
        super().upsert(batch_from_rows(changed.values(), held.spec))


class Searches(MemorySearch):
    """Changes each hit list on its way out."""

    def asked(self, where: Filter | None, settings: SearchSettings) -> tuple[Filter | None, SearchSettings]:
        return where, settings

    def answered(self, hits: Hits) -> Hits:
        return hits

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        where, settings = self.asked(where, settings)
        return self.answered(super().search(query, k=k, where=where, settings=settings, with_records=with_records))


def with_cosine(spec: CollectionSpec) -> CollectionSpec:
    return with_metric(spec, Metric.COSINE)


def with_metric(spec: CollectionSpec, metric: Metric) -> CollectionSpec:
    return replace(spec, vectors=tuple(replace(field, metric=metric) for field in spec.vectors))


def any_spec(name: str) -> CollectionSpec:
    return spec_within(LIMITS, name)
