"""What a Qdrant collection is set to beside its fields: its indexes, quantisation, storage and limits.

A source records all of it raw, as the server's JSON or the engine's configuration file has it, in its spec's `index`
under `qdrant`, the indexes over payload keys under `payload_schema` in it. A Qdrant sink reads that as `Settings`, in
the words of Qdrant's REST interface, and makes a collection of it. Nothing here imports an SDK.

Not taken over, and told of where they are not as usual: what belongs to a server and not to a collection (shards,
replicas, its log, how often it flushes), and `prevent_unoptimized`, under which records are not there until they are in
an index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exitramp.ports import Origin
from exitramp.ports.collection_metadata import KEY as METADATA
from exitramp.ports.index_settings import graph_settings
from exitramp.records import CollectionSpec, DType, Finding
from exitramp_adapters.stores.qdrant.forms import by_name

KEY: Final = "qdrant"
"""The key in a spec's `index` under which a Qdrant collection's configuration stands."""
SCHEMA: Final = "payload_schema"
WHOLE_NUMBERS: Final = "uint8"
"""The datatype of fields that hold whole numbers from 0 to 255, and cut off whatever else they are given."""

_FIELD_KEYS: Final = ("hnsw_config", "quantization_config", "on_disk", "memory")
_SPARSE_KEYS: Final = ("full_scan_threshold", "on_disk", "memory", "datatype")
_OPTIMIZER_KEYS: Final = (
    "deleted_threshold",
    "vacuum_min_vector_number",
    "default_segment_number",
    "max_segment_size",
    "memmap_threshold",
    "indexing_threshold",
)
# How Qdrant has them where nobody said anything; only what differs is worth a word.
_USUAL: Final[Mapping[str, Any]] = {
    "shard_number": 1,
    "replication_factor": 1,
    "write_consistency_factor": 1,
    "sharding_method": "auto",
    "wal_config.wal_capacity_mb": 32,
    "wal_config.wal_segments_ahead": 0,
    "wal_config.wal_retain_closed": 1,
    "optimizers_config.flush_interval_sec": 5,
    "optimizers_config.prevent_unoptimized": False,
    "optimizers_config.deleted_threshold": 0.2,
    "optimizers_config.vacuum_min_vector_number": 1000,
    "optimizers_config.default_segment_number": 0,
    "hnsw_config.max_indexing_threads": 0,
    "strict_mode_config.enabled": False,
    "on_disk_payload": True,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """In the words of REST, without nulls. `vectors` and `sparse` by field; `payload_schema` by payload key, each with
    `data_type`, `points` (how many records have it) and perhaps `params`."""

    vectors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    sparse: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    collection: Mapping[str, Any] = field(default_factory=dict, hash=False)
    payload_schema: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    strict_mode: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def stored_as(self, name: str) -> str:
        """The datatype of a dense or multi field."""
        return str((self.vectors.get(name) or {}).get("datatype", "float32"))

    def whole_numbers(self) -> frozenset[str]:
        """The fields that hold nothing but whole numbers from 0 to 255."""
        return frozenset(name for name in self.vectors if self.stored_as(name) == WHOLE_NUMBERS)


def settings_of(spec: CollectionSpec) -> Settings:
    """What to set in a collection made for `spec`: as its source had it, if that was a Qdrant; of another kind's, its
    graph's settings."""
    raw = spec.index.get(KEY)
    if isinstance(raw, Mapping):
        return settings_in(raw)
    graph = graph_settings(spec.index, "m", "ef_construct")
    return Settings(collection={"hnsw_config": graph} if graph else {})


def settings_in(raw: Mapping[str, Any]) -> Settings:
    """A server's `config` or the engine's own file, each with the `payload_schema`, as settings."""
    told = _without_nulls(raw)
    params = told.get("params", told)
    collection = {
        "hnsw_config": told.get("hnsw_config"),
        "quantization_config": told.get("quantization_config"),
        "optimizers_config": _some(told.get("optimizer_config", told.get("optimizers")), _OPTIMIZER_KEYS),
        "on_disk_payload": params.get("on_disk_payload"),
        "payload": params.get("payload") or _memory(told.get("payload_memory")),
        "id_tracker": params.get("id_tracker") or _memory(told.get("id_tracker_memory")),
    }
    strict = told.get("strict_mode_config") or {}
    return Settings(
        by_name(params.get("vectors")),
        {name: _sparse(entry) for name, entry in (params.get("sparse_vectors") or {}).items()},
        {name: value for name, value in collection.items() if value not in (None, {})},
        told.get(SCHEMA) or {},
        strict if strict.get("enabled") else {},
    )


def _memory(word: Any) -> dict[str, Any] | None:
    return None if word is None else {"memory": word}


