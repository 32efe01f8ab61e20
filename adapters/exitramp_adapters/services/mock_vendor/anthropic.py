"""The messages shape: `POST /v1/messages`, streamed or not, as its contract is published, in both of its versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from exitramp_adapters.services.mock_vendor.shape import (
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

VERSIONS: Final = ("2023-06-01", "2026-10-21")
_GONE_SINCE_2026: Final = ("temperature", "top_p", "top_k")
_KNOWN: Final = fields("model messages max_tokens system temperature top_p top_k stream metadata service_tier")
_UNSUPPORTED: Final = fields("tools tool_choice thinking stop_sequences container mcp_servers")
# kind: (status, type, message)
_ERRORS: Final = {
    "rate_limit": (429, "rate_limit_error", "This request would exceed the rate limit. This is a mock."),
    "quota": (429, "rate_limit_error", "The monthly spend limit is reached. This is a mock."),
    "error_500": (500, "api_error", "Internal server error. This is a mock."),
    "unavailable": (503, "api_error", "The service is unavailable. This is a mock."),
    "overloaded": (529, "overloaded_error", "Overloaded. This is a mock."),
    "auth": (401, "authentication_error", "invalid x-api-key. This is a mock."),
    "model_gone": (404, "not_found_error", "There is no such model. This is a mock."),
    "context_length": (400, "invalid_request_error", "prompt is too long"),
    "invalid_request": (400, "invalid_request_error", "The request is invalid."),
    "unsupported_media": (415, "invalid_request_error", "The content type is not supported."),
    "no_such_path": (404, "not_found_error", "Not Found"),
    "method": (405, "invalid_request_error", "Method Not Allowed"),
    "too_large": (413, "request_too_large", "Request exceeds the maximum size"),
}


class AnthropicShape:
    """Cached tokens are counted outside `input_tokens`."""

    name = "anthropic"
    path = "/v1/messages"
    scheme = "anthropic"
    request_id_header = "request-id"

    def key(self, headers: Mapping[str, str]) -> str | None:
        # Either header: newer releases of the vendor's own client send the key as a bearer token.
        return headers.get("x-api-key", "").strip() or bearer(headers)

    def read(self, headers: Mapping[str, str], body: bytes) -> Ask:
        if "anthropic-version" not in headers:
            raise Refusal("invalid_request", "anthropic-version: header is required")
        if headers["anthropic-version"] not in VERSIONS:
            raise Refusal("invalid_request", "anthropic-version: is not a valid version")
        data = read_json(headers, body)
        if headers["anthropic-version"] != VERSIONS[0]:
            for field in _GONE_SINCE_2026:
                if field in data:
                    raise Refusal("invalid_request", f"{field}: Extra inputs are not permitted", field=field)
        only_fields(data, _KNOWN, _UNSUPPORTED)
        model = need(data, "model", str, what="a string")
        limit = need(data, "max_tokens", int, what="an integer")
        need_range(limit, "max_tokens", 1, 1_000_000)
        messages = need(data, "messages", list, what="a list")
        if not messages:
            raise Refusal("invalid_request", "messages: at least one message is required", field="messages")
        texts: list[str] = []
        for place, message in enumerate(messages):
            where = f"messages.{place}"
            if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
                raise Refusal("invalid_request", f"{where}.role: must be 'user' or 'assistant'")
            texts.append(text_of(message.get("content"), f"{where}.content"))
            if not texts[-1].strip():
                raise Refusal("invalid_request", f"{where}: text must be non-empty")
        if messages[0]["role"] != "user":
            raise Refusal("invalid_request", "messages: first message must use the 'user' role")
        system = text_of(data["system"], "system") if "system" in data else ""
        need_range(need(data, "temperature", (int, float), default=None, what="a number"), "temperature", 0, 1)
        stream = need(data, "stream", bool, default=False, what="true or false")
        return Ask(model, "\n".join([system, *texts] if system else texts), system, limit, stream)

    def error(self, refusal: Refusal, request_id: str) -> ErrorAnswer:
        status, kind, message = _ERRORS[refusal.kind]
        error: dict[str, Any] = {"type": kind, "message": refusal.message or message}
        if refusal.kind == "quota":  # the type is that of a rate limit; only this code tells that no waiting mends it
            error["details"] = {"error_code": "enforced_spend_limit_reached"}
        return ErrorAnswer(status, _dump({"type": "error", "error": error, "request_id": request_id}))

    def whole(self, reply: Reply) -> dict[str, Any]:
        return _message(reply) | {
            "content": [{"type": "text", "text": reply.text}],
            "stop_reason": _stop_reason(reply),
            "usage": _usage(reply),
        }

    def without_finish(self, reply: Reply) -> dict[str, Any]:
        half = reply.text[: len(reply.text) // 2]
        return self.whole(reply) | {"content": [{"type": "text", "text": half}], "stop_reason": None}

    def stream(self, ask: Ask, reply: Reply) -> StreamPieces:
        started = _message(reply) | {"content": [], "stop_reason": None, "usage": _usage(reply) | {"output_tokens": 1}}
        block = {"type": "text", "text": ""}
        ended = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
        return StreamPieces(
            opening=(
                _event("message_start", message=started),
                _event("content_block_start", index=0, content_block=block),
                _event("ping"),
            ),
            tokens=tuple(
                _event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
                for piece in pieces_of(reply.text)
            ),
            closing=(
                _event("content_block_stop", index=0),
                _event("message_delta", delta=ended, usage={"output_tokens": reply.gen_tokens}),
                _event("message_stop"),
            ),
        )


def _stop_reason(reply: Reply) -> str:
    return "max_tokens" if reply.is_cut_by_limit else "end_turn"


def _message(reply: Reply) -> dict[str, Any]:
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "stop_sequence": None,
    }


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "input_tokens": reply.prompt_tokens - reply.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": reply.cached_tokens,
        "output_tokens": reply.gen_tokens,
    }


def _event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + _dump({"type": kind, **data}) + b"\n\n"


def _dump(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
