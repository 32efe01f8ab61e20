"""A real model behind llama.cpp's own server, against the suites for chat models and embedders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from exitramp.errors import RemoteError, UsageError
from exitramp.faults import Fault
from exitramp.ports import ChatMessage, ChatRequest, Embedder, ToolSpec
from exitramp.registry import open_chat, open_embedder, service_adapter
from exitramp.testing.conformance.chat import ChatAnswerConformance, ChatHarness
from exitramp.testing.conformance.embedders import EmbedderConformance, EmbedderFeature, EmbedderHarness
from exitramp.urls import Address
from exitramp_adapters.services.llama_server import adapter
from tests.gateway.running import RunningGateway
from tests.services.llama import TEMPLATE, LocalHarness, serve

pytest.importorskip("xllamacpp", reason="the extra 'local-model' is not installed")


@pytest.fixture(scope="module")
def chatting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[adapter.LlamaServer]:
    service = serve(tmp_path_factory.mktemp("llama"), chat_template=str(TEMPLATE))
    yield service
    service.stop()


class TestLocalChat(ChatAnswerConformance):
    """Tools and JSON included. What bytes mean is put to the same adapter with the scripted server of
    `test_chat_models`."""

    @pytest.fixture
    def harness(self, chatting: adapter.LlamaServer) -> ChatHarness:
        return LocalHarness(chatting)


MESSAGES: list[Any] = [{"role": "user", "content": "What is the weather in Paris? Call the tool."}]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
NAMED: Any = {"type": "function", "function": {"name": "weather"}}
CITY: Any = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer", "maximum": 99}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(chatting: adapter.LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """The official client, at our gateway, in front of the real model."""
    stack = tmp_path_factory.mktemp("gateway") / "stack.yaml"
    deadlines = "deadlines: {request_seconds: 60, attempt_seconds: 60}"
    stack.write_text(f"version: 1\nmodels:\n  real: {{address: '{chatting.address.text}'}}\n{deadlines}\n", "utf-8")
    gateway = RunningGateway(stack)
    found = openai.OpenAI(base_url=gateway.address, api_key="unused", max_retries=0)
    yield found
    found.close()
    gateway.stop()


def test_a_real_tool_call_reaches_the_official_client_through_the_gateway_and_its_result_the_model(
    client: openai.OpenAI,
) -> None:
    create: Any = client.chat.completions.create
    asked: Any = {"model": "real", "max_tokens": 96, "temperature": 0, "tools": [NAMED | {"function": WEATHER}]}
    answer = create(messages=MESSAGES, tool_choice="required", **asked)
    whole = answer.choices[0]
    assert whole.finish_reason == "tool_calls"
    [call] = whole.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
    chunks = [each.choices[0] for each in create(messages=MESSAGES, tool_choice=NAMED, stream=True, **asked)]
    pieces = [piece for chunk in chunks for piece in chunk.delta.tool_calls or ()]
    assert (pieces[0].function.name, bool(pieces[0].id)) == ("weather", True)
    assert "".join(piece.function.arguments for piece in pieces) == call.function.arguments
    assert len(pieces) > 2, "it all came at once, so nothing was streamed"
    assert chunks[-1].finish_reason == "tool_calls"
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 21}'}
    asked["max_tokens"] = 8
    then = create(messages=[*MESSAGES, whole.message.model_dump(exclude_none=True), result], **asked)
    more = then.usage.prompt_tokens - answer.usage.prompt_tokens
    assert more > 20, "the model was not shown its call and the result"


@pytest.mark.parametrize(("kind", "stream"), [("json_object", False), ("json_schema", True)])
def test_json_comes_through_the_gateway_from_a_real_model(client: openai.OpenAI, kind: str, stream: bool) -> None:
    wanted: Any = {"type": kind} | ({"json_schema": {"name": "c", "schema": CITY}} if kind == "json_schema" else {})
    said = "Name a city and how many people live there, as a JSON object."
    create: Any = client.chat.completions.create
    answer = create(
        model="real",
        messages=[{"role": "user", "content": said}],
        max_tokens=160,
        temperature=0,
        response_format=wanted,
        stream=stream,
    )
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    else:
        text = answer.choices[0].message.content
    found = json.loads(text)
    assert isinstance(found, dict)
    assert kind == "json_object" or set(found) == {"city", "people"}


def test_a_template_that_knows_no_tools_makes_llama_cpp_leave_a_forced_tool_away_and_words_are_what_comes(
    tmp_path: Path,
) -> None:
    """SmolLM2's own. The adapter passes on what was said; that a tool had to be called, only the asker can hold."""
    service = serve(tmp_path)
    model = open_chat(service.address)
    tool = ToolSpec("weather", WEATHER["description"], WEATHER["parameters"])
    asked = ChatRequest((ChatMessage("user", MESSAGES[0]["content"]),), 12, tools=(tool,), tool_choice="required")
    given = model.answer(asked, timeout_seconds=60)
    model.close()
    service.stop()
    assert (given.tool_calls, given.finish_reason) == ((), "length")
    assert given.text.startswith("The weather in Paris is")


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
        ({"chat_template": "no/such.jinja"}, "no file"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        service_adapter("llama-server").make(str(tmp_path), 0, options)
