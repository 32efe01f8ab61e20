"""What a Chroma collection is set to: its graph, and which metadata it indexes.

A source records it raw in its spec's `index` under `chroma`: `hnsw`, `spann` (as Chroma Cloud has it in place of a
graph), `schema` (which values of which keys are indexed) and the user's own `metadata`. Measured on 1.5.9: a schema and
a configuration cannot be given together; a key whose index is switched off cannot be filtered by; what runs on one's
own machine takes no sparse vectors, neither an index for them nor such a value (both are Chroma Cloud's), and makes a
graph where it is asked for `spann`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from exitramp.ports import Origin
from exitramp.ports.index_settings import hnsw_of
from exitramp.records import CollectionSpec, Finding
from exitramp_adapters.stores.chroma.limits import INDEX_KEY

SPARSE: Final = "sparse_vector_index"
_VECTOR: Final = "vector_index"
_HNSW: Final[Mapping[str, type | tuple[type, ...]]] = {
    "ef_construction": int,
    "max_neighbors": int,
    "ef_search": int,
    "sync_threshold": int,
    "resize_factor": (int, float),
}
_SPANN: Final = (
    "search_nprobe",
    "write_nprobe",
    "ef_construction",
    "ef_search",
    "max_neighbors",
    "reassign_neighbor_count",
    "split_threshold",
    "merge_threshold",
)
_SEARCHED_BY: Final = ("ef_search", "search_nprobe")
Switch = tuple[str, str, str]
"""A key ("" for all others), a type of value, and a kind of index over it."""


def graph_of(index: Mapping[str, Any]) -> dict[str, Any]:
    """How to make the graph of a collection whose source's index configuration is `index`: a Chroma's own words, also
    those of a `spann` that a graph has as well, else what another kind of store says of its graph."""
    told = index.get(INDEX_KEY)
    if isinstance(told, Mapping):
        own = told.get("hnsw") or told.get("spann") or {}
        return {name: own[name] for name, kind in _HNSW.items() if isinstance(own.get(name), kind)}
    graph = hnsw_of(index)
    if graph is None:
        return {}
    words = {"m": "max_neighbors", "ef_construction": "ef_construction", "ef_search": "ef_search"}
    return {words[name]: value for name, value in graph.told().items()}


def spann_of(index: Mapping[str, Any]) -> dict[str, int] | None:
    """The settings of a `spann`; None where the source had a graph, or was no Chroma."""
    told = index.get(INDEX_KEY)
    spann = told.get("spann") if isinstance(told, Mapping) and not told.get("hnsw") else None
    return {name: spann[name] for name in _SPANN if isinstance(spann.get(name), int)} if spann else None


def searched_by(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What every search of a collection goes by, from its configuration."""
    own = configuration.get("hnsw") or configuration.get("spann") or {}
    return {name: own[name] for name in _SEARCHED_BY if own.get(name) is not None}


def switches(schema: Mapping[str, Any] | None) -> dict[Switch, bool]:
    """Which indexes over metadata and documents are on; the vectors' own is not among them."""
    if not schema:
        return {}
    parts = {"": schema.get("defaults") or {}, **(schema.get("keys") or {})}
    return {
        (key, kind, index): bool(told.get("enabled"))
        for key, kinds in parts.items()
        for kind, indexes in kinds.items()
        for index, told in (indexes or {}).items()
        if index != _VECTOR
    }


def sparse_keys(schema: Mapping[str, Any] | None) -> list[str]:
    """The keys over whose values there is an index of sparse vectors."""
    return sorted(key for (key, _, index), on in switches(schema).items() if on and index == SPARSE)


def made_schema(index: Mapping[str, Any], space: str, hnsw: Mapping[str, Any]) -> Any:
    """The schema for a new collection, None where Chroma's own does: with the switches of the source, but for sparse
    vectors, which are not written as such."""
    from chromadb.api.types import HnswIndexConfig, Schema, VectorIndexConfig

    told = index.get(INDEX_KEY)
    wanted = switches(told.get("schema") if isinstance(told, Mapping) else None)
    made = Schema().serialize_to_json()
    usual = switches(made)
    differing = {
        switch: on
        for switch, on in wanted.items()
        if switch[2] != SPARSE and on is not usual.get(switch, usual.get(("", *switch[1:]), on))
    }
    if not differing:
        return None
    for (key, kind, name), on in differing.items():
        part = made["keys"].setdefault(key, {}) if key else made["defaults"]
        part.setdefault(kind, {})[name] = {"enabled": on, "config": {}}
    schema = Schema.deserialize_from_json(made)
    graph = HnswIndexConfig(**hnsw)
    return schema.create_index(config=VectorIndexConfig(space=space, embedding_function=None, hnsw=graph))


def findings(spec: CollectionSpec, origin: Origin | None) -> Iterator[Finding]:
    """What whoever reads the collection has to know of how Chroma keeps it."""
    told = spec.index[INDEX_KEY]
    sparse = sparse_keys(told.get("schema"))
    if sparse:
        yield Finding(
            "source.sparse_keys",
            f"there is an index of sparse vectors over the metadata {', '.join(sparse)}: their values are read as part "
            "of the payload, where no search by them is",
            detail={"keys": sparse},
        )
    left = _left(origin.spec.index.get(INDEX_KEY), told) if origin is not None else {}
    if left:
        yield Finding(
            "source.settings_left",
            f"settings of the Chroma that the records came from and not of this one: {', '.join(left)}",
            count=len(left),
            detail={"settings": left},
        )


def _left(told: Any, here: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(told, Mapping):
        return {}
    found: dict[str, Any] = {}
    for name in ("hnsw", "spann"):
        wanted, have = told.get(name) or {}, here.get(name) or {}
        names = _HNSW if name == "hnsw" else _SPANN
        found |= {f"{name}.{key}": wanted[key] for key in names if key in wanted and wanted[key] != have.get(key)}
    have = switches(here.get("schema"))
    found |= {
        ".".join(("schema", *(part for part in switch if part))): on
        for switch, on in switches(told.get("schema")).items()
        if have and on is not have.get(switch, have.get(("", *switch[1:])))
    }
    return dict(sorted(found.items()))
