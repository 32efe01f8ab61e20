"""Writing to Qdrant's engine in process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from exitramp.errors import CollectionExists, StoreRejected
from exitramp.ports import NameRule, Origin, SinkLimits, TransferAccount
from exitramp.records import CollectionSpec, RecordKey
from exitramp_adapters.stores.qdrant import engine as engine_forms
from exitramp_adapters.stores.qdrant import engine_config, forms, shards
from exitramp_adapters.stores.qdrant import settings as own_settings
from exitramp_adapters.stores.qdrant.roles import points_of

if TYPE_CHECKING:
    from exitramp_adapters.stores.qdrant.edge import EdgeStore

# A folder's name has room for 255 bytes; percent-encoded, a printable character takes up to 3 of them, any up to 12.
_NAMES: Final = NameRule(r"(?s)[A-Za-z0-9_.~-]{1,252}|[ -~]{1,84}|.{1,21}", 1, 252)
_LIMITS: Final = forms.sink_limits(names=_NAMES, dimensions=None, batch_rows=250, keeps_origin=True)


class EdgeSink:
    """Writes through the engine's log; a point replaces the whole of an older one."""

    def __init__(self, store: EdgeStore) -> None:
        self._store = store
        self._settings = own_settings.Settings()

    def limits(self) -> SinkLimits:
        return _LIMITS

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        """Make the collection with the settings that it had, if it comes from a Qdrant; payload indexes are made before
        the records are there, so that the graphs know of them."""
        store = self._store
        store.require_open()
        params = forms.params_from_spec(spec)
        settings = own_settings.settings_of(spec)
        wanted = own_settings.configured(params, spec, settings)
        sidecar = shards.Sidecar(origin, spec.id_kind)
        if not shards.is_shard(store.folder()):
            store.make(wanted, settings, sidecar)
            self._settings = settings
            self._make_indexes()
            return
        there = self._writable().config
        different = forms.difference(there, params) and forms.difference(there, wanted)
        if different:
            raise CollectionExists(f"{store.address} is there already and {different}", hint="choose another name")
        if store.noted() is not None:
            self._settings = settings  # of an application's own collection nothing is set
        if not store.count():
            shards.write_sidecar(store.folder(), sidecar)  # what was told of records that are gone explains no others

    def _make_indexes(self) -> None:
        """The payload indexes that are wanted and not there."""
        import qdrant_edge as engine

        there = self._store.payload_schema()
        shard = self._store.handle().shard
        for key, schema in own_settings.lacking(self._settings, there).items():
            made = engine_config.field_index(schema)
            with shards.translated(str(self._store.address)):
                shard.update(engine.UpdateOperation.create_field_index(key, made))

    def upsert(self, batch: pa.RecordBatch) -> None:
        import qdrant_edge as engine

        def point(id_: forms.PointId, vectors: Mapping[str, Any], payload: dict[str, Any] | None) -> Any:
            held = {name: engine_forms.edge_vector(value) for name, value in vectors.items()}
            # By itself the unnamed vector goes in 3 us faster than in a mapping.
            alone = len(held) == 1 and "" in held
            return engine.Point(engine_forms.edge_id(id_), held[""] if alone else held, payload)

        where = str(self._store.address)
        spec = self._store.spec()
        whole = own_settings.settings_in(spec.index[own_settings.KEY]).whole_numbers()
        points = points_of(batch, spec, point, most=_LIMITS.batch_rows, finite=False, whole=whole, where=where)
        if not points:
            return
        handle = self._writable()
        with shards.translated(where):
            handle.shard.update(engine.UpdateOperation.upsert_points(points))
        handle.written = True

    def _writable(self) -> shards.Handle:
        """The shard, unless somebody made it without a log: such a one the engine lets two processes open at once."""
        handle = self._store.handle()
        if handle.config.get("wal_enabled") is False:
            raise StoreRejected(
                f"{self._store.address} was made without a write-ahead log and is not safe to write to",
                hint="write into a new collection",
            )
        return handle

    def delete(self, keys: Sequence[RecordKey]) -> None:
        import qdrant_edge as engine

        handle = self._writable()
        ids = forms.known_ids(keys)
        if not ids:
            return
        with shards.translated(str(self._store.address)):
            handle.shard.update(engine.UpdateOperation.delete_points(ids))
        handle.written = True

    def flush(self) -> None:
        handle = self._store.handle()
        with shards.translated(str(self._store.address)):
            handle.shard.flush()

    def finish(self, account: TransferAccount) -> None:
        """Build the indexes: 15,000 rows of 384 numbers take 3 s, during which the binding lets no other thread run.

        A payload index that finds nothing here, and did where it came from, is taken away again."""
        import qdrant_edge as engine

        handle = self._store.handle()
        self._make_indexes()
        there, points = self._store.payload_schema(), self._store.count()
        for key in own_settings.empty_indexes(self._settings, there, points):
            with shards.translated(str(self._store.address)):
                handle.shard.update(engine.UpdateOperation.delete_field_index(key))
        with shards.translated(str(self._store.address)):
            handle.shard.optimize()
            handle.shard.flush()
        handle.written = False

    def close(self) -> None:
        self._store.close()
