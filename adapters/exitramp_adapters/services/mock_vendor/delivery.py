"""How an answer of a mock vendor leaves: whole, streamed, or broken by a fault, and the account's line before it."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from exitramp.clock import iso_utc
from exitramp.faults import Fault
from exitramp_adapters.services.loopback_http import Connection
from exitramp_adapters.services.mock_vendor import reranking
from exitramp_adapters.services.mock_vendor.account import Account
from exitramp_adapters.services.mock_vendor.options import VendorOptions
from exitramp_adapters.services.mock_vendor.shape import Refusal, Shape, StreamPieces

_SLICES: Final = 16
_JSON: Final = ("content-type", "application/json")
_EVENTS: Final = ("content-type", "text/event-stream; charset=utf-8")


@dataclass(frozen=True, slots=True)
class Call:
    """A call under way. `simulated_ms` is the latency that was made up for it, `elsewhere_ms` what another model took.

    operation: chat, embeddings, rerank or models.
    """

    number: int
    began: float
    request_sha256: str | None
    fault: Fault
    stream: bool = False
    operation: str = "chat"
    path: str = ""
    simulated_ms: float = 0.0
    elsewhere_ms: float = 0.0
    prompt_tokens: int = 0
    gen_tokens: int = 0


class Delivery:
    """Sends what `Calls` decided, as the call's fault wants it."""

    def __init__(self, shape: Shape, options: VendorOptions, account: Account, *, replies: str) -> None:
        self.shape = shape
        self._replies = replies
        self.options = options
        self.account = account
        self._overhead_ms: deque[float] = deque(maxlen=256)

    @property
    def own_overhead_ms_median(self) -> float | None:
        """The time that the mock itself took per call: median over the last 256."""
        return statistics.median(self._overhead_ms) if self._overhead_ms else None

    async def send_whole(
        self, connection: Connection, call: Call, data: dict[str, Any], broken: dict[str, Any]
    ) -> None:
        """`data` as one body; `broken` is what a truncated answer has in its place."""
        kind = call.fault.kind
        after = call.fault.options.get("after_bytes")
        body = _dump(data)
        if kind == "malformed":
            self.note(call, "cut", kind, 200)
            connection.send(200, self._headers(call, _JSON), body[: len(body) // 2])
        elif kind == "truncate" and after is None:
            self.note(call, "cut", kind, 200)
            connection.send(200, self._headers(call, _JSON), _dump(broken))
        elif kind in ("truncate", "reset"):
            head = connection.head(200, self._headers(call, _JSON), length=len(body))
            self.note(call, "cut", kind, 200)
            connection.write(head + connection.piece(body[: len(body) // 2 if after is None else int(after)]))
            if kind == "reset":
                connection.reset()
        elif kind == "slow_stream":
            head = connection.head(200, self._headers(call, _JSON), length=len(body))
            step = max(1, -(-len(body) // _SLICES))
            slices = [connection.piece(body[at : at + step]) for at in range(0, len(body), step)]
            await self._drip(connection, call, [head, *slices[:-1]], slices[-1] + connection.finish())
        else:
            self.note(call, "answered", kind, 200)
            connection.send(200, self._headers(call, _JSON), body)

    async def send_stream(self, connection: Connection, call: Call, pieces: StreamPieces) -> None:
        """`pieces` as events."""
        kind = call.fault.kind
        after = call.fault.options.get("after_bytes")
        half = len(pieces.tokens) // 2
        headers = [*self._headers(call, _EVENTS), ("cache-control", "no-store")]
        head = connection.head(200, headers, length=None)
        if kind in ("truncate", "reset"):
            events = b"".join((*pieces.opening, *pieces.tokens[:half]))
            if after is not None:
                events = b"".join(pieces)[: int(after)]
            self.note(call, "cut", kind, 200)
            sent = head + connection.piece(events)
            # A truncated stream ends as HTTP wants it: only the missing finish reason gives it away.
            connection.write(sent + connection.finish() if kind == "truncate" and after is None else sent)
            if kind == "reset":
                connection.reset()
            return
        if kind == "malformed":
            broken = pieces.tokens[half][: len(pieces.tokens[half]) // 2].rstrip() + b"\n\n"
            events = b"".join((*pieces.opening, *pieces.tokens[:half], broken, *pieces.tokens[half:], *pieces.closing))
            self.note(call, "cut", kind, 200)
            connection.write(head + connection.piece(events) + connection.finish())
            return
        if kind == "slow_stream":
            opening = head + connection.piece(b"".join(pieces.opening))
            slow = [connection.piece(piece) for piece in pieces.tokens]
            ending = connection.piece(b"".join(pieces.closing)) + connection.finish()
            await self._drip(connection, call, [opening, *slow], ending)
            return
        if kind == "slow_first_token":
            connection.write(head)
            head = b""
            await asyncio.sleep(float(call.fault.options.get("delay_seconds", 5.0)))
            if connection.is_gone:
                self.note_gone(connection, call, 200)
                return
        self.note(call, "answered", kind, 200)
        connection.write(head + connection.piece(b"".join(pieces)) + connection.finish())

    async def _drip(self, connection: Connection, call: Call, pieces: Sequence[bytes], last: bytes) -> None:
        delay_seconds = float(call.fault.options.get("delay_seconds", 0.5))
        for piece in pieces:
            connection.write(piece)
            await asyncio.sleep(delay_seconds)
            if connection.is_gone:
                self.note_gone(connection, call, 200)
                return
        self.note(call, "answered", call.fault.kind, 200)
        connection.write(last)

    def refuse(
        self, connection: Connection, call: Call, refusal: Refusal, extra: Sequence[tuple[str, str]] = ()
    ) -> None:
        """An error as the vendor would put it; `extra` are headers."""
        error = self.shape.error(refusal, self.request_id(call))
        if call.path == reranking.SECOND_VERSION and call.path in self.shape.rerank_paths:
            error = reranking.second_error(refusal, self.request_id(call), error)
        self.note(call, "failed", refusal.kind, error.status)
        connection.send(error.status, [*self._headers(call, _JSON), *extra], error.body)

    def _headers(self, call: Call, content_type: tuple[str, str]) -> list[tuple[str, str]]:
        return [
            content_type,
            ("server", "exitramp-mock"),
            ("x-exitramp-mock", "1"),
            ("x-exitramp-replies", "rule" if call.operation == "rerank" else self._replies),
            ("x-exitramp-simulated-latency-ms", f"{call.simulated_ms:.3f}"),
            (self.shape.request_id_header, self.request_id(call)),
        ]

    def request_id(self, call: Call) -> str:
        return f"req_mock_{self.options.seed}_{call.number:06d}"

    def note_gone(self, connection: Connection, call: Call, status: int | None) -> None:
        """The account's line of a call whose client is no longer there."""
        if connection.was_reset:  # by a fault injected while this call was under way
            self.note(call, "cut", "refuse", status)
        else:
            self.note(call, "abandoned", call.fault.kind, status)

    def note(self, call: Call, outcome: str, kind: str, status: int | None) -> None:
        """The account's line of `call`; written before the last byte of its answer."""
        worked = outcome in ("answered", "cut", "abandoned")
        self.account.add(
            call=call.number,
            at=iso_utc(datetime.now(UTC)),
            operation=call.operation,
            request_sha256=call.request_sha256,
            outcome=outcome,
            kind=kind,
            status=status,
            stream=call.stream,
            prompt_tokens=call.prompt_tokens if worked else 0,
            gen_tokens=call.gen_tokens if worked else 0,
        )
        if outcome == "answered" and call.fault.kind in ("none", "quality_drift"):
            taken_ms = (time.monotonic() - call.began) * 1000.0
            self._overhead_ms.append(taken_ms - call.simulated_ms - call.elsewhere_ms)


def _dump(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
