"""The messages shape over HTTP: Anthropic, and what speaks like it.

`anthropic:MODEL?base_url=https://api.anthropic.com&key=env:NAME`; the path `/v1/messages` is added, as the vendor's
own SDK does. Options as in `openai:` without `max_tokens_field`, and `version`: since 2026-10-21, the default, the API
has no temperature, so only requests that ask for 0 are sent, without it; `version=2023-06-01` sends it to the models
that still take one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from exitramp.errors import AddressError, ModelError
from exitramp.ports import (
    ChatAnswer,
    ChatDelta,
    ChatMessage,
    ChatModel,
    ChatRequest,
    ModelAdapter,
    ModelIdentity,
    ToolCall,
)
from exitramp.ports.over_http import (
    WRONG_SHAPE,
    ModelHttp,
    Pieces,
    Received,
    ServerEvent,
    count,
    estimated_tokens,
    fields,
    optional_count,
    optional_text,
    said_in,
    word,
)
from exitramp.ports.over_http import (
    text as text_of,
)
from exitramp.records import Usage
from exitramp.urls import Address, Network

PROVIDER = "anthropic"
VERSIONS: Final = ("2026-10-21", "2023-06-01")
_FINISH: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class AnthropicChat:
    """A chat model behind the messages shape. Finish reasons are given in the words of `openai:`."""

    def __init__(self, address: Address, network: Network) -> None:
        self._http = ModelHttp(
            address, network, provider=PROVIDER, known_options=("version",), example_url="https://api.anthropic.com"
        )
        self._version = address.options.get("version", VERSIONS[0])
        if self._version not in VERSIONS:
            raise AddressError(f"anthropic: option 'version' is one of: {', '.join(VERSIONS)}")
        self._path = "/messages" if self._http.endpoint.base_url.endswith("/v1") else "/v1/messages"
        self._model = address.location

    def identity(self) -> ModelIdentity:
        return ModelIdentity(PROVIDER, self._model, str(self._http.address), self._http.is_mock)

    def answer(
        self,
        request: ChatRequest,
        *,
        timeout_seconds: float,
        on_delta: Callable[[ChatDelta], None] | None = None,
    ) -> ChatAnswer:
        body = {"model": self._model, "max_tokens": request.maximum_tokens} | _body(request, self._version)
        prompt = said_in(request)
        parts = _Parts(self._http, prompt, on_delta) if request.stream else None
        received = self._http.post(
            self._path,
            body,
            {"x-api-key": self._http.endpoint.key, "anthropic-version": self._version},
            idempotency_key=request.idempotency_key,
            timeout_seconds=timeout_seconds,
            prompt=prompt,
            parts=parts,
        )
        if parts is None:
            parts = _Parts(self._http, prompt, None)
            parts.take_whole(received.data)
        return parts.complete(received, self._model)

    def refuses(self) -> tuple[str, ...]:
        sampling = () if self._version == "2023-06-01" else ("a temperature above 0", "top_p")
        return (*sampling, "json_object")

    def close(self) -> None:
        self._http.close()


def _body(request: ChatRequest, version: str) -> dict[str, Any]:
    """What the shape says of a request, but for the model and the limit. Raises `ModelError` for what it cannot say."""
    body: dict[str, Any] = {"messages": _messages(request.messages)}
    system = "\n\n".join(message.content for message in request.messages if message.role == "system")
    if system:
        body["system"] = system
    if version == "2023-06-01":
        body |= {
            name: value
            for name, value in (("temperature", request.temperature), ("top_p", request.top_p))
            if value is not None
        }
    elif request.temperature or request.top_p is not None:
        name = "temperature" if request.temperature else "top_p"
        raise _refused(
            f"the API version {version} has no {name}, and one was asked",
            "leave it away, or add ?version=2023-06-01 for a model that still takes one",
        )
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
            for tool in request.tools
        ]
    if request.tool_choice is not None:
        word = {"auto": "auto", "none": "none", "required": "any"}.get(request.tool_choice)
        body["tool_choice"] = {"type": word} if word else {"type": "tool", "name": request.tool_choice}
    if (wanted := request.response_format) is not None:
        if wanted.kind == "json_object":
            raise _refused("the messages shape has no JSON mode without a schema", "ask for json_schema")
        body["output_config"] = {"format": {"type": "json_schema", "schema": dict(wanted.schema)}}
    if request.stream:
        body["stream"] = True
    return body


def _messages(messages: tuple[ChatMessage, ...]) -> list[dict[str, Any]]:
    """The results of tools are parts of one message of the user's, as the shape wants them."""
    said: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        if message.role == "tool":
            block = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}
            if said and said[-1]["role"] == "user" and isinstance(said[-1]["content"], list):
                said[-1]["content"].append(block)
            else:
                said.append({"role": "user", "content": [block]})
            continue
        if not message.tool_calls:
            said.append({"role": message.role, "content": message.content})
            continue
        blocks: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
        for call in message.tool_calls:
            blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": _arguments(call)})
        said.append({"role": message.role, "content": blocks})
    return said


