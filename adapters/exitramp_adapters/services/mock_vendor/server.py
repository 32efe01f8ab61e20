"""The mock vendor's process: a port that serves, a second one that controls, and the account between them.

    python -m exitramp_adapters.services.mock_vendor.server --shape openai --port 8801 --folder DIR --seed 1

The control port is not the serving one, so that a vendor that refuses connections can still be healed. Its number goes
to DIR/control.json before the serving port opens. Control speaks JSON over HTTP: GET /counters, /describe,
/account?after=N; POST /fault with {"kind": …, "options": {…}}.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

import h11

from exitramp.errors import ExitrampError, UsageError
from exitramp.faults import Fault
from exitramp.secrets import resolve
from exitramp_adapters.services.loopback_http import BodyTooLarge, Connection, WireRequest
from exitramp_adapters.services.mock_vendor.account import Account
from exitramp_adapters.services.mock_vendor.anthropic import AnthropicShape
from exitramp_adapters.services.mock_vendor.calls import Calls
from exitramp_adapters.services.mock_vendor.elsewhere import CassetteReplies, ForwardReplies
from exitramp_adapters.services.mock_vendor.openai import OpenAIShape
from exitramp_adapters.services.mock_vendor.options import VendorOptions, check_fault
from exitramp_adapters.services.mock_vendor.real_vectors import RealVectors
from exitramp_adapters.services.mock_vendor.replies import Replies, RuleReplies
from exitramp_adapters.services.mock_vendor.shape import Shape

HOST: Final = "127.0.0.1"
SHAPES: Final[dict[str, type[Shape]]] = {"openai": OpenAIShape, "anthropic": AnthropicShape}
CONTROL_FILE: Final = "control.json"
ACCOUNT_FILE: Final = "account.jsonl"


class VendorServer:
    """The two ports. Refusing means that the listening socket is closed and every open connection is reset."""

    def __init__(self, calls: Calls, port: int) -> None:
        self._calls = calls
        self._port = port
        self._listening: asyncio.Server | None = None
        self._open: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, folder: Path) -> None:
        """Serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        control = await asyncio.start_server(self._control, HOST, 0)
        described = {"control_port": control.sockets[0].getsockname()[1], "pid": os.getpid()}
        partial = folder / f"{CONTROL_FILE}.partial"
        partial.write_text(json.dumps(described), "utf-8")
        partial.replace(folder / CONTROL_FILE)
        for moment in self._edges():
            # asyncio may run a timer early by its clock's resolution, which would be on the wrong side of the edge.
            loop.call_later(moment + 0.002, lambda: self._spawn(self._follow_faults()))
        await self._follow_faults()
        await ended.wait()

    def _edges(self) -> set[float]:
        """When a scheduled refusal begins or ends, in seconds from now."""
        edges = {
            edge
            for item in self._calls.options.schedule
            for edge in (item.from_seconds, item.to_seconds)
            if edge is not None
        }
        return {edge - self._calls.elapsed_seconds for edge in edges if edge > self._calls.elapsed_seconds}

    async def _follow_faults(self) -> None:
        if self._calls.refuses_now():
            if self._listening is not None:
                self._listening.close()
                self._listening = None
            for connection in list(self._open):
                connection.reset()
        elif self._listening is None:
            # asyncio sets SO_REUSEADDR, without which the port could not be opened again over what was reset.
            self._listening = await asyncio.start_server(self._serve, HOST, self._port, backlog=256)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop keeps only a weak hold on tasks
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self._open.add(connection)
        try:
            while (request := await connection.next_request()) is not None:
                await self._calls.respond(connection, request)
        except BodyTooLarge:
            self._calls.refuse_unread(connection, "too_large")
        except h11.RemoteProtocolError:
            with contextlib.suppress(h11.LocalProtocolError):  # an answer is on its way already
                self._calls.refuse_unread(connection, "invalid_request")
        finally:
            self._open.discard(connection)
            await connection.close()

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        try:
            while (request := await connection.next_request()) is not None:
                status, answer = await self._controlled(request)
                body = json.dumps(answer).encode()
                connection.send(status, [("content-type", "application/json")], body)
        except (BodyTooLarge, h11.RemoteProtocolError):
            pass  # whoever this was, it did not come from exitramp; the connection is closed below
        finally:
            await connection.close()

    async def _controlled(self, request: WireRequest) -> tuple[int, Any]:
        try:
            match request.method, request.path:
                case "GET", "/counters":
                    return 200, dict(self._calls.account.counters())
                case "GET", "/describe":
                    return 200, self._calls.describe()
                case "GET", "/account":
                    return 200, self._calls.account.after(int(request.query.get("after", "0")))
                case "POST", "/fault":
                    wanted = json.loads(request.body)
                    fault = Fault(str(wanted["kind"]), dict(wanted.get("options", {})))
                    check_fault(fault)
                    self._calls.schedule.injected = fault
                    await self._follow_faults()
                    return 200, {"injected": fault.kind}
                case _:
                    return 404, {"error": "no such path"}
        except UsageError as error:
            return 400, {"error": str(error)}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return 400, {"error": f"not understood ({type(error).__name__})"}


def _replies(options: VendorOptions) -> Replies:
    """Who speaks. Raises `ExitrampError` for a cassette that cannot be read, or a model that cannot be loaded."""
    speaks = _speaks(options)
    return speaks if options.embedder is None else RealVectors(options.embedder, speaks)


def _speaks(options: VendorOptions) -> Replies:
    if options.cassette is not None:
        return CassetteReplies(Path(options.cassette))
    if options.forward is not None:
        return ForwardReplies(options.forward, options.forward_model)
    return RuleReplies(options.rule(Fault("none")))


def main() -> int:
    """Run a mock vendor until it is told to end."""
    parser = argparse.ArgumentParser(prog="exitramp mock vendor", description=main.__doc__)
    parser.add_argument("--shape", choices=sorted(SHAPES), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--options", default="{}", help="a JSON object")
    arguments = parser.parse_args()
    try:
        options = VendorOptions.parse(json.loads(arguments.options), seed=arguments.seed)
        key = None if options.key is None else resolve(options.key, what="option 'key' of a mock vendor")
        replies = _replies(options)
    except (ExitrampError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    account = Account(arguments.folder / ACCOUNT_FILE)
    calls = Calls(SHAPES[arguments.shape](), options, account, key=key, replies=replies)
    asyncio.run(VendorServer(calls, arguments.port).run(arguments.folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
