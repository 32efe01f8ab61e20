"""A Qdrant server over REST with the real client: `qdrant+http://HOST:PORT#COLLECTION`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Final

import pyarrow as pa

from exitramp.errors import CollectionExists, StoreRejected
from exitramp.filters import Filter
from exitramp.ports import (
    DEFAULT_SETTINGS,
    Hits,
    IndexCoverage,
    IndexState,
    NameRule,
    Origin,
    Query,
    SearchSettings,
    SinkLimits,
    StoreAdapter,
    StoreIdentity,
    TransferAccount,
)
from exitramp.ports.collection_metadata import KEY
from exitramp.records import CollectionSpec, RecordKey, VectorKind
from exitramp.urls import Address, Network
from exitramp_adapters.stores.qdrant import forms
from exitramp_adapters.stores.qdrant import index as index_counts
from exitramp_adapters.stores.qdrant import records as records_form
from exitramp_adapters.stores.qdrant import settings as own_settings
from exitramp_adapters.stores.qdrant.client import ORIGIN_KEY, Connection, can_write
from exitramp_adapters.stores.qdrant.filters import filter_json
from exitramp_adapters.stores.qdrant.roles import QdrantSource, points_of

EMULATED: Final = "engine real, wire emulated"
_METADATA_SINCE: Final = (1, 16)
# The server wants at most 255 bytes and none of the characters that a file name may not hold; the client no dots only.
_NAMES: Final = NameRule(
    r'(?s)(?!\.{1,2}\Z)(?:[^<>:"/\\|?*\x00-\x1f\x7f-\U0010ffff]{1,255}|[^<>:"/\\|?*\x00-\x1f\x7f]{1,63})', 1, 255
)
_DIMENSIONS: Final = 65_536
_BATCH_ROWS: Final = 256
# The server takes 32 MB at once unless told otherwise; a number is some 20 characters of JSON.
_REQUEST_BYTES: Final = 16_000_000
_NUMBER_BYTES: Final = 20
_RETRIEVED_ROWS: Final = 128
_POLL_SECONDS: Final = 0.1


class HttpStore(Connection):
    """One opened address."""

    def source(self) -> HttpSource:
        return HttpSource(self)

    def sink(self) -> HttpSink:
        return HttpSink(self)

    def search(self) -> HttpSearch:
        return HttpSearch(self)

    def count(self) -> int:
        with self.calling() as client:
            return int(client.count(self.name, exact=True).count)

    def scroll(self, start: Any, rows: int, *, whole: bool = True) -> tuple[list[Any], Any]:
        with self.calling() as client:
            found: tuple[list[Any], Any] = client.scroll(
                self.name, offset=start, limit=rows, with_payload=whole, with_vectors=whole
            )
        return found

    def retrieve(self, ids: list[Any]) -> list[Any]:
        found: list[Any] = []
        for first in range(0, max(len(ids), 1), _RETRIEVED_ROWS):
            with self.calling() as client:
                some = ids[first : first + _RETRIEVED_ROWS]
                found += client.retrieve(self.name, some, with_payload=True, with_vectors=True)
        return found


class HttpSource(QdrantSource):
    def __init__(self, store: HttpStore) -> None:
        super().__init__(store)
        self._store = store

    def identity(self) -> StoreIdentity:
        info, names = self._store.info(), self._store.names()
        return StoreIdentity(
            "qdrant+http",
            str(self._store.address),
            info.version,
            version("qdrant-client"),
            can_write=can_write(self._store.address),
            evidence=EMULATED if EMULATED in info.title else "real",
            collections=names,
            findings=self.findings() if self._store.address.collection in names else (),
        )

    def count(self) -> int:
        return self._store.count()


class HttpSink:
    """Writes and waits until the server has applied each batch and has it in its log, so a flush has nothing to do."""

    def __init__(self, store: HttpStore) -> None:
        self._store = store
        self._settings = own_settings.Settings()
        self._whole: frozenset[str] | None = None

    def limits(self) -> SinkLimits:
        has_metadata = self._has_metadata()
        limits = forms.sink_limits(
            names=_NAMES, dimensions=_DIMENSIONS, batch_rows=_BATCH_ROWS, keeps_origin=has_metadata
        )
        return replace(limits, metadata=(KEY,)) if has_metadata else limits

    def _has_metadata(self) -> bool:
        numbers = re.match(r"(\d+)\.(\d+)", self._store.info().version)
        return numbers is not None and (int(numbers[1]), int(numbers[2])) >= _METADATA_SINCE

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        """Make the collection with the settings that it had, if it comes from a Qdrant; payload indexes are made before
        the records are there, so that the graphs know of them."""
        store = self._store
        params = forms.params_from_spec(spec)
        settings = own_settings.settings_of(spec)
        wanted = own_settings.configured(params, spec, settings)
        note = {ORIGIN_KEY: json.dumps({"origin": origin.to_json(), "id_kind": spec.id_kind.value}, sort_keys=True)}
        metadata = note if self._has_metadata() else None
        own = dict(spec.index.get(KEY) or {})
        with store.calling() as client:
            there = client.collection_exists(store.name)
        if not there:
            self._make(wanted, settings, None if metadata is None else own | metadata)
            self._settings = settings
            self._make_indexes()
            return
        found = store.described()["config"]["params"]
        different = forms.difference(found, params) and forms.difference(found, wanted)
        if different:
            raise CollectionExists(f"{store.address} is there already and {different}", hint="choose another name")
        if store.noted() is not None:
            self._settings = settings  # of an application's own collection nothing is set
        if metadata and not store.count():
            with store.calling() as client:  # what was told of records that are gone explains no others
                client.update_collection(store.name, metadata=metadata)

    def _make(self, params: Mapping[str, Any], settings: own_settings.Settings, metadata: Any) -> None:
        from qdrant_client import models

        vectors = {name: models.VectorParams(**entry) for name, entry in params["vectors"].items()}
        sparse = {name: models.SparseVectorParams(**entry) for name, entry in params["sparse_vectors"].items()}
        # Not by the client's method, which knows fewer of a collection's settings than the interface.
        told = dict(settings.collection)
        asked = models.CreateCollection(
            vectors=vectors[""] if list(vectors) == [""] else vectors, sparse_vectors=sparse, metadata=metadata, **told
        )
        with self._store.calling() as client:
            client.http.collections_api.create_collection(self._store.name, create_collection=asked)

    def _make_indexes(self) -> None:
        """The payload indexes that are wanted and not there."""
        from qdrant_client import models

        there = self._store.described()[own_settings.SCHEMA] if self._settings.payload_schema else {}
        for key, schema in own_settings.lacking(self._settings, there).items():
            # Only parsing knows which of the kinds of index the settings are of.
            asked = models.CreateFieldIndex.model_validate({"field_name": key, "field_schema": schema})
            with self._store.calling() as client:
                client.create_payload_index(self._store.name, key, field_schema=asked.field_schema, wait=True)

    def upsert(self, batch: pa.RecordBatch) -> None:
        where = str(self._store.address)
        spec = self._store.spec()
        if self._whole is None:
            self._whole = own_settings.settings_in(spec.index[own_settings.KEY]).whole_numbers()
        points = points_of(batch, spec, _point, most=_BATCH_ROWS, finite=True, whole=self._whole, where=where)
        numbers = sum(field.dimensions or 0 for field in spec.vectors)
        room = max(1, _REQUEST_BYTES // max(1, numbers * _NUMBER_BYTES + _payload_bytes(batch)))
        for first in range(0, len(points), room):
            with self._store.calling() as client:
                client.upsert(self._store.name, points[first : first + room], wait=True)

    def delete(self, keys: Sequence[RecordKey]) -> None:
        from qdrant_client import models

        ids = forms.known_ids(keys)
        for first in range(0, len(ids), 1000):
            with self._store.calling() as client:
                selector = models.PointIdsList(points=ids[first : first + 1000])
                client.delete(self._store.name, selector, wait=True)

    def flush(self) -> None:
        with self._store.calling():
            pass

    def finish(self, account: TransferAccount) -> None:
        """Wait while the server builds its indexes, which it does by itself; whoever set a deadline ends it.

        A payload index that finds nothing here, and did where it came from, is taken away again. Strict mode comes
        last, since what it forbids may be what a load does.
        """
        from qdrant_client import models

        self._make_indexes()
        if self._settings.payload_schema:
            there, points = self._store.described()[own_settings.SCHEMA], self._store.count()
            for key in own_settings.empty_indexes(self._settings, there, points):
                with self._store.calling() as client:
                    client.delete_payload_index(self._store.name, key, wait=True)
        if self._settings.strict_mode:
            strict = models.StrictModeConfig.model_validate(dict(self._settings.strict_mode))
            try:
                with self._store.calling() as client:
                    client.update_collection(self._store.name, strict_mode_config=strict)
            except StoreRejected:
                # A server that knows none of it, or of other limits, is a whole copy all the same: whoever reads the
                # collection is told of the settings that its origin had (`source.settings_left`).
                pass
        while self._store.described()["status"] == "yellow":
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        self._store.close()


class HttpSearch:
    """Nearest records by the server's index."""

    def __init__(self, store: HttpStore) -> None:
        self._store = store

    def index_state(self) -> IndexState:
        found = self._store.described()
        if found["optimizer_status"] != "ok":
            return IndexState.UNKNOWN
        known = {"green": IndexState.READY, "yellow": IndexState.BUILDING, "grey": IndexState.BUILDING}
        return known.get(found["status"], IndexState.UNKNOWN)

    def search_options(self) -> Mapping[str, Any]:
        return forms.search_options(self._store.described()["config"].get("hnsw_config"))

    def coverage(self) -> IndexCoverage:
        """By the counts of the collection's description; one that leaves them out tells nothing."""
        found = self._store.described()
        points, indexed, config = found.get("points_count"), found.get("indexed_vectors_count"), found["config"]
        if not isinstance(points, int) or not isinstance(indexed, int):
            return IndexCoverage()
        return index_counts.coverage(
            self._store.spec().vectors,
            points=points,
            indexed=indexed,
            full_scan=index_counts.full_scans(config["params"].get("vectors") or {}, config.get("hnsw_config")),
            indexing_threshold=(config.get("optimizer_config") or {}).get("indexing_threshold"),
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
        from qdrant_client import models

        spec = self._store.spec()
        wanted = _json_vector(forms.query_vector(query, spec, k=k))
        ef = forms.hnsw_ef(settings.options)
        condition = None if where is None else models.Filter(**filter_json(where))
        with self._store.calling() as client:
            found = client.query_points(
                self._store.name,
                query=wanted,
                using=query.field or None,
                query_filter=condition,
                search_params=models.SearchParams(hnsw_ef=ef, exact=settings.exact),
                limit=k,
                with_payload=with_records,
                with_vectors=with_records,
            )
        return records_form.hits_of(found.points, spec, with_records=with_records, where=str(self._store.address))


def _point(id_: forms.PointId, vectors: Mapping[str, Any], payload: dict[str, Any] | None) -> Any:
    from qdrant_client import models

    return models.PointStruct(
        id=id_, vector={name: _json_vector(value) for name, value in vectors.items()}, payload=payload
    )


def _json_vector(value: Any) -> Any:
    from qdrant_client import models

    if isinstance(value, tuple):
        return models.SparseVector(indices=value[0].tolist(), values=value[1].tolist())
    return value.tolist()


def _payload_bytes(batch: pa.RecordBatch) -> int:
    """The longest payload of the batch; requests are cut so that even that many of it fit."""
    return max((len(text) for text in batch.column("payload").to_pylist() if text is not None), default=0)


def _open(address: Address, network: Network) -> HttpStore:
    return HttpStore(address, network)


ADAPTER: Final = StoreAdapter(
    scheme="qdrant+http",
    summary="A Qdrant server over REST; tested on the engine behind a shim, not on a server",
    address_form="qdrant+http://HOST:PORT[?api_key=env:NAME&tls=true]#COLLECTION",
    open=_open,
    extra="qdrant",
    requires=("qdrant_client",),
    vector_kinds=tuple(kind.value for kind in VectorKind),
    fidelity="bit-exact; cosine is normalised",
    evidence=EMULATED,
)
