"""The chat completions shape over HTTP: OpenAI, and what speaks like it (llama.cpp, Ollama, vLLM, the mock vendor).

`openai:MODEL?base_url=http://127.0.0.1:8080/v1&key=env:NAME`. Options: `base_url` (needed), `key` (a reference; needed
off loopback), `connect_seconds`, `first_token_seconds` (streams), `connections`, `mock=true`, and
`max_tokens_field=max_completion_tokens` for models that refuse `max_tokens`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from exitramp.errors import AddressError, ModelError
from exitramp.ports import ChatAnswer, ChatModel, ChatRequest, ModelAdapter, ModelIdentity
from exitramp.records import Usage
from exitramp.urls import Address, Network
from exitramp_adapters.models._chat_errors import vendor_error
from exitramp_adapters.models._chat_http import ChatHttp, Received, estimated_tokens
from exitramp_adapters.models._sse import ServerEvent

PROVIDER = "openai"
_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")


class OpenAIChat:
    """A chat model behind the chat completions shape."""

    def __init__(self, address: Address, network: Network) -> None:
        self._http = ChatHttp(
            address,
            network,
            provider=PROVIDER,
            known_options=("max_tokens_field",),
            example_url="http://127.0.0.1:8080/v1",
        )
        self._limit_field = address.options.get("max_tokens_field", "max_tokens")
        if self._limit_field not in _LIMIT_FIELDS:
            raise AddressError(f"openai: option 'max_tokens_field' is one of: {', '.join(_LIMIT_FIELDS)}")
        self._model = address.location

    def identity(self) -> ModelIdentity:
        return ModelIdentity(PROVIDER, self._model, str(self._http.address), self._http.is_mock)

    def answer(self, request: ChatRequest, *, timeout_seconds: float) -> ChatAnswer:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            self._limit_field: request.maximum_tokens,
            "temperature": request.temperature,
        }
        if request.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        prompt = "\n".join(message.content for message in request.messages)
        parts = _Parts(self._http, prompt) if request.stream else None
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
            parts = _Parts(self._http, prompt)
            parts.take_whole(received.data)
        return parts.complete(received, self._model)

    def close(self) -> None:
        self._http.close()


class _Parts:
    """An answer as it comes together, from one body or from many chunks."""

    def __init__(self, http: ChatHttp, prompt: str) -> None:
        self._http = http
        self._prompt = prompt
        self._texts: list[str] = []
        self._finish: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self._model: str | None = None
        self.is_done = False

    @property
    def has_token(self) -> bool:
        return bool(self._texts)

    def feed(self, event: ServerEvent) -> None:
        if event.data == "[DONE]":
            self.is_done = True
            return
        try:
            chunk = json.loads(event.data)
            if "error" in chunk:
                raise vendor_error(PROVIDER, None, chunk, {}, prompt=self._prompt, maybe_billed=True)
            self._take(chunk, "delta")
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
            raise self._http.broken("malformed", "sent a chunk that is not in its shape") from None

    def take_whole(self, data: Mapping[str, Any]) -> None:
        """The body of an answer that was not streamed. Raises `ModelError`."""
        if "error" in data and "choices" not in data:
            raise vendor_error(PROVIDER, None, data, {}, prompt=self._prompt, maybe_billed=True)
        try:
            if not data["choices"]:
                raise KeyError("choices")
            self._take(data, "message")
        except (TypeError, KeyError, AttributeError, IndexError):
            raise self._http.broken("malformed", "sent an answer that is not in its shape") from None

    def _take(self, data: Mapping[str, Any], part: str) -> None:
        self._model = data.get("model") or self._model
        self._usage = data.get("usage") or self._usage
        for choice in data["choices"]:
            if choice.get("index", 0) != 0:
                continue  # one answer was asked for
            said = choice[part]
            if said.get("refusal"):
                raise self._filtered()
            content = said.get("content")
            if content is not None and not isinstance(content, str):
                raise TypeError("content")
            if content:
                self._texts.append(content)
            self._finish = choice.get("finish_reason") or self._finish

    def complete(self, received: Received, asked_model: str) -> ChatAnswer:
        """The answer, if it has a finish reason. Raises `ModelError`."""
        if self._finish is None:
            raise self._http.broken("truncated", "ended its answer without a finish reason")
        if self._finish == "content_filter":
            raise self._filtered()
        text = "".join(self._texts)
        if not text and self._finish in ("stop", "length"):
            raise self._http.broken("malformed", "sent an empty answer")
        return ChatAnswer(
            text=text,
            finish_reason=self._finish,
            model_id=self._model or asked_model,
            usage=_usage(self._usage, self._prompt, text, self._http),
            latency_ms=received.latency_ms,
            time_to_first_token_ms=received.first_token_ms,
            vendor_request_id=received.headers.get("x-request-id"),
        )

    def _filtered(self) -> ModelError:
        return self._http.broken("content_filter", "withheld its answer")


def _usage(data: Mapping[str, Any] | None, prompt: str, text: str, http: ChatHttp) -> Usage:
    """Cached tokens are inside `prompt_tokens` already. Servers that count nothing are estimated for."""
    if data is None:
        return Usage(estimated_tokens(prompt), estimated_tokens(text), source="estimated")
    try:
        return Usage(
            prompt_tokens=int(data["prompt_tokens"]),
            gen_tokens=int(data["completion_tokens"]),
            cache_read_tokens=int((data.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
            reasoning_tokens=int((data.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0),
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        raise http.broken("malformed", "sent a usage that is not in its shape") from None


def _open(address: Address, network: Network) -> ChatModel:
    return OpenAIChat(address, network)


ADAPTER = ModelAdapter(
    scheme="openai",
    summary="Chat completions over HTTP: OpenAI, llama.cpp, Ollama, vLLM",
    address_form="openai:MODEL?base_url=http://127.0.0.1:8080/v1&key=env:NAME",
    roles=("chat",),
    open_chat=_open,
    requires=("httpx",),
    evidence="wire mocked",
)
