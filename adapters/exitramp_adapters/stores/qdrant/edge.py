"""Qdrant's engine in process: `qdrant:PATH#COLLECTION`. How it keeps a collection stands in `shards`."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from exitramp.durable import WRITTEN, storage_errors
from exitramp.errors import CollectionMissing, StoreUnavailable, UsageError
from exitramp.filters import Filter
from exitramp.ports import (
    DEFAULT_SETTINGS,
    Hits,
    IndexCoverage,
    IndexState,
    Origin,
    Query,
    SearchSettings,
    StoreAdapter,
    StoreIdentity,
)
from exitramp.records import CollectionSpec, IdKind, VectorKind
from exitramp.urls import Address, Network
from exitramp_adapters.stores.qdrant import engine as engine_forms
from exitramp_adapters.stores.qdrant import engine_config, forms, shards
from exitramp_adapters.stores.qdrant import index as index_counts
from exitramp_adapters.stores.qdrant import records as records_form
from exitramp_adapters.stores.qdrant import settings as own_settings
from exitramp_adapters.stores.qdrant.edge_sink import EdgeSink
from exitramp_adapters.stores.qdrant.filters import filter_json
from exitramp_adapters.stores.qdrant.roles import QdrantSource

# What the engine has of a collection's settings; the rest is a server's.
_COLLECTION: Final = (
    "hnsw_config",
    "quantization_config",
    "optimizers_config",
    "on_disk_payload",
    "payload",
    "id_tracker",
)


class EdgeStore:
    """One opened address. The shard is opened when it is first needed; the last store that uses it closes it."""

    def __init__(self, address: Address) -> None:
        address.only_options()
        self.address = address
        self.root: Path = address.path
        self._handle: shards.Handle | None = None
        self._spec: CollectionSpec | None = None
        self._closed = False
        self._lock = threading.RLock()

    def source(self) -> EdgeSource:
        return EdgeSource(self)

    def sink(self) -> EdgeSink:
        return EdgeSink(self)

    def search(self) -> EdgeSearch:
        return EdgeSearch(self)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            handle, self._handle, self._spec = self._handle, None, None
            if handle is not None:
                shards.release(handle)

    def handle(self) -> shards.Handle:
        """The open shard. Raises `CollectionMissing`; `StoreUnavailable` once closed or while somebody else has it."""
        with self._lock:
            self.require_open()
            if self._handle is None:
                import qdrant_edge as engine

                folder = self.folder()
                if not shards.is_shard(folder):
                    raise self._missing()
                self._handle = shards.acquire(folder, lambda: engine.EdgeShard.load(str(folder)))
            return self._handle

    def make(self, params: dict[str, Any], settings: own_settings.Settings, sidecar: shards.Sidecar) -> None:
        """Make the shard. The side-car is there first, so that no record is ever without it."""
        import qdrant_edge as engine

        with self._lock:
            folder = self.folder()
            if shards.is_local_mode(self.root):
                raise UsageError(f"{self.address}: nothing is written there", hint=shards.LOCAL_MODE)
            told = {name: value for name, value in settings.collection.items() if name in _COLLECTION}
            if "optimizers_config" in told:
                optimizers = told["optimizers_config"]
                told["optimizers_config"] = {
                    name: optimizers[name] for name in optimizers if name in engine_config.OPTIMIZERS
                }
            config = engine_config.edge_config(params["vectors"], params["sparse_vectors"], told)
            with shards.translated(str(self.address)):
                folder.mkdir(parents=True, exist_ok=True)
                shards.write_sidecar(folder, sidecar)
            self._handle = shards.acquire(folder, lambda: engine.EdgeShard.create(str(folder), config))

    def folder(self) -> Path:
        return shards.collection_folder(self.root, self.address.require_collection())

    def require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again")

    def drop(self) -> None:
        """Remove the collection's folder. Raises `CollectionMissing`, `StoreUnavailable` while anybody else has it."""
        with self._lock:
            handle = self.handle()
            if handle.users > 1:
                raise StoreUnavailable(f"{self.address} is open elsewhere in this process", hint="close it there first")
            self._handle = self._spec = None
            shards.release(handle)
            with storage_errors(handle.folder, WRITTEN):
                shutil.rmtree(handle.folder)

    def spec(self, *, fresh: bool = False) -> CollectionSpec:
        if self._spec is None or fresh:
            config = self.handle().config
            fields = forms.fields_from_params(config, where=str(self.address))
            index = own_settings.index_of(config, self.payload_schema(), None)
            self._spec = CollectionSpec(self.address.require_collection(), IdKind.UINT64, fields, index=index)
        return self._spec

    def payload_schema(self) -> dict[str, dict[str, Any]]:
        shard = self.handle().shard
        with shards.translated(str(self.address)):
            return engine_config.payload_schema(shard)

    def noted(self) -> tuple[Origin, IdKind] | None:
        self.handle()
        sidecar = shards.read_sidecar(self.folder())
        return (sidecar.origin, sidecar.id_kind) if sidecar else None

    def count(self) -> int:
        import qdrant_edge as engine

        shard = self.handle().shard
        with shards.translated(str(self.address)):
            return int(shard.count(engine.CountRequest(exact=True)))

    def scroll(self, start: Any, rows: int, *, whole: bool = True) -> tuple[list[Any], Any]:
        import qdrant_edge as engine

        shard = self.handle().shard
        request = engine.ScrollRequest(offset=start, limit=rows, with_payload=whole, with_vector=whole)
        with shards.translated(str(self.address)):
            found: tuple[list[Any], Any] = shard.scroll(request)
        return found

    def retrieve(self, ids: list[Any]) -> list[Any]:
        shard = self.handle().shard
        with shards.translated(str(self.address)):
            found: list[Any] = shard.retrieve(ids, True, True)
        return found

    def _missing(self) -> CollectionMissing:
        names = ", ".join(repr(name) for name in shards.collection_names(self.root)[:20]) or "none"
        hint = f"the collections there are: {names}"
        if shards.is_local_mode(self.root):
            hint = shards.LOCAL_MODE
        if self.root.is_file():
            hint = f"{self.root} is a file: name the folder that the collections are in"
        if shards.is_shard(self.root):
            root = self.root.resolve()
            hint = f"the folder is itself a collection: write qdrant:{root.parent}#{root.name}"
        return CollectionMissing(f"{self.address}: there is no collection {self.address.collection!r}", hint=hint)


