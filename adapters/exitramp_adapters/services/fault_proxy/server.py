"""The fault proxy's process: a port that passes connections on, and a second one that controls.

    python -m exitramp_adapters.services.fault_proxy.server --target 127.0.0.1:8000 --port 8801 --folder DIR

Control speaks JSON over HTTP on the port that DIR/control.json names: GET /toxics, /counters, /describe; POST /toxics
with a toxic adds one (or puts it in the place of one of its name); DELETE /toxics/NAME; POST /reset removes them all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import h11

from exitramp.errors import ExitrampError, UsageError
from exitramp_adapters.services.fault_proxy.link import Link, Streams
from exitramp_adapters.services.fault_proxy.toxics import Toxic
from exitramp_adapters.services.loopback_http import BodyTooLarge, Connection, WireRequest

HOST: Final = "127.0.0.1"
CONTROL_FILE: Final = "control.json"
COUNTED: Final = ("connections", "open", "refused", "unreachable", "reset", "bytes_upstream", "bytes_downstream")
_CONNECT_SECONDS: Final = 10.0


class ProxyServer:
    """The two ports, and the links between client and target."""

    def __init__(self, target: tuple[str, int], port: int, toxics: Sequence[Toxic], *, seed: int) -> None:
        self._target = target
        self._port = port
        self._seed = seed
        self._toxics: dict[str, Toxic] = {}
        self._counts: Counter[str] = Counter()
        self._links: set[Link] = set()
        self._timers: list[asyncio.TimerHandle] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None
        self._started = time.monotonic()
        for toxic in toxics:
            self._toxics[toxic.name] = toxic

    async def run(self, folder: Path, control_port: int) -> None:
        """Serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        control = await asyncio.start_server(self._control, HOST, control_port)
        described = {"control_port": control.sockets[0].getsockname()[1], "pid": os.getpid()}
        partial = folder / f"{CONTROL_FILE}.partial"
        partial.write_text(json.dumps(described), "utf-8")
        partial.replace(folder / CONTROL_FILE)
        await self._changed()
        await ended.wait()

    def _elapsed_seconds(self) -> float:
        return time.monotonic() - self._started

    def _active(self, connection: int) -> list[Toxic]:
        elapsed = self._elapsed_seconds()
        return [toxic for toxic in self._toxics.values() if toxic.takes(connection, elapsed, self._seed)]

    async def _changed(self) -> None:
        """Do what the toxics that are there now want, and come back when one of them comes or goes."""
        for timer in self._timers:
            timer.cancel()
        elapsed = self._elapsed_seconds()
        edges = {edge for toxic in self._toxics.values() for edge in toxic.edges() if edge > elapsed}
        loop = asyncio.get_running_loop()
        # asyncio may run a timer early by its clock's resolution, which would be on the wrong side of the edge.
        self._timers = [loop.call_later(edge - elapsed + 0.002, self._spawn_changed) for edge in edges]
        is_down = any(toxic.closes_the_port(elapsed) for toxic in self._toxics.values())
        if is_down and self._listening is not None:
            self._listening.close()
            self._listening = None
        elif not is_down and self._listening is None:
            self._listening = await asyncio.start_server(self._serve, HOST, self._port, backlog=256)
        for link in list(self._links):
            link.refresh()

    def _spawn_changed(self) -> None:
        task = asyncio.get_running_loop().create_task(self._changed())
        self._tasks.add(task)  # the loop keeps only a weak hold on tasks
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._counts["connections"] += 1
        number = self._counts["connections"]
        if any(toxic.kind == "down" for toxic in self._active(number)):
            self._counts["refused"] += 1
            self._counts["hit.down"] += 1
            writer.transport.abort()
            return
        try:
            connecting = asyncio.open_connection(*self._target)
            server: Streams = await asyncio.wait_for(connecting, _CONNECT_SECONDS)
        except (OSError, TimeoutError):
            self._counts["unreachable"] += 1
            writer.transport.abort()  # the closest to a refusal that is left once a connection was taken
            return
        link = Link(number, (reader, writer), server, active=self._active, counts=self._counts, seed=self._seed)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    def _counters(self) -> dict[str, int]:
        counts = {name: self._counts[name] for name in COUNTED} | {"open": len(self._links)}
        return counts | {name: count for name, count in sorted(self._counts.items()) if "." in name}

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        try:
            while (request := await connection.next_request()) is not None:
                status, answer = await self._controlled(request)
                connection.send(status, [("content-type", "application/json")], json.dumps(answer).encode())
        except (BodyTooLarge, h11.RemoteProtocolError):
            pass  # whoever this was, it did not come from exitramp; the connection is closed below
        finally:
            await connection.close()

    async def _controlled(self, request: WireRequest) -> tuple[int, Any]:
        try:
            match request.method, request.path.split("/")[1:]:
                case "GET", ["toxics"]:
                    return 200, [toxic.to_json() for toxic in self._toxics.values()]
                case "GET", ["counters"]:
                    return 200, self._counters()
                case "GET", ["describe"]:
                    return 200, self._describe()
                case "POST", ["toxics"]:
                    toxic = Toxic.parse(json.loads(request.body))
                    self._toxics[toxic.name] = toxic
                    await self._changed()
                    return 200, toxic.to_json()
                case "DELETE", ["toxics", name]:
                    if self._toxics.pop(name, None) is None:
                        return 404, {"error": f"there is no toxic {name!r}"}
                    await self._changed()
                    return 200, {"removed": name}
                case "POST", ["reset"]:
                    self._toxics.clear()
                    await self._changed()
                    return 200, {"removed": "all"}
                case _:
                    return 404, {"error": "no such path"}
        except UsageError as error:
            return 400, {"error": str(error)}
        except ValueError:
            return 400, {"error": "the body is no JSON"}

    def _describe(self) -> dict[str, Any]:
        toxics = [toxic.to_json() for toxic in self._toxics.values()]
        return {
            "target": f"{self._target[0]}:{self._target[1]}",
            "port": self._port,
            "listening": self._listening is not None,
            "seed": self._seed,
            "elapsed_seconds": round(self._elapsed_seconds(), 3),
            "toxics": toxics,
        }


def main() -> int:
    """Run a fault proxy until it is told to end."""
    parser = argparse.ArgumentParser(prog="exitramp fault proxy", description=main.__doc__)
    parser.add_argument("--target", required=True, help="HOST:PORT")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--toxics", default="[]", help="a JSON list")
    arguments = parser.parse_args()
    try:
        toxics = [
            Toxic.parse(each, name=f"toxic_{place}") for place, each in enumerate(json.loads(arguments.toxics), 1)
        ]
    except (ExitrampError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    host, _, port = arguments.target.rpartition(":")
    server = ProxyServer((host.strip("[]"), int(port)), arguments.port, toxics, seed=arguments.seed)
    try:
        asyncio.run(server.run(arguments.folder, arguments.control_port))
    except OSError as error:
        print(f"error: cannot listen ({error.strerror})", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