def _sparse(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's file has the index's settings beside the modifier, REST in an `index`."""
    index = _some(entry.get("index", entry), _SPARSE_KEYS)
    found = {"index": index} if index else {}
    return found | ({"modifier": entry["modifier"]} if entry.get("modifier", "none") != "none" else {})


def _some(entry: Mapping[str, Any] | None, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: entry[key] for key in keys if key in entry} if entry else {}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def configured(params: Mapping[str, Any], spec: CollectionSpec, settings: Settings) -> dict[str, dict[str, Any]]:
    """`params` (of `forms.params_from_spec`) with what the settings say of each field that is still the same.

    A field that Qdrant stored as uint8 reads as float32, and is made as uint8 again: its numbers are whole. One stored
    by a lossy code (turbo8 and its like) is not: it would round what it has rounded once more.
    """
    float32 = {field.name for field in spec.vectors if field.dtype is DType.FLOAT32}
    vectors: dict[str, Any] = {}
    for name, entry in params["vectors"].items():
        told = settings.vectors.get(name) or {}
        same = all(told.get(key) == entry.get(key) for key in ("size", "distance"))
        vectors[name] = dict(entry)
        if same:
            vectors[name] |= _some(told, _FIELD_KEYS)
            if name in float32 and told.get("datatype") == WHOLE_NUMBERS:
                vectors[name]["datatype"] = WHOLE_NUMBERS
    sparse = {name: dict(settings.sparse.get(name) or {}) for name in params["sparse_vectors"]}
    return {"vectors": vectors, "sparse_vectors": sparse}


def lacking(settings: Settings, there: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The payload indexes that are wanted and not among those there, each as REST takes it."""
    return {
        name: schema.get("params") or schema["data_type"]
        for name, schema in sorted(settings.payload_schema.items())
        if name not in there
    }


def empty_indexes(settings: Settings, there: Mapping[str, Mapping[str, Any]], points: int) -> list[str]:
    """Payload indexes that were taken over and find nothing here although they did where they came from: what they are
    over stands elsewhere now (in the marker, or under the key of another layout)."""
    if not points:
        return []
    return [
        name
        for name, schema in sorted(settings.payload_schema.items())
        if schema.get("points") and name in there and not there[name].get("points")
    ]


def findings(spec: CollectionSpec, origin: Origin | None) -> Iterator[Finding]:
    """What whoever reads the collection has to know of how Qdrant keeps it."""
    raw = spec.index[KEY]
    settings = settings_in(raw)
    for name in sorted(settings.vectors):
        word = settings.stored_as(name)
        if word == WHOLE_NUMBERS:
            text = "whole numbers from 0 to 255; Qdrant has cut off whatever else was written into it"
        elif word not in ("float32", "float16"):
            text = f"{word}, a code that rounds; what is read is what the code stands for, not what was written"
        else:
            continue
        yield Finding("source.stored_as", f"the vector field {name!r} is stored as {text}", detail={"datatype": word})
    if (raw.get("params") or {}).get("sharding_method") == "custom":
        yield Finding(
            "source.shard_keys",
            "the collection is divided by shard keys: its records are read, and not under which key each one stands",
        )
    left = _left(origin.spec.index.get(KEY), raw) if origin is not None else {}
    if left:
        named = ", ".join(left)
        yield Finding(
            "source.settings_left",
            f"settings of the Qdrant that the records came from and not of this one: {named}",
            count=len(left),
            detail={"settings": left, "next": "set them where your searches need them"},
        )


def _left(told: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    """By their names, the settings of `told` that are others in `raw`, and no more than usual if they are there."""
    if not isinstance(told, Mapping):
        return {}
    wanted, have = dict(_flat(_words(told))), dict(_flat(_words(raw)))
    return {name: value for name, value in sorted(wanted.items()) if have.get(name, _USUAL.get(name)) != value}


def _words(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a configuration says, in the words of REST and by one nesting, whoever wrote it."""
    settings, told = settings_in(raw), _without_nulls(raw)
    params = told.get("params", {})
    optimizers = told.get("optimizer_config", told.get("optimizers")) or {}
    mine = ("shard_number", "replication_factor", "write_consistency_factor", "sharding_method")
    return (
        {key: params[key] for key in mine if key in params}
        | dict(settings.collection)
        | {
            "optimizers_config": optimizers,
            "wal_config": told.get("wal_config", {}),
            "strict_mode_config": settings.strict_mode,
            "vectors": {name: _some(entry, (*_FIELD_KEYS, "datatype")) for name, entry in settings.vectors.items()},
            "sparse_vectors": settings.sparse,
            SCHEMA: {
                name: {key: value for key, value in schema.items() if key != "points"}
                for name, schema in settings.payload_schema.items()
            },
        }
    )


def _flat(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        name = f"{path}.{key or '(unnamed)'}" if path else str(key)
        if isinstance(item, Mapping):
            yield from _flat(item, name)
        else:
            yield name, item


def index_of(
    config: Mapping[str, Any], schema: Mapping[str, Any], metadata: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A spec's `index`: the raw configuration with the payload indexes, and the user's metadata where there is room."""
    found: dict[str, Any] = {KEY: {**config, SCHEMA: dict(schema)}}
    return found if metadata is None else found | {METADATA: dict(metadata)}
