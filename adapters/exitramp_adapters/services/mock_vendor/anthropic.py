"""The messages shape: `POST /v1/messages`, streamed or not, as its contract is published, in both of its versions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from exitramp.ports import ChatMessage, ChatRequest, ResponseFormat, ToolCall, ToolSpec
from exitramp_adapters.services.mock_vendor.shape import (
    Ask,
    ErrorAnswer,
    Refusal,
    Reply,
    StreamPieces,
    bearer,
    fields,
    need,
    need_closed,
    need_range,
    only_fields,
    pieces_of,
    read_json,
    read_stop,
    read_tools,
    text_of,
)

VERSIONS: Final = ("2023-06-01", "2026-10-21")
_GONE_SINCE_2026: Final = ("temperature", "top_p", "top_k")
_KNOWN: Final = fields(
    "model messages max_tokens system temperature top_p top_k stream metadata service_tier tools tool_choice "
    "stop_sequences output_config"
)
_UNSUPPORTED: Final = fields("thinking container mcp_servers context_management")
_CHOICES: Final = {"auto": "auto", "none": "none", "any": "required"}
_STOP_REASONS: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
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
    "timed_out": (408, "timeout_error", "The request took too long. This is a mock."),
    "not_recorded": (400, "invalid_request_error", "The cassette holds no answer to this request."),
    "unsupported_media": (415, "invalid_request_error", "The content type is not supported."),
    "no_such_path": (404, "not_found_error", "Not Found"),
    "method": (405, "invalid_request_error", "Method Not Allowed"),
    "too_large": (413, "request_too_large", "Request exceeds the maximum size"),
}


class AnthropicShape:
    """Cached tokens are counted outside `input_tokens`."""

    name = "anthropic"
    path = "/v1/messages"
    embeddings_path: str | None = None
    rerank_paths: tuple[str, ...] = ()
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
        system = text_of(data["system"], "system") if "system" in data else ""
        said = [ChatMessage("system", system)] if system else []
        for place, message in enumerate(messages):
            where = f"messages.{place}"
            if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
                raise Refusal("invalid_request", f"{where}.role: must be 'user' or 'assistant'")
            said += _messages(message, where, said[-1].tool_calls if said else ())
        if messages[0]["role"] != "user":
            raise Refusal("invalid_request", "messages: first message must use the 'user' role")
        if said[-1].tool_calls:
            raise Refusal("invalid_request", "messages: every tool_use must be answered by a tool_result")
        temperature = need(data, "temperature", (int, float), default=None, what="a number")
        need_range(temperature, "temperature", 0, 1)
        top_p = need(data, "top_p", (int, float), default=None, what="a number")
        need_range(top_p, "top_p", 0, 1)
        stream = need(data, "stream", bool, default=False, what="true or false")
        tools = _tools(need(data, "tools", list, default=[], what="a list"))
        choice, parallel = _choice(need(data, "tool_choice", dict, default=None, what="an object"), tools)
        request = ChatRequest(
            tuple(said),
            limit,
            temperature,
            tools=tools,
            tool_choice=choice,
            response_format=_format(need(data, "output_config", dict, default=None, what="an object")),
            stop=read_stop(need(data, "stop_sequences", list, default=None, what="a list"), "stop_sequences", None),
            top_p=top_p,
        )
        other = {"top_k": data["top_k"]} if data.get("top_k") is not None else {}
        return Ask(model, request, limit, stream, parallel_calls=parallel, other=other)

    def error(self, refusal: Refusal, request_id: str) -> ErrorAnswer:
        status, kind, message = _ERRORS[refusal.kind]
        error: dict[str, Any] = {"type": kind, "message": refusal.message or message}
        if refusal.kind == "quota":  # the type is that of a rate limit; only this code tells that no waiting mends it
            error["details"] = {"error_code": "enforced_spend_limit_reached"}
        return ErrorAnswer(status, _dump({"type": "error", "error": error, "request_id": request_id}))

    def whole(self, reply: Reply) -> dict[str, Any]:
        return _message(reply) | {
            "content": _content(reply),
            "stop_reason": _stop_reason(reply),
            "stop_sequence": reply.stopped_by,
            "usage": _usage(reply),
        }

    def without_finish(self, reply: Reply) -> dict[str, Any]:
        return self.whole(reply) | {"content": _content(reply.half), "stop_reason": None, "stop_sequence": None}

    def stream(self, ask: Ask, reply: Reply) -> StreamPieces:
        started = _message(reply) | {"content": [], "stop_reason": None, "usage": _usage(reply) | {"output_tokens": 1}}
        ended = {"stop_reason": _stop_reason(reply), "stop_sequence": reply.stopped_by}
        blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        if reply.text or not reply.calls:
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces_of(reply.text, reply.pieces)]
            blocks.append(({"type": "text", "text": ""}, deltas))
        for call in reply.calls:
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces_of(call.arguments)]
            blocks.append((_use(call) | {"input": {}}, deltas))
        events: list[bytes] = []
        for index, (block, deltas) in enumerate(blocks):
            events.append(_event("content_block_start", index=index, content_block=block))
            events += [_event("ping")] if index == 0 else []
            events += [_event("content_block_delta", index=index, delta=delta) for delta in deltas]
            events.append(_event("content_block_stop", index=index))
        return StreamPieces(
            opening=(_event("message_start", message=started), *events[:2]),
            tokens=tuple(events[2:-1]),
            closing=(
                events[-1],
                _event("message_delta", delta=ended, usage={"output_tokens": reply.gen_tokens}),
                _event("message_stop"),
            ),
        )

    def models(self, names: Sequence[str], created: int) -> dict[str, Any]:
        listed = [self.model(name, created) for name in names]
        return {"data": listed, "has_more": False, "first_id": names[0], "last_id": names[-1]}

    def model(self, name: str, created: int) -> dict[str, Any]:
        moment = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"type": "model", "id": name, "display_name": f"{name} (a mock)", "created_at": moment}


def _messages(message: Mapping[str, Any], where: str, open_calls: Sequence[ToolCall]) -> list[ChatMessage]:
    """What one message holds: results of tools are messages of their own. Raises `Refusal`."""
    content = message.get("content")
    texts: list[str] = []
    calls: list[ToolCall] = []
    results: list[ChatMessage] = []
    for block in content if isinstance(content, list) and content else [content]:
        if not isinstance(block, dict):
            block = {"type": "text", "text": block}
        kind = block.get("type")
        if kind == "tool_use" and message["role"] == "assistant":
            calls.append(_used(block, where))
        elif kind == "tool_result" and message["role"] == "user":
            results.append(_result(block, where, open_calls))
        else:
            texts.append(text_of([block], f"{where}.content"))
            if not texts[-1].strip():
                raise Refusal("invalid_request", f"{where}: text must be non-empty")
    missing = {call.id for call in open_calls} - {result.tool_call_id for result in results}
    if missing:
        text = f"{where}: each `tool_use` block must have a corresponding `tool_result` block in the next message"
        raise Refusal("invalid_request", text, field="messages")
    said = [ChatMessage(message["role"], "".join(texts), tuple(calls))] if texts or calls else []
    return [*results, *said]


def _used(block: Mapping[str, Any], where: str) -> ToolCall:
    id_, name, given = (block.get(key) for key in ("id", "name", "input"))
    if not isinstance(id_, str) or not isinstance(name, str) or not isinstance(given, dict):
        raise Refusal("invalid_request", f"{where}: a tool_use block needs 'id', 'name' and 'input'")
    return ToolCall(id_, name, json.dumps(given, ensure_ascii=False, separators=(",", ":")))


def _result(block: Mapping[str, Any], where: str, open_calls: Sequence[ToolCall]) -> ChatMessage:
    answered = block.get("tool_use_id")
    if not isinstance(answered, str) or answered not in {call.id for call in open_calls}:
        raise Refusal("invalid_request", f"{where}: unexpected `tool_use_id` found in `tool_result` blocks")
    content = block.get("content", "")
    return ChatMessage("tool", text_of(content, f"{where}.content") if content else "", tool_call_id=str(answered))


def _tools(given: Sequence[Any]) -> tuple[ToolSpec, ...]:
    entries = []
    for place, tool in enumerate(given):
        where = f"tools.{place}"
        if not isinstance(tool, dict) or tool.get("type", "custom") != "custom":
            raise Refusal("invalid_request", f"{where}: the mock supports tools of the type 'custom'", field="tools")
        if "input_schema" not in tool:
            raise Refusal("invalid_request", f"{where}.input_schema: Field required", field="tools")
        if tool.get("strict"):
            need_closed(tool["input_schema"], where, all_required=False)
        entries.append((where, tool.get("name"), tool.get("description"), tool["input_schema"]))
    return read_tools(entries)


def _choice(given: Mapping[str, Any] | None, tools: Sequence[ToolSpec]) -> tuple[str | None, bool]:
    """The choice in the words of a `ChatRequest`, and whether more than one tool may be called."""
    if given is None:
        return None, True
    if not tools:
        raise Refusal("invalid_request", "tool_choice: needs tools", field="tool_choice")
    parallel = not need(given, "disable_parallel_tool_use", bool, default=False, what="true or false")
    kind = given.get("type")
    if isinstance(kind, str) and kind in _CHOICES:
        return _CHOICES[kind], parallel
    name = given.get("name")
    if kind != "tool" or not isinstance(name, str) or name not in {tool.name for tool in tools}:
        text = "tool_choice: is auto, any, none, or a tool that is among the tools"
        raise Refusal("invalid_request", text, field="tool_choice")
    return name, parallel


def _format(given: Mapping[str, Any] | None) -> ResponseFormat | None:
    if given is None:
        return None
    other = next((name for name in given if name != "format"), None)
    if other is not None:
        raise Refusal("invalid_request", f"the mock does not support 'output_config.{other}'", field="output_config")
    wanted = given.get("format")
    if wanted is None:
        return None
    if (
        not isinstance(wanted, dict)
        or wanted.get("type") != "json_schema"
        or not isinstance(wanted.get("schema"), dict)
    ):
        raise Refusal("invalid_request", "output_config.format: must be a json_schema", field="output_config")
    need_closed(wanted["schema"], "output_config.format.schema", all_required=False)
    return ResponseFormat("json_schema", "answer", wanted["schema"])


def _use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}


def _input(arguments: str) -> dict[str, Any]:
    """The object that the text is, or an empty one where a limit or a fault cut it: so the vendor does it."""
    try:
        found = json.loads(arguments or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _content(reply: Reply) -> list[dict[str, Any]]:
    texts = [{"type": "text", "text": reply.text}] if reply.text or not reply.calls else []
    return [*texts, *(_use(call) for call in reply.calls)]


def _stop_reason(reply: Reply) -> str:
    return "stop_sequence" if reply.stopped_by is not None else _STOP_REASONS.get(reply.finish, reply.finish)


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
