"""Records written as hashes, each in place of whatever stood under its key."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from exitramp.errors import (
    CollectionExists,
    CollectionMissing,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
    UsageError,
)
from exitramp.ports import Origin, SinkLimits, TransferAccount, difference_of
from exitramp.records import CollectionSpec, RecordKey
from exitramp_adapters.stores.redis.collection import Collection
from exitramp_adapters.stores.redis.connection import bytes_of, exchange, pack
from exitramp_adapters.stores.redis.hashes import TRANSACTION_ROWS, HashRows, hash_rows
from exitramp_adapters.stores.redis.index import (
    ALGORITHMS,
    INDEX_KEY,
    LIMITS,
    UNTOLD,
    Index,
    create_command,
    own_prefix,
)
from exitramp_adapters.stores.redis.records import id_of
from exitramp_adapters.stores.redis.replies import replies

_MULTI: Final = pack((b"MULTI",))
_EXEC: Final = pack((b"EXEC",))
_POLL_SECONDS: Final = 0.05
_MOST_IDS: Final = 20


@dataclass(frozen=True, slots=True, eq=False)
class _Owed:
    """A batch that was sent, of which it is not known yet that it has landed."""

    parts: Sequence[bytes]
    answers: int


@dataclass(slots=True)
class _Line:
    """A connection, and the batch whose answers were not read from it."""

    wire: Any
    unread: _Owed | None = None


class RedisSink:
    """Writes on a connection of its own, since WAITAOF waits for what was written on the connection that asks.

    `upsert` returns when a batch is sent: the server works on it while the next is made, so that 20,000 records of 384
    float32 are written in 0.38 s instead of 0.55. The next call of any kind waits for the answers. Until they are
    there, none of them an error, the batch is kept, and written again where the connection was lost meanwhile.

    A call that a deadline has given up may still hang on a thread of its own. At its next step it ends with an error
    where another has begun: what it sent may land, but it is not owed, and nothing is vouched for by it.
    """

    def __init__(self, store: Collection) -> None:
        self._store = store
        self._limits: SinkLimits | None = None
        self._line: _Line | None = None
        self._owed: _Owed | None = None
        self._turn = threading.Lock()
        self._caller = 0  # the thread of the call that began last
        self._run_id: str | None = None
        self._unsafe = False  # something was written that no flush has vouched for
        self._moved = False  # and some of that on another connection
        self._index: tuple[Index, CollectionSpec, bytes] | None = None
        self._unlooked = False  # something was written since the index was asked what it refused

    def limits(self) -> SinkLimits:
        """Durable where the server keeps an append-only file and can be asked to wait for it."""
        if self._limits is None:
            words = self._store.hello()["version"].split(".")
            waits = (int(words[0]), int(words[1])) >= (7, 2)
            keeps = bool(int(self._store.facts("persistence").get("aof_enabled", 0)))
            self._limits = replace(LIMITS, durable=waits and keeps)
        return self._limits

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        store = self._store
        self._begin()
        self._settle()
        try:
            index = store.index()
        except CollectionMissing:
            prefix = self._free_prefix(spec)
            [answer] = self._send([pack(_encoded(create_command(store.name, spec, prefix, self._algorithm())))], 1)
            self._raise(answer)
            index = store.index()
        self._require_same(index, spec)
        note = store.note_for(index, origin) if not store.keys(index) else None
        if note is None and store.note(index) is None:
            note = store.note_for(index, None)  # its hashes may hold JSON from now on, which filters have to know
        if note is not None:
            [answer] = self._send([pack((b"SET", store.note_key(), note))], 1)
            self._raise(answer)
        self._index = (index, store.spec_of(index), note or store.ask("GET", store.note_key()))

    def _require_same(self, index: Index, spec: CollectionSpec) -> None:
        where = f"{self._store.address} is there already"
        hint = "choose another name"
        if index.on_json:
            raise CollectionExists(f"{where}, over JSON documents, which exitramp reads and does not write", hint=hint)
        if index.left or any(vector.item in ("BFLOAT16", "UINT8") for vector in index.vectors):
            raise CollectionExists(f"{where}, with numbers of a type that exitramp reads and does not write", hint=hint)
        different = difference_of(self._store.spec_of(index), spec)
        if different:
            raise CollectionExists(f"{where} and {different}", hint=hint)

    def _algorithm(self) -> str | None:
        found = self._store.address.option("algorithm")
        if found is not None and found.upper() not in ALGORITHMS:
            raise UsageError(f"{self._store.address}: algorithm is one of: {', '.join(ALGORITHMS).lower()}")
        return None if found is None else found.upper()

    def _free_prefix(self, spec: CollectionSpec) -> bytes:
        """What the address says, or else what the source had, or else the name, where no other keys stand there."""
        store = self._store
        said = store.address.option("prefix")
        told = (spec.index.get(INDEX_KEY) or {}).get("prefixes") or ()
        wanted = [said] if said is not None else [*(told if len(told) == 1 else ()), own_prefix(store.name)]
        why = ""
        for text in wanted:
            prefix = bytes_of(text)
            why = self._taken(prefix) if prefix else "it is empty"
            if not why:
                return prefix
        raise CollectionExists(
            f"{store.address}: the records' keys would begin with {wanted[-1]!r}, but {why}",
            hint="choose another beginning with ?prefix=WORD:",
        )

    def _taken(self, prefix: bytes) -> str:
        store = self._store
        if re.search(f"[{UNTOLD}]".encode(), prefix):
            return "RediSearch would tell another prefix than that"
        for name in store.names():
            other = store.index_of(name)
            for each in other.prefixes if other is not None and not other.on_json else ():
                if each.startswith(prefix) or prefix.startswith(each):
                    return f"the index {name!r} is over keys that begin with {each.decode('utf-8', 'replace')!r}"
        return "there are keys that do" if store.has_keys(prefix) else ""

    def upsert(self, batch: pa.RecordBatch) -> None:
        self._begin()
        index, spec = self._target()
        rows = hash_rows(batch, index, spec, where=str(self._store.address))
        self._settle()
        self._unlooked = True
        parts = []
        with self._connection() as line:
            self._unsafe = True
            for part in _transactions(rows):
                line.wire.send_packed_command([part], check_health=False)
                parts.append(part)
            with self._my_turn():
                line.unread = self._owed = _Owed(parts, len(rows.keys) + 3 * len(parts))

    def delete(self, keys: Sequence[RecordKey]) -> None:
        self._begin()
        index, _ = self._target()
        self._settle()
        names = self._store.keys_of([key.id for key in keys if key.namespace is None], index)
        for first in range(0, len(names), TRANSACTION_ROWS):
            for answer in self._send([pack((b"DEL", *names[first : first + TRANSACTION_ROWS]))], 1):
                self._raise(answer)

    def flush(self) -> None:
        """Wait until what was written is in the append-only file and that file on the disk: up to a second and more
        where the server syncs once a second. Raises `StoreRejected` where the index refused a record."""
        self._begin()
        self._settle()
        if self._unlooked:
            self._require_taken(self._store.index())
            with self._my_turn():
                self._unlooked = False
        if not self._unsafe or not self.limits().durable:
            return
        if self._moved and self._index is not None:
            # WAITAOF waits for this connection's last write, which is behind those of the one before it.
            [answer] = self._send([pack((b"SET", self._store.note_key(), self._index[2]))], 1)
            self._raise(answer)
        patience = int(self._store.network.timeout_seconds * 900)
        [answer] = self._send([pack((b"WAITAOF", b"1", b"0", b"%d" % patience))], 1, writes=False)
        self._raise(answer)
        if int(answer[0]) < 1:
            raise StoreTimeout(f"{self._store.address} did not sync its append-only file in time")
        with self._my_turn():
            self._unsafe = self._moved = False

    def _require_taken(self, index: Index) -> None:
        """Hashes are indexed as they are written, so that the count of refusals is of those before."""
        before, _ = self._target()
        if index.failures <= before.failures:
            return
        news = {name: key for name, key in index.refused.items() if before.refused.get(name) != key}
        which = ", ".join(
            f"{id_of(key, index)!r} (its field {name!r})" for name, key in (news or index.refused).items()
        )
        raise StoreRejected(
            f"{self._store.address}: the index refused {index.failures - before.failures:,} of the records that were "
            f"written, so no search finds these; the last that it names: {which or 'none'}",
            hint="do their values fit the types of its fields (NUMERIC, GEO)? Take those fields out of the index, or "
            "mend the values at their source",
        )

    def finish(self, account: TransferAccount) -> None:
        """Wait until the index is built; whoever set a deadline ends it. Raises `StoreRejected` naming the records
        that it did not take."""
        self._begin()
        self._settle()
        index = self._store.index()
        while index.building:
            time.sleep(_POLL_SECONDS)
            index = self._store.index()
        keys = self._store.all_keys(index)
        if index.filter is not None or len(keys) == index.documents:
            # What a filter leaves out is not told from what was refused, but for the count of that.
            if self._unlooked:
                self._require_taken(index)
            return
        listed = self._store.indexed_keys(index)
        missing = [id_of(key, index) for key in keys if key not in listed]
        if missing:
            raise StoreRejected(
                f"{self._store.address}: all records are there, but the index did not take {len(missing):,} of them, "
                f"so no search finds these: {', '.join(map(repr, missing[:_MOST_IDS]))}",
                hint="do their values fit the types of its fields (NUMERIC, GEO)?",
            )

    def close(self) -> None:
        self._begin()
        line, self._line = self._line, None
        if line is not None:
            line.wire.disconnect()

    def _target(self) -> tuple[Index, CollectionSpec]:
        if self._index is None:
            index = self._store.index()
            spec = self._store.spec_of(index)
            self._index = (index, spec, self._store.ask("GET", self._store.note_key()) or b"")
        return self._index[0], self._index[1]

    def _settle(self) -> None:
        """Wait until the batch that was sent last has landed. After an error it is still owed, and whoever tries again
        has it written again."""
        owed = self._owed
        if owed is None:
            return
        with self._connection() as line:
            if line.unread is owed:
                line.unread = None
                answers = replies(line.wire, owed.answers)
            else:
                answers = exchange(line.wire, owed.parts, owed.answers)
        for answer in answers:
            self._raise(answer)
        with self._my_turn():
            self._owed = None

    def _send(self, parts: Iterable[bytes], answers: int, *, writes: bool = True) -> list[Any]:
        with self._connection() as line:
            self._unsafe = self._unsafe or writes
            return exchange(line.wire, parts, answers)

    def _begin(self) -> None:
        with self._turn:
            self._caller = threading.get_ident()

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        """No other call begins meanwhile. Raises `StoreUnavailable` where one has since this one did."""
        with self._turn:
            if self._caller != threading.get_ident():
                raise StoreUnavailable(f"{self._store.address}: another call has begun since this one was given up")
            yield

    @contextmanager
    def _connection(self) -> Iterator[_Line]:
        """The connection is nobody else's while it is used: a call that was given up may still hang on it, and another
        one then takes a new connection."""
        with self._my_turn():
            line, self._line = self._line, None
        if line is None:
            line = _Line(self._connected())
        try:
            with self._store.translated():
                yield line
            with self._my_turn():
                self._line = line
        except BaseException:
            line.wire.disconnect()
            raise

    def _connected(self) -> Any:
        wire = self._store.own_wire()
        run_id = self._store.facts("server").get("run_id")
        try:
            with self._my_turn():
                if self._unsafe and (run_id is None or run_id != self._run_id):
                    raise StoreRejected(
                        f"{self._store.address}: the connection was lost, and the server may have been started anew: "
                        "what was written since the last flush may be lost",
                        hint="run it again: it goes on behind the last flush",
                    )
                self._moved, self._run_id = self._unsafe, run_id
        except BaseException:
            wire.disconnect()
            raise
        return wire

    def _raise(self, answer: Any) -> None:
        """An error of one command, or of one in a transaction."""
        for each in answer if isinstance(answer, list) else [answer]:
            if isinstance(each, Exception):
                with self._store.translated():
                    raise each


def _transactions(rows: HashRows) -> Iterator[bytes]:
    """Each is sent while the next is packed."""
    for first in range(0, len(rows.keys), TRANSACTION_ROWS):
        keys = rows.keys[first : first + TRANSACTION_ROWS]
        yield b"".join((_MULTI, pack((b"DEL", *keys)), *islice(rows.commands, len(keys)), _EXEC))


def _encoded(command: Sequence[Any]) -> list[bytes]:
    return [part if isinstance(part, bytes) else bytes_of(str(part)) for part in command]
