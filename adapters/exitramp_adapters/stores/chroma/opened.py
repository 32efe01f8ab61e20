"""One opened Chroma address: the connection, the collection, and what it says of itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pyarrow as pa

from exitramp.durable import READ, storage_errors
from exitramp.errors import AddressError, CollectionMissing, DataInvalid, StoreProtocolError, StoreUnavailable
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.urls import Address, Network
from exitramp_adapters.stores.chroma import client
from exitramp_adapters.stores.chroma.limits import INDEX_KEY, METRICS, is_name
from exitramp_adapters.stores.chroma.records import embedding_model

ORIGIN_KEY: Final = "_exitramp_origin"
"""The key in a collection's own metadata under which `create` keeps what it was told."""

_LIST_ROWS: Final = 10_000
_DROPPED_ROWS: Final = 1000


class OpenedChroma:
    """What all roles share. The files are opened, or the client is made, when first needed.

    `path` is None for a server.
    """

    def __init__(self, address: Address, network: Network) -> None:
        self.address = address
        self.path = None if address.host is not None else address.path.resolve()
        self._network = network
        self._given_dimensions = _dimensions_option(address)
        self._connection: client.Connection | None = None
        self._held: Any = None
        self._closed = False
        self._lock = threading.RLock()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connection, self._connection, self._held = self._connection, None, None
            if connection is not None:
                connection.close()

    @property
    def exists(self) -> bool:
        """Whether there is a Chroma to look into; of a server it is taken for granted."""
        if self.path is None:
            return True
        with storage_errors(self.path / client.SQLITE_NAME, READ):
            return (self.path / client.SQLITE_NAME).is_file()

    def connected(self, *, make: bool = False) -> client.Connection:
        """The connection. Raises `CollectionMissing` for a path that holds no Chroma, unless it is to be made."""
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"{self.address} was closed", hint="open it again")
            if self._connection is None:
                if self.path is None:
                    self._connection = client.placed(client.open_http(self.address, self._network))
                elif self.exists:
                    self._connection = client.placed(client.open_embedded(self.address, self.path))
                elif make:
                    client.require_no_place(self.address)
                    self._connection = client.open_embedded(self.address, self.path)
                else:
                    raise CollectionMissing(
                        f"{self.address}: there is no Chroma at {self.path}",
                        hint=f"the folder must hold {client.SQLITE_NAME}",
                    )
            return self._connection

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Chroma's errors as ours; a handle on a collection that is gone is not used again."""
        try:
            with client.translated(self.address):
                yield
        except CollectionMissing:
            self._held = None
            raise

    def collection(self, *, fresh: bool = False) -> Any:
        """Chroma's handle on the collection, asked for once unless `fresh`. Raises `CollectionMissing`."""
        held = self._held
        if held is not None and not fresh:
            return held
        connection = self.connected()
        name = self.address.require_collection()
        try:
            if not is_name(name):
                raise CollectionMissing(f"{self.address}: Chroma has no collections of such a name")
            with self.calling():
                self._held = held = connection.collection(name)
        except CollectionMissing as error:
            listed = ", ".join(repr(each) for each in self.names()[:20]) or "none"
            raise CollectionMissing(error.message, hint=f"the collections there are: {listed}") from error
        return held

    def make(self, configuration: Mapping[str, Any], schema: Any, metadata: Mapping[str, Any]) -> None:
        """Make the collection, and the files around it if they are not there. A schema goes in place of the
        configuration, since Chroma does not take both."""
        connection = self.connected(make=True)
        with self.calling():
            model = connection.server.create_collection(
                name=self.address.require_collection(),
                configuration=dict(configuration) if schema is None else None,
                schema=schema,
                metadata=dict(metadata),
                **connection.place,
            )
            self._held = connection.wrapped(model)

    def drop(self) -> None:
        """Remove the collection, its records first: Chroma's own deletion leaves their lists behind, to turn up in
        records of others. Raises `CollectionMissing`."""
        found = self.collection(fresh=True)
        while True:
            with self.calling():
                some = found.get(include=[], limit=_DROPPED_ROWS)["ids"]
                if not some:
                    break
                found.delete(ids=some)
        connection = self.connected()
        with self.calling():
            connection.server.delete_collection(name=self.address.require_collection(), **connection.place)
        self._held = None

    def names(self) -> tuple[str, ...]:
        connection = self.connected()
        with self.calling():
            return connection.names()

    def spec(self) -> CollectionSpec:
        """The collection as it is now. Raises `DataInvalid` where Chroma's distance or dimensions have no name."""
        found = self.collection(fresh=True)
        config = found.configuration_json
        function = config.get("embedding_function") or {}
        dimensions = self.dimensions(found)
        if dimensions is None:
            raise DataInvalid(
                f"{self.address} has never held a record, so Chroma does not know how long its vectors are",
                hint="say so with ?dimensions=NUMBER",
            )
        field = VectorField(
            "", VectorKind.DENSE, DType.FLOAT32, self.metric(found), dimensions, embedding_model(function)
        )
        metadata = {key: value for key, value in user_metadata(found.metadata or {}).items() if key != ORIGIN_KEY}
        told = {
            "hnsw": config.get("hnsw"),
            "spann": config.get("spann"),
            "embedding_function": function.get("name"),
            "schema": getattr(found.get_model(), "serialized_schema", None),
        }
        return CollectionSpec(
            found.name, IdKind.STRING, (field,), has_documents=True, index={INDEX_KEY: told | {"metadata": metadata}}
        )

    def metric(self, found: Any) -> Metric:
        config = found.configuration_json
        space = (config.get("hnsw") or config.get("spann") or {}).get("space")
        if space not in METRICS:
            known = ", ".join(METRICS)
            raise DataInvalid(f"{self.address}: the distance {space!r} has no name here", hint=f"known are: {known}")
        return METRICS[space]

    def dimensions(self, found: Any) -> int | None:
        """Chroma knows them from the first record on; until then what `create` was told, or the address says."""
        known = found.get_model().dimension or (self.note(found) or {}).get("dimensions") or self._given_dimensions
        return None if known is None else int(known)

    def count(self) -> int:
        found = self.collection()
        with self.calling():
            return int(found.count())

    def ids(self, above: str | None, upto: str | None) -> pa.Array:
        """The ids in that range, sorted by their UTF-8 bytes.

        Listed backwards by offset: Chroma lists in the order of insertion, so a record that is deleted moves only
        those after it, towards where has not been looked yet; forwards, as many live ones would be skipped. In pages,
        since one answer with 200,000 ids took 132 MB embedded where pages of 5,000 took 19 MB.
        """
        import pyarrow.compute as pc

        found = self.collection()
        end = self.count()
        step = max(_LIST_ROWS, end // 50)  # Chroma walks to an offset, so that many pages cost their square
        parts = [pa.array([], pa.large_string())]
        while end > 0:
            start = max(0, end - step)
            with self.calling():
                listed = found.get(include=[], limit=end - start, offset=start)["ids"]
            part = pa.array(listed, pa.large_string())
            if above is not None:
                part = part.filter(pc.greater(part, above))
            parts.append(part if upto is None else part.filter(pc.less_equal(part, upto)))
            end = start
        ids = pa.concat_arrays(parts)
        ids = ids.take(pc.sort_indices(ids))
        first = np.ones(len(ids), dtype=bool)
        first[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        return ids if first.all() else ids.filter(pa.array(first))

    def sync_rows(self, found: Any) -> int | None:
        """After how many changes Chroma writes the index files anew."""
        rows: int | None = (found.configuration_json.get("hnsw") or {}).get("sync_threshold")
        return rows

    def sync_every(self, found: Any, rows: int) -> None:
        """Have it do so after `rows` changes; heard by whoever has not loaded the index yet."""
        if self.sync_rows(found) != rows:
            with self.calling():
                found.modify(configuration={"hnsw": {"sync_threshold": rows}})

    def keep_note(self, found: Any, note: Mapping[str, Any]) -> None:
        """Write down what `create` was told beside what the collection's own user keeps there."""
        with self.calling():
            found.modify(metadata=user_metadata(found.metadata or {}) | {ORIGIN_KEY: json.dumps(note)})

    def note(self, found: Any) -> dict[str, Any] | None:
        """What `create` kept, if the collection was made by it."""
        text = (found.metadata or {}).get(ORIGIN_KEY)
        if text is None:
            return None
        try:
            note: dict[str, Any] = json.loads(text)
            Origin.from_json(note["origin"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreProtocolError(
                f"{self.address}: the collection's metadata {ORIGIN_KEY!r} does not say where the records came from"
            ) from error
        return note


def user_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The collection's own metadata; what says `hnsw:` in it is an older way to write the index settings."""
    plain = {key: value for key, value in metadata.items() if isinstance(value, bool | int | float | str)}
    return {key: value for key, value in plain.items() if not key.startswith("hnsw:")}


def _dimensions_option(address: Address) -> int | None:
    text = address.option("dimensions")
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise AddressError(f"{address}: dimensions is a number, 1 or more")
    return int(text)