def _arguments(call: ToolCall) -> dict[str, Any]:
    try:
        found = json.loads(call.arguments or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _refused(f"the arguments of the tool call '{call.name}' are no JSON object", None)
    return found


def _refused(what: str, hint: str | None) -> ModelError:
    return ModelError(f"anthropic: {what}", error_class="invalid_request", hint=hint)


class _Parts:
    """An answer as it comes together, from one body or from many events."""

    def __init__(self, http: ModelHttp, prompt: str, on_delta: Callable[[ChatDelta], None] | None) -> None:
        self._http = http
        self._prompt = prompt
        self._pieces = Pieces(on_delta)
        self._stop: str | None = None
        self._usage: dict[str, Any] = {}
        self._model: str | None = None
        self.is_done = False

    @property
    def has_token(self) -> bool:
        return self._pieces.has_token

    def feed(self, event: ServerEvent) -> None:
        try:
            data = json.loads(event.data)
            match data["type"]:
                case "error":
                    raise self._http.error_inside(data, self._prompt)
                case "message_start":
                    self._model = optional_text(data["message"].get("model"))
                    self._usage |= fields(data["message"].get("usage"))
                case "content_block_start" if data["content_block"]["type"] == "tool_use":
                    block = data["content_block"]
                    self._pieces.add_call(
                        count(data["index"]), ToolCall(text_of(block["id"]), text_of(block["name"]), "")
                    )
                case "content_block_delta" if data["delta"]["type"] == "text_delta":
                    self._pieces.add_text(text_of(data["delta"]["text"]))
                case "content_block_delta" if data["delta"]["type"] == "input_json_delta":
                    self._pieces.add_call(
                        count(data["index"]), ToolCall("", "", text_of(data["delta"]["partial_json"]))
                    )
                case "message_delta":
                    self._stop = word(data["delta"].get("stop_reason")) or self._stop
                    # Cumulative counts; what a delta leaves out was said at the start.
                    self._usage |= {name: told for name, told in fields(data.get("usage")).items() if told is not None}
                case "message_stop":
                    self.is_done = True
        except WRONG_SHAPE:
            raise self._http.broken("malformed", "sent an event that is not in its shape") from None

    def take_whole(self, data: Mapping[str, Any]) -> None:
        """The body of an answer that was not streamed. Raises `ModelError`."""
        if data.get("type") == "error" or data.get("error"):
            raise self._http.error_inside(data, self._prompt)
        try:
            for place, block in enumerate(data["content"]):
                if block["type"] == "text":
                    self._pieces.add_text(text_of(block["text"]))
                elif block["type"] == "tool_use":
                    given = json.dumps(fields(block["input"]), ensure_ascii=False, separators=(",", ":"))
                    self._pieces.add_call(place, ToolCall(text_of(block["id"]), text_of(block["name"]), given))
            self._stop = word(data["stop_reason"])
            self._usage |= fields(data["usage"])
            self._model = optional_text(data.get("model"))
        except WRONG_SHAPE:
            raise self._http.broken("malformed", "sent an answer that is not in its shape") from None

    def complete(self, received: Received, asked_model: str) -> ChatAnswer:
        """The answer, if it has a stop reason. Raises `ModelError`."""
        if self._stop is None:
            raise self._http.broken("truncated", "ended its answer without a stop reason")
        finish = _FINISH.get(self._stop, self._stop)
        if finish == "content_filter":
            raise self._http.broken("content_filter", "withheld its answer")
        text = self._pieces.text
        calls = tuple(replace(call, arguments=call.arguments or "{}") for call in self._pieces.calls())
        if not text and not calls:
            raise self._http.broken("malformed", "sent an empty answer")
        if not all(call.name for call in calls):
            raise self._http.broken("malformed", "called a tool without its name")
        return ChatAnswer(
            text=text,
            finish_reason=finish,
            model_id=self._model or asked_model,
            usage=_usage(self._usage, self._prompt, self._pieces.said, self._http),
            latency_ms=received.latency_ms,
            time_to_first_token_ms=received.first_token_ms,
            vendor_request_id=received.headers.get("request-id"),
            tool_calls=calls,
        )


def _usage(data: Mapping[str, Any], prompt: str, text: str, http: ModelHttp) -> Usage:
    """`input_tokens` leaves out what was read from or written to the cache, so both are added."""
    if "input_tokens" not in data:
        return Usage(estimated_tokens(prompt), estimated_tokens(text), source="estimated")
    try:
        read = optional_count(data.get("cache_read_input_tokens"))
        written = optional_count(data.get("cache_creation_input_tokens"))
        return Usage(
            prompt_tokens=count(data["input_tokens"]) + read + written,
            gen_tokens=count(data["output_tokens"]),
            cache_read_tokens=read,
            cache_write_tokens=written,
        )
    except WRONG_SHAPE:
        raise http.broken("malformed", "sent a usage that is not in its shape") from None


def _open(address: Address, network: Network) -> ChatModel:
    return AnthropicChat(address, network)


ADAPTER = ModelAdapter(
    scheme="anthropic",
    summary="Messages over HTTP: Anthropic",
    address_form="anthropic:MODEL?base_url=https://api.anthropic.com&key=env:NAME",
    roles=("chat",),
    open_chat=_open,
    requires=("httpx",),
    evidence="wire mocked",
)
