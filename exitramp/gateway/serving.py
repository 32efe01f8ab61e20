"""Listening, and ending well: a signal lets what is under way end, for a while, and takes nothing new."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from exitramp.clock import Clock
from exitramp.errors import DependencyMissing, PathUnusable, UsageError
from exitramp.gateway.app import Gateway
from exitramp.gateway.metrics import Metrics
from exitramp.orchestration import Application
from exitramp.orchestration.stack_file import StackFile

_SWITCH_SECONDS: Final = 0.0005


def serve(
    stack: Path,
    *,
    host: str,
    port: int,
    stop_seconds: float,
    on_ready: Callable[[str, Gateway, Application], None],
    on_notice: Callable[[str], None],
    clock: Clock | None = None,
) -> bool:
    """Answer until SIGTERM or SIGINT; returns whether everything that was under way then had ended in time.

    Raises `ConfigError` for a wrong file, `UsageError` for an address that is not loopback when the file has no keys.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise DependencyMissing("gateway", "gateway", module="uvicorn") from error
    metrics = Metrics()
    is_loopback = host in ("127.0.0.1", "::1", "localhost")

    def check(file: StackFile) -> None:
        if not is_loopback and not file.keys:
            raise UsageError(
                f"{host} is not this machine alone, and the stack file has no keys",
                hint="add keys: {NAME: env:VARIABLE}, or listen on 127.0.0.1",
            )

    application = Application(
        stack, clock=clock, on_notice=on_notice, on_trace=metrics.traced, check=check, reads_keys=True
    )
    try:
        gateway = Gateway(application, metrics, is_loopback=is_loopback)
        listening = _listen(host, port)
        config = uvicorn.Config(
            gateway,
            http=_protocol(),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=max(1, round(stop_seconds)),
            backlog=2048,
        )
        server = _server(uvicorn, config)
        # A request goes through three threads that each have little to do; with Python's 5 ms one that is busy keeps
        # the others waiting for longer than all of their work takes.
        sys.setswitchinterval(_SWITCH_SECONDS)
        with _ended_by_signals(server, gateway):
            on_ready(f"http://{host}:{listening.getsockname()[1]}/v1", gateway, application)
            try:
                asyncio.run(server.serve(sockets=[listening]))
            finally:
                gateway.close()
                has_ended = application.close(seconds=1.0)
        return has_ended and not gateway.has_cut_off
    finally:
        application.close(seconds=0.0)


def _listen(host: str, port: int) -> socket.socket:
    """Bound before anybody is told the address, so that the first request is not too early."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # Head and body of an answer are two writes: with Nagle's algorithm the second waited 40 ms for the first's receipt.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise PathUnusable(f"{host}:{port} cannot be listened on ({error.strerror})",
                           hint="choose another --port, or 0 for one that is free") from error  # fmt: skip
    made.listen(2048)
    return made


def _protocol() -> Any:
    """Where there is no httptools, h11 has a limit of its own, without our shape of an error."""
    try:
        from exitramp.gateway.heads import LimitedHeads
    except ImportError:
        return "auto"
    return LimitedHeads


def _server(uvicorn: Any, config: Any) -> Any:
    class Server(uvicorn.Server):  # type: ignore[misc]
        """Leaves signals to whoever started it and closes what is behind it; uvicorn would raise them again."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Server(config)


@contextlib.contextmanager
def _ended_by_signals(server: Any, gateway: Gateway) -> Iterator[None]:
    """A second signal changes nothing: the limit of time ends what does not end."""

    def end(*_: object) -> None:
        gateway.is_ending = True
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
