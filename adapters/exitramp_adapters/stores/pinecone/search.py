"""Asking an index of Pinecone's for nearest records, and for records by their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import pyarrow as pa

from exitramp.arrow import empty_batch
from exitramp.errors import UsageError
from exitramp.filters import Filter
from exitramp.ports import DEFAULT_SETTINGS, Hits, IndexState, Query, SearchSettings
from exitramp.records import CollectionSpec, Metric, RecordKey
from exitramp_adapters.stores.pinecone import budget as budgets
from exitramp_adapters.stores.pinecone import reading, records
from exitramp_adapters.stores.pinecone.client import namespace_of, native_namespace
from exitramp_adapters.stores.pinecone.filters import filter_json
from exitramp_adapters.stores.pinecone.opened import OpenedPinecone

_MOST_NAMESPACES: Final = 100
_SETTINGS: Final = {"scan_factor": (0.5, 4.0), "max_candidates": (1, 100_000)}


class PineconeSearch:
    """Nearest records by Pinecone's index, which answers for one namespace: those of several are asked one by one, and
    the best of all their answers kept."""

    def __init__(self, store: OpenedPinecone) -> None:
        self._store = store

    def index_state(self) -> IndexState:
        status = self._store.connection.model(fresh=True).status
        return IndexState.READY if status.ready else IndexState.BUILDING

    def search_options(self) -> Mapping[str, Any]:
        """Both are for indexes on dedicated read nodes; what Pinecone does without them it does not tell."""
        return dict.fromkeys(_SETTINGS)

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        store = self._store
        field, wanted = records.query_of(query, store.fields(), k=k)
        if settings.exact:
            raise UsageError("Pinecone has no exact search", hint="leave `exact` out")
        asked = wanted | _settings(settings.options)
        if where is not None:
            asked["filter"] = filter_json(where)
        namespaces = sorted(store.spaces())
        if len(namespaces) > _MOST_NAMESPACES:
            raise UsageError(
                f"{store.connection.address} has {len(namespaces)} namespaces, and each would be a query of its own",
                hint="name the one to search",
            )
        found: list[tuple[float, str, str]] = []
        for namespace in namespaces:
            units, limit = store.budget.reserve_query()
            if limit is not None:
                raise store.budget.exceeded(limit, "while it was searched")
            store.reader.turn("query")
            try:
                with store.connection.data() as index:
                    answer = index.query(top_k=k, namespace=namespace, **asked)
            except BaseException as error:
                store.budget.fail(error, units=units, rows=0)
                raise
            store.budget.settle_query(answer, units=units, seconds=0.0)
            found += [(float(match.score), namespace, match.id) for match in answer.matches]
        # Each answer is in order already; under euclidean the least score is the nearest.
        found.sort(key=lambda hit: hit[0] if field.metric is Metric.EUCLIDEAN else -hit[0])
        hits = found[:k]
        narrowed = store.connection.namespace is not None
        keys = tuple(RecordKey(id_, None if narrowed else namespace_of(ns)) for _, ns, id_ in hits)
        whole = fetched(store, store.spec(), keys) if with_records else None
        return Hits(keys, tuple(score for score, _, _ in hits), whole)


def fetched(store: OpenedPinecone, spec: CollectionSpec, keys: Sequence[RecordKey]) -> pa.RecordBatch:
    """The records with these keys."""
    store.connection.model()
    parts = [
        (namespace, part)
        for namespace, ids in by_namespace(store, keys).items()
        for part in reading.parts_of(ids, budgets.PAGE_IDS)
    ]
    answers = store.reader.all_of([partial(_looked_up, store, namespace, part) for namespace, part in parts])
    found: list[tuple[str | None, Any]] = []
    for (namespace, _), vectors in zip(parts, answers, strict=True):
        found += [(namespace_of(namespace), vector) for vector in vectors]
    return records.batch_of(found, spec, where=str(store.connection.address)) if found else empty_batch(spec)


def _looked_up(store: OpenedPinecone, namespace: str, ids: list[str]) -> list[Any]:
    room, limit = store.budget.reserve_fetch(len(ids))
    if limit is not None:
        if room:
            store.budget.release(units=budgets.units_of_fetch(room), rows=room)
        raise store.budget.exceeded(limit, "while single records were looked up")
    return store.reader.fetch(namespace, ids)


def by_namespace(store: OpenedPinecone, keys: Sequence[RecordKey]) -> dict[str, list[str]]:
    """Ids by namespace in Pinecone's spelling, without those that cannot be there."""
    narrowed, found = store.connection.namespace, dict[str, list[str]]()
    for key in records.known_keys(keys):
        if narrowed is None:
            with suppress(UsageError):  # a namespace that Pinecone cannot spell has no records
                found.setdefault(native_namespace(key.namespace), []).append(key.id)
        elif key.namespace is None:
            found.setdefault(narrowed, []).append(key.id)
    return found


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in options.items():
        if name not in _SETTINGS:
            known = ", ".join(_SETTINGS)
            raise UsageError(f"pinecone has no search option {name!r}", hint=f"its options are: {known}")
        least, most = _SETTINGS[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise UsageError(f"pinecone: {name} is a number from {least} to {most}")
    return dict(options)
