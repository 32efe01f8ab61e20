"""Servers that hang, die and lie about it, and the tests that must notice. They live in this process: what is stopped
waits, what is killed refuses, and the records stay where they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from exitramp.arrow import empty_batch
from exitramp.errors import StoreUnavailable
from exitramp.ports import Cursor, Hits, Page, Partition, Query, SinkLimits, Store, make_cursor
from exitramp.records import RecordKey
from exitramp.testing import Feature
from exitramp.testing.memory import LIMITS, MemorySearch, MemorySink, MemorySource, MemoryStore
from exitramp.testing.memory_records import MemoryCollection, collections_of
from tests.testing.broken import Broken
from tests.testing.test_memory import MemoryHarness


@dataclass
class Server:
    """Whether it answers. `calls` waits while it is stopped and raises once it is killed."""

    running: threading.Event = field(default_factory=threading.Event)
    alive: bool = True
    kills: int = 0

    def reach(self) -> None:
        if not self.alive:
            raise StoreUnavailable("the connection is refused")
        assert self.running.wait(30), "nobody resumed the server"

    @property
    def answers(self) -> bool:
        return self.alive and self.running.is_set()


class ServedStore(MemoryStore):
    server: Server

    def everything(self) -> dict[str, MemoryCollection]:
        self.server.reach()
        return super().everything()


class ServedHarness(MemoryHarness):
    lacks = {Feature.NEW_PROCESS: "nothing in it outlives the process"}
    deadline_seconds = 0.4

    def __init__(self, parts: Broken) -> None:
        super().__init__()
        self.server = Server()
        self.server.running.set()
        self._parts = parts

    def open(self, collection: str) -> Store:
        store: Any = self._parts.opened(self, collection)
        store.server = self.server
        opened: Store = store
        return opened

    def kill(self) -> None:
        self.server.alive = False
        self.server.kills += 1

    def restart(self) -> None:
        self.server.alive = True

    def stop(self) -> None:
        self.server.running.clear()

    def resume(self) -> None:
        self.server.running.set()


@dataclass(frozen=True)
class BrokenServer(Broken):
    store: type[MemoryStore] = ServedStore
    limits: SinkLimits = replace(LIMITS, durable=True)

    def harness(self) -> MemoryHarness:
        return ServedHarness(self)


def _server(store: MemoryStore) -> Server:
    assert isinstance(store, ServedStore)
    return store.server


class TakesADeadServerForTheEnd(MemorySource):
    """As a loop does that goes on while there are pages, and gets none."""

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        spec = self._store.collection().spec
        try:
            yield from super().scan(partition, batch_rows=batch_rows, after=after)
        except StoreUnavailable:
            yield Page(empty_batch(spec), make_cursor(place=None), last=True)


class RemembersTheCount(MemorySource):
    def count(self) -> int:
        if _server(self._store).answers or not hasattr(self, "_last"):
            self._last = super().count()
        return self._last


class FetchesNothingFromADeadServer(MemorySource):
    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        if not _server(self._store).answers:
            location, name = self._store.address.location, self._store.address.require_collection()
            return empty_batch(collections_of(location)[name].spec)
        return super().fetch(keys)


class RaisesItsSdksOwnErrors(MemorySource):
    def count(self) -> int:
        try:
            return super().count()
        except StoreUnavailable as error:
            raise ConnectionRefusedError(111, "Connection refused") from error


class DropsWhatItCannotSend(MemorySink):
    def upsert(self, batch: pa.RecordBatch) -> None:
        if _server(self._store).answers:
            super().upsert(batch)

    def flush(self) -> None:
        """Nothing was kept back, so there is nothing to say."""


class HasOnlyItsMemory(ServedStore):
    """Claims to be durable, and comes back from a kill with nothing."""

    def everything(self) -> dict[str, MemoryCollection]:
        every = super().everything()
        if self.server.kills:
            self.server.kills = 0
            for held in every.values():
                held.records.clear()
                held.order.clear()
        return every


class FindsNothingOnADeadServer(MemorySearch):
    def search(self, query: Query, **more: Any) -> Hits:
        return super().search(query, **more) if _server(self._store).answers else Hits((), ())


STOPPED = "test_a_stopped_server_ends_in_an_error_within_the_deadline"
KILLED = "test_a_killed_server_ends_in_an_error_within_the_deadline"
KILLED_IN_A_SCAN = "test_a_server_killed_in_a_scan_never_looks_like_its_end"
SERVERS = (
    BrokenServer("takes a dead server for the end", (KILLED, KILLED_IN_A_SCAN), source=TakesADeadServerForTheEnd),
    BrokenServer("remembers the count of a dead server", (STOPPED, KILLED), source=RemembersTheCount),
    BrokenServer("fetches nothing from a dead server", (STOPPED, KILLED), source=FetchesNothingFromADeadServer),
    BrokenServer("raises its SDK's own errors", (KILLED,), source=RaisesItsSdksOwnErrors),
    BrokenServer("drops what it cannot send", (STOPPED, KILLED), sink=DropsWhatItCannotSend),
    BrokenServer(
        "has only its memory",
        (KILLED, "test_what_was_flushed_survives_the_server_being_killed"),
        store=HasOnlyItsMemory,
    ),
    BrokenServer("finds nothing on a dead server", (STOPPED, KILLED), search=FindsNothingOnADeadServer),
)
SOUND_SERVER = BrokenServer("", ())
