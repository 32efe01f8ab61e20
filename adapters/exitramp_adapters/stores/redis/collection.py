"""One index and the keys under its prefixes, as source, sink and search all reach them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from exitramp.arrow import empty_batch
from exitramp.errors import CollectionMissing, DataInvalid, StoreProtocolError, StoreRejected, StoreTimeout, UsageError
from exitramp.ports import Origin
from exitramp.records import CollectionSpec
from exitramp_adapters.stores.redis.connection import Connection, bytes_of, exchange, pack, plain
from exitramp_adapters.stores.redis.index import MARK, ORIGIN_PREFIX, Index, index_in
from exitramp_adapters.stores.redis.records import hash_batch, json_batch, rounded_rows

# Keys that one call of SCAN walks over: 2 ms of the server's time. At 1,000, 5,000 and 20,000 it passed over 2.7M, 1.9M
# and 2.7M keys a second that were others', and listed 260k, 350k and 250k of its own.
_SCAN_KEYS: Final = 5000
_LISTED: Final = 5000
_DROPPED: Final = 1000
_GLOB: Final = b"*?[]^-\\"
_ZERO: Final = b"\0"
_BREAK: Final = re.compile(rb"\\[nr]").search
# The most that a search gives (MAXSEARCHRESULTS).
_MOST_HITS: Final = 1_000_000


class Collection(Connection):
    """What an address leads to. Nothing of it is remembered: an index may be altered at any time."""

    def index(self) -> Index:
        """Raises `CollectionMissing`."""
        name = self.name
        self.hello()
        found = replace(index_in(plain(self.ask("FT.INFO", name)), self.address), name=name)  # see `UNTOLD`
        for prefix in found.prefixes if found.documents else ():
            if _BREAK(prefix) and not self.has_keys(prefix):
                told = prefix.decode("utf-8", "replace")
                raise DataInvalid(
                    f"{self.address}: RediSearch tells the prefix {told!r}, under which there is no key:"
                    " it stands for one with a line break",
                    hint="make another index over the same keys, with a prefix that ends before the line break",
                )
        return found

    def index_of(self, name: str) -> Index | None:
        """Another index of the same server; None for one without a vector field that could be read."""
        try:
            return index_in(plain(self.ask("FT.INFO", name)), self.address.with_collection(name))
        except (CollectionMissing, DataInvalid, UsageError):
            return None

    def spec_of(self, index: Index) -> CollectionSpec:
        return index.spec(has_documents=self.address.option("document") is not None)

    def ask_index(self, *command: Any) -> Any:
        """The answer to a search: whole, or an error. By itself the server would cut it short after half a second."""
        answer = self.ask(*command, "TIMEOUT", int(self.network.timeout_seconds * 1000))
        self._require_whole(answer, command[0])
        return answer

    def _require_whole(self, answer: Any, command: str) -> None:
        told = answer[0] if isinstance(answer, list | tuple) else answer
        if not isinstance(told, Mapping) or b"results" not in told:
            raise StoreProtocolError(f"{self.address}: an answer to {command} that is none in RESP3")
        if told.get(b"warning"):
            raise StoreTimeout(f"{self.address} answers with a part only: {plain(told[b'warning'][0])}")

    def keys(self, index: Index) -> list[bytes]:
        """The keys of the collection's records, sorted: all under the prefixes, unless the index has a FILTER, which
        nobody but the index can evaluate."""
        return sorted(self.indexed_keys(index)) if index.filter is not None else self.all_keys(index)

    def all_keys(self, index: Index) -> list[bytes]:
        """The keys under the prefixes that are of the index's kind, sorted."""
        found: set[bytes] = set()
        for prefix in index.prefixes:
            found.update(self._scanned(prefix, b"TYPE", index.key_type.encode()))
        return sorted(found)

    def has_keys(self, prefix: bytes) -> bool:
        """Whether any key, of whatever kind, begins like that."""
        return any(True for _ in self._scanned(prefix))

    def _scanned(self, prefix: bytes, *only: bytes) -> Iterator[bytes]:
        pattern = b"".join(b"\\" + bytes((byte,)) if byte in _GLOB else bytes((byte,)) for byte in prefix) + b"*"
        options = (b"COUNT", b"%d" % _SCAN_KEYS, *only)
        cursor = b"0"
        while True:
            with self.wire() as wire:
                [answer] = exchange(wire, [pack((b"SCAN", cursor, b"MATCH", pattern, *options))], 1)
                if isinstance(answer, Exception):
                    raise answer
            cursor, some = answer
            yield from some
            if not int(cursor):
                return

    def indexed_keys(self, index: Index) -> set[bytes]:
        """The keys of the documents that are in the index. It gives no key for a document that has expired and is not
        yet cleared away, and none for a key with a zero byte in it: only a search names those."""
        answer, cursor = self.ask_index(
            *("FT.AGGREGATE", index.name, "*", "LOAD", 1, "@__key", "WITHCURSOR", "COUNT", _LISTED)
        )
        found: set[bytes] = set()
        is_short = False
        while True:
            told = [row[b"extra_attributes"] for row in answer[b"results"]]
            found.update(each[b"__key"] for each in told if each is not None)
            is_short = is_short or None in told
            if not cursor:
                break
            answer, cursor = self.ask("FT.CURSOR", "READ", index.name, cursor, "COUNT", _LISTED)
            self._require_whole(answer, "FT.CURSOR")
        if is_short and any(_ZERO in key for key in self.all_keys(index)):
            command = ("FT.SEARCH", index.name, "*", "NOCONTENT", "LIMIT", 0, _MOST_HITS, "DIALECT", 2)
            found.update(key for hit in self.ask_index(*command)[b"results"] if _ZERO in (key := hit[b"id"]))
        return found

    def keys_of(self, ids: Sequence[str], index: Index) -> list[bytes]:
        """The keys that records with these ids have, or would have. An id in which bytes show as `\\xff` may be that
        of a key which is no UTF-8: only the keys that are there tell."""
        prefix = index.prefixes[0] if index.cut else b""
        found = [prefix + id_.encode() for id_ in ids]
        if any("\\x" in id_ for id_ in ids):
            wanted = set(ids)
            there = [key for key in self.keys(index) if key[index.cut :].decode("utf-8", "backslashreplace") in wanted]
            found = list(dict.fromkeys([*found, *there]))
        return [key for key in found if key.startswith(index.prefixes)]

    def read(self, keys: Sequence[bytes], index: Index, spec: CollectionSpec) -> pa.RecordBatch:
        """The records under these keys, those that are there and still of the index's kind, in the keys' order."""
        if not keys:
            return empty_batch(spec)
        there, held = self._values(keys, index)
        if not there:
            return empty_batch(spec)
        document = self.address.option("document")
        if index.on_json:
            return json_batch(there, held, index, spec, document)
        return hash_batch(there, held, index, spec, document)

    def rounded(self, keys: Sequence[bytes], index: Index) -> int:
        """In how many of these documents a vector is read with other numbers than stand there."""
        return rounded_rows(self._values(keys, index)[1], index) if keys else 0

    def _values(self, keys: Sequence[bytes], index: Index) -> tuple[list[bytes], list[Any]]:
        command = b"JSON.GET" if index.on_json else b"HGETALL"
        with self.wire() as wire:
            found = exchange(wire, [b"".join([pack((command, key)) for key in keys])], len(keys))
        there, held = [], []
        for key, value in zip(keys, found, strict=True):
            if isinstance(value, Exception):
                if "WRONGTYPE" in str(value) or "wrong Redis type" in str(value):
                    continue  # written anew as something else since the keys were listed
                with self.translated():
                    raise value
            if value:
                there.append(key)
                held.append(value)
        return there, held

    def any_marked(self, keys: Sequence[bytes]) -> bool:
        """Whether one of these hashes says which of its fields are JSON."""
        with self.wire() as wire:
            asked = b"".join([pack((b"HEXISTS", key, MARK.encode())) for key in keys])
            found = exchange(wire, [asked], len(keys))
        return any(each == 1 for each in found)

    def note_key(self) -> bytes:
        return bytes_of(ORIGIN_PREFIX + (self.address.collection or ""))

    def note_for(self, index: Index, origin: Origin | None) -> bytes:
        """What is kept beside an index that exitramp writes to; `index` so that one of the same name, made anew by
        somebody else, is not taken for it."""
        told = {"index": _marks_of(index), "origin": None if origin is None else origin.to_json()}
        return json.dumps(told, sort_keys=True).encode()

    def note(self, index: Index) -> dict[str, Any] | None:
        """What was kept for this index, or None if exitramp never wrote to it."""
        text = self.ask("GET", self.note_key())
        if text is None:
            return None
        try:
            found: dict[str, Any] = json.loads(text)
            return found if found["index"] == _marks_of(index) and "origin" in found else None
        except (ValueError, KeyError, TypeError) as error:
            name = plain(self.note_key())
            raise StoreProtocolError(
                f"{self.address}: the text {name!r} does not say where records came from"
            ) from error

    def drop(self) -> None:
        """Remove the records, the index and what is kept beside it. Raises `UsageError` for an index that somebody
        else made, unless it is empty."""
        index = self.index()
        keys = self.all_keys(index)
        note = self.note(index)
        if keys and (note is None or note["origin"] is None):
            raise UsageError(f"{self.address}: exitramp did not make this index, and does not remove it")
        for first in range(0, len(keys), _DROPPED):
            self.ask("UNLINK", *keys[first : first + _DROPPED])
        self.ask("FT.DROPINDEX", self.name)
        self.ask("UNLINK", self.note_key())

    def can_write(self) -> bool | None:
        """Whether this user may write hashes, by a command that the server looks at and cannot carry out: it asks for
        the right first, and finds then that a field has no value."""
        from redis.exceptions import NoPermissionError, ReadOnlyError, ResponseError

        with self.translated():
            try:
                self._made_client().execute_command("HSET", self.note_key(), "a", "b", "c")
            except (NoPermissionError, ReadOnlyError):
                return False
            except ResponseError as error:
                return True if "wrong number of arguments" in str(error) else None
        raise StoreRejected(f"{self.address}: a command without a value was carried out")


def _marks_of(index: Index) -> list[Any]:
    shown = [plain(prefix) for prefix in index.prefixes]
    return [shown, sorted([each.attribute.identifier, each.field.name] for each in index.vectors)]
