"""A real model behind llama.cpp's own server, against the suites for chat models and embedders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exitramp.errors import RemoteError, UsageError
from exitramp.faults import Fault
from exitramp.ports import ChatMessage, ChatModel, ChatRequest, Embedder
from exitramp.registry import open_chat, open_embedder, service_adapter
from exitramp.testing.conformance.chat import ChatAnswerConformance, ChatFeature, ChatHarness
from exitramp.testing.conformance.embedders import EmbedderConformance, EmbedderFeature, EmbedderHarness
from exitramp.urls import Address
from exitramp_adapters.services.llama_server import adapter
from tests.adapters.chat_wires import OpenAIWire

pytest.importorskip("xllamacpp", reason="the extra 'local-model' is not installed")


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
    lacks = {
        ChatFeature.ANSWERS_TOOLS: "the template of SmolLM2 knows no tools",
        ChatFeature.KEYS: "llama.cpp keeps no account of idempotency keys",
    }
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


class TestLocalChat(ChatAnswerConformance):
    """What bytes mean is put to the same adapter with the scripted server of `test_chat_models`."""

    @pytest.fixture(scope="class")
    def harness(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatHarness]:
        service = serve(tmp_path_factory.mktemp("llama"))
        yield LocalHarness(service)
        service.stop()


class LocalEmbedderHarness(EmbedderHarness):
    lacks = {
        EmbedderFeature.COUNTED: "what the server will count is estimated",
        EmbedderFeature.WEIGHTS: "the server does not say which weights it has",
        EmbedderFeature.CUTS: "the server refuses long texts",
        EmbedderFeature.MEANING: "the model was made to chat",
    }

    def __init__(self, service: adapter.LlamaServer) -> None:
        self._service = service

    def open(self) -> Embedder:
        return open_embedder(Address("local", adapter.SMOLLM2, None, {**self._service.address.options, "batch": "16"}))

    def open_with_prefixes(self, query: str, passage: str) -> Embedder:
        options = {**self._service.address.options, "query_prefix": query, "passage_prefix": passage}
        return open_embedder(Address("local", adapter.SMOLLM2, None, options))


class TestLocalEmbedder(EmbedderConformance):
    @pytest.fixture(scope="class")
    def harness(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbedderHarness]:
        service = serve(tmp_path_factory.mktemp("llama"), embeddings=True)
        yield LocalEmbedderHarness(service)
        service.stop()


def test_it_comes_back_on_the_same_port_with_the_same_answers_and_logs_no_prompt(tmp_path: Path) -> None:
    service = serve(tmp_path)
    address, model = service.address, open_chat(service.address)
    asked = ChatRequest((ChatMessage("user", "Name the colours of the rainbow, kingfisher."),), maximum_tokens=8)
    before = model.answer(asked, timeout_seconds=60)
    service.inject(Fault("sigkill"))
    service.inject(Fault("restart"))
    assert service.address == address
    assert model.answer(asked, timeout_seconds=60).text == before.text
    model.close()
    service.stop()
    log = (tmp_path / "llama-server.log").read_text("utf-8", "replace")
    assert "kingfisher" not in log


def test_weights_that_are_others_than_named_are_not_served(tmp_path: Path) -> None:
    weights = tmp_path / "Mine.gguf"
    weights.write_bytes(b"not a model")
    service = service_adapter("llama-server").make(str(tmp_path), 0, {"model": str(weights), "sha256": "0" * 64})
    with pytest.raises(RemoteError, match=r"Mine\.gguf has the sha256"):
        service.start()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"colour": "red"}, "colour"),
        ({"parallel": 0}, "parallel"),
        ({"context_tokens": "many"}, "context_tokens"),
        ({"embeddings": 1}, "embeddings"),
        ({"model": "no/such.gguf"}, "no file"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        service_adapter("llama-server").make(str(tmp_path), 0, options)
