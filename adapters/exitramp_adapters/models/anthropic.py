"""The messages shape over HTTP: Anthropic, and what speaks like it.

`anthropic:MODEL?base_url=https://api.anthropic.com&key=env:NAME`; the path `/v1/messages` is added, as the vendor's
own SDK does. Options as in `openai:` without `max_tokens_field`, and `version`: since 2026-10-21, the default, the API
has no temperature, so only requests that ask for 0 are sent, without it; `version=2023-06-01` sends it to the models
that still take one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from exitramp.errors import AddressError, ModelError
from exitramp.ports import ChatAnswer, ChatModel, ChatRequest, ModelAdapter, ModelIdentity
from exitramp.records import Usage
from exitramp.urls import Address, Network
from exitramp_adapters.models._chat_errors import vendor_error
from exitramp_adapters.models._chat_http import ChatHttp, Received, estimated_tokens
from exitramp_adapters.models._sse import ServerEvent

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
        self._http = ChatHttp(
            address, network, provider=PROVIDER, known_options=("version",), example_url="https://api.anthropic.com"
        )
        self._version = address.options.get("version", VERSIONS[0])
        if self._version not in VERSIONS:
            raise AddressError(f"anthropic: option 'version' is one of: {', '.join(VERSIONS)}")
        self._path = "/messages" if self._http.endpoint.base_url.endswith("/v1") else "/v1/messages"
        self._model = address.location

    def identity(self) -> ModelIdentity:
        return ModelIdentity(PROVIDER, self._model, str(self._http.address), self._http.is_mock)

    def answer(self, request: ChatRequest, *, timeout_seconds: float) -> ChatAnswer:
        system = "\n\n".join(message.content for message in request.messages if message.role == "system")
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": request.maximum_tokens,
            "messages": [
                {"role": message.role, "content": message.content}
                for message in request.messages
                if message.role != "system"
            ],
        }
        if self._version == "2023-06-01":
            body["temperature"] = request.temperature
        elif request.temperature != 0.0:
            raise ModelError(
                f"anthropic: the API version {self._version} has no temperature, and {request.temperature:g} was asked",
                error_class="invalid_request",
                hint="ask for 0, or add ?version=2023-06-01 for a model that still takes one",
            )
        if system:
            body["system"] = system
        if request.stream:
            body["stream"] = True
        prompt = "\n".join(message.content for message in request.messages)
        parts = _Parts(self._http, prompt) if request.stream else None
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
            parts = _Parts(self._http, prompt)
            parts.take_whole(received.data)
        return parts.complete(received, self._model)

    def close(self) -> None:
        self._http.close()


class _Parts:
    """An answer as it comes together, from one body or from many events."""

    def __init__(self, http: ChatHttp, prompt: str) -> None:
        self._http = http
        self._prompt = prompt
        self._texts: list[str] = []
        self._stop: str | None = None
        self._usage: dict[str, Any] = {}
        self._model: str | None = None
        self.is_done = False

    @property
    def has_token(self) -> bool:
        return bool(self._texts)

    def feed(self, event: ServerEvent) -> None:
        try:
            data = json.loads(event.data)
            match data["type"]:
                case "error":
                    raise vendor_error(PROVIDER, None, data, {}, prompt=self._prompt, maybe_billed=True)
                case "message_start":
                    self._model = data["message"].get("model")
                    self._usage |= data["message"].get("usage") or {}
                case "content_block_delta" if data["delta"]["type"] == "text_delta":
                    self._texts.append(_text(data["delta"]["text"]))
                case "message_delta":
                    self._stop = data["delta"].get("stop_reason") or self._stop
                    # Cumulative counts; what a delta leaves out was said at the start.
                    self._usage |= {
                        name: count for name, count in (data.get("usage") or {}).items() if count is not None
                    }
                case "message_stop":
                    self.is_done = True
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
            raise self._http.broken("malformed", "sent an event that is not in its shape") from None

    def take_whole(self, data: Mapping[str, Any]) -> None:
        """The body of an answer that was not streamed. Raises `ModelError`."""
        if data.get("type") == "error":
            raise vendor_error(PROVIDER, None, data, {}, prompt=self._prompt, maybe_billed=True)
        try:
            self._texts += [_text(block["text"]) for block in data["content"] if block["type"] == "text"]
            self._stop = data["stop_reason"]
            self._usage |= data["usage"]
            self._model = data.get("model")
        except (TypeError, KeyError):
            raise self._http.broken("malformed", "sent an answer that is not in its shape") from None

    def complete(self, received: Received, asked_model: str) -> ChatAnswer:
        """The answer, if it has a stop reason. Raises `ModelError`."""
        if self._stop is None:
            raise self._http.broken("truncated", "ended its answer without a stop reason")
        finish = _FINISH.get(self._stop, self._stop)
        if finish == "content_filter":
            raise self._http.broken("content_filter", "withheld its answer")
        text = "".join(self._texts)
        if not text and finish in ("stop", "length"):
            raise self._http.broken("malformed", "sent an empty answer")
        return ChatAnswer(
            text=text,
            finish_reason=finish,
            model_id=self._model or asked_model,
            usage=_usage(self._usage, self._prompt, text, self._http),
            latency_ms=received.latency_ms,
            time_to_first_token_ms=received.first_token_ms,
            vendor_request_id=received.headers.get("request-id"),
        )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text")
    return value


def _usage(data: Mapping[str, Any], prompt: str, text: str, http: ChatHttp) -> Usage:
    """`input_tokens` leaves out what was read from or written to the cache, so both are added."""
    if "input_tokens" not in data:
        return Usage(estimated_tokens(prompt), estimated_tokens(text), source="estimated")
    try:
        read = int(data.get("cache_read_input_tokens") or 0)
        written = int(data.get("cache_creation_input_tokens") or 0)
        return Usage(
            prompt_tokens=int(data["input_tokens"]) + read + written,
            gen_tokens=int(data["output_tokens"]),
            cache_read_tokens=read,
            cache_write_tokens=written,
        )
    except (TypeError, KeyError, ValueError):
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
