"""The chat completions shape over HTTP: OpenAI, and what speaks like it (llama.cpp, Ollama, vLLM, the mock vendor).

`openai:MODEL?base_url=http://127.0.0.1:8080/v1&key=env:NAME`. Options: `base_url` (needed), `key` (a reference; needed
off loopback), `connect_seconds`, `first_token_seconds` (streams), `connections`, `mock=true`, and
`max_tokens_field=max_completion_tokens` for models that refuse `max_tokens`.

`local:MODEL` is the same shape from a server of your own: `base_url` is http://127.0.0.1:8080/v1 unless it says
otherwise, it must be on loopback, and its traces name `local`, which costs no tokens.
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
    Embedder,
    ModelAdapter,
    ModelIdentity,
    ResponseFormat,
    ToolCall,
)
from exitramp.ports.over_http import (
    WRONG_SHAPE,
    ModelHttp,
    Pieces,
    Received,
    ServerEvent,
    consistent,
    count,
    estimated_tokens,
    fields,
    optional_count,
    optional_text,
    said_in,
    word,
)
from exitramp.records import Usage
from exitramp.urls import Address, Network
from exitramp_adapters.models.openai_embeddings import OPTIONS, OpenAIEmbedder

PROVIDER: Final = "openai"
LOCAL: Final = "local"
LOCAL_URL: Final = "http://127.0.0.1:8080/v1"
_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")


class OpenAIChat:
    """A chat model behind the chat completions shape."""

    def __init__(self, address: Address, network: Network, *, provider: str = PROVIDER) -> None:
        self._http = ModelHttp(
            address,
            network,
            provider=provider,
            known_options=OPTIONS,
            example_url="http://127.0.0.1:8080/v1",
        )
        self._limit_field = address.options.get("max_tokens_field", "max_tokens")
        if self._limit_field not in _LIMIT_FIELDS:
            raise AddressError(f"openai: option 'max_tokens_field' is one of: {', '.join(_LIMIT_FIELDS)}")
        self._model = address.location

    def identity(self) -> ModelIdentity:
        return ModelIdentity(self._http.provider, self._model, str(self._http.address), self._http.is_mock)

    def answer(
        self,
        request: ChatRequest,
        *,
        timeout_seconds: float,
        on_delta: Callable[[ChatDelta], None] | None = None,
    ) -> ChatAnswer:
        body = {"model": self._model, self._limit_field: request.maximum_tokens} | _body(request)
        prompt = said_in(request)
        parts = _Parts(self._http, prompt, on_delta) if request.stream else None
        received = self._http.post(
            "/chat/completions",
            body,
            {"authorization": f"Bearer {self._http.endpoint.key}"},
            idempotency_key=request.idempotency_key,
            timeout_seconds=timeout_seconds,
            prompt=prompt,
            parts=parts,
        )
        if parts is None:
            parts = _Parts(self._http, prompt, None)
            parts.take_whole(received.data)
        return parts.complete(received, self._model)

    def close(self) -> None:
        self._http.close()


def _body(request: ChatRequest) -> dict[str, Any]:
    """What the shape says of a request, but for the model and the limit."""
    body: dict[str, Any] = {"messages": [_message(message) for message in request.messages]}
    for name, value in (("temperature", request.temperature), ("top_p", request.top_p)):
        if value is not None:
            body[name] = value
    if request.stop:
        body["stop"] = list(request.stop)
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
            }
            for tool in request.tools
        ]
    if request.tool_choice is not None:
        is_word = request.tool_choice in ("auto", "none", "required")
        named = {"type": "function", "function": {"name": request.tool_choice}}
        body["tool_choice"] = request.tool_choice if is_word else named
    if request.response_format is not None:
        body["response_format"] = _format(request.response_format)
    if request.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _message(message: ChatMessage) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        said["content"] = message.content or None
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        said["tool_call_id"] = message.tool_call_id
    return said


def _format(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.kind == "json_object":
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": wanted.name, "schema": dict(wanted.schema), "strict": True},
    }


class _Parts:
    """An answer as it comes together, from one body or from many chunks."""

    def __init__(self, http: ModelHttp, prompt: str, on_delta: Callable[[ChatDelta], None] | None) -> None:
        self._http = http
        self._prompt = prompt
        self._pieces = Pieces(on_delta)
        self._finish: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self._model: str | None = None
        self.is_done = False

    @property
    def has_token(self) -> bool:
        return self._pieces.has_token

    def feed(self, event: ServerEvent) -> None:
        if event.data.strip() == "[DONE]":
            self.is_done = True
            return
        try:
            chunk = json.loads(event.data)
            if chunk.get("error"):
                raise self._http.error_inside(chunk, self._prompt)
            self._take(chunk, "delta")
        except WRONG_SHAPE:
            raise self._http.broken("malformed", "sent a chunk that is not in its shape") from None

    def take_whole(self, data: Mapping[str, Any]) -> None:
        """The body of an answer that was not streamed. Raises `ModelError`."""
        if data.get("error") or ("error" in data and "choices" not in data):
            raise self._http.error_inside(data, self._prompt)
        try:
            if not data["choices"]:
                raise KeyError("choices")
            self._take(data, "message")
        except WRONG_SHAPE:
            raise self._http.broken("malformed", "sent an answer that is not in its shape") from None

    def _take(self, data: Mapping[str, Any], part: str) -> None:
        self._model = optional_text(data.get("model")) or self._model
        self._usage = data.get("usage") or self._usage
        for choice in data["choices"]:
            if choice.get("index", 0) != 0:
                continue  # one answer was asked for
            said = choice[part]
            if said.get("refusal"):
                raise self._filtered()
            if content := optional_text(said.get("content")):
                self._pieces.add_text(content)
            for place, call in enumerate(said.get("tool_calls") or ()):
                function = call.get("function") or {}
                named = (call.get("id"), function.get("name"), function.get("arguments"))
                self._pieces.add_call(count(call.get("index", place)), ToolCall(*map(optional_text, named)))
            self._finish = word(choice.get("finish_reason")) or self._finish

    def complete(self, received: Received, asked_model: str) -> ChatAnswer:
        """The answer, if it has a finish reason. Raises `ModelError`."""
        if self._finish is None:
            raise self._http.broken("truncated", "ended its answer without a finish reason")
        if self._finish == "content_filter":
            raise self._filtered()
        text, calls = self._pieces.text, self._pieces.calls()
        if not text and not calls:
            raise self._http.broken("malformed", "sent an empty answer")
        if not all(call.name for call in calls):
            raise self._http.broken("malformed", "called a tool without its name")
        return ChatAnswer(
            text=text,
            finish_reason=self._finish,
            model_id=self._model or asked_model,
            usage=_usage(self._usage, self._prompt, self._pieces.said, self._http),
            latency_ms=received.latency_ms,
            time_to_first_token_ms=received.first_token_ms,
            vendor_request_id=received.headers.get("x-request-id"),
            tool_calls=calls,
        )

    def _filtered(self) -> ModelError:
        return self._http.broken("content_filter", "withheld its answer")


def _usage(data: Mapping[str, Any] | None, prompt: str, text: str, http: ModelHttp) -> Usage:
    """Cached tokens are inside `prompt_tokens` already, read and written ones. Servers that count nothing are estimated
    for."""
    if data is None:
        return Usage(estimated_tokens(prompt), estimated_tokens(text), source="estimated")
    try:
        cached, generated = fields(data.get("prompt_tokens_details")), fields(data.get("completion_tokens_details"))
        return consistent(
            Usage(
                prompt_tokens=count(data["prompt_tokens"]),
                gen_tokens=count(data["completion_tokens"]),
                cache_read_tokens=optional_count(cached.get("cached_tokens")),
                cache_write_tokens=optional_count(cached.get("cache_write_tokens")),
                reasoning_tokens=optional_count(generated.get("reasoning_tokens")),
            )
        )
    except WRONG_SHAPE:
        raise http.broken("malformed", "sent a usage that is not in its shape") from None


def _local(address: Address) -> Address:
    """The address of a server of one's own. Raises `AddressError` for one that is not on this machine."""
    found = replace(address, options={"base_url": LOCAL_URL, **address.options})
    if not found.is_loopback:
        raise AddressError(
            "local: is for servers on this machine", hint="write openai:MODEL?base_url=… for one that is elsewhere"
        )
    return found


