"""Mock chat vendors as services: real HTTP on loopback, answers by a documented rule, failures on command.

`OPENAI` speaks the chat completions shape, `ANTHROPIC` the messages shape and is a little worse on purpose. Whatever
shows their answers has to call them mocks; docs/mock-vendors.md is their contract.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from exitramp.errors import RemoteError, UsageError
from exitramp.faults import PROCESS_FAULTS, VENDOR_FAULTS, Fault
from exitramp.ports import ServiceAdapter
from exitramp.urls import Address
from exitramp_adapters.services.mock_vendor.elsewhere import CassetteReplies, check_forward
from exitramp_adapters.services.mock_vendor.options import VendorOptions, check_fault
from exitramp_adapters.services.mock_vendor.real_vectors import embedder_adapter
from exitramp_adapters.services.process import HOST, PORT, LoopbackProcess

CONTROL_FILE: Final = "control.json"  # as in the server, which this side does not import: it loads h11 and asyncio
_MODULE: Final = "exitramp_adapters.services.mock_vendor.server"
_CONTROL_TIMEOUT_SECONDS: Final = 5.0
_PAGE_ENTRIES: Final = 1000


class MockVendor:
    """A mock vendor in a process of its own. Its files (`account.jsonl`, the log) stay in `folder` after `stop`."""

    def __init__(self, shape: str, folder: str, seed: int, options: Mapping[str, Any], *, quality: str) -> None:
        self.shape = shape
        self.folder = Path(folder).resolve()
        self.options = VendorOptions.parse(options, seed=seed, quality=quality)
        given_options = {"quality": quality} | dict(options)
        self._model = self.options.model
        if self.options.cassette is not None:
            path = Path(self.options.cassette).resolve()  # its process has another working folder
            self._model = CassetteReplies(path).models[0]
            given_options["cassette"] = str(path)
        if self.options.forward is not None:
            check_forward(self.options.forward)
        if self.options.embedder is not None:
            self._require_embeddings(self.options.embedder)
            named = Address.parse(self.options.embedder)
            if named.location and Path(named.location).exists():  # its process has another working folder
                given_options["embedder"] = str(replace(named, location=str(Path(named.location).resolve())))
        given = json.dumps(given_options, default=str)
        arguments = ("-m", _MODULE, "--shape", shape, "--port", PORT, "--folder", str(self.folder))
        self._process = LoopbackProcess(
            f"mock-{shape}",
            (*arguments, "--seed", str(seed), "--options", given),
            folder=self.folder,
            port=self.options.listen,
        )

    def start(self) -> Address:
        """The address of its model: `openai:mock-large?base_url=http://127.0.0.1:PORT/v1&mock=true`."""
        self._process.start()
        return self.address

    @property
    def address(self) -> Address:
        base_url = f"http://{HOST}:{self._process.port}" + ("/v1" if self.shape == "openai" else "")
        options = {"base_url": base_url, "mock": "true"}
        if self.options.key is not None:
            options["key"] = self.options.key
        return Address(self.shape, self._model, None, options)

    @property
    def embedding_address(self) -> Address:
        """The address of its embedding model, once it runs."""
        models = self.describe()["embedding_models"]
        if not models:
            raise UsageError(f"the {self.shape} shape has no embeddings", hint="take the service mock-openai")
        return Address(self.shape, models[0], None, self.address.options)

    @property
    def rerank_address(self) -> Address:
        """The address of its reranking model, once it runs."""
        models = self.describe()["rerank_models"]
        if not models:
            raise UsageError(f"the {self.shape} shape does not rerank", hint="take the service mock-openai")
        return Address("rerank", models[0], None, self.address.options)

    def _require_embeddings(self, embedder: str) -> None:
        if self.shape != "openai":
            raise UsageError(f"the {self.shape} shape has no embeddings, so 'embedder' says nothing there")
        embedder_adapter(embedder)

    def inject(self, fault: Fault) -> None:
        """A vendor's fault, or one of its process (`sigstop`, `sigcont`, `sigkill`, `restart`). A restarted process
        goes on with its account and has forgotten what was injected; its schedule begins anew."""
        if fault.kind in PROCESS_FAULTS - {"none"}:
            self._process.inject(fault)
            return
        check_fault(fault)
        if fault.kind == "none":
            self._process.inject(fault)  # it may be stopped or dead, and then could not be told
        self._control("POST", "/fault", {"kind": fault.kind, "options": dict(fault.options)})

    def counters(self) -> Mapping[str, int]:
        """Requests by outcome (answered, failed, hung, cut, abandoned), tokens, distinct ones answered (twice)."""
        counts: dict[str, int] = self._control("GET", "/counters")
        return counts

    def describe(self) -> Mapping[str, Any]:
        """What it is and how it is set, its simulated latency and its own overhead, for a report."""
        described: dict[str, Any] = self._control("GET", "/describe")
        return described

    def account(self) -> Iterator[Mapping[str, Any]]:
        """Every entry of its account, oldest first; fields as in `account.Entry`."""
        after = 0
        while entries := self._control("GET", f"/account?after={after}"):
            yield from entries
            after = entries[-1]["number"]
            if len(entries) < _PAGE_ENTRIES:
                return

    def require_running(self) -> None:
        """Raises `RemoteError` where its process is gone."""
        self._process.require_running()

    def stop(self) -> None:
        self._process.stop()

    def _control(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            described = json.loads((self.folder / CONTROL_FILE).read_text("utf-8"))
        except OSError as error:
            raise RemoteError(f"the mock {self.shape} vendor was not started") from error
        port = int(described["control_port"])
        connection = http.client.HTTPConnection(HOST, port, timeout=_CONTROL_TIMEOUT_SECONDS)
        try:
            headers = {"content-type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            status, answer = response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise RemoteError(
                f"the mock {self.shape} vendor's control does not answer ({type(error).__name__})",
                hint="heal it first: inject the fault 'none' or 'restart'",
            ) from error
        finally:
            connection.close()
        if status != 200:
            raise UsageError(str(answer.get("error", status)))
        return answer


def _make(shape: str, quality: str, folder: str, seed: int, options: Mapping[str, Any]) -> MockVendor:
    return MockVendor(shape, folder, seed, options, quality=quality)


_FAULTS: Final = tuple(sorted(VENDOR_FAULTS | PROCESS_FAULTS))

OPENAI: Final = ServiceAdapter(
    name="mock-openai",
    summary="Mock chat vendor in the OpenAI chat completions shape, answering by an extractive rule",
    faults=_FAULTS,
    make=partial(_make, "openai", "good"),
    is_mock=True,
)
ANTHROPIC: Final = ServiceAdapter(
    name="mock-anthropic",
    summary="Mock chat vendor in the Anthropic messages shape, a little worse on purpose",
    faults=_FAULTS,
    make=partial(_make, "anthropic", "slightly_worse"),
    is_mock=True,
)
