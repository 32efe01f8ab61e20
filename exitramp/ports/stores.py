"""A kind of store as the registry knows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from exitramp.ports.reading import VectorSource
from exitramp.ports.searching import VectorSearch
from exitramp.ports.writing import VectorSink
from exitramp.urls import Address, Network


@runtime_checkable
class Store(Protocol):
    """One opened address. A role that it does not have raises `RoleUnsupported` with the reason."""

    def source(self) -> VectorSource: ...

    def sink(self) -> VectorSink: ...

    def search(self) -> VectorSearch: ...

    def close(self) -> None: ...


@runtime_checkable
class DropsCollection(Protocol):
    """A `Store` that can also remove the collection at its address. Nothing but a check of the store asks for it, and
    only for collections that it made itself; a store that tells what exitramp made refuses to remove anything else."""

    def drop(self) -> None:
        """Remove the collection and everything in it. Raises `CollectionMissing`."""
        ...


@dataclass(frozen=True, slots=True)
class StoreAdapter:
    """What the registry knows of a kind of store; the entry point's object. Importing it imports no SDK.

    `counts_reading` says that its address takes `limit`, `max_read_units`, `max_usd` and `max_minutes`, beyond which
    its source does not go; `metric`, that the adapter looks at the option of that name itself, for collections that
    name no metric. `requires` are modules whose presence means that the SDK is installed. `evidence` as in
    `StoreIdentity`. `opening` says which files of an embedded store its engine changes although it is only
    read; "" where none. `ending` is how the files are called of which each is a collection by itself, such as
    `.faiss`; "" where a place holds several.
    """

    scheme: str
    summary: str
    address_form: str
    open: Callable[[Address, Network], Store]
    extra: str | None = None
    requires: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("source", "sink", "search")
    vector_kinds: tuple[str, ...] = ("dense",)
    fidelity: str = "bit-exact"
    evidence: str = "real"
    opening: str = ""
    metric: bool = False
    counts_reading: bool = False
    ending: str = ""
