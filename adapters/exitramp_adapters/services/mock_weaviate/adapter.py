"""The mock of Weaviate as a service: a process of its own on loopback with a REST and a gRPC port, "wire mocked"."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.errors import UsageError
from exitramp.faults import Fault
from exitramp.ports import ServiceAdapter
from exitramp.urls import Address
from exitramp_adapters.services.counters import no_counts, read_counters
from exitramp_adapters.services.process import FAULTS, HOST, PORT, LoopbackProcess

COUNTED: Final = ("objects_written", "objects_refused", "objects_deleted", "objects_read", "queries")
_MODULE: Final = "exitramp_adapters.services.mock_weaviate.server"
_OPTIONS: Final = ("api_key_env", "read_only")


class MockWeaviate:
    """The mock over `folder`, which keeps the collections after `stop`.

    options: `api_key_env`, the name of an environment variable that holds the key clients must send; `read_only`,
    whether that key is one that may change nothing.
    """

    def __init__(self, folder: str, options: Mapping[str, Any]) -> None:
        for name in options:
            if name not in _OPTIONS:
                raise UsageError(
                    f"mock-weaviate has no option {name!r}", hint=f"its options are: {', '.join(_OPTIONS)}"
                )
        self.folder = Path(folder).resolve()
        self._api_key_env: str | None = options.get("api_key_env")
        # The second port is held bound, not listening, like that of the process itself: nobody else gets it.
        self._reserved: socket.socket | None = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((HOST, 0))
        self.grpc_port: int = self._reserved.getsockname()[1]
        if sys.platform != "linux":
            self._reserved.close()
        arguments = ["-m", _MODULE, "--port", PORT, "--grpc-port", str(self.grpc_port), "--folder", str(self.folder)]
        if self._api_key_env is not None:
            arguments += ["--api-key-env", self._api_key_env]
        if options.get("read_only"):
            arguments.append("--read-only")
        ready = "/v1/.well-known/ready"
        self._process = LoopbackProcess("mock-weaviate", arguments, folder=self.folder, ready_path=ready)

    def start(self) -> Address:
        """The server's address; add a collection to it."""
        self._process.start()
        return self.address

    @property
    def address(self) -> Address:
        options = {"grpc_port": str(self.grpc_port)}
        if self._api_key_env is not None:
            options["api_key"] = f"env:{self._api_key_env}"
        return Address("weaviate+http", f"//{HOST}:{self._process.port}", None, options)

    def inject(self, fault: Fault) -> None:
        """`sigstop`, `sigcont`, `sigkill`, `restart` or `none`; a restarted mock has every acknowledged write."""
        self._process.inject(fault)

    def counters(self) -> Mapping[str, int]:
        """Requests by outcome (answered, rejected, failed), objects written, refused, deleted and read, queries. Over
        restarts, and also while the process is stopped or dead: read from the file that it keeps them in."""
        return no_counts(COUNTED) | read_counters(self.folder)

    def stop(self) -> None:
        self._process.stop()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None


def _make(folder: str, seed: int, options: Mapping[str, Any]) -> MockWeaviate:
    return MockWeaviate(folder, options)


ADAPTER: Final = ServiceAdapter(
    name="mock-weaviate",
    summary="A mock of Weaviate's REST and gRPC contract (wire mocked), for its own official client",
    faults=FAULTS,
    make=_make,
    extra="weaviate",
    requires=("weaviate", "grpc"),
    is_mock=True,
)
