"""A collection behind a connection: its shape, its tenants, and the requests that reading is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from exitramp.errors import CollectionMissing, RequestTooLarge, StoreRejected, UsageError
from exitramp.ports import IndexState
from exitramp.records import RecordKey, VectorKind
from exitramp.urls import Address, Network
from exitramp_adapters.stores.weaviate import records, schema
from exitramp_adapters.stores.weaviate.client import Connection
from exitramp_adapters.stores.weaviate.filters import ids_message

FIRST: Final = str(UUID(int=0))
EVIDENCE: Final = "wire mocked"
PAGE_ROWS: Final = 1000
"""Objects asked for at once, at most; the server takes limits up to 10,000."""


class Collection(Connection):
    """The collection of one opened address: what the server says of it, and what is asked of it."""

    def __init__(self, address: Address, network: Network) -> None:
        super().__init__(address, network)
        self._shape: schema.Shape | None = None
        self._tenants: dict[str, bool] | None = None

    def drop(self) -> None:
        """Remove the collection. Raises `CollectionMissing`."""
        self.definition()
        self.expect("delete", f"/schema/{self.name}")
        self._shape = self._tenants = None

    @property
    def name(self) -> str:
        name = self.address.require_collection()
        if not schema.is_name(name):
            raise UsageError(
                f"{self.address}: Weaviate takes no collection named {name!r}",
                hint="a capital letter first, then letters, digits and _",
            )
        return name

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(str(each["class"]) for each in self.expect("get", "/schema").get("classes") or ()))

    def definition(self) -> dict[str, Any]:
        """What the server says of the collection, in its own JSON. Raises `CollectionMissing`."""
        status, told = self.rest("get", f"/schema/{self.name}")
        if status == 404:
            names = ", ".join(repr(name) for name in self.names()[:20]) or "none"
            raise CollectionMissing(
                f"{self.address}: there is no collection {self.name!r}", hint=f"the collections there are: {names}"
            )
        if status != 200 or not isinstance(told, dict):
            raise StoreRejected(f"{self.address} does not describe the collection ({status})")
        return told

    def shape(self, *, fresh: bool = False) -> schema.Shape:
        if self._shape is None or fresh:
            definition, where = self.definition(), str(self.address)
            dimensions: dict[str, int] = {}
            if not schema.is_own_description(definition):
                dimensions = self._seen_dimensions(definition, where)
            self._shape = schema.shape_of(definition, dimensions, where=where)
        return self._shape

    def refreshed(self) -> schema.Shape:
        """The shape with the properties there are now: whoever wrote meanwhile may have made some, which would not be
        asked for. Vectors stay those that were described."""
        self._shape = replace(self.shape(), definition=self.definition())
        return self._shape

    def forget(self) -> None:
        self._shape = self._tenants = None

    def _seen_dimensions(self, definition: Mapping[str, Any], where: str) -> dict[str, int]:
        """Of a collection that somebody else made, which does not tell: read until each vector was seen, or all was."""
        wanted = {each.name: each for each in schema.declared_vectors(definition, where=where)}
        seen: dict[str, int] = {}
        for tenant in self.active_tenants() if schema.has_tenants(definition) else [""]:
            for results in self._walk(tenant, list(wanted), [], PAGE_ROWS):
                for name in wanted.keys() - seen.keys():
                    found = next((each for each in records.vector_bytes(results, wanted[name]) if each), None)
                    if found is not None:
                        multi = wanted[name].kind is VectorKind.MULTI
                        seen[name] = int.from_bytes(found[:2], "little") if multi else len(found) // 4
                if len(seen) == len(wanted):
                    return seen
        return seen

    def tenants(self, *, fresh: bool = False) -> dict[str, bool]:
        """Every tenant, and whether its records can be read as they are."""
        if self._tenants is None or fresh:
            told = self.expect("get", f"/schema/{self.name}/tenants") or ()
            # One without a status is one that nobody changed; HOT and ACTIVE are the same by another name.
            self._tenants = {
                str(each["name"]): (each.get("activityStatus") or "ACTIVE") in ("ACTIVE", "HOT") for each in told
            }
        return self._tenants

    def active_tenants(self) -> list[str]:
        return sorted(name for name, active in self.tenants(fresh=True).items() if active)

    def parts(self) -> list[str]:
        """The tenants that can be read, or the one "" of a collection without."""
        return self.active_tenants() if self.shape().tenancy else [""]

    def request(self, tenant: str, vectors: Sequence[str], properties: Sequence[str], limit: int) -> Any:
        from weaviate.proto.v1 import search_get_pb2 as pb

        return pb.SearchRequest(
            collection=self.name,
            tenant=tenant,
            limit=limit,
            properties=pb.PropertiesRequest(non_ref_properties=properties),
            metadata=pb.MetadataRequest(
                uuid=True, vector="" in vectors, vectors=[name for name in vectors if name], distance=False
            ),
            uses_127_api=True,
        )

    def whole(self, tenant: str, limit: int) -> Any:
        """A request for everything that records of this collection are made of."""
        shape = self.shape()
        native = [each.name for each in shape.native.values()]
        wanted = [name for name in shape.payload_properties() if name != schema.TERMS]
        return self.request(tenant, native, wanted, limit)

    def listed(self, request: Any) -> Sequence[Any]:
        return records.require_rows(self.call("Search", request), request.limit, where=str(self.address))

    def behind(self, request: Any, after: str) -> Sequence[Any]:
        """The objects behind an id, by ascending ids. Fewer at once where a message would be too large."""
        request.after = after
        while True:
            try:
                return self.listed(request)
            except RequestTooLarge:
                if request.limit == 1:
                    raise
                request.limit //= 2

    def _walk(
        self, tenant: str, vectors: Sequence[str], properties: Sequence[str], rows: int
    ) -> Iterator[Sequence[Any]]:
        request = self.request(tenant, vectors, properties, 1)
        request.filters.CopyFrom(ids_message([FIRST]))
        yield self.listed(request)
        after = FIRST
        while True:
            found = self.behind(self.request(tenant, vectors, properties, rows), after)
            if not found:
                return
            yield found
            after = found[-1].metadata.id

    def by_ids(self, tenant: str, ids: list[str]) -> Sequence[Any]:
        request = self.whole(tenant, max(1, len(ids)))
        request.filters.CopyFrom(ids_message(ids))
        return self.listed(request)

    def count(self, tenant: str) -> int:
        from weaviate.proto.v1 import aggregate_pb2

        request = aggregate_pb2.AggregateRequest(collection=self.name, tenant=tenant, objects_count=True)
        return int(self.call("Aggregate", request).single_result.objects_count)

    def index_state(self) -> IndexState:
        """By the status of each shard's index; vectors may be indexed in the background."""
        self.shape()
        found = {str(shard.get("vectorIndexingStatus")) for shard in self.shards()}
        if "INDEXING" in found:
            return IndexState.BUILDING
        return IndexState.READY if found <= {"READY"} else IndexState.UNKNOWN

    def is_mock(self) -> bool:
        """Whether it says of itself that it is the mock, which has no index but compares every vector."""
        return EVIDENCE in str((self.expect("get", "/meta") or {}).get("hostname"))

    def shards(self) -> list[Mapping[str, Any]]:
        told = self.expect("get", f"/nodes/{self.name}?output=verbose")
        return [shard for node in told.get("nodes") or () for shard in node.get("shards") or ()]


def by_tenant(keys: Sequence[RecordKey], shape: schema.Shape, there: Sequence[str]) -> dict[str, list[str]]:
    """The ids that may be there, each once, by tenant."""
    found: dict[str, dict[str, None]] = {}
    for key in keys:
        if not shape.tenancy and key.namespace is not None:
            continue
        tenant = records.tenant_of(key.namespace) if shape.tenancy else ""
        if tenant in there and records.is_id(key.id):
            found.setdefault(tenant, {})[key.id] = None
    return {tenant: list(ids) for tenant, ids in found.items()}