def _chat(address: Address, network: Network) -> ChatModel:
    return OpenAIChat(address, network)


def _embedder(address: Address, network: Network) -> Embedder:
    return OpenAIEmbedder(address, network, provider=PROVIDER, known_options=OPTIONS)


def _local_chat(address: Address, network: Network) -> ChatModel:
    return OpenAIChat(_local(address), network, provider=LOCAL)


def _local_embedder(address: Address, network: Network) -> Embedder:
    return OpenAIEmbedder(_local(address), network, provider=LOCAL, known_options=OPTIONS)


ADAPTER = ModelAdapter(
    scheme=PROVIDER,
    summary="Chat completions and embeddings over HTTP: OpenAI, llama.cpp, Ollama, vLLM",
    address_form="openai:MODEL?base_url=http://127.0.0.1:8080/v1&key=env:NAME",
    roles=("chat", "embedder"),
    open_chat=_chat,
    open_embedder=_embedder,
    requires=("httpx",),
    evidence="wire mocked",
)
LOCAL_ADAPTER = ModelAdapter(
    scheme=LOCAL,
    summary="The same shapes from a server on this machine: llama.cpp, Ollama, vLLM",
    address_form="local:MODEL?base_url=http://127.0.0.1:8080/v1",
    roles=("chat", "embedder"),
    open_chat=_local_chat,
    open_embedder=_local_embedder,
    requires=("httpx",),
    evidence="real",
)
