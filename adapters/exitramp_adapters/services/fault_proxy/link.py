"""One connection through a fault proxy: two streams of bytes, each spoilt by the toxics of its direction.

Bytes are read, held while a `timeout` is there, counted by `limit_data`, cut by `slicer`, delayed by `latency` and
`jitter`, and written at the pace of `bandwidth`, in that order and always in the order they came. A delay counts from
when the bytes came, so delays do not add up. At most `_QUEUED` pieces wait; then the sender is kept waiting by TCP.
What a toxic changed is taken back at once when it is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from exitramp_adapters.services.fault_proxy.toxics import DOWNSTREAM, UPSTREAM, Toxic

_READ_BYTES: Final = 65536
_QUEUED: Final = 64
_PACED_SECONDS: Final = 0.02  # how much `bandwidth` lets through at once

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Link:
    """Passes bytes between `client` and `server` until both have ended or a toxic ends it."""

    def __init__(
        self,
        number: int,
        client: Streams,
        server: Streams,
        *,
        active: Callable[[int], Sequence[Toxic]],
        counts: Counter[str],
        seed: int,
    ) -> None:
        self.number = number
        self._client, self._server = client, server
        self._active = active
        self._counts = counts
        self._rng = random.Random(f"{seed}:{number}")
        self._toxics: tuple[Toxic, ...] = ()
        self._hit: set[str] = set()
        self._passed = {UPSTREAM: 0, DOWNSTREAM: 0}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        for _, writer in (client, server):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def run(self) -> None:
        """Return when the connection is over; both sockets are closed then."""
        self.refresh()
        streams = [
            asyncio.create_task(self._pass(UPSTREAM, self._client[0], self._server[1])),
            asyncio.create_task(self._pass(DOWNSTREAM, self._server[0], self._client[1])),
        ]
        both = asyncio.gather(*streams)
        ended = asyncio.create_task(self._ended.wait())
        try:
            endings: set[asyncio.Future[Any]] = {both, ended}
            await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*streams, ended):
                task.cancel()
            for timer in self._timers.values():
                timer.cancel()
            await asyncio.gather(*streams, both, ended, return_exceptions=True)
            for _, writer in (self._client, self._server):
                writer.close()
                with contextlib.suppress(OSError):  # reset by one side: closed all the same
                    await writer.wait_closed()

    def refresh(self) -> None:
        """Look again which toxics there are."""
        self._toxics = tuple(self._active(self.number))
        for toxic in self._toxics:
            if toxic.name not in self._hit:
                self._hit.add(toxic.name)
                self._counts[f"hit.{toxic.kind}"] += 1
        names = {toxic.name for toxic in self._toxics}
        for name in [name for name in self._timers if name not in names]:
            self._timers.pop(name).cancel()
        for toxic in self._toxics:
            self._arm(toxic)
        self._changed.set()
        self._changed = asyncio.Event()

    def _arm(self, toxic: Toxic) -> None:
        if toxic.kind == "down":
            self.reset()
        elif toxic.kind in ("reset", "timeout") and toxic.name not in self._timers:
            seconds = toxic.values["timeout_ms"] / 1000.0
            if toxic.kind == "timeout" and not seconds:
                return  # stays open, and nothing passes
            ending = self.reset if toxic.kind == "reset" else self.end
            self._timers[toxic.name] = asyncio.get_running_loop().call_later(seconds, ending)

    def end(self) -> None:
        """Close both sides."""
        self._ended.set()

    def reset(self) -> None:
        """Break both sides with a TCP reset."""
        if self._ended.is_set():
            return
        self._counts["reset"] += 1
        for _, writer in (self._client, self._server):
            sock: Any = writer.get_extra_info("socket")
            if not writer.is_closing():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._ended.set()

    def _of(self, kind: str, direction: str) -> Toxic | None:
        return next((each for each in self._toxics if each.kind == kind and each.direction == direction), None)

    async def _pass(self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED)
        sending = asyncio.create_task(self._send(direction, queue, writer))
        try:
            await self._receive(direction, reader, queue)
            await queue.join()
            if (toxic := self._of("slow_close", direction)) is not None:
                await self._wait(toxic.values["delay_ms"] / 1000.0, lambda: self._of("slow_close", direction) is None)
            with contextlib.suppress(OSError):
                writer.write_eof()
        except ConnectionError:
            self.end()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _receive(
        self, direction: str, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(_READ_BYTES):
            came = loop.time()
            while self._of("timeout", direction) is not None:
                await self._changed.wait()
                came = loop.time()
            is_last = False
            if (limit := self._of("limit_data", direction)) is not None:
                left = max(0, int(limit.values["bytes"]) - self._passed[direction])
                is_last, data = len(data) >= left, data[:left]
            self._passed[direction] += len(data)
            for place, piece in enumerate(self._sliced(data, direction)):
                slicer = self._of("slicer", direction)
                apart = slicer.values["delay_ms"] / 1000.0 * place if slicer is not None else 0.0
                await queue.put((came + apart + self._delay_seconds(direction), piece))
            if is_last:
                await queue.join()
                self.end()
                return

    def _sliced(self, data: bytes, direction: str) -> list[bytes]:
        slicer = self._of("slicer", direction)
        if slicer is None:
            return [data] if data else []
        average, variation = int(slicer.values["average_bytes"]), int(slicer.values["variation_bytes"])
        pieces = []
        while data:
            size = max(1, average + self._rng.randint(-variation, variation))
            pieces.append(data[:size])
            data = data[size:]
        return pieces

    def _delay_seconds(self, direction: str) -> float:
        delay_ms = 0.0
        for toxic in self._toxics:
            if toxic.direction == direction and toxic.kind in ("latency", "jitter"):
                jitter_ms = toxic.values["jitter_ms"]
                least = -jitter_ms if toxic.kind == "latency" else 0.0
                delay_ms += max(0.0, toxic.values.get("latency_ms", 0.0) + self._rng.uniform(least, jitter_ms))
        return delay_ms / 1000.0

    async def _send(
        self, direction: str, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await queue.get()
            try:
                await self._wait(due - loop.time(), lambda: not self._delays(direction))
                while data:
                    pace = self._of("bandwidth", direction)
                    per_second = None if pace is None else pace.values["kilobytes_per_second"] * 1000.0
                    part = data if per_second is None else data[: max(1, int(per_second * _PACED_SECONDS))]
                    data = data[len(part) :]
                    writer.write(part)
                    await writer.drain()
                    self._counts[f"bytes_{direction}"] += len(part)
                    if per_second is not None:
                        await self._wait(len(part) / per_second, lambda: self._of("bandwidth", direction) is None)
            except ConnectionError:
                self.end()
                return
            finally:
                queue.task_done()

    def _delays(self, direction: str) -> bool:
        kinds = ("latency", "jitter", "slicer")
        return any(toxic.direction == direction and toxic.kind in kinds for toxic in self._toxics)

    async def _wait(self, seconds: float, is_over: Callable[[], bool]) -> None:
        """Return after `seconds`, or as soon as the toxics change so that `is_over`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not is_over() and (left := until - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):  # the time is up, which is what was waited for
                await asyncio.wait_for(self._changed.wait(), left)
