"""One call to a mock vendor: which fault meets it, what is answered, and what stands in the account afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import json
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

from exitramp.clock import iso_utc
from exitramp.faults import Fault, FaultSchedule
from exitramp_adapters.services import extractive
from exitramp_adapters.services.mock_vendor.account import Account
from exitramp_adapters.services.mock_vendor.options import VendorOptions
from exitramp_adapters.services.mock_vendor.shape import Ask, Refusal, Reply, Shape
from exitramp_adapters.services.mock_vendor.wire import Connection, WireRequest

_ERROR_FAULTS: Final = frozenset(
    {"rate_limit", "quota", "error_500", "unavailable", "overloaded", "auth", "model_gone"}
)
_SLICES: Final = 16
_JSON: Final = ("content-type", "application/json")
_EVENTS: Final = ("content-type", "text/event-stream; charset=utf-8")


@dataclass(frozen=True, slots=True)
class _Call:
    """A call under way. `simulated_ms` is the latency that was made up for it."""

    number: int
    began: float
    request_sha256: str | None
    fault: Fault
    stream: bool
    simulated_ms: float = 0.0
    prompt_tokens: int = 0
    gen_tokens: int = 0


class Calls:
    """Answers calls in one shape. Used from one event loop only."""

    def __init__(self, shape: Shape, options: VendorOptions, account: Account, *, key: str | None) -> None:
        self.shape = shape
        self.options = options
        self.account = account
        self.schedule = FaultSchedule(options.schedule, seed=options.seed)
        self.started = time.monotonic()
        self._key = key
        self._calls = 0
        self._systems: set[str] = set()
        self._overhead_ms: deque[float] = deque(maxlen=256)

    @property
    def elapsed_seconds(self) -> float:
        return time.monotonic() - self.started

    def refuses_now(self) -> bool:
        """Whether the port has to be closed: a window of the schedule comes before what was injected by hand."""
        elapsed = self.elapsed_seconds
        for item in self.options.schedule:
            if item.calls is None and item.probability is None:
                ends = float("inf") if item.to_seconds is None else item.to_seconds
                if (item.from_seconds or 0.0) <= elapsed < ends:
                    return item.fault.kind == "refuse"
        return self.schedule.injected.kind == "refuse"

    def describe(self) -> dict[str, Any]:
        """What this mock is and how it is set, with the time it itself took per call: median over the last 256."""
        own = statistics.median(self._overhead_ms) if self._overhead_ms else None
        return {
            "mock": True,
            "shape": self.shape.name,
            "injected": self.schedule.injected.kind,
            "calls": self._calls,
            "own_overhead_ms_median": own,
            **self.options.to_json(),
        }

    async def respond(self, connection: Connection, request: WireRequest) -> None:
        """Answer `request`, or fail as the schedule wants it, and write the account's line."""
        began = time.monotonic()
        self._calls += 1
        number = self._calls
        fault = self.schedule.fault_for(call=number, elapsed_seconds=self.elapsed_seconds)
        key = request.headers.get("idempotency-key")
        hashed = hashlib.sha256(key.encode()).hexdigest() if key else None
        ask: Ask | None = None
        refusal: Refusal | None = None
        try:
            ask = self._read(request)
        except Refusal as error:
            refusal = error
        call = _Call(number, began, hashed, fault, ask.stream if ask else False)
        if fault.kind == "hang":
            self._note(call, "hung", "hang", None)
            await connection.wait_until_gone()
        elif fault.kind == "refuse":  # the port is closed by now; this one slipped in before
            self._note(call, "cut", "refuse", None)
            connection.reset()
        elif fault.kind in _ERROR_FAULTS:
            refusal = Refusal(fault.kind, fault.options.get("message"))
            self._refuse(connection, call, refusal, _retry_after(fault))
        elif ask is None:
            assert refusal is not None
            self._refuse(connection, call, refusal, ())
        else:
            await self._answer(connection, call, ask)

    def refuse_unread(self, connection: Connection, kind: str) -> None:
        """Answer a request that could not even be read."""
        self._calls += 1
        call = _Call(self._calls, time.monotonic(), None, Fault("none"), False)
        self._refuse(connection, call, Refusal(kind), (("connection", "close"),))

    def _read(self, request: WireRequest) -> Ask:
        if request.path != self.shape.path:
            raise Refusal("no_such_path")
        if request.method != "POST":
            raise Refusal("method")
        key = self.shape.key(request.headers)
        if key is None or (self._key is not None and key != self._key):
            raise Refusal("auth")
        ask = self.shape.read(request.headers, request.body)
        if ask.model != self.options.model:
            raise Refusal("model_gone", f"The model '{ask.model[:64]}' does not exist. This is a mock.", field="model")
        return ask

    async def _answer(self, connection: Connection, call: _Call, ask: Ask) -> None:
        prompt_tokens = extractive.count_tokens(ask.prompt)
        if prompt_tokens > self.options.context_tokens:
            text = f"prompt is too long: {prompt_tokens} tokens > {self.options.context_tokens} maximum"
            self._refuse(connection, call, Refusal("context_length", text, field="messages"), ())
            return
        reply = self._reply(call, ask, prompt_tokens)
        simulated_ms = self.options.latency_ms(call.number)
        call = _Call(
            call.number, call.began, call.request_sha256, call.fault, ask.stream, simulated_ms,
            reply.prompt_tokens, reply.gen_tokens,
        )  # fmt: skip
        if simulated_ms:
            await asyncio.sleep(simulated_ms / 1000.0)
        delay_seconds = float(call.fault.options.get("delay_seconds", 5.0))
        if call.fault.kind == "slow_first_token" and not ask.stream:
            await asyncio.sleep(delay_seconds)
        if connection.is_gone:
            self._note_gone(connection, call, None)
        elif ask.stream:
            await self._send_stream(connection, call, ask, reply)
        else:
            await self._send_whole(connection, call, reply)

    def _reply(self, call: _Call, ask: Ask, prompt_tokens: int) -> Reply:
        said = extractive.answer(ask.prompt, self.options.rule(call.fault))
        text = said if ask.maximum_tokens is None else extractive.cut_tokens(said, ask.maximum_tokens)
        cached = 0
        if self.options.prompt_cache and ask.system:
            cached = extractive.count_tokens(ask.system) if ask.system in self._systems else 0
            self._systems.add(ask.system)
        return Reply(
            id=f"mock-{self.options.seed}-{call.number:06d}",
            model=self.options.model,
            text=text,
            is_cut_by_limit=text != said,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached,
            gen_tokens=extractive.count_tokens(text),
            created=int(time.time()),
        )

    async def _send_whole(self, connection: Connection, call: _Call, reply: Reply) -> None:
        kind = call.fault.kind
        after = call.fault.options.get("after_bytes")
        body = _dump(self.shape.whole(reply))
        if kind == "malformed":
            self._note(call, "cut", kind, 200)
            connection.send(200, self._headers(call, _JSON), body[: len(body) // 2])
        elif kind == "truncate" and after is None:
            self._note(call, "cut", kind, 200)
            connection.send(200, self._headers(call, _JSON), _dump(self.shape.without_finish(reply)))
        elif kind in ("truncate", "reset"):
            head = connection.head(200, self._headers(call, _JSON), length=len(body))
            self._note(call, "cut", kind, 200)
            connection.write(head + connection.piece(body[: len(body) // 2 if after is None else int(after)]))
            if kind == "reset":
                connection.reset()
        elif kind == "slow_stream":
            head = connection.head(200, self._headers(call, _JSON), length=len(body))
            step = max(1, -(-len(body) // _SLICES))
            slices = [connection.piece(body[at : at + step]) for at in range(0, len(body), step)]
            await self._drip(connection, call, [head, *slices[:-1]], slices[-1] + connection.finish())
        else:
            self._note(call, "answered", kind, 200)
            connection.send(200, self._headers(call, _JSON), body)

    async def _send_stream(self, connection: Connection, call: _Call, ask: Ask, reply: Reply) -> None:
        kind = call.fault.kind
        after = call.fault.options.get("after_bytes")
        pieces = self.shape.stream(ask, reply)
        half = len(pieces.tokens) // 2
        headers = [*self._headers(call, _EVENTS), ("cache-control", "no-store")]
        head = connection.head(200, headers, length=None)
        if kind in ("truncate", "reset"):
            events = b"".join((*pieces.opening, *pieces.tokens[:half]))
            if after is not None:
                events = b"".join(pieces)[: int(after)]
            self._note(call, "cut", kind, 200)
            sent = head + connection.piece(events)
            # A truncated stream ends as HTTP wants it: only the missing finish reason gives it away.
            connection.write(sent + connection.finish() if kind == "truncate" and after is None else sent)
            if kind == "reset":
                connection.reset()
            return
        if kind == "malformed":
            broken = pieces.tokens[half][: len(pieces.tokens[half]) // 2].rstrip() + b"\n\n"
            events = b"".join((*pieces.opening, *pieces.tokens[:half], broken, *pieces.tokens[half:], *pieces.closing))
            self._note(call, "cut", kind, 200)
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
                self._note_gone(connection, call, 200)
                return
        self._note(call, "answered", kind, 200)
        connection.write(head + connection.piece(b"".join(pieces)) + connection.finish())

    async def _drip(self, connection: Connection, call: _Call, pieces: Sequence[bytes], last: bytes) -> None:
        delay_seconds = float(call.fault.options.get("delay_seconds", 0.5))
        for piece in pieces:
            connection.write(piece)
            await asyncio.sleep(delay_seconds)
            if connection.is_gone:
                self._note_gone(connection, call, 200)
                return
        self._note(call, "answered", call.fault.kind, 200)
        connection.write(last)

    def _refuse(self, connection: Connection, call: _Call, refusal: Refusal, extra: Sequence[tuple[str, str]]) -> None:
        error = self.shape.error(refusal, self._request_id(call))
        self._note(call, "failed", refusal.kind, error.status)
        connection.send(error.status, [*self._headers(call, _JSON), *extra], error.body)

    def _headers(self, call: _Call, content_type: tuple[str, str]) -> list[tuple[str, str]]:
        return [
            content_type,
            ("server", "exitramp-mock"),
            ("x-exitramp-mock", "1"),
            ("x-exitramp-simulated-latency-ms", f"{call.simulated_ms:.3f}"),
            (self.shape.request_id_header, self._request_id(call)),
        ]

    def _request_id(self, call: _Call) -> str:
        return f"req_mock_{self.options.seed}_{call.number:06d}"

    def _note_gone(self, connection: Connection, call: _Call, status: int | None) -> None:
        if connection.was_reset:  # by a fault injected while this call was under way
            self._note(call, "cut", "refuse", status)
        else:
            self._note(call, "abandoned", call.fault.kind, status)

    def _note(self, call: _Call, outcome: str, kind: str, status: int | None) -> None:
        worked = outcome in ("answered", "cut", "abandoned")
        self.account.add(
            call=call.number,
            at=iso_utc(datetime.now(UTC)),
            request_sha256=call.request_sha256,
            outcome=outcome,
            kind=kind,
            status=status,
            stream=call.stream,
            prompt_tokens=call.prompt_tokens if worked else 0,
            gen_tokens=call.gen_tokens if worked else 0,
        )
        if outcome == "answered" and call.fault.kind in ("none", "quality_drift"):
            self._overhead_ms.append((time.monotonic() - call.began) * 1000.0 - call.simulated_ms)


def _retry_after(fault: Fault) -> tuple[tuple[str, str], ...]:
    seconds = fault.options.get("retry_after_seconds")
    if seconds is None:
        return ()
    match fault.options.get("retry_after_form", "seconds"):
        case "milliseconds":
            return (("retry-after-ms", f"{seconds * 1000:g}"),)
        case "date":
            moment = datetime.now(UTC) + timedelta(seconds=float(seconds))
            return (("retry-after", format_datetime(moment, usegmt=True)),)
        case _:
            return (("retry-after", f"{seconds:g}"),)


def _dump(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
