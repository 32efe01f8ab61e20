"""The chat completions shape: `POST /v1/chat/completions`, streamed or not, as its contract is published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from exitramp_adapters.services.mock_vendor.shape import (
    FINGERPRINT,
    Ask,
    ErrorAnswer,
    Refusal,
    Reply,
    StreamPieces,
    bearer,
    fields,
    need,
    need_range,
    only_fields,
    pieces_of,
    read_json,
    text_of,
)

_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})
_KNOWN: Final = fields(
    "model messages max_tokens max_completion_tokens temperature top_p stream stream_options n seed user metadata "
    "presence_penalty frequency_penalty store service_tier safety_identifier prompt_cache_key"
)
_UNSUPPORTED: Final = fields(
    "tools tool_choice parallel_tool_calls functions function_call response_format logprobs top_logprobs logit_bias "
    "stop audio modalities prediction reasoning_effort verbosity web_search_options"
)
# kind: (status, type, code, message)
_ERRORS: Final = {
    "rate_limit": (429, "requests", "rate_limit_exceeded", "Rate limit reached for requests. This is a mock."),
    "quota": (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota. This is a mock."),
    "error_500": (500, "server_error", None, "The server had an error. This is a mock."),
    "unavailable": (503, "server_error", None, "The service is unavailable. This is a mock."),
    "overloaded": (529, "server_error", None, "The service is overloaded. This is a mock."),
    "auth": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided. This is a mock."),
    "model_gone": (404, "invalid_request_error", "model_not_found", "The model does not exist. This is a mock."),
    "context_length": (400, "invalid_request_error", "context_length_exceeded", "The context is too long."),
    "invalid_request": (400, "invalid_request_error", None, "The request is invalid."),
    "unsupported_media": (415, "invalid_request_error", None, "The content type is not supported."),
    "no_such_path": (404, "invalid_request_error", "unknown_url", "There is no such path."),
    "method": (405, "invalid_request_error", "method_not_supported", "The method is not allowed."),
    "too_large": (413, "invalid_request_error", None, "The body is too large."),
}


class OpenAIShape:
    """Cached tokens are counted inside `prompt_tokens`."""

    name = "openai"
    path = "/v1/chat/completions"
    scheme = "openai"
    request_id_header = "x-request-id"

    def key(self, headers: Mapping[str, str]) -> str | None:
        return bearer(headers)

    def read(self, headers: Mapping[str, str], body: bytes) -> Ask:
        data = read_json(headers, body)
        only_fields(data, _KNOWN, _UNSUPPORTED)
        model = need(data, "model", str, what="a string")
        messages = need(data, "messages", list, what="a list")
        if not messages:
            raise Refusal("invalid_request", "'messages' is empty", field="messages")
        texts: list[str] = []
        system: list[str] = []
        for place, message in enumerate(messages):
            where = f"messages[{place}]"
            if not isinstance(message, dict) or message.get("role") not in _ROLES:
                raise Refusal("invalid_request", f"'{where}.role' must be one of: {', '.join(sorted(_ROLES))}")
            text = text_of(message.get("content"), f"{where}.content")
            texts.append(text)
            if message["role"] in ("system", "developer"):
                system.append(text)
        limits = [need(data, name, int, default=None, what="an integer") for name in _LIMITS]
        if None not in limits:
            raise Refusal("invalid_request", f"'{_LIMITS[0]}' and '{_LIMITS[1]}' exclude each other")
        limit = limits[0] if limits[0] is not None else limits[1]
        need_range(limit, "max_tokens", 1, 1_000_000)
        need_range(need(data, "temperature", (int, float), default=None, what="a number"), "temperature", 0, 2)
        need_range(need(data, "n", int, default=None, what="an integer"), "n", 1, 1)
        stream = need(data, "stream", bool, default=False, what="true or false")
        options = need(data, "stream_options", dict, default=None, what="an object")
        if options is not None and not stream:
            raise Refusal("invalid_request", "'stream_options' needs 'stream'", field="stream_options")
        usage = bool((options or {}).get("include_usage", False))
        return Ask(model, "\n".join(texts), "\n".join(system), limit, stream, usage)

    def error(self, refusal: Refusal, request_id: str) -> ErrorAnswer:
        status, kind, code, message = _ERRORS[refusal.kind]
        error = {"message": refusal.message or message, "type": kind, "param": refusal.field, "code": code}
        return ErrorAnswer(status, _dump({"error": error}))

    def whole(self, reply: Reply) -> dict[str, Any]:
        message = {"role": "assistant", "content": reply.text, "refusal": None}
        finish = "length" if reply.is_cut_by_limit else "stop"
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return _head(reply, "chat.completion") | {"choices": [choice], "usage": _usage(reply)}

    def without_finish(self, reply: Reply) -> dict[str, Any]:
        body = self.whole(reply)
        body["choices"][0]["message"]["content"] = reply.text[: len(reply.text) // 2]
        body["choices"][0]["finish_reason"] = None
        return body

    def stream(self, ask: Ask, reply: Reply) -> StreamPieces:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            extra = {"usage": None} if ask.usage_in_stream else {}
            return _event(_head(reply, "chat.completion.chunk") | {"choices": [choice]} | extra)

        closing = [chunk({}, "length" if reply.is_cut_by_limit else "stop")]
        if ask.usage_in_stream:
            closing.append(_event(_head(reply, "chat.completion.chunk") | {"choices": [], "usage": _usage(reply)}))
        return StreamPieces(
            opening=(chunk({"role": "assistant", "content": "", "refusal": None}),),
            tokens=tuple(chunk({"content": piece}) for piece in pieces_of(reply.text)),
            closing=(*closing, b"data: [DONE]\n\n"),
        )


_LIMITS: Final = ("max_tokens", "max_completion_tokens")


def _head(reply: Reply, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{reply.id}",
        "object": kind,
        "created": reply.created,
        "model": reply.model,
        "system_fingerprint": FINGERPRINT,
    }


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.gen_tokens,
        "total_tokens": reply.prompt_tokens + reply.gen_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + _dump(data) + b"\n\n"


def _dump(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
