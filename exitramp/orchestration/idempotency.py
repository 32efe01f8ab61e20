"""The idempotency journal: one answer for one key, whoever asks again, and what may have been billed on the way.

    {"n": 1, "at": …, "kind": "begin",   "key": SHA-256, "request": SHA-256, "crc": …}
    {"n": 2, "at": …, "kind": "doubt",   "key": SHA-256, "vendor": …, "error_class": "timeout", "crc": …}
    {"n": 3, "at": …, "kind": "answer",  "key": SHA-256, "answer": SHA-256, "stack": …, "crc": …}
    {"n": 4, "at": …, "kind": "fail",    "key": SHA-256, "error_class": …, "crc": …}

Keys and answers stand in it as hashes only: the SHA-256 of the caller's own key is also what an application's traces
call the request. Answers are kept in memory, and on disk only if a spool folder is given. A line is written and synced
before what it announces: a key that began and did not end was under way when the process died, and may have been
billed.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from exitramp.clock import Clock, SystemClock, iso_utc
from exitramp.errors import JournalCorrupt, UsageError
from exitramp.ports import ChatAnswer, ToolCall
from exitramp.records import Usage

_KEPT_ANSWERS: Final = 10_000
_NOBODY_KNOWS: Final = "unknown"


class AnswerNotKept(UsageError):
    """The key was answered before, and the text of that answer is gone: only its hash is known."""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer under its key: who gave it and from what."""

    answer: ChatAnswer = field(repr=False)
    stack: str
    retrieved_ids: tuple[str, ...]
    is_mock: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StoredAnswer:
        answer = dict(data["answer"])
        answer["usage"] = Usage(**answer["usage"])
        answer["tool_calls"] = tuple(ToolCall(**call) for call in answer.get("tool_calls", ()))
        values = {**data, "answer": ChatAnswer(**answer), "retrieved_ids": tuple(data["retrieved_ids"])}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class BillingDoubt:
    """A key for which a vendor may have billed work that brought no answer.

    key_sha256: of the caller's key; what traces call the request.
    doubtful: attempts that may have been billed and brought nothing; a process that died during one counts as one.
    is_answered: whether an answer (billed, too) came in the end.
    """

    key_sha256: str
    doubtful: int
    is_answered: bool
    vendors: tuple[str, ...]

    @property
    def possibly_billed_twice(self) -> bool:
        return self.doubtful + self.is_answered > 1


@dataclass(slots=True)
class _Entry:
    request_sha256: str
    is_under_way: bool = True
    answer_sha256: str | None = None
    doubts: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


