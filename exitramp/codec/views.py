"""Records seen in another way than they stand in a store: under other ids, or without a framework's own arrangement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import pyarrow as pa

from exitramp.filters import And, Field, Filter, Not, Or
from exitramp.records import CollectionSpec, RecordKey


class View(Protocol):
    """One way of seeing them. What it cannot make sense of raises `DataInvalid` naming the record."""

    def spec(self, spec: CollectionSpec) -> CollectionSpec:
        """What the collection is, seen like this."""
        ...

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The records, seen like this."""
        ...

    def target_keys(self, keys: Sequence[RecordKey]) -> Sequence[RecordKey]:
        """The keys under which records of the store are seen."""
        ...

    def source_key(self, key: RecordKey) -> RecordKey | None:
        """The key that a record seen under `key` has in the store; None where there is none."""
        ...

    def source_field(self, field: Field) -> Field:
        """Where a key of the payload, as it is seen, stands in the store."""
        ...

    def source_vector(self, name: str, spec: CollectionSpec) -> str:
        """What a vector field, as it is seen, is called in the store, whose collection is `spec`."""
        ...


def seen_spec(views: Iterable[View], spec: CollectionSpec) -> CollectionSpec:
    for view in views:
        spec = view.spec(spec)
    return spec


def seen(views: Iterable[View], batch: pa.RecordBatch) -> pa.RecordBatch:
    for view in views:
        batch = view.apply(batch)
    return batch


def seen_keys(views: Iterable[View], keys: Sequence[RecordKey]) -> Sequence[RecordKey]:
    for view in views:
        keys = view.target_keys(keys)
    return keys


def keys_behind(views: Sequence[View], keys: Sequence[RecordKey]) -> Sequence[RecordKey]:
    """The keys in the store of those records that are seen under `keys`."""
    for view in reversed(views):
        keys = [found for found in map(view.source_key, keys) if found is not None]
    return keys


def vector_behind(views: Sequence[View], name: str, spec: CollectionSpec) -> str:
    """What a vector field that is seen as `name` is called in the store."""
    specs = [spec]
    for view in views:
        specs.append(view.spec(specs[-1]))
    for view, before in zip(reversed(views), reversed(specs[:-1]), strict=True):
        name = view.source_vector(name, before)
    return name


def filter_behind(views: Sequence[View], where: Filter) -> Filter:
    """The same filter on what stands in the store."""
    match where:
        case And(parts):
            return And(tuple(filter_behind(views, part) for part in parts))
        case Or(parts):
            return Or(tuple(filter_behind(views, part) for part in parts))
        case Not(part):
            return Not(filter_behind(views, part))
    field = where.field
    for view in reversed(views):
        field = view.source_field(field)
    return type(where)(**{**{name: getattr(where, name) for name in where.__slots__}, "field": field})
