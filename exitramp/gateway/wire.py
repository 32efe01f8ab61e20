"""The chat completions and embeddings shapes, as an existing application speaks them, and our own words for the same.

What a request asks for is passed on or refused by name; nothing is left away that would change the answer.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from exitramp.errors import UsageError
from exitramp.ports import ChatAnswer, ChatDelta, ChatMessage, ChatRequest, ResponseFormat, ToolCall, ToolSpec

if TYPE_CHECKING:
    from exitramp.ports import Embedded

DEFAULT_TOKENS: Final = 4096
_GREATEST: Final = 1e9
"""Beyond any setting, and below what JSON's NaN, Infinity and long integers can be."""
_READ: Final = frozenset(
    {
        "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "stream",
        "stream_options", "tools", "tool_choice", "response_format",
    }
)  # fmt: skip
# These say who asks or how to keep books at the vendor's, and change no answer.
_OF_NO_MATTER: Final = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})
# What clients send back with an assistant's message changes nothing of it.
_MESSAGE: Final = frozenset({"role", "content", "tool_calls", "tool_call_id", "annotations", "reasoning_content"})
# These may stand there with the value that means nothing.
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,),
    "logprobs": (False,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "parallel_tool_calls": (True,),
    "modalities": (["text"],),
}


class Refused(UsageError):
    """The body is not one that can be passed on. `param` names the part."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def chat_request(body: Mapping[str, Any], *, key: str | None) -> ChatRequest:
    """The request that a body in the chat completions shape is. Raises `Refused` naming the parameter."""
    for name, value in body.items():
        if name in _READ or name in _OF_NO_MATTER or value is None:
            continue
        if name not in _NEUTRAL or value not in _NEUTRAL[name] or (name == "n" and isinstance(value, bool)):
            raise Refused(f"'{name}' cannot be passed on to every model, so it is refused", param=name)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused("'messages' must be a list of at least one message", param="messages")
    limit = body.get("max_completion_tokens")
    limit = body.get("max_tokens") if limit is None else limit
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise Refused("'max_tokens' must be a whole number of at least 1", param="max_tokens")
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise Refused("'stop' must be a text or a list of texts", param="stop")
    if not isinstance(body.get("stream"), bool | None):
        raise Refused("'stream' must be true or false", param="stream")
    if not isinstance(body.get("model"), str | None):
        raise Refused("'model' must be a text", param="model")
    return ChatRequest(
        tuple(_message(message, f"messages[{place}]") for place, message in enumerate(messages)),
        maximum_tokens=DEFAULT_TOKENS if limit is None else limit,
        temperature=_number(body, "temperature"),
        idempotency_key=key,
        stream=bool(body.get("stream")),
        tools=tuple(_tool(tool, place) for place, tool in enumerate(_list(body, "tools", "tools"))),
        tool_choice=_choice(body.get("tool_choice")),
        response_format=_format(body.get("response_format")),
        stop=tuple(stops),
        top_p=_number(body, "top_p"),
    )


def question_of(asked: ChatRequest) -> str:
    """The question of a request to a stack, which writes its own prompt around it. Raises `Refused` for what that
    prompt has no place for: other messages, tools, formats."""
    for name, value in (
        ("tools", asked.tools), ("tool_choice", asked.tool_choice), ("response_format", asked.response_format),
        ("stop", asked.stop), ("top_p", asked.top_p),
    ):  # fmt: skip
        if value:
            raise Refused(f"a stack puts the question into its own prompt, which has no '{name}'", param=name)
    if len(asked.messages) != 1 or asked.messages[0].role != "user" or not asked.messages[0].content.strip():
        raise Refused(
            "a stack puts the question into its own prompt: send one message of the user, and nothing before it",
            param="messages",
        )
    return asked.messages[0].content


def _number(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_GREATEST <= value <= _GREATEST:
        raise Refused(f"'{name}' must be a number", param=name)
    return float(value)


def _list(said: Mapping[str, Any], name: str, param: str) -> list[Any]:
    value = said.get(name)
    if value is not None and not isinstance(value, list):
        raise Refused(f"'{name}' must be a list", param=param)
    return value or []


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Whether a stream is to end with its token counts. Raises `Refused` for what is no object."""
    options = body.get("stream_options")
    if not isinstance(options, dict | None):
        raise Refused("'stream_options' must be an object", param="stream_options")
    return bool((options or {}).get("include_usage"))


def _message(message: Any, param: str) -> ChatMessage:
    if not isinstance(message, dict) or message.get("role") not in ("system", "developer", "user", "assistant", "tool"):
        raise Refused("a message has a role: system, user, assistant or tool", param=param)
    for name, value in message.items():
        if name not in _MESSAGE and value and not (name == "name" and message["role"] == "tool"):
            raise Refused(f"a message's '{name}' cannot be passed on to every model, so it is refused", param=param)
    calls = tuple(_earlier_call(call, param) for call in _list(message, "tool_calls", param))
    if not calls and message.get("content") is None and message["role"] != "assistant":
        raise Refused("a message has a content", param=f"{param}.content")
    answers = message.get("tool_call_id")
    if not isinstance(answers, str) if message["role"] == "tool" else answers is not None:
        raise Refused("a tool's result, and no other message, has the 'tool_call_id' of its call, a text", param=param)
    role = "system" if message["role"] == "developer" else message["role"]
    return ChatMessage(role, _content(message.get("content"), param), calls, answers)