class EdgeSource(QdrantSource):
    def __init__(self, store: EdgeStore) -> None:
        super().__init__(store)
        self._store = store

    def identity(self) -> StoreIdentity:
        self._store.require_open()
        installed = version("qdrant-edge-py")
        store = self._store
        names = shards.collection_names(store.root)
        return StoreIdentity(
            "qdrant",
            str(store.address),
            installed,
            installed,
            can_write=os.access(store.root, os.W_OK) if store.root.is_dir() else None,
            collections=names,
            findings=self.findings() if store.address.collection in names else (),
        )

    def count(self) -> int:
        return self._store.count()


class EdgeSearch:
    """Nearest records by the engine's index; what is in no index yet is compared one by one."""

    def __init__(self, store: EdgeStore) -> None:
        self._store = store

    def index_state(self) -> IndexState:
        """`building` while this process has written more than the engine leaves without an index. Nothing is ever
        built in the background: a shard that was left as it is answers from all of its records."""
        handle = self._store.handle()
        with shards.translated(str(self._store.address)):
            pending = handle.written and engine_forms.wants_index(handle.shard, handle.config)
        return IndexState.BUILDING if pending else IndexState.READY

    def search_options(self) -> Mapping[str, Any]:
        return forms.search_options(self._store.handle().config.get("hnsw_config"))

    def coverage(self) -> IndexCoverage:
        """By the engine's count of what is indexed: below 10 MB of vectors it is none, and every one is compared."""
        handle = self._store.handle()
        with shards.translated(str(self._store.address)):
            info = handle.shard.info()
        threshold = (handle.config.get("optimizers") or {}).get("indexing_threshold")
        return index_counts.coverage(
            self._store.spec().vectors,
            points=info.points_count,
            indexed=info.indexed_vectors_count,
            full_scan=index_counts.full_scans(handle.config.get("vectors") or {}, handle.config.get("hnsw_config")),
            indexing_threshold=engine_forms.INDEXING_THRESHOLD_KILOBYTES if threshold is None else threshold,
        )

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        import qdrant_edge as engine

        spec = self._store.spec()
        wanted = forms.query_vector(query, spec, k=k)
        ef = forms.hnsw_ef(settings.options)
        request = engine.QueryRequest(
            limit=k,
            query=engine.Query.Nearest(engine_forms.edge_vector(wanted), using=query.field or None),
            filter=None if where is None else engine_forms.edge_filter(filter_json(where)),
            params=engine.SearchParams(hnsw_ef=ef, exact=settings.exact),
            with_payload=with_records,
            with_vector=with_records,
        )
        shard = self._store.handle().shard
        with shards.translated(str(self._store.address)):
            hits = shard.query(request)
        return records_form.hits_of(hits, spec, with_records=with_records, where=str(self._store.address))


def _open(address: Address, network: Network) -> EdgeStore:
    return EdgeStore(address)


ADAPTER: Final = StoreAdapter(
    scheme="qdrant",
    summary="Qdrant's engine in process, on a folder of this machine",
    address_form="qdrant:PATH#COLLECTION",
    open=_open,
    extra="qdrant",
    requires=("qdrant_edge",),
    vector_kinds=tuple(kind.value for kind in VectorKind),
    fidelity="bit-exact; cosine is normalised",
    evidence="real",
    opening="the engine writes edge_config.json, segment.json and its trackers' and status files again with the same "
    "bytes, and takes up what only its log held where the last writer was killed; no record changes",
)
