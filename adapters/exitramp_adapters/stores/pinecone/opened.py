"""One opened address of Pinecone, as all its roles need it: what the index is, what it holds, where it came from."""

from __future__ import annotations

import base64
import json
import time
import zlib
from typing import Any, Final

from exitramp.errors import CollectionMissing, DataInvalid, UsageError
from exitramp.ports import Origin
from exitramp.ports.collection_metadata import KEY
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.urls import Address, Network
from exitramp_adapters.stores.pinecone import budget as budgets
from exitramp_adapters.stores.pinecone import reading, records
from exitramp_adapters.stores.pinecone.client import DEFAULT_NAMESPACE, Connection

NOTE: Final = "exitramp"
"""What the tags begin with in which is kept what `create` was told."""
_SEEN_SECONDS: Final = 1.0
_HYBRID: Final = VectorField("", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None)


class OpenedPinecone:
    """One opened address, and what reading through it has cost so far."""

    def __init__(self, address: Address, network: Network) -> None:
        self.connection = Connection(address, network)
        self.budget = budgets.Budget(address)
        self.reader = reading.Reader(self.connection, self.budget)
        self.kind = address.option("type")
        if self.kind not in (None, "sparse", "hybrid"):
            raise UsageError(f"{address}: type is sparse or hybrid, or left out")
        self._spaces: tuple[float, frozenset[str]] | None = None
        self.metadata_bytes = int(budgets.number(address, "metadata_bytes") or records.METADATA_BYTES)

    def drop(self) -> None:
        """Remove the index and everything in it. Raises `CollectionMissing`."""
        self.connection.model(fresh=True)
        with self.connection.control() as control:
            control.indexes.delete(self.connection.name, timeout=-1)
        self.connection.forget()
        self._spaces = None

    def close(self) -> None:
        self.connection.close()

    def fields(self) -> tuple[VectorField, ...]:
        model, address = self.connection.model(), self.connection.address
        fields = records.fields_of(model.schema, address.option("metric"), where=str(address))
        if self.kind == "hybrid" and all(field.kind is VectorKind.DENSE for field in fields):
            fields += (_HYBRID,)
        return fields

    def spec(self) -> CollectionSpec:
        model = self.connection.model()
        told: dict[str, Any] = {"deletion_protection": model.deletion_protection, KEY: self.own_tags()}
        for name in ("deployment", "read_capacity"):
            if getattr(model, name) is not None:
                told[name] = _plain(getattr(model, name))
        return CollectionSpec(
            model.name, IdKind.STRING, self.fields(), has_namespaces=self._has_namespaces(), index={"pinecone": told}
        )

    def _has_namespaces(self) -> bool:
        """Every index has; but one that exitramp filled out of a collection without any has them once another than the
        default one is there."""
        if self.connection.namespace is not None:
            return False
        note = self.note()
        return note is None or note.spec.has_namespaces or not self.spaces() <= {DEFAULT_NAMESPACE}

    def own_tags(self) -> dict[str, str]:
        """The index's tags but for ours."""
        tags = dict(self.connection.model().tags or {})
        return {key: value for key, value in tags.items() if not key.startswith(f"{NOTE}-")}

    def counts(self) -> dict[str, int]:
        """Records by namespace in Pinecone's spelling, of the one that the address names or of all."""
        held = {
            name or DEFAULT_NAMESPACE: each.vector_count for name, each in self.connection.stats().namespaces.items()
        }
        narrowed = self.connection.namespace
        if narrowed is None:
            return {name: count for name, count in held.items() if count}
        if narrowed not in held and self.note() is None and narrowed != DEFAULT_NAMESPACE:
            shown = ", ".join(sorted(held)[:20]) or "none"
            raise CollectionMissing(
                f"{self.connection.address}: the index {self.connection.name!r} has no namespace {narrowed!r}",
                hint=f"its namespaces are: {shown}",
            )
        return {narrowed: held.get(narrowed, 0)}

    def spaces(self) -> frozenset[str]:
        """The namespaces that hold records, as they were a second ago at most: each search and each look at single
        records asks for them, and an index tells its counts a hundred times a second."""
        now = time.monotonic()
        if self._spaces is None or now > self._spaces[0] + _SEEN_SECONDS:
            self._spaces = now, frozenset(self.counts())
        return self._spaces[1]

    def note_name(self) -> str:
        """The beginning of the tags in which is kept what `create` was told, each namespace that is written by itself
        having its own."""
        narrowed = self.connection.namespace
        return f"{NOTE}-" if narrowed is None else f"{NOTE}-ns{zlib.crc32(narrowed.encode()):08x}-"

    def note(self) -> Origin | None:
        tags, name = dict(self.connection.model().tags or {}), self.note_name()
        numbers = sorted(int(key.removeprefix(name)) for key in tags if key.removeprefix(name).isdecimal())
        if not numbers:
            return None
        text = "".join(tags[f"{name}{number}"] for number in numbers)
        try:
            told = json.loads(zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
        except (ValueError, zlib.error) as error:
            raise DataInvalid(
                f"{self.connection.address}: what the index's tags {name}… hold of its origin is damaged",
                hint="take these tags away if its origin does not matter",
            ) from error
        return Origin.from_json(told)


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)
