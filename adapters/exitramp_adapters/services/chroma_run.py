"""A real Chroma server as a service: `chroma run` in a process of its own, to be stopped, killed and restarted."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.errors import UsageError
from exitramp.faults import Fault
from exitramp.ports import ServiceAdapter
from exitramp.urls import Address
from exitramp_adapters.services.process import FAULTS, HOST, PORT, LoopbackProcess

# What the `chroma` command does, without importing the Python client first: ready in 0.07 s instead of 1.2 s, so that
# a restart after an outage measures the store and not an import.
_CHROMA = "import sys, chromadb_rust_bindings as chroma; chroma.cli(['chroma', *sys.argv[1:]])"


class ChromaRun:
    """A Chroma server with its files in `folder`/data, which `stop` removes; its log stays beside them."""

    def __init__(self, folder: str, options: Mapping[str, Any]) -> None:
        if options:
            raise UsageError(f"service chroma-run: unknown option {sorted(options)[0]!r}", hint="it has no options")
        self.data = Path(folder).resolve() / "data"
        arguments = ("run", "--path", str(self.data), "--host", HOST, "--port", PORT)
        self._process = LoopbackProcess(
            "chroma-run", ("-c", _CHROMA, *arguments), folder=folder, ready_path="/api/v2/heartbeat"
        )

    def start(self) -> Address:
        """`chroma+http://127.0.0.1:PORT`, without a collection."""
        self._process.start()
        return self.address

    @property
    def address(self) -> Address:
        return Address("chroma+http", f"//{HOST}:{self._process.port}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def inject(self, fault: Fault) -> None:
        """`sigstop`, `sigcont`, `sigkill`, `restart` on the same port and files, or `none`, which heals."""
        self._process.inject(fault)

    def counters(self) -> Mapping[str, int]:
        """Nothing: a Chroma server keeps no account of what it answered."""
        return {}

    def stop(self) -> None:
        self._process.stop()
        shutil.rmtree(self.data, ignore_errors=True)


def _make(folder: str, seed: int, options: Mapping[str, Any]) -> ChromaRun:
    return ChromaRun(folder, options)


ADAPTER: Final = ServiceAdapter(
    name="chroma-run",
    summary="A real Chroma server on a loopback port",
    faults=FAULTS,
    make=_make,
    extra="chroma",
    requires=("chromadb",),
)
