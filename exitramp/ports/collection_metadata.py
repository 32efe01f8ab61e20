"""What a store's user wrote down of a collection as a whole: which team owns it, what it is for.

A source gives it in its spec's `index` under `metadata`, by itself or among the settings of one kind of store
(`chroma`, `metadata`); where a store has room for such a thing and nothing is written there, as an empty object. A sink
of the same kind finds it there again. One of another kind has no place for it, but for the origin, in which it waits
for the way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from exitramp.canonical import type_name
from exitramp.ports.reading import Origin
from exitramp.records import CollectionSpec

KEY: Final = "metadata"

Place = tuple[str, ...]
"""The keys in a spec's `index` under which metadata stands."""
OwnMetadata = Mapping[Place, Mapping[str, Any]]
"""By place, what stands there."""


def own_metadata(spec: CollectionSpec, origin: Origin | None) -> OwnMetadata:
    """All that is known: what the store itself has, and of what it has no place for, what it was told of the origin."""
    known = {} if origin is None else _places(origin.spec.index)
    return {place: values for place, values in (known | _places(spec.index)).items() if values}


def with_metadata(spec: CollectionSpec, metadata: OwnMetadata) -> CollectionSpec:
    """`spec` with just this metadata in its `index`, and no other."""
    index = {key: _without(value) for key, value in spec.index.items() if key != KEY or not isinstance(value, Mapping)}
    for place, values in metadata.items():
        if place == (KEY,):
            index[KEY] = dict(values)
        else:
            index[place[0]] = {**index.get(place[0], {}), KEY: dict(values)}
    return replace(spec, index=index)


def shown(spec: CollectionSpec) -> CollectionSpec:
    """`spec` as it may be shown: in the place of each value of its metadata, the name of its type."""
    names = {
        place: {key: type_name(value) for key, value in values.items()} for place, values in _places(spec.index).items()
    }
    return with_metadata(spec, names)


def differing_keys(one: OwnMetadata, other: OwnMetadata) -> list[str]:
    """The keys, sorted, that one of the two lacks, or whose values are not the same value of the same type."""
    return sorted(
        {
            key
            for place in {*one, *other}
            for key in {*one.get(place, {}), *other.get(place, {})}
            if not holds(one, place, key, other) or not holds(other, place, key, one)
        }
    )


def holds(one: OwnMetadata, place: Place, key: str, other: OwnMetadata) -> bool:
    """Whether `one` has under this key just what `other` has there."""
    there, wanted = one.get(place, {}), other.get(place, {})
    return key in there and key in wanted and type(there[key]) is type(wanted[key]) and there[key] == wanted[key]


def _places(index: Mapping[str, Any]) -> dict[Place, Mapping[str, Any]]:
    found: dict[Place, Mapping[str, Any]] = {}
    if isinstance(index.get(KEY), Mapping):
        found[KEY,] = index[KEY]
    for kind, told in index.items():
        if kind != KEY and isinstance(told, Mapping) and isinstance(told.get(KEY), Mapping):
            found[kind, KEY] = told[KEY]
    return found


def _without(told: Any) -> Any:
    if not isinstance(told, Mapping) or not isinstance(told.get(KEY), Mapping):
        return told
    return {key: value for key, value in told.items() if key != KEY}
