"""llama.cpp's own server with a real small model, as the tests start it, and the harness of its adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from exitramp.errors import UsageError
from exitramp.faults import Fault
from exitramp.ports import ChatModel, ChatRequest
from exitramp.registry import open_chat, service_adapter
from exitramp.testing.conformance.chat import ChatFeature, ChatHarness
from exitramp.urls import Address
from exitramp_adapters.services.llama_server import adapter
from tests.adapters.chat_wires import OpenAIWire

TEMPLATE: Final = Path(__file__).with_name("calls_tools.jinja")
"""For tools: SmolLM2's own chat template shows the model none, and then llama.cpp holds it to none."""


def serve(folder: Path, **options: Any) -> adapter.LlamaServer:
    try:
        adapter.smollm2_path()
    except UsageError as error:
        pytest.skip(error.message)
    # One thread: llama.cpp's threads wait for each other by spinning, which on a busy machine takes them ten times as
    # long.
    service = service_adapter("llama-server").make(str(folder), 0, {"threads": 1, **options})
    assert isinstance(service, adapter.LlamaServer)
    service.start()
    return service


class LocalHarness(ChatHarness):
    wire = OpenAIWire()
    lacks = {ChatFeature.KEYS: "llama.cpp keeps no account of idempotency keys"}
    faults = frozenset({"sigstop", "sigkill"})
    answer_seconds = 60.0

    def __init__(self, service: adapter.LlamaServer) -> None:
        self._service = service

    def open(self) -> ChatModel:
        return open_chat(self._service.address)

    def open_at(self, base_url: str, *, key: str | None = None, **options: str) -> ChatModel:
        given = {"base_url": f"{base_url}/v1", **options, **({"key": key} if key is not None else {})}
        return open_chat(Address("local", "m", None, given))

    def question(self, number: int = 0) -> ChatRequest:
        return replace(super().question(number), maximum_tokens=12)

    def fail(self, fault: Fault) -> None:
        self._service.inject(fault)

    def heal(self) -> None:
        self._service.inject(Fault("none"))
