"""A cassette: answers and failures of a chat model kept in a file, found again by what was asked.

JSON Lines, one exchange each:

    {"cassette": 2, "key": "<SHA-256>", "model": "gpt-x", "provider": "openai", "recorded_at": "…", "mock": false,
     "answer": {"text": …, "finish_reason": …, "model_id": …, "tool_calls": […], "usage": {…}, "latency_ms": …},
     "masked": false, "streamed": {"pieces": [4, 7, …], "first_token_ms": …}, "asked_by": "<SHA-256>"}

or, in place of `answer`, `"error": {"error_class": …, "http_status": …, "retry_after_seconds": …, "maybe_billed": …}`.
The key is the SHA-256 over the canonical JSON of the request as `normalised` makes it: what both vendors' shapes can
say, so a cassette recorded from one shape answers in the other. Texts are scrubbed of secrets before they are written;
the key is made of the unscrubbed request, and the request itself is kept only if that is asked for. A key recorded
more than once is played in the order of recording, and the last of its exchanges from then on; one with `replaces`
makes the failures before it void that the same asker got.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from exitramp.clock import iso_utc
from exitramp.durable import READ, storage_errors
from exitramp.errors import DataInvalid, ModelError, PathUnusable
from exitramp.ports.chat import ChatAnswer, ChatRequest, ModelIdentity
from exitramp.ports.exchange import Exchange, RecordedError, Streamed, is_masked, normalised, request_key

__all__ = ["Cassette", "CassetteWriter", "Exchange", "normalised", "read_exchanges", "request_key"]


class Cassette:
    """The exchanges of a file, in memory. Thread-safe."""

    def __init__(self, exchanges: Iterator[Exchange]) -> None:
        self._by_key: dict[str, list[Exchange]] = {}
        self._played: dict[str, int] = {}
        self._lock = threading.Lock()
        models: dict[str, None] = {}
        for exchange in exchanges:
            before = self._by_key.setdefault(exchange.key, [])
            if exchange.replaces:
                before[:] = [each for each in before if each.answer or each.asked_by != exchange.asked_by]
            before.append(exchange)
            models[exchange.model] = None
        self.models = tuple(models)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `PathUnusable` for a file that cannot be read, `DataInvalid` naming the line that is no exchange."""
        return cls(read_exchanges(path))

    def __len__(self) -> int:
        return sum(map(len, self._by_key.values()))

    def play(self, key: str) -> Exchange | None:
        """The next exchange under `key`, or None if there is none."""
        with self._lock:
            exchanges = self._by_key.get(key)
            if exchanges is None:
                return None
            place = self._played.get(key, 0)
            self._played[key] = place + 1
            return exchanges[min(place, len(exchanges) - 1)]


def read_exchanges(path: Path) -> Iterator[Exchange]:
    """Every exchange of the file. A last line without its end is the trace of a killed recorder and left out."""
    with storage_errors(path, READ):
        lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            return
        try:
            yield Exchange.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataInvalid(
                f"{path}: line {number} is no exchange of a cassette ({type(error).__name__})",
                hint="a cassette is what 'exitramp eval record' writes",
            ) from None


class CassetteWriter:
    """Appends exchanges to a file, each durable before the answer goes on. Thread-safe.

    What stands in the file already is kept, and given again to the same request of the same asker (`kept`), so that a
    recorder that was killed pays for nothing twice.
    """

    def __init__(self, path: Path, *, keep_requests: bool = False) -> None:
        self._keep_requests = keep_requests
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], ChatAnswer] = {}
        self._failed: set[tuple[str, str]] = set()
        self.written = 0
        self.masked = 0
        """How many of those written hold a masked secret, and so do not play as they were."""
        self.given_again = 0
        self._sent: set[str] = set()
        with storage_errors(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._take_over(path)
        except BaseException:
            self.close()
            raise

    def _take_over(self, path: Path) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PathUnusable(f"{path}: another process records into it", hint="wait for its end") from None
        with storage_errors(path):
            kept = sum(len(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n"))
            for exchange in read_exchanges(path):  # nothing is added to a file of something else
                self._know(exchange)
                if exchange.asked_by is not None and exchange.error is not None:
                    self._failed.add((exchange.key, exchange.asked_by))
            os.ftruncate(self._descriptor, kept)

    def kept(self, identity: ModelIdentity, request: ChatRequest) -> ChatAnswer | None:
        """The answer that this very request, by its idempotency key, has got before."""
        asked_by = _asked_by(request)
        if asked_by is None:
            return None
        with self._lock:
            found = self._kept.get((request_key(identity.model, request), asked_by))
            self.given_again += found is not None
            return found

    def sending(self, request: ChatRequest) -> None:
        """To be said before a model is asked, so that it is known whose requests left."""
        asked_by = _asked_by(request)
        if asked_by is not None:
            with self._lock:
                self._sent.add(asked_by)

    def has_sent(self, idempotency_key: str) -> bool:
        """Whether a request under that key was put to a model since this was opened. An orchestrator gives on the
        key's SHA-256 in its place, so that is looked for too."""
        known = _hashed(idempotency_key)
        with self._lock:
            return not self._sent.isdisjoint((known, _hashed(known)))

    def add(
        self, identity: ModelIdentity, request: ChatRequest, answer: ChatAnswer, *, pieces: tuple[int, ...] = ()
    ) -> Exchange:
        """Write an answer; on return it is on the disk. `pieces`: the lengths in which a streamed text came."""
        streamed = Streamed(pieces, answer.time_to_first_token_ms) if request.stream else None
        return self._append(identity, request, {"answer": answer, "streamed": streamed})

    def add_error(self, identity: ModelIdentity, request: ChatRequest, error: ModelError) -> Exchange:
        """Write a failure; on return it is on the disk."""
        return self._append(identity, request, {"answer": None, "error": RecordedError.of(error)})

    def _append(self, identity: ModelIdentity, request: ChatRequest, what: dict[str, Any]) -> Exchange:
        key, asked_by = request_key(identity.model, request), _asked_by(request)
        exchange = Exchange(
            key=key,
            model=identity.model,
            provider=identity.provider,
            recorded_at=iso_utc(datetime.now(UTC)),
            is_mock=identity.is_mock,
            request=normalised(identity.model, request) if self._keep_requests else None,
            asked_by=asked_by,
            replaces=(key, asked_by) in self._failed and what["answer"] is not None,
            **what,
        )
        line = json.dumps(exchange.to_json(), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            os.write(self._descriptor, line)
            os.fsync(self._descriptor)  # an answer was paid for
            self.written += 1
            self.masked += is_masked(exchange)
            self._know(exchange)
        return exchange

    def _know(self, exchange: Exchange) -> None:
        if exchange.asked_by is not None and exchange.answer is not None:
            self._kept[exchange.key, exchange.asked_by] = exchange.answer

    def close(self) -> None:
        """Calling it again does nothing."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


def _asked_by(request: ChatRequest) -> str | None:
    return None if request.idempotency_key is None else _hashed(request.idempotency_key)


def _hashed(idempotency_key: str) -> str:
    return hashlib.sha256(idempotency_key.encode()).hexdigest()
