"""What a drill starts and breaks, and the texts it starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from exitramp.faults import Fault
from exitramp.records import (
    CorpusDocument,
)
from exitramp.urls import Address

if TYPE_CHECKING:
    pass


class Service(Protocol):
    """Something a drill starts and breaks, in a process of its own, on loopback."""

    def start(self) -> Address:
        """Start it and return once it answers. Called once."""
        ...

    def inject(self, fault: Fault) -> None:
        """Make it fail that way from now on; `Fault(kind="none")` heals it. Raises `RoleUnsupported` if it cannot."""
        ...

    def counters(self) -> Mapping[str, int]:
        """The service's own account of what it answered since it started, by outcome."""
        ...

    def stop(self) -> None:
        """End its process and remove what it made; calling it again does nothing."""
        ...


@runtime_checkable
class TellsItsEnd(Protocol):
    """A service that knows when its process has ended by itself, or by somebody else's signal."""

    def require_running(self) -> None:
        """Raises `RemoteError` with what it ended by and its last words, where its process is gone."""
        ...


@dataclass(frozen=True, slots=True)
class ServiceAdapter:
    """What the registry knows of a service; `make(folder, seed, options)` builds one with its files in `folder`."""

    name: str
    summary: str
    faults: tuple[str, ...]
    make: Callable[[str, int, Mapping[str, Any]], Service]
    extra: str | None = None
    requires: tuple[str, ...] = ()
    is_mock: bool = False


class Corpus(Protocol):
    """Texts to build a collection from."""

    def documents(self) -> Iterator[CorpusDocument]:
        """Every document once, in the order of their ids."""
        ...

    def identity(self) -> Mapping[str, str]:
        """Where the texts come from: names, versions, the SHA-256 over all documents, a licence note."""
        ...
