"""The collections behind the Qdrant shim: each a shard of the real engine, with its description beside it.

    FOLDER/collections/<hash of the name>/description.json    name, parameters, metadata; written last, whole
    FOLDER/collections/<hash of the name>/shard/              the engine's

The engine's write-ahead log is on, so an acknowledged write survives kill -9. What Qdrant's server does in the
background, the engine does here when nobody has written for a moment: the Python binding holds the interpreter while
it builds an index, so nothing is answered meanwhile (3 s for 15,000 rows of 384 numbers; below 10 MB none is built).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from exitramp.errors import UsageError
from exitramp_adapters.stores.qdrant import engine as forms
from exitramp_adapters.stores.qdrant import engine_config as config_forms

IDLE_SECONDS: Final = 0.3
_DIMENSIONS: Final = 65_536
_SETTINGS: Final[tuple[str, ...]] = (
    "hnsw_config",
    "optimizers_config",
    "quantization_config",
    "on_disk_payload",
    "payload",
    "id_tracker",
)
_CREATE_KEYS: Final = frozenset({"vectors", "sparse_vectors", "metadata", *_SETTINGS})
# Of the contract, and the same whatever one asks for on a single node with one shard.
_ONE_OF_EACH: Final = frozenset({"shard_number", "replication_factor", "write_consistency_factor"})
_NOT_HERE: Final = frozenset({"wal_config", "sharding_method", "strict_mode_config"})
_NO_OPTIMIZERS: Final = frozenset(
    {"memmap_threshold", "flush_interval_sec", "max_optimization_threads", "prevent_unoptimized"}
)
_BAD_IN_NAME: Final = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_HNSW: Final = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000, "max_indexing_threads": 0}
_OPTIMIZERS: Final = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "max_segment_size": None,
    "memmap_threshold": None,
    "indexing_threshold": forms.INDEXING_THRESHOLD_KILOBYTES,
    "flush_interval_sec": 5,
    "max_optimization_threads": None,
}


class Refused(Exception):
    """A request that Qdrant's server would refuse, with the HTTP status that it would give."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Collection:
    """One collection. Its methods may be called from several threads."""

    def __init__(self, folder: Path, description: dict[str, Any], shard: Any) -> None:
        self.folder = folder
        self.name: str = description["name"]
        self.description = description
        self.shard = shard
        self.lock = threading.Lock()
        self._operations = 0
        self._written_at: float | None = None
        vectors = description["params"]["vectors"]
        self._dense: dict[str, Any] = {"": vectors} if isinstance(vectors.get("size"), int) else vectors
        self._sparse: dict[str, Any] = description["params"].get("sparse_vectors", {})

    def update(self, operation: Any) -> int:
        """Apply an update and give its number."""
        with self.lock:
            self.shard.update(operation)
            self._written_at = time.monotonic()
            self._operations += 1
            return self._operations

    def points(self, entries: Sequence[Any]) -> list[Any]:
        """The points of a request as the engine's, all checked before the first is written."""
        return [self._point(entry) for entry in entries]

    def _point(self, entry: Any) -> Any:
        import qdrant_edge as engine

        known = forms.only(entry, {"id", "vector", "payload"}, "points", required=["id", "vector"])
        given = known["vector"]
        named = given if isinstance(given, Mapping) else {"": given}
        vectors = {name: self._vector(name, value) for name, value in named.items()}
        payload = known.get("payload")
        if payload is not None and not isinstance(payload, dict):
            raise UsageError("points.payload: an object was expected")
        return engine.Point(point_id(known["id"]), vectors, payload)

    def _vector(self, name: str, value: Any) -> Any:
        if name in self._sparse:
            sparse = forms.only(value, {"indices", "values"}, f"vector.{name}", required=["indices", "values"])
            if len(set(sparse["indices"])) != len(sparse["indices"]) or len(sparse["indices"]) != len(sparse["values"]):
                raise Refused(422, "Validation error in JSON body: must be the same length and indices unique")
            return forms.edge_vector(value)
        if name not in self._dense:
            raise Refused(400, f"Wrong input: Not existing vector name error: {name}")
        size = self._dense[name]["size"]
        rows = value if self._dense[name].get("multivector_config") else [value]
        if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
            raise UsageError(f"vector.{name}: a vector was expected")
        for row in rows:
            if len(row) != size:
                raise Refused(400, f"Wrong input: Vector dimension error: expected dim: {size}, got {len(row)}")
            if None in row:
                raise UsageError(f"vector.{name}: null is no number")
        return value

    def status(self) -> str:
        """`yellow` while an index is wanted that is not built, as a server says while it builds one."""
        if self._written_at is None:
            return "green"
        return "yellow" if forms.wants_index(self.shard, self._config()) else "green"

    def _config(self) -> dict[str, Any]:
        return {"vectors": self._dense, "optimizers": self.description["settings"].get("optimizers_config")}

    def info(self) -> dict[str, Any]:
        """The server's description of a collection, with its defaults filled in."""
        found = self.shard.info()
        described, settings = self.description, self.description["settings"]
        params = described["params"] | {
            "shard_number": 1,
            "replication_factor": 1,
            "write_consistency_factor": 1,
            "on_disk_payload": settings.get("on_disk_payload", True),
        }
        params |= {key: settings[key] for key in ("payload", "id_tracker") if key in settings}
        config = {
            "params": params,
            "hnsw_config": _HNSW | settings.get("hnsw_config", {}),
            "optimizer_config": _OPTIMIZERS | settings.get("optimizers_config", {}),
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
            "quantization_config": settings.get("quantization_config"),
        }
        if described["metadata"]:
            config["metadata"] = described["metadata"]
        return {
            "status": self.status(),
            "optimizer_status": "ok",
            "indexed_vectors_count": found.indexed_vectors_count,
            "points_count": found.points_count,
            "segments_count": found.segments_count,
            "config": config,
            "payload_schema": config_forms.payload_schema(self.shard),
            "update_queue": {"length": 0},
        }

    def merge_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Keys are replaced; one set to null goes."""
        merged = self.description["metadata"] | metadata
        self.description["metadata"] = {key: value for key, value in merged.items() if value is not None}
        _write_description(self.folder, self.description)

    def settle(self) -> None:
        """Build what is to be built if nobody has written for a moment, and shorten the log."""
        with self.lock:
            if self._written_at is None or time.monotonic() - self._written_at < IDLE_SECONDS:
                return
            if forms.wants_index(self.shard, self._config()):
                self.shard.optimize()
            self.shard.flush()
            self._written_at = None

    def close(self) -> None:
        with self.lock:
            self.shard.close()


class Collections:
    """All collections of a folder; those that are there are opened at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "collections"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._open: dict[str, Collection] = {}
        for place in sorted(self._folder.iterdir()):
            if not (place / "description.json").is_file():
                shutil.rmtree(place)  # a creation or a deletion that a kill cut short; neither was acknowledged
                continue
            self._load(place)

    def _load(self, place: Path) -> None:
        import qdrant_edge as engine

        description = json.loads((place / "description.json").read_text("utf-8"))
        shard = engine.EdgeShard.load(str(place / "shard"))
        self._open[description["name"]] = Collection(place, description, shard)

    def names(self) -> list[str]:
        return sorted(self._open)

    def get(self, name: str) -> Collection:
        found = self._open.get(name)
        if found is None:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
        return found

    def create(self, name: str, body: Any) -> None:
        """Make a collection from the body of a creation."""
        import qdrant_edge as engine

        if _BAD_IN_NAME.search(name) or not 1 <= len(name.encode("utf-8")) <= 255 or name in (".", ".."):
            raise Refused(400, "Wrong input: collection name cannot contain those characters or have that length")
        description, config = _description(name, body)
        with self._lock:
            if name in self._open:
                raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
            place = self._folder / hashlib.sha256(name.encode("utf-8")).hexdigest()[:32]
            place.mkdir()
            try:
                shard = engine.EdgeShard.create(str(place / "shard"), config)
                shard.flush()
                _write_description(place, description)
            except BaseException:
                shutil.rmtree(place)
                raise
            self._open[name] = Collection(place, description, shard)

    def delete(self, name: str) -> bool:
        """Whether there was one."""
        with self._lock:
            found = self._open.pop(name, None)
            if found is None:
                return False
            (found.folder / "description.json").unlink()
            found.close()
            shutil.rmtree(found.folder)
            return True

    def settle(self) -> None:
        for name in self.names():
            found = self._open.get(name)
            if found is not None:
                found.settle()

    def close(self) -> None:
        for found in self._open.values():
            found.close()


