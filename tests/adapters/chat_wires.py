"""The shapes of the chat vendors, written from their published contracts and not with the adapters' code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from exitramp.ports import ChatMessage, ChatRequest, ResponseFormat, ToolCall, ToolSpec
from exitramp.testing.conformance.chat import Said, WireError
from exitramp.testing.scripted import Arrived


def _event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


class OpenAIWire:
    """Chat completions: https JSON with `choices`, and chunks that end with `[DONE]`."""

    path = "/v1/chat/completions"

    def key(self, arrived: Arrived) -> str | None:
        return arrived.headers["authorization"].removeprefix("Bearer ")

    def asked(self, arrived: Arrived) -> ChatRequest:
        data = arrived.json()
        known = {
            *("model", "messages", "max_tokens", "temperature", "top_p", "stop", "stream", "stream_options"),
            *("tools", "tool_choice", "response_format"),
        }
        assert set(data) <= known, set(data) - known
        assert data.get("stream_options", {"include_usage": True})["include_usage"] is True
        choice = data.get("tool_choice")
        wanted = data.get("response_format")
        return ChatRequest(
            tuple(self._message(each) for each in data["messages"]),
            maximum_tokens=data["max_tokens"],
            temperature=data.get("temperature"),
            top_p=data.get("top_p"),
            idempotency_key=arrived.headers.get("idempotency-key"),
            stream=data.get("stream", False),
            tools=tuple(
                ToolSpec(each["function"]["name"], each["function"]["description"], each["function"]["parameters"])
                for each in data.get("tools", ())
            ),
            tool_choice=choice["function"]["name"] if isinstance(choice, dict) else choice,
            response_format=None if wanted is None else self._format(wanted),
            stop=tuple(data.get("stop", ())),
        )

    def _message(self, data: Mapping[str, Any]) -> ChatMessage:
        calls = tuple(
            ToolCall(each["id"], each["function"]["name"], each["function"]["arguments"])
            for each in data.get("tool_calls", ())
        )
        return ChatMessage(data["role"], data["content"] or "", calls, data.get("tool_call_id"))

    def _format(self, data: Mapping[str, Any]) -> ResponseFormat:
        if data["type"] == "json_object":
            return ResponseFormat("json_object")
        return ResponseFormat("json_schema", data["json_schema"]["name"], data["json_schema"]["schema"])

    def _usage(self, said: Said) -> dict[str, Any] | None:
        if said.usage is None:
            return None
        return {
            "prompt_tokens": said.usage.prompt_tokens,
            "completion_tokens": said.usage.gen_tokens,
            "total_tokens": said.usage.prompt_tokens + said.usage.gen_tokens,
            "prompt_tokens_details": {
                "cached_tokens": said.usage.cache_read_tokens,
                "cache_write_tokens": said.usage.cache_write_tokens,
            },
            "completion_tokens_details": {"reasoning_tokens": said.usage.reasoning_tokens},
        }

    def whole(self, said: Said) -> Mapping[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None}
        if said.thought:
            message["reasoning_content"] = said.thought  # as llama.cpp and vLLM show it
        if said.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in said.calls
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": said.finish}
        return {"id": "c", "object": "chat.completion", "model": "m-1", "choices": [choice], "usage": self._usage(said)}

    def stream(self, said: Said, pieces: Sequence[str]) -> Sequence[bytes]:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return _event({"object": "chat.completion.chunk", "model": "m-1", "choices": [choice], "usage": None})

        thoughts = [chunk({"reasoning_content": said.thought})] if said.thought else []
        events = [
            chunk({"role": "assistant", "content": ""}),
            *thoughts,
            *(chunk({"content": piece}) for piece in pieces),
        ]
        for place, call in enumerate(said.calls):
            half = len(call.arguments) // 2
            first = {"name": call.name, "arguments": ""}
            events.append(
                chunk({"tool_calls": [{"index": place, "id": call.id, "type": "function", "function": first}]})
            )
            for part in (call.arguments[:half], call.arguments[half:]):
                events.append(chunk({"tool_calls": [{"index": place, "function": {"arguments": part}}]}))
        if said.finish is None:
            return events
        usage = {"object": "chat.completion.chunk", "model": "m-1", "choices": [], "usage": self._usage(said)}
        counted = [] if said.usage is None else [_event(usage)]
        return [*events, chunk({}, said.finish), *counted, b"data: [DONE]\n\n"]

    def error(self, error_class: str) -> Sequence[WireError]:
        def error(status: int, kind: str, code: str | None = None, message: str = "No.") -> WireError:
            return WireError(status, {"error": {"message": message, "type": kind, "param": None, "code": code}})

        return {
            "rate_limit": [error(429, "requests", "rate_limit_exceeded"), error(429, "tokens", "rate_limit_exceeded")],
            "quota_exhausted": [error(429, "insufficient_quota", "insufficient_quota")],
            "auth": [error(401, "invalid_request_error", "invalid_api_key"), error(403, "permission_error")],
            "invalid_request": [error(400, "invalid_request_error"), error(422, "invalid_request_error")],
            "context_length": [error(400, "invalid_request_error", "context_length_exceeded")],
            "content_filter": [error(400, "invalid_request_error", "content_filter")],
            "model_gone": [error(404, "invalid_request_error", "model_not_found")],
            "overloaded": [error(503, "server_error"), error(529, "server_error")],
            "server_error": [error(500, "server_error"), error(502, "server_error")],
            "timeout": [error(408, "timeout")],
        }.get(error_class, [])

    def error_event(self) -> bytes | None:
        return _event({"error": {"message": "Overloaded.", "type": "server_error", "code": None}})


class AnthropicWire:
    """Messages: content in blocks, usage without what the cache gave, events with names. Version 2026-10-21."""

    path = "/v1/messages"
    _finish = {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
        None: None,
    }

    def __init__(self, version: str = "2026-10-21") -> None:
        self.version = version

    def key(self, arrived: Arrived) -> str | None:
        return arrived.headers["x-api-key"]

    def asked(self, arrived: Arrived) -> ChatRequest:
        data = arrived.json()
        known = {
            *("model", "messages", "system", "max_tokens", "stop_sequences", "stream", "tools", "tool_choice"),
            *("output_config", *(("temperature", "top_p") if self.version == "2023-06-01" else ())),
        }
        assert set(data) <= known, set(data) - known
        assert arrived.headers["anthropic-version"] == self.version
        messages = [ChatMessage("system", data["system"])] if "system" in data else []
        for each in data["messages"]:
            messages += self._messages(each)
        choice = data.get("tool_choice")
        words = {"auto": "auto", "none": "none", "any": "required"}
        wanted = data.get("output_config")
        return ChatRequest(
            tuple(messages),
            maximum_tokens=data["max_tokens"],
            temperature=data.get("temperature"),
            top_p=data.get("top_p"),
            idempotency_key=arrived.headers.get("idempotency-key"),
            stream=data.get("stream", False),
            tools=tuple(
                ToolSpec(each["name"], each["description"], each["input_schema"]) for each in data.get("tools", ())
            ),
            tool_choice=None if choice is None else words.get(choice["type"]) or choice["name"],
            # The shape has no room for the schema's name.
            response_format=None if wanted is None else ResponseFormat("json_schema", "", wanted["format"]["schema"]),
            stop=tuple(data.get("stop_sequences", ())),
        )

    def _messages(self, data: Mapping[str, Any]) -> list[ChatMessage]:
        if isinstance(data["content"], str):
            return [ChatMessage(data["role"], data["content"])]
        if data["role"] == "user":
            assert all(block["type"] == "tool_result" for block in data["content"])
            return [
                ChatMessage("tool", block["content"], tool_call_id=block["tool_use_id"]) for block in data["content"]
            ]
        text = "".join(block["text"] for block in data["content"] if block["type"] == "text")
        calls = tuple(
            ToolCall(block["id"], block["name"], json.dumps(block["input"], ensure_ascii=False))
            for block in data["content"]
            if block["type"] == "tool_use"
        )
        return [ChatMessage("assistant", text, calls)]

    def _usage(self, said: Said) -> dict[str, Any] | None:
        if said.usage is None:
            return None
        fresh = said.usage.prompt_tokens - said.usage.cache_read_tokens - said.usage.cache_write_tokens
        return {
            "input_tokens": fresh,
            "cache_read_input_tokens": said.usage.cache_read_tokens,
            "cache_creation_input_tokens": said.usage.cache_write_tokens,
            "output_tokens": said.usage.gen_tokens,
        }

    def whole(self, said: Said) -> Mapping[str, Any]:
        blocks: list[dict[str, Any]] = [{"type": "text", "text": said.text}] if said.text else []
        if said.thought:
            blocks.insert(0, {"type": "thinking", "thinking": said.thought, "signature": "s"})
        for call in said.calls:
            blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)})
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m-1",
            "content": blocks,
            "stop_reason": self._finish.get(said.finish, said.finish),
            "stop_sequence": None,
            "usage": self._usage(said),
        }

    def stream(self, said: Said, pieces: Sequence[str]) -> Sequence[bytes]:
        def event(name: str, **data: Any) -> bytes:
            return _event({"type": name, **data}, name)

        message = dict(self.whole(said)) | {
            "content": [],
            "stop_reason": None,
            "usage": None if said.usage is None else {**(self._usage(said) or {}), "output_tokens": 1},
        }
        events = [event("message_start", message=message), event("ping")]
        blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        if said.thought:
            opening = {"type": "thinking", "thinking": "", "signature": ""}
            blocks.append((opening, [{"type": "thinking_delta", "thinking": said.thought}]))
        if pieces:
            blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]))
        for call in said.calls:
            half = len(call.arguments) // 2
            parts = ("", call.arguments[:half], call.arguments[half:]) if call.arguments != "{}" else ("",)
            opening = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            blocks.append((opening, [{"type": "input_json_delta", "partial_json": part} for part in parts]))
        for place, (opening, deltas) in enumerate(blocks):
            events.append(event("content_block_start", index=place, content_block=opening))
            events += [event("content_block_delta", index=place, delta=delta) for delta in deltas]
            events.append(event("content_block_stop", index=place))
        if said.finish is None:
            return events
        stop = {"stop_reason": self._finish.get(said.finish, said.finish), "stop_sequence": None}
        counted = {} if said.usage is None else {"output_tokens": said.usage.gen_tokens}
        ended = event("message_delta", delta=stop, usage=counted)
        return [*events, ended, event("message_stop")]

    def error(self, error_class: str) -> Sequence[WireError]:
        def error(status: int, kind: str, message: str = "No.") -> WireError:
            return WireError(status, {"type": "error", "error": {"type": kind, "message": message}, "request_id": "r"})

        return {
            "rate_limit": [error(429, "rate_limit_error")],
            "quota_exhausted": [
                error(402, "billing_error"),
                error(400, "invalid_request_error", "Your credit balance is too low to access the API."),
            ],
            "auth": [error(401, "authentication_error"), error(403, "permission_error")],
            "invalid_request": [error(400, "invalid_request_error")],
            "context_length": [
                error(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
                error(413, "request_too_large"),
            ],
            "model_gone": [error(404, "not_found_error", "model: m")],
            "overloaded": [error(529, "overloaded_error")],
            "server_error": [error(500, "api_error")],
            "timeout": [error(504, "timeout_error")],
        }.get(error_class, [])

    def error_event(self) -> bytes | None:
        return _event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")
