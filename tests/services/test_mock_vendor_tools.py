"""What the mock vendors honour beyond plain text: tools, JSON, stop sequences, embeddings, the list of models."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest

from exitramp.errors import ModelError
from exitramp.faults import Fault
from exitramp.ports import ChatMessage, ChatModel, ChatRequest, Purpose, ResponseFormat, ToolSpec
from exitramp.registry import open_chat, open_embedder
from exitramp_adapters.services.mock_vendor.adapter import ANTHROPIC, OPENAI, MockVendor
from exitramp_adapters.services.mock_vendor.embeddings import vectors_of
from exitramp_adapters.services.mock_vendor.filling import fill
from exitramp_adapters.services.mock_vendor.shape import Refusal

PROMPT = "[passage city#1]\nParis has 2 million people.\n[/passage]\nQuestion: How many people has Paris?"
WEATHER = ToolSpec(
    "get_weather",
    "The weather of a city today",
    {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Berlin", "Paris"]}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
)
TIME = ToolSpec("clock", "The hour it is", {"type": "object", "properties": {}})
PEOPLE = {
    "type": "object",
    "properties": {"city": {"enum": ["Berlin", "Paris"]}, "people": {"type": "integer"}, "text": {"type": "string"}},
    "required": ["city", "people", "text"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, MockVendor]]:
    started: dict[str, MockVendor] = {}
    for name, adapter in (("openai", OPENAI), ("anthropic", ANTHROPIC)):
        vendor = adapter.make(str(tmp_path_factory.mktemp(name)), 7, {"quality": "good"})
        assert isinstance(vendor, MockVendor)
        vendor.start()
        started[name] = vendor
    yield started
    for vendor in started.values():
        vendor.stop()


@pytest.fixture(params=["openai", "anthropic"])
def vendor(request: pytest.FixtureRequest, vendors: dict[str, MockVendor]) -> MockVendor:
    return vendors[request.param]


@pytest.fixture
def model(vendor: MockVendor) -> Iterator[ChatModel]:
    opened = open_chat(str(vendor.address))
    yield opened
    opened.close()


def ask(text: str, **changes: Any) -> ChatRequest:
    return ChatRequest((ChatMessage("user", text),), **{"maximum_tokens": 200} | changes)


@pytest.mark.parametrize("stream", [False, True])
def test_a_required_tool_is_called_with_arguments_that_its_schema_allows(model: ChatModel, stream: bool) -> None:
    asked = ask(
        "What is the weather in Paris for 3 days?", tools=(TIME, WEATHER), tool_choice="required", stream=stream
    )
    answer = model.answer(asked, timeout_seconds=5)
    [call] = answer.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris", "days": 3})
    assert call.id
    assert (answer.finish_reason, answer.text) == ("tool_calls", "")
    assert model.answer(asked, timeout_seconds=5).tool_calls[0].arguments == call.arguments


def test_auto_calls_the_tools_that_the_message_names_and_none_otherwise(model: ChatModel) -> None:
    for text, named in (
        ("Use get_weather for Paris", ["get_weather"]),
        ("get weather and clock, please", ["clock", "get_weather"]),
        ("Is the clockwork broken?", []),
    ):
        answer = model.answer(ask(text, tools=(TIME, WEATHER), tool_choice="auto"), timeout_seconds=5)
        assert [call.name for call in answer.tool_calls] == named
        assert model.answer(ask(text, tools=(TIME, WEATHER), tool_choice="none"), timeout_seconds=5).tool_calls == ()
    assert model.answer(ask("Hm?", tools=(TIME, WEATHER), tool_choice="clock"), timeout_seconds=5).tool_calls


@pytest.mark.parametrize("stream", [False, True])
def test_a_tools_result_is_answered_from(model: ChatModel, stream: bool) -> None:
    asked = ask("Use get_weather for Paris: will it rain?", tools=(WEATHER,), stream=stream)
    first = model.answer(asked, timeout_seconds=5)
    [call] = first.tool_calls
    for result, said in (
        ("It will rain in the evening.", "It will rain in the evening. [get_weather]"),
        ("degrees: 21", "degrees: 21 [get_weather]"),
    ):
        messages = (
            *asked.messages,
            ChatMessage("assistant", "", (call,)),
            ChatMessage("tool", result, tool_call_id=call.id),
        )
        second = model.answer(ChatRequest(messages, 200, tools=(WEATHER,), stream=stream), timeout_seconds=5)
        assert (second.text, second.finish_reason, second.tool_calls) == (said, "stop", ())


@pytest.mark.parametrize("stream", [False, True])
def test_json_for_a_schema_is_filled_with_the_answer(model: ChatModel, stream: bool) -> None:
    asked = ask(PROMPT, response_format=ResponseFormat("json_schema", "people", PEOPLE), stream=stream)
    data = json.loads(model.answer(asked, timeout_seconds=5).text)
    jsonschema.validate(data, PEOPLE)
    assert data == {"city": "Paris", "people": 2, "text": "Paris has 2 million people. [city#1]"}


def test_a_json_object_holds_the_answer_and_is_asked_for_by_name(vendors: dict[str, MockVendor]) -> None:
    model = open_chat(str(vendors["openai"].address))
    wanted = ResponseFormat("json_object")
    data = json.loads(model.answer(ask(f"In JSON. {PROMPT}\n", response_format=wanted), timeout_seconds=5).text)
    assert set(data) == {"answer"}
    with pytest.raises(ModelError, match="json"):
        model.answer(ask("Hello", response_format=wanted), timeout_seconds=5)
    model.close()


def test_schemas_that_the_vendors_do_not_take_are_refused(model: ChatModel) -> None:
    loose = {"type": "object", "properties": {"a": {"type": "string"}}}
    with pytest.raises(ModelError, match="additionalProperties"):
        model.answer(ask(PROMPT, response_format=ResponseFormat("json_schema", "x", loose)), timeout_seconds=5)


@pytest.mark.parametrize("stream", [False, True])
def test_text_ends_before_a_stop_sequence_or_at_the_limit_whichever_is_first(model: ChatModel, stream: bool) -> None:
    answer = model.answer(ask(PROMPT, stop=("nowhere", " million"), stream=stream), timeout_seconds=5)
    assert (answer.text, answer.finish_reason) == ("Paris has 2", "stop")
    answer = model.answer(ask(PROMPT, stop=(" million",), maximum_tokens=2, stream=stream), timeout_seconds=5)
    assert (answer.text, answer.finish_reason) == ("Paris has", "length")


def test_the_messages_shape_names_the_stop_sequence(vendors: dict[str, MockVendor]) -> None:
    body = {"model": "mock-large", "max_tokens": 99, "messages": [{"role": "user", "content": PROMPT}]}
    response = post(vendors["anthropic"], "/v1/messages", body | {"stop_sequences": ["million"]}).json()
    assert (response["stop_reason"], response["stop_sequence"]) == ("stop_sequence", "million")


def post(vendor: MockVendor, path: str, body: Any) -> httpx.Response:
    base = vendor.address.options["base_url"].removesuffix("/v1")
    headers = {"authorization": "Bearer k", "anthropic-version": "2023-06-01"}
    return httpx.post(base + path, json=body, headers=headers, trust_env=False)


def test_results_of_tools_that_fit_no_call_are_refused(vendors: dict[str, MockVendor]) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    user, calling = {"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "noon"}
    body = {"model": "mock-large", "max_tokens": 9}
    for messages, status in (
        ([user, calling, result], 200),
        ([user, result], 400),
        ([user, calling], 400),
        ([user, calling, user], 400),
        ([user, calling, result | {"tool_call_id": "c2"}], 400),
    ):
        assert post(vendors["openai"], "/v1/chat/completions", body | {"messages": messages}).status_code == status
    use = {"type": "tool_use", "id": "c1", "name": "clock", "input": {}}
    calling, result = {"role": "assistant", "content": [use]}, {"type": "tool_result", "tool_use_id": "c1"}
    for messages, status in (
        ([user, calling, {"role": "user", "content": [result]}], 200),
        ([user, {"role": "user", "content": [result]}], 400),
        ([user, calling, {"role": "user", "content": [result | {"tool_use_id": ["c1"]}]}], 400),
        ([user, calling, user], 400),
        ([user, calling], 400),
    ):
        assert post(vendors["anthropic"], "/v1/messages", body | {"messages": messages}).status_code == status


@pytest.mark.parametrize(
    ("shape", "changes", "said"),
    [
        ("openai", {"logprobs": True}, "logprobs"),
        ("openai", {"functions": []}, "functions"),
        ("openai", {"tools": [{"type": "web_search"}]}, "function"),
        ("openai", {"tool_choice": "auto"}, "tools"),
        ("openai", {"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ("openai", {"response_format": {"type": "xml"}}, "response_format"),
        ("anthropic", {"thinking": {"type": "enabled"}}, "thinking"),
        ("anthropic", {"tools": [{"type": "bash_20250124", "name": "bash"}]}, "custom"),
        ("anthropic", {"tools": [{"name": "x"}]}, "input_schema"),
        ("anthropic", {"output_config": {"effort": "low"}}, "effort"),
        ("anthropic", {"tool_choice": {"type": "any"}}, "tools"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(
    vendors: dict[str, MockVendor], shape: str, changes: dict[str, Any], said: str
) -> None:
    body = {"model": "mock-large", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]} | changes
    path = "/v1/chat/completions" if shape == "openai" else "/v1/messages"
    response = post(vendors[shape], path, body)
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]


SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "number"}, "minItems": 3}}},
    {"type": "object", "properties": {"a": {"$ref": "#/$defs/t"}}, "$defs": {"t": {"type": ["null", "boolean"]}}},
    {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 100, "multipleOf": 7}]},
    {"allOf": [{"properties": {"a": {"type": "string"}}}, {"required": ["a"]}], "type": "object"},
    {"type": "string", "minLength": 80, "maxLength": 90},
    {"type": "string", "format": "date-time"},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
    {"type": "object", "properties": {"next": {"$ref": "#"}, "value": {"const": 4}}, "required": ["value"]},
    {"type": "array", "prefixItems": [{"const": 1}, {"type": "string"}], "items": False},
    {"type": "integer", "maximum": -5},
    {},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_schema_is_filled_with_what_it_allows(schema: dict[str, Any]) -> None:
    value = fill(schema, "There are 12 apples.", field="x")
    jsonschema.validate(value, schema)
    assert fill(schema, "There are 12 apples.", field="x") == value


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^[0-9]{4}$"},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#"},
        {"type": "object", "patternProperties": {}},
        {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]},
        {"type": "colour"},
    ],
)
def test_a_schema_that_cannot_be_filled_is_refused_by_name(schema: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="the schema at"):
        fill(schema, "There are 12 apples.", field="x")


# -- embeddings ----------------------------------------------------------------------------------------------------


def embed(vendors: dict[str, MockVendor], texts: Any, **changes: Any) -> httpx.Response:
    body = {"model": "mock-embed", "input": texts} | changes
    return post(vendors["openai"], "/v1/embeddings", body)


def test_vectors_are_the_documented_ones_in_both_encodings(vendors: dict[str, MockVendor]) -> None:
    texts = ["two paths joined", "joining a path", "boiled eggs"]
    plain = embed(vendors, texts).json()
    packed = embed(vendors, texts, encoding_format="base64").json()
    rows = np.array([row["embedding"] for row in plain["data"]], np.float32)
    raw = [base64.b64decode(row["embedding"]) for row in packed["data"]]
    assert [list(struct.unpack("<256f", each)) for each in raw] == [[float(x) for x in row] for row in rows]
    np.testing.assert_array_equal(rows, vectors_of(tuple(texts), 256))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)
    near, far = float(rows[0] @ rows[1]), float(rows[0] @ rows[2])
    assert near > 0.5 > 0.3 > abs(far)
    assert plain["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
    assert plain["model"] == "mock-embed"


def test_fewer_dimensions_are_the_first_ones_at_unit_length(vendors: dict[str, MockVendor]) -> None:
    whole = np.array(embed(vendors, "two paths").json()["data"][0]["embedding"])
    short = np.array(embed(vendors, "two paths", dimensions=32).json()["data"][0]["embedding"])
    np.testing.assert_allclose(short, whole[:32] / np.linalg.norm(whole[:32]), atol=1e-6)


@pytest.mark.parametrize("text", ["", "the", "?!", "日本語", "naïve ﬁne", "\x00", "a" * 9000])
def test_every_text_but_an_empty_one_has_a_vector(text: str) -> None:
    if text:
        assert abs(float(np.linalg.norm(vectors_of((text,), 8))) - 1.0) < 1e-6


@pytest.mark.parametrize(
    "changes",
    [
        {"input": []},
        {"input": ["a", ""]},
        {"input": [1, 2]},
        {"dimensions": 0},
        {"dimensions": 4096},
        {"encoding_format": "int8"},
        {"colour": "red"},
        {"input": ["a"] * 2049},
        {"input": "a " * 8193},
    ],
)
def test_what_the_embeddings_contract_does_not_allow_is_refused(
    vendors: dict[str, MockVendor], changes: dict[str, Any]
) -> None:
    assert (
        embed(vendors, **{"texts": "a"} | {("texts" if k == "input" else k): v for k, v in changes.items()}).status_code
        == 400
    )


def test_our_embedder_reads_them_and_faults_meet_it_too(vendors: dict[str, MockVendor]) -> None:
    vendor = vendors["openai"]
    address = str(vendor.address).replace("mock-large", "mock-embed")
    embedder = open_embedder(address)
    try:
        honest = embedder.embed(["two paths"], purpose=Purpose.QUERY).vectors
        vendor.inject(Fault("quality_drift"))
        assert float((embedder.embed(["two paths"], purpose=Purpose.QUERY).vectors @ honest.T)[0, 0]) < 0.5
        for kind, said in (("truncate", "malformed"), ("malformed", "malformed"), ("unavailable", "overloaded")):
            vendor.inject(Fault(kind))
            with pytest.raises(ModelError) as caught:
                embedder.embed(["a", "b"], purpose=Purpose.QUERY)
            assert caught.value.error_class == said
    finally:
        vendor.inject(Fault("none"))
        embedder.close()
    entry = list(vendor.account())[-1]
    assert (entry["operation"], entry["kind"]) == ("embeddings", "unavailable")


# -- models --------------------------------------------------------------------------------------------------------


def get(vendor: MockVendor, path: str, **headers: str) -> httpx.Response:
    base = vendor.address.options["base_url"].removesuffix("/v1")
    return httpx.get(base + path, headers={"authorization": "Bearer k"} | headers, trust_env=False)


def test_models_are_listed_and_described(vendors: dict[str, MockVendor]) -> None:
    listed = get(vendors["openai"], "/v1/models").json()
    assert [each["id"] for each in listed["data"]] == ["mock-large", "mock-embed", "mock-rerank"]
    assert get(vendors["openai"], "/v1/models/mock-embed").json()["object"] == "model"
    assert get(vendors["openai"], "/v1/models/gpt").status_code == 404
    assert get(vendors["openai"], "/v1/models", authorization="").status_code == 401
    listed = get(vendors["anthropic"], "/v1/models").json()
    assert (listed["first_id"], listed["has_more"]) == ("mock-large", False)
    assert [each["type"] for each in listed["data"]] == ["model"]
