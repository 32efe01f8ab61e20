"""The Qdrant shim as a service: a process of its own on loopback, "engine real, wire emulated"."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.errors import UsageError
from exitramp.faults import Fault
from exitramp.ports import ServiceAdapter
from exitramp.urls import Address
from exitramp_adapters.services.counters import no_counts, read_counters
from exitramp_adapters.services.process import FAULTS, HOST, PORT, LoopbackProcess

COUNTED: Final = ("points_written", "points_deleted", "points_read", "queries")
_MODULE: Final = "exitramp_adapters.services.qdrant_shim.server"


class QdrantShim:
    """The shim over `folder`, which keeps the collections after `stop`.

    options: `api_key_env`, the name of an environment variable that holds the key clients must send.
    """

    def __init__(self, folder: str, options: Mapping[str, Any]) -> None:
        for name in options:
            if name != "api_key_env":
                raise UsageError(f"qdrant-shim has no option {name!r}", hint="its option is: api_key_env")
        self.folder = Path(folder).resolve()
        self._api_key_env: str | None = options.get("api_key_env")
        arguments = ["-m", _MODULE, "--port", PORT, "--folder", str(self.folder)]
        if self._api_key_env is not None:
            arguments += ["--api-key-env", self._api_key_env]
        self._process = LoopbackProcess("qdrant-shim", arguments, folder=self.folder, ready_path="/readyz")

    def start(self) -> Address:
        """The server's address; add a collection to it."""
        self._process.start()
        return self.address

    @property
    def address(self) -> Address:
        options = {} if self._api_key_env is None else {"api_key": f"env:{self._api_key_env}"}
        return Address("qdrant+http", f"//{HOST}:{self._process.port}", None, options)

    def inject(self, fault: Fault) -> None:
        """`sigstop`, `sigcont`, `sigkill`, `restart` or `none`; a restarted shim has every acknowledged write."""
        self._process.inject(fault)

    def counters(self) -> Mapping[str, int]:
        """Requests by outcome (answered, rejected, failed), points written, deleted and read, queries. Over restarts,
        and also while the process is stopped or dead: read from the file that it keeps them in."""
        return no_counts(COUNTED) | read_counters(self.folder)

    def stop(self) -> None:
        self._process.stop()


def _make(folder: str, seed: int, options: Mapping[str, Any]) -> QdrantShim:
    return QdrantShim(folder, options)


ADAPTER: Final = ServiceAdapter(
    name="qdrant-shim",
    summary="Qdrant's engine behind a part of its REST interface (engine real, wire emulated)",
    faults=FAULTS,
    make=_make,
    extra="qdrant",
    requires=("qdrant_edge", "qdrant_client", "starlette", "uvicorn"),
)
