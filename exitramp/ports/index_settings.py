"""The settings of a graph over vectors, read out of the configuration that each store gives in its own words.

A sink of the same kind takes a store's own words over. Of another kind, it may take over what both have a notion of:
`SinkLimits.index_settings` names which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "m": ("m", "M", "max_neighbors", "connectivity", "maxConnections"),
    "ef_construction": ("ef_construct", "ef_construction", "efConstruction", "expansion_add"),
    "ef_search": ("ef_search", "efSearch", "ef", "ef_runtime", "EF_RUNTIME", "expansion_search"),
}


@dataclass(frozen=True, slots=True)
class HnswSettings:
    """A graph's links for each vector (`m`), and how many candidates it looks at while it is built and searched."""

    m: int | None = None
    ef_construction: int | None = None
    ef_search: int | None = None

    def told(self) -> dict[str, int]:
        """Those that are known, by name."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


def hnsw_of(index: Mapping[str, Any]) -> HnswSettings | None:
    """The settings of the first graph in a collection's index configuration; None where it tells of none.

    A graph is known by its breadth while it is built, which nothing else has: a quantiser has an `m` too.
    """
    for part in _mappings(index):
        found = {name: _number(part, words) for name, words in _WORDS.items()}
        if found["ef_construction"] is not None:
            return HnswSettings(**found)
    return None


def graph_settings(index: Mapping[str, Any], m: str, ef_construction: str) -> dict[str, int]:
    """The settings that a graph is built with, under the names by which a store takes them."""
    told = (hnsw_of(index) or HnswSettings()).told()
    return {name: told[word] for word, name in (("m", m), ("ef_construction", ef_construction)) if word in told}


def other_settings(index: Mapping[str, Any]) -> list[str]:
    """What else the configuration tells of: `scalar indexes`, `quantisation`."""
    found = []
    for name, words in (
        ("indexes over payload keys", ("payload_schema", "scalar", "scalar_indexes", "attributes")),
        ("quantisation", ("quantization", "quantization_config", "quantisation")),
    ):
        if any(part.get(word) for part in _mappings(index) for word in words):
            found.append(name)
    return found


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """All objects in it, outer ones first."""
    level = [value]
    while level:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                yield item
                inner += item.values()
            elif isinstance(item, list | tuple):
                inner += item
        level = inner


def _number(part: Mapping[str, Any], words: tuple[str, ...]) -> int | None:
    for word in words:
        value = part.get(word)
        if isinstance(value, bool):
            continue
        if isinstance(value, int) and value > 0:
            return value
        if isinstance(value, str) and value.isdecimal() and int(value) > 0:
            return int(value)
    return None
