"""The mock of Pinecone as a service: a process of its own on loopback, "wire mocked"."""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.errors import RemoteError, UsageError
from exitramp.faults import PROCESS_FAULTS, Fault
from exitramp.ports import ServiceAdapter
from exitramp.urls import Address
from exitramp_adapters.services.process import FAULTS, HOST, PORT, LoopbackProcess

_MODULE: Final = "exitramp_adapters.services.mock_pinecone.server"
_OPTIONS: Final = ("latency_ms", "rates", "metadata_bytes", "freshness_seconds", "stats", "pod")
_VENDOR_FAULTS: Final = ("rate_limit", "error_500", "unavailable", "auth")
_COUNTERS: Final = (
    "requests",
    "answered",
    "rejected",
    "limited",
    "failed",
    "control",
    "list",
    "fetch",
    "query",
    "stats",
)
_RECORDS: Final = ("upsert", "delete", "records_written", "records_deleted", "records_read", "read_units")
_TIMEOUT_SECONDS: Final = 5.0


class MockPinecone:
    """The mock over `folder`, which keeps indexes and records after `stop`.

    options: `latency_ms` before each answer (60), `rates` whether requests a second are limited (true),
    `metadata_bytes` of one record (40,960), `freshness_seconds` until a write is seen (0), `stats` records by
    namespace that describe_index_stats adds to those there are, `pod` an index that lists nothing (false).
    """

    def __init__(self, folder: str, options: Mapping[str, Any]) -> None:
        for name in options:
            if name not in _OPTIONS:
                raise UsageError(
                    f"mock-pinecone has no option {name!r}", hint=f"its options are: {', '.join(sorted(_OPTIONS))}"
                )
            _require_kind(name, options[name])
        self.folder = Path(folder).resolve()
        arguments = [
            "-m",
            _MODULE,
            "--port",
            PORT,
            "--folder",
            str(self.folder),
            "--options",
            json.dumps(dict(options)),
        ]
        self._process = LoopbackProcess("mock-pinecone", arguments, folder=self.folder, ready_path="/_exitramp/ready")

    def start(self) -> Address:
        """The address of its control plane; add an index to it."""
        self._process.start()
        return self.address

    @property
    def address(self) -> Address:
        return Address("pinecone", f"//{HOST}:{self._process.port}")

    def inject(self, fault: Fault) -> None:
        """A process fault, or `rate_limit` (`retry_after_seconds`), `error_500`, `unavailable` or `auth` for the next
        `calls` requests (all, if it does not say); a restarted mock has every acknowledged write."""
        if fault.kind in PROCESS_FAULTS - {"none"} or fault.kind not in {*_VENDOR_FAULTS, "none"}:
            self._process.inject(fault)
            return
        if fault.kind == "none":
            self._process.inject(fault)  # it may be stopped or dead, and then could not be told
        self._tell({"kind": fault.kind, "options": dict(fault.options)})

    def counters(self) -> Mapping[str, int]:
        """Requests by outcome and by kind, records written, deleted and read, and read units. Over restarts, and also
        while the process is stopped or dead."""
        path = self.folder / "counters.json"
        text = path.read_text("utf-8") if path.exists() else ""
        return dict.fromkeys((*_COUNTERS, *_RECORDS), 0) | (json.loads(text) if text.strip() else {})

    def stop(self) -> None:
        self._process.stop()

    def _tell(self, fault: Mapping[str, Any]) -> None:
        connection = http.client.HTTPConnection(HOST, self._process.port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("POST", "/_exitramp/fault", json.dumps(fault))
            connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise RemoteError(f"the mock does not answer ({type(error).__name__})") from error
        finally:
            connection.close()


def _require_kind(name: str, value: Any) -> None:
    """Raises `UsageError` naming the type of a value that would make the mock fail at every call."""
    if name in ("rates", "pod"):
        fits, wanted = isinstance(value, bool), "true or false"
    elif name == "stats":
        fits = isinstance(value, Mapping) and all(
            isinstance(each, str) and _is_count(count) for each, count in value.items()
        )
        wanted = "a mapping of namespaces to numbers of records, such as {__default__: 1000}"
    elif name == "metadata_bytes":
        fits, wanted = _is_count(value), "a whole number of bytes"
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
        wanted = "a number from 0 on"
    if not fits:
        found = type(value).__name__
        if isinstance(value, Mapping):
            kinds = sorted({f"{type(each).__name__} to {type(count).__name__}" for each, count in value.items()})
            found = f"one of {', '.join(kinds)}"
        raise UsageError(f"mock-pinecone: the option {name!r} is {wanted}, and not {found}: {value!r}"[:300])


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _make(folder: str, seed: int, options: Mapping[str, Any]) -> MockPinecone:
    return MockPinecone(folder, options)


ADAPTER: Final = ServiceAdapter(
    name="mock-pinecone",
    summary="Mock of Pinecone's API 2026-07, from its published contract: its limits, its read units, no approximation",
    faults=(*FAULTS, *_VENDOR_FAULTS),
    make=_make,
    extra="pinecone",
    requires=("orjson", "starlette", "uvicorn"),
    is_mock=True,
)
