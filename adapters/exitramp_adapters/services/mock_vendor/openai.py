"""The chat completions shape: `POST /v1/chat/completions`, streamed or not, as its contract is published."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from exitramp.ports import ChatMessage, ChatRequest, ResponseFormat, ToolCall, ToolSpec
from exitramp_adapters.services.mock_vendor import reranking
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
    need_closed,
    need_range,
    only_fields,
    pieces_of,
    read_json,
    read_stop,
    read_tools,
    text_of,
)

_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})
_KNOWN: Final = fields(
    "model messages max_tokens max_completion_tokens temperature top_p stream stream_options n seed user metadata "
    "presence_penalty frequency_penalty store service_tier safety_identifier prompt_cache_key stop tools tool_choice "
    "parallel_tool_calls response_format"
)
_OTHER: Final = ("seed", "presence_penalty", "frequency_penalty")
_MOST_STOPS: Final = 4
_UNSUPPORTED: Final = fields(
    "functions function_call logprobs top_logprobs logit_bias audio modalities prediction reasoning_effort verbosity "
    "web_search_options"
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
    "timed_out": (408, "timeout_error", None, "The request took too long. This is a mock."),
    "not_recorded": (400, "invalid_request_error", "not_recorded", "The cassette holds no answer to this request."),
    "unsupported_media": (415, "invalid_request_error", None, "The content type is not supported."),
    "no_such_path": (404, "invalid_request_error", "unknown_url", "There is no such path."),
    "method": (405, "invalid_request_error", "method_not_supported", "The method is not allowed."),
    "too_large": (413, "invalid_request_error", None, "The body is too large."),
}


class OpenAIShape:
    """Cached tokens are counted inside `prompt_tokens`."""

    name = "openai"
    path = "/v1/chat/completions"
    embeddings_path: str | None = "/v1/embeddings"
    rerank_paths: tuple[str, ...] = reranking.PATHS
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
        said = tuple(_message(message, f"messages[{place}]") for place, message in enumerate(messages))
        _check_results(said)
        limits = [need(data, name, int, default=None, what="an integer") for name in _LIMITS]
        if None not in limits:
            raise Refusal("invalid_request", f"'{_LIMITS[0]}' and '{_LIMITS[1]}' exclude each other")
        limit = limits[0] if limits[0] is not None else limits[1]
        need_range(limit, "max_tokens", 1, 1_000_000)
        temperature = need(data, "temperature", (int, float), default=None, what="a number")
        need_range(temperature, "temperature", 0, 2)
        top_p = need(data, "top_p", (int, float), default=None, what="a number")
        need_range(top_p, "top_p", 0, 1)
        need_range(need(data, "n", int, default=None, what="an integer"), "n", 1, 1)
        stream = need(data, "stream", bool, default=False, what="true or false")
        options = need(data, "stream_options", dict, default=None, what="an object")
        if options is not None and not stream:
            raise Refusal("invalid_request", "'stream_options' needs 'stream'", field="stream_options")
        usage = bool((options or {}).get("include_usage", False))
        parallel = need(data, "parallel_tool_calls", bool, default=True, what="true or false")
        tools = _tools(need(data, "tools", list, default=[], what="a list"))
        request = ChatRequest(
            said,
            limit or 0,
            temperature,
            tools=tools,
            tool_choice=_choice(data.get("tool_choice"), tools),
            response_format=_format(need(data, "response_format", dict, default=None, what="an object"), said),
            stop=read_stop(data.get("stop"), "stop", _MOST_STOPS),
            top_p=top_p,
        )
        if data.get("tools") == []:
            raise Refusal("invalid_request", "'tools' is empty", field="tools")
        if "parallel_tool_calls" in data and not tools:
            raise Refusal("invalid_request", "'parallel_tool_calls' needs 'tools'", field="parallel_tool_calls")
        other = {name: data[name] for name in _OTHER if data.get(name) is not None}
        return Ask(model, request, limit, stream, usage, parallel, other)

    def error(self, refusal: Refusal, request_id: str) -> ErrorAnswer:
        status, kind, code, message = _ERRORS[refusal.kind]
        error = {"message": refusal.message or message, "type": kind, "param": refusal.field, "code": code}
        return ErrorAnswer(status, _dump({"error": error}))

    def whole(self, reply: Reply) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
        if reply.calls:
            message["content"] = reply.text or None
            message["tool_calls"] = [_call(call) for call in reply.calls]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish}
        return _head(reply, "chat.completion") | {"choices": [choice], "usage": _usage(reply)}

    def without_finish(self, reply: Reply) -> dict[str, Any]:
        body = self.whole(reply.half)
        body["usage"] = _usage(reply)
        body["choices"][0]["finish_reason"] = None
        return body

    def stream(self, ask: Ask, reply: Reply) -> StreamPieces:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            extra = {"usage": None} if ask.usage_in_stream else {}
            return _event(_head(reply, "chat.completion.chunk") | {"choices": [choice]} | extra)

        tokens = (
            [chunk({"content": piece}) for piece in pieces_of(reply.text, reply.pieces)]
            if reply.text or not reply.calls
            else []
        )
        for place, call in enumerate(reply.calls):
            opened = {"index": place} | _call(call) | {"function": {"name": call.name, "arguments": ""}}
            tokens.append(chunk({"tool_calls": [opened]}))
            for piece in pieces_of(call.arguments):
                tokens.append(chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]}))
        closing = [chunk({}, reply.finish)]
        if ask.usage_in_stream:
            closing.append(_event(_head(reply, "chat.completion.chunk") | {"choices": [], "usage": _usage(reply)}))
        return StreamPieces(
            opening=(chunk({"role": "assistant", "content": None if reply.calls else "", "refusal": None}),),
            tokens=tuple(tokens),
            closing=(*closing, b"data: [DONE]\n\n"),
        )

    def models(self, names: Sequence[str], created: int) -> dict[str, Any]:
        return {"object": "list", "data": [self.model(name, created) for name in names]}

    def model(self, name: str, created: int) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": created, "owned_by": "exitramp-mock"}


_LIMITS: Final = ("max_tokens", "max_completion_tokens")


def _message(message: object, where: str) -> ChatMessage:
    """One message, read strictly. Raises `Refusal`."""
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise Refusal("invalid_request", f"'{where}.role' must be one of: {', '.join(sorted(_ROLES))}")
    role = "system" if message["role"] == "developer" else message["role"]
    calls = message.get("tool_calls")
    if calls is not None and (role != "assistant" or not isinstance(calls, list) or not calls):
        raise Refusal("invalid_request", f"'{where}.tool_calls' must be a list, of an assistant's message")
    for unsupported in ("function_call", "audio"):
        if message.get(unsupported) is not None:
            raise Refusal("invalid_request", f"the mock does not support '{where}.{unsupported}'")
    content = "" if calls and message.get("content") is None else text_of(message.get("content"), f"{where}.content")
    if role == "tool":
        answered = message.get("tool_call_id")
        if not isinstance(answered, str):
            raise Refusal("invalid_request", f"missing required parameter: '{where}.tool_call_id'")
        return ChatMessage("tool", content, tool_call_id=answered)
    return ChatMessage(role, content, tuple(_called(call, f"{where}.tool_calls") for call in calls or ()))


def _called(call: object, where: str) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) and call.get("type") == "function" else None
    values = (
        (call.get("id"), function.get("name"), function.get("arguments"))
        if isinstance(call, dict) and isinstance(function, dict)
        else (None,)
    )
    if not all(isinstance(value, str) for value in values):
        raise Refusal("invalid_request", f"'{where}' holds a call that is not in its shape")
    return ToolCall(*values)


def _check_results(messages: Sequence[ChatMessage]) -> None:
    """Every call of a tool is answered next, and nothing else is."""
    open_calls: set[str] = set()
    for place, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                text = f"messages[{place}]: a message of role 'tool' must answer a preceding message with 'tool_calls'"
                raise Refusal("invalid_request", text, field="messages")
            open_calls.discard(message.tool_call_id)
            continue
        if open_calls:
            break
        open_calls = {call.id for call in message.tool_calls}
    if open_calls:
        text = "a message with 'tool_calls' must be followed by messages that answer each 'tool_call_id'"
        raise Refusal("invalid_request", text, field="messages")


def _tools(given: Sequence[Any]) -> tuple[ToolSpec, ...]:
    entries = []
    for place, tool in enumerate(given):
        where = f"tools[{place}]"
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            raise Refusal(
                "invalid_request", f"'{where}': the mock supports tools of the type 'function'", field="tools"
            )
        if function.get("strict") and function.get("parameters") is not None:
            need_closed(function["parameters"], where, all_required=True)
        entries.append((where, function.get("name"), function.get("description"), function.get("parameters")))
    return read_tools(entries)


def _choice(given: object, tools: Sequence[ToolSpec]) -> str | None:
    if given is None:
        return None
    if not tools:
        raise Refusal("invalid_request", "'tool_choice' needs 'tools'", field="tool_choice")
    if isinstance(given, str) and given in ("auto", "none", "required"):
        return given
    function = given.get("function") if isinstance(given, dict) and given.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or name not in {tool.name for tool in tools}:
        raise Refusal(
            "invalid_request", "'tool_choice' is auto, none, required or one of the tools", field="tool_choice"
        )
    return name


def _format(given: Mapping[str, Any] | None, messages: Sequence[ChatMessage]) -> ResponseFormat | None:
    kind = (given or {}).get("type", "text")
    if given is None or kind == "text":
        return None
    if kind == "json_object":
        if not any("json" in message.content.lower() for message in messages):
            text = "'messages' must contain the word 'json' to use 'response_format' of type 'json_object'"
            raise Refusal("invalid_request", text, field="messages")
        return ResponseFormat("json_object")
    wanted = given.get("json_schema")
    if kind != "json_schema" or not isinstance(wanted, dict) or not isinstance(wanted.get("name"), str):
        raise Refusal("invalid_request", "'response_format' is not in its shape", field="response_format")
    schema = wanted.get("schema", {})
    if not isinstance(schema, dict):
        raise Refusal("invalid_request", "'response_format' needs a schema that is an object", field="response_format")
    if wanted.get("strict"):
        need_closed(schema, "response_format", all_required=True)
    return ResponseFormat("json_schema", wanted["name"], schema)


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


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