class IdempotencyJournal:
    """Thread-safe. An existing file is read and continued; a torn last line is cut off.

    spool: a folder that answers may be written to in full, so that they outlive the process.
    sync: whether every line waits for the disk; without it a line survives a killed process, not a power cut.
    keys_are_hashes: the keys it is given are the SHA-256 of the callers' own already, as `key_sha256` makes them.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock | None = None,
        spool: Path | None = None,
        sync: bool = True,
        keys_are_hashes: bool = False,
    ) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._spool = spool
        self._sync = sync
        self._hashed: Callable[[str], str] = (lambda key: key) if keys_are_hashes else key_sha256
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._answers: OrderedDict[str, StoredAnswer] = OrderedDict()
        self._lines = 0
        self._takes_more = True
        path.parent.mkdir(parents=True, exist_ok=True)
        if spool is not None:
            spool.mkdir(parents=True, exist_ok=True)
        kept = self._read() if path.exists() else 0
        self._descriptor: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.ftruncate(self._descriptor, kept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def claim(self, key: str, request_sha256: str, *, timeout_seconds: float) -> StoredAnswer | None:
        """The answer that `key` got before, or None: then the caller asks, and ends with `answered` or `failed`.

        Waits while another thread asks under the same key; raises `TimeoutError` if that does not end in time, or if
        `take_no_more` was called before it could begin. Raises
        `UsageError` if the key stands for another request, `AnswerNotKept` if its answer's text is gone.
        """
        hashed = self._hashed(key)
        gives_up = time.monotonic() + timeout_seconds
        while True:
            with self._lock:
                entry = self._entries.get(hashed)
                if entry is not None and entry.request_sha256 != request_sha256:
                    raise UsageError(
                        f"the request id with SHA-256 {hashed[:12]}… was used for another request before",
                        hint="give every request an id of its own",
                    )
                if entry is None or (not entry.is_under_way and entry.answer_sha256 is None):
                    if not self._takes_more:
                        raise TimeoutError
                    doubts = entry.doubts if entry is not None else []
                    self._write("begin", hashed, request=request_sha256)
                    self._entries[hashed] = _Entry(request_sha256, doubts=doubts)
                    return None
                if not entry.is_under_way:
                    return self._stored(hashed, entry)
            if not entry.ended.wait(max(0.0, gives_up - time.monotonic())):
                raise TimeoutError

    def take_no_more(self) -> None:
        """No key begins from now on: one that began and could not end would be taken for one that may be billed."""
        with self._lock:
            self._takes_more = False

    def has_answer(self, key: str) -> bool:
        """Whether `key` was answered, so that `claim` asks nobody."""
        with self._lock:
            entry = self._entries.get(self._hashed(key))
            return entry is not None and not entry.is_under_way and entry.answer_sha256 is not None

    def doubt(self, key: str, *, vendor: str, error_class: str) -> None:
        """An attempt under `key` ended without an answer and may have been billed."""
        hashed = self._hashed(key)
        with self._lock:
            self._write("doubt", hashed, vendor=vendor, error_class=error_class)
            self._entries[hashed].doubts.append(vendor)

    def answered(self, key: str, stored: StoredAnswer) -> None:
        """`key` has its answer, for good."""
        hashed = self._hashed(key)
        digest = _answer_sha256(stored.answer)
        with self._lock:
            self._spool_out(hashed, stored)
            self._write("answer", hashed, answer=digest, stack=stored.stack)
            entry = self._entries[hashed]
            entry.answer_sha256 = digest
            entry.is_under_way = False
            self._answers[hashed] = stored
            if len(self._answers) > _KEPT_ANSWERS:
                self._answers.popitem(last=False)
            entry.ended.set()

    def failed(self, key: str, *, error_class: str) -> None:
        """`key` got no answer; it may be asked again."""
        hashed = self._hashed(key)
        with self._lock:
            self._write("fail", hashed, error_class=error_class)
            entry = self._entries[hashed]
            entry.is_under_way = False
            entry.ended.set()

    def billing_doubts(self) -> list[BillingDoubt]:
        """Every key with work that may have been billed for nothing, in the order of their first begin."""
        with self._lock:
            return [
                BillingDoubt(hashed, len(entry.doubts), entry.answer_sha256 is not None, tuple(entry.doubts))
                for hashed, entry in self._entries.items()
                if entry.doubts
            ]

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _stored(self, hashed: str, entry: _Entry) -> StoredAnswer:
        kept = self._answers.get(hashed) or self._spool_in(hashed)
        if kept is None or _answer_sha256(kept.answer) != entry.answer_sha256:
            raise AnswerNotKept(
                f"the request with SHA-256 {hashed[:12]}… was answered before, and its text was not kept",
                hint="give the journal a spool folder, or the request a new id",
            )
        return kept

    def _write(self, kind: str, hashed: str, **values: str) -> None:
        if self._descriptor is None:
            raise UsageError(f"the idempotency journal {self._path.name} is closed")
        self._lines += 1
        body = {"n": self._lines, "at": iso_utc(self._clock.now()), "kind": kind, "key": hashed, **values}
        os.write(self._descriptor, _sealed(body))
        if self._sync:
            os.fsync(self._descriptor)

    def _read(self) -> int:
        """Take in the file; returns how many of its bytes are whole lines."""
        kept = 0
        for body, size in _lines(self._path):
            self._lines += 1
            if body["n"] != self._lines:
                raise JournalCorrupt(f"{self._path.name}:{self._lines}: line {body['n']} stands here")
            hashed = body["key"]
            entry = self._entries.get(hashed)
            match body["kind"]:
                case "begin":
                    doubts = entry.doubts if entry is not None else []
                    if entry is not None and entry.is_under_way:  # a process died, and a later one began anew
                        doubts.append(_NOBODY_KNOWS)
                    self._entries[hashed] = _Entry(body["request"], doubts=doubts)
                case "doubt" if entry is not None:
                    entry.doubts.append(body["vendor"])
                case "answer" if entry is not None:
                    entry.answer_sha256, entry.is_under_way = body["answer"], False
                case "fail" if entry is not None:
                    entry.is_under_way = False
                case _:
                    raise JournalCorrupt(f"{self._path.name}:{self._lines}: not expected here")
            kept += size
        for entry in self._entries.values():
            if entry.is_under_way:  # the process died in the middle of it
                entry.is_under_way = False
                entry.doubts.append(_NOBODY_KNOWS)
        return kept

    def _spool_out(self, hashed: str, stored: StoredAnswer) -> None:
        if self._spool is None:
            return
        partial = self._spool / f"{hashed}.partial"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, json.dumps(stored.to_json()).encode())
            if self._sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.replace(self._spool / f"{hashed}.json")

    def _spool_in(self, hashed: str) -> StoredAnswer | None:
        path = None if self._spool is None else self._spool / f"{hashed}.json"
        if path is None or not path.exists():
            return None
        return StoredAnswer.from_json(json.loads(path.read_bytes()))


def key_sha256(key: str) -> str:
    """What stands for a caller's idempotency key wherever one is written down or sent on."""
    return _sha256(key)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _answer_sha256(answer: ChatAnswer) -> str:
    """Of the text alone where no tools are called."""
    if not answer.tool_calls:
        return _sha256(answer.text)
    return _sha256(json.dumps([answer.text, *([call.id, call.name, call.arguments] for call in answer.tool_calls)]))


def _sealed(body: dict[str, Any]) -> bytes:
    text = json.dumps(body, separators=(",", ":"))
    return f'{text[:-1]},"crc":"{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each line's object and its length. Raises `JournalCorrupt` for a broken line that is not the torn last one."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                body = json.loads(line)
                body.pop("crc")
                is_whole = _sealed(body) == line
            except (ValueError, KeyError, AttributeError, TypeError):
                is_whole = False
            if not is_whole:
                raise JournalCorrupt(f"{path.name}:{number}: the line is damaged")
            yield body, len(line)