def _description(name: str, body: Any) -> tuple[dict[str, Any], Any]:
    known = forms.only(body, _CREATE_KEYS | _ONE_OF_EACH | _NOT_HERE, "create collection")
    for key in sorted(_NOT_HERE & known.keys()):
        raise Refused(501, f"exitramp qdrant shim: `{key}` is not emulated")
    for key in sorted(_ONE_OF_EACH & known.keys()):
        if known[key] != 1:
            raise Refused(501, f"exitramp qdrant shim: a `{key}` other than 1 is not emulated")
    for key, value in (known.get("optimizers_config") or {}).items():
        if key in _NO_OPTIMIZERS and value is not None:
            raise Refused(501, f"exitramp qdrant shim: `optimizers_config.{key}` is not emulated")
    vectors = known.get("vectors", {})
    by_name = {"": vectors} if isinstance(vectors, Mapping) and isinstance(vectors.get("size"), int) else vectors
    sparse = known.get("sparse_vectors", {})
    _check_fields(by_name, sparse)
    if not by_name and not sparse:
        raise Refused(501, "exitramp qdrant shim: a collection without vectors is not emulated")
    settings = {key: _without_nulls(known[key]) for key in _SETTINGS if key in known}
    config = config_forms.edge_config(by_name, sparse, settings)
    params = {"vectors": vectors} | ({"sparse_vectors": sparse} if sparse else {})
    metadata = known.get("metadata", {})
    if not isinstance(metadata, dict):
        raise UsageError("metadata: an object was expected")
    metadata = {key: value for key, value in metadata.items() if value is not None}
    described = {
        "name": name,
        "params": params,
        "settings": settings,
        "metadata": metadata,
    }
    return described, config


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _check_fields(vectors: Any, sparse: Any) -> None:
    if not isinstance(vectors, Mapping) or not isinstance(sparse, Mapping):
        raise UsageError("vectors: an object was expected")
    for name in (*vectors, *sparse):
        # The engine makes a folder of it, unescaped.
        if len(name.encode("utf-8")) > 200 or any(char in name for char in "/\\\0"):
            raise Refused(400, f"Wrong input: no folder can be made for the vector name {name!r}")
    for name, entry in vectors.items():
        size = entry.get("size") if isinstance(entry, Mapping) else None
        if not isinstance(size, int) or not 1 <= size <= _DIMENSIONS:
            raise Refused(422, f"Validation error in JSON body: [vectors.{name}.size: must be from 1 to {_DIMENSIONS}]")


def _write_description(place: Path, description: Mapping[str, Any]) -> None:
    part = place / "description.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump(description, file)
        file.flush()
        os.fsync(file.fileno())
    part.rename(place / "description.json")


def point_id(native: Any) -> Any:
    """A point's id of JSON as the engine takes it. UUIDs may be written in any of the usual forms, as in Qdrant."""
    if isinstance(native, int) and not isinstance(native, bool) and 0 <= native < 2**64:
        return native
    if isinstance(native, str):
        try:
            return UUID(native)
        except ValueError:
            pass
    raise UsageError("an id is either an unsigned integer or a UUID")