def _earlier_call(call: Any, param: str) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    said = [call.get("id"), function.get("name"), function.get("arguments")] if isinstance(function, dict) else []
    if not said or not all(isinstance(each, str) for each in said):
        raise Refused("a tool call has an id and a function with name and arguments, each a text", param=param)
    return ToolCall(*said)


def _content(content: Any, param: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = []
    for part in content if isinstance(content, list) else [None]:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise Refused("a message's content is text, or parts of the type text", param=f"{param}.content")
        parts.append(part["text"])
    return "".join(parts)


def _tool(tool: Any, place: int) -> ToolSpec:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Refused("a tool is a function with a name", param=f"tools[{place}]")
    if not isinstance(function.get("parameters"), dict | None):
        raise Refused("a function's parameters are a JSON Schema", param=f"tools[{place}]")
    return ToolSpec(function["name"], function.get("description") or "", function.get("parameters") or {})


def _choice(choice: Any) -> str | None:
    if choice is None or isinstance(choice, str):
        return choice
    try:
        return str(choice["function"]["name"])
    except (KeyError, TypeError):
        raise Refused("'tool_choice' is auto, none, required or a function", param="tool_choice") from None


def _format(wanted: Any) -> ResponseFormat | None:
    kind = None if wanted is None else wanted.get("type") if isinstance(wanted, dict) else ""
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return ResponseFormat("json_object")
    schema = wanted.get("json_schema") if kind == "json_schema" else None
    if not isinstance(schema, dict) or not isinstance(schema.get("schema"), dict):
        raise Refused("'response_format' is text, json_object or json_schema", param="response_format")
    return ResponseFormat("json_schema", str(schema.get("name", "answer")), schema["schema"])


def completion(answer: ChatAnswer, request_id: str, created: int) -> dict[str, Any]:
    """A whole answer."""
    said: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if answer.tool_calls:
        said["tool_calls"] = [_call(call) for call in answer.tool_calls]
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": created,
        "model": answer.model_id,
        "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": answer.finish_reason}],
        "usage": usage(answer),
    }


def usage(answer: ChatAnswer) -> dict[str, Any]:
    found = answer.usage
    return {
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.gen_tokens,
        "total_tokens": found.prompt_tokens + found.gen_tokens,
        "prompt_tokens_details": {"cached_tokens": found.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": found.reasoning_tokens},
    }


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


class Chunks:
    """A streamed answer, event by event."""

    def __init__(self, request_id: str, created: int, model: str) -> None:
        self._head = {"id": f"chatcmpl-{request_id}", "object": "chat.completion.chunk", "created": created}
        self._model = model
        self._known: set[int] = set()

    def first(self) -> bytes:
        return self._event({"role": "assistant", "content": ""})

    def piece(self, delta: ChatDelta) -> bytes:
        if delta.tool_call is None:
            return self._event({"content": delta.text})
        place, call = delta.tool_call
        function: dict[str, Any] = {"arguments": call.arguments}
        told: dict[str, Any] = {"index": place, "function": function}
        if place not in self._known:
            self._known.add(place)
            function["name"] = call.name
            told |= {"id": call.id, "type": "function"}
        return self._event({"tool_calls": [told]})

    def last(self, answer: ChatAnswer, *, with_usage: bool) -> bytes:
        self._model = answer.model_id
        events = self._event({}, answer.finish_reason)
        if with_usage:
            events += _sse({**self._head, "model": self._model, "choices": [], "usage": usage(answer)})
        return events + b"data: [DONE]\n\n"

    def _event(self, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _sse({**self._head, "model": self._model, "choices": [choice]})


def _sse(body: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def error_event(error: Mapping[str, Any]) -> bytes:
    """The end of a stream that has no good one: without a finish reason and without [DONE]."""
    return _sse(error)


def embedding_texts(body: Mapping[str, Any]) -> Sequence[str]:
    """Raises `Refused` for anything but texts: token ids of one model mean nothing to another."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise Refused("'input' must be a text or a list of texts, none of them empty", param="input")
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise Refused("'encoding_format' is float or base64", param="encoding_format")
    return texts


def embeddings(found: Embedded, body: Mapping[str, Any]) -> dict[str, Any]:
    wanted = body.get("dimensions")
    if wanted is not None and wanted != found.vectors.shape[1]:
        raise Refused(f"'dimensions' is {wanted}, and the embedder of the stack file makes {found.vectors.shape[1]}",
                      param="dimensions")  # fmt: skip
    as_base64 = body.get("encoding_format") == "base64"
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": place,
                "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if as_base64 else row.tolist(),
            }
            for place, row in enumerate(found.vectors)
        ],
        "model": found.model_id,
        "usage": {"prompt_tokens": found.usage.prompt_tokens, "total_tokens": found.usage.prompt_tokens},
    }
