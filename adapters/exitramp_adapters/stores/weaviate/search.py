"""Searching in Weaviate: nearest records of one tenant after the other, joined by their distances."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from exitramp.arrow import empty_batch
from exitramp.errors import UsageError
from exitramp.filters import Filter
from exitramp.ports import DEFAULT_SETTINGS, Hits, IndexCoverage, IndexState, Query, SearchSettings
from exitramp.records import RecordKey, VectorKind
from exitramp_adapters.stores.weaviate import records, schema
from exitramp_adapters.stores.weaviate.collection import Collection
from exitramp_adapters.stores.weaviate.filters import Translation

_MOST_RESULTS: Final = 10_000
"""`QUERY_MAXIMUM_RESULTS` of a server that nobody told otherwise."""


class WeaviateSearch:
    """Nearest records by the server's index; over all tenants, or one that `tenant` names."""

    def __init__(self, store: Collection) -> None:
        self._store = store

    def index_state(self) -> IndexState:
        return self._store.index_state()

    def search_options(self) -> Mapping[str, Any]:
        """`ef` and what it depends on are settings of the collection in Weaviate, not of a search."""
        return {"tenant": None}

    def coverage(self) -> IndexCoverage:
        """By the count of objects, since it has none of vectors: told for one field, and of one kind of index."""
        shape = self._store.shape()
        kinds = {each.index for each in shape.native.values()}
        if len(shape.native) != 1 or kinds - {"flat", "hnsw"}:
            return IndexCoverage(note="Weaviate does not count the vectors that each of its indexes has")
        count = sum(self._store.count(tenant) for tenant in self._store.parts())
        if self._store.is_mock():
            return IndexCoverage(0, count, note="the mock has no index and compares every vector")
        return IndexCoverage(0, count) if kinds == {"flat"} else IndexCoverage(count, 0)

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        store, shape = self._store, self._store.refreshed()
        field, vector = records.query_bytes(query, shape.spec, k=k)
        native = shape.native[field.name]
        if settings.exact and native.index != "flat":
            raise UsageError(
                f"an index of the kind {native.index!r} has no exact search", hint="a flat one compares all"
            )
        if k > _MOST_RESULTS:
            raise UsageError(f"a search for {k} records, of at most {_MOST_RESULTS}")
        condition: Any = None
        tenants = self._asked(settings.options)
        if where is not None:
            translation = Translation(shape, store.version())
            condition = translation.message(where)
            self._require_lacking(translation, tenants)
        found: list[tuple[float, RecordKey, Any, str]] = []
        for tenant in tenants if condition is not False else []:
            request = store.whole(tenant, k) if with_records else store.request(tenant, [], _named(shape), k)
            request.metadata.distance = True
            kind = 2 if field.kind is VectorKind.MULTI else 1
            request.near_vector.vectors.add(name=native.name, vector_bytes=vector, type=kind)
            if native.name:
                request.near_vector.targets.target_vectors.append(native.name)
            if condition is not None and condition is not True:
                request.filters.CopyFrom(condition)
            for each in store.listed(request):
                key = RecordKey(each.metadata.id, _namespace(each, tenant) if shape.tenancy else None)
                found.append((each.metadata.distance, key, each, tenant))
        nearest = heapq.nsmallest(k, found, key=lambda hit: hit[0])
        batch = None
        if with_records:
            parts = [
                records.batch_of(
                    [hit[2] for hit in nearest if hit[3] == tenant], shape, tenant, where=str(store.address)
                )
                for tenant in dict.fromkeys(hit[3] for hit in nearest)
            ]
            batch = pa.Table.from_batches(parts).combine_chunks().to_batches()[0] if parts else empty_batch(shape.spec)
        return Hits(tuple(hit[1] for hit in nearest), tuple(float(hit[0]) for hit in nearest), batch)

    def _asked(self, options: Mapping[str, Any]) -> list[str]:
        store = self._store
        for name in options:
            if name != "tenant":
                raise UsageError(
                    f"Weaviate has no search option {name!r}",
                    hint="its option is: tenant; ef, dynamicEf… and flatSearchCutoff are settings of the collection",
                )
        if not store.shape().tenancy:
            if options.get("tenant") is not None:
                raise UsageError(f"{store.address} has no tenants")
            return [""]
        tenants = store.tenants(fresh=True)
        if options.get("tenant") is not None:
            if not tenants.get(str(options["tenant"])):
                raise UsageError(f"{store.address} has no active tenant {options['tenant']!r}")
            return [str(options["tenant"])]
        asleep = sorted(name for name, active in tenants.items() if not active)
        if asleep:
            raise UsageError(
                f"{store.address}: a search over all tenants would leave out those that are not active: "
                f"{', '.join(asleep[:20])}",
                hint="ask one tenant with the search option tenant=NAME",
            )
        return sorted(tenants)

    def _require_lacking(self, translation: Translation, tenants: Sequence[str]) -> None:
        """A range cannot be asked for of numbers that are kept as text."""
        for term, path in translation.lacking.items():
            for tenant in tenants:
                request = self._store.request(tenant, [], [], 1)
                request.filters.CopyFrom(translation.of_term(term))
                if self._store.listed(request):
                    raise UsageError(
                        f"Weaviate cannot filter by 'range' on {'.'.join(path)!r} exactly: records have numbers there "
                        "that are kept as text, since they fit no property of the collection"
                    )


def _named(shape: schema.Shape) -> list[str]:
    return [schema.NAMESPACE] if schema.NAMESPACE in shape.properties() else []


def _namespace(result: Any, tenant: str) -> str | None:
    field = result.properties.non_ref_props.fields
    if schema.NAMESPACE in field and field[schema.NAMESPACE].WhichOneof("kind") == "text_value":
        return str(field[schema.NAMESPACE].text_value)
    return records.namespace_of(tenant)
