"""Words that are not the mock's own: from a cassette, or from a real model on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from exitramp.errors import UsageError
from exitramp.ports import ChatMessage, ToolCall
from exitramp.ports.cassette import Cassette, request_key
from exitramp.ports.exchange import RecordedError
from exitramp_adapters.services.mock_vendor import embeddings
from exitramp_adapters.services.mock_vendor.embeddings import EmbedAsk
from exitramp_adapters.services.mock_vendor.shape import Ask, Refusal
from exitramp_adapters.services.mock_vendor.speaking import Said, limited

if TYPE_CHECKING:
    import httpx

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_TIMEOUT_SECONDS: Final = 600.0
_FINISHES: Final = ("stop", "length", "tool_calls")


# What a client sees of each class of failure: an error answer of this kind, or a delivery that breaks.
_REFUSED: Final[Mapping[str, str]] = {
    "rate_limit": "rate_limit",
    "quota_exhausted": "quota",
    "auth": "auth",
    "invalid_request": "invalid_request",
    "context_length": "context_length",
    "model_gone": "model_gone",
    "timeout": "timed_out",
    "server_error": "error_500",
}
_BROKEN: Final[Mapping[str, str]] = {"truncated": "truncate", "malformed": "malformed", "connection": "reset"}


class CassetteReplies:
    """What was recorded for the same request; anything else is refused with the key that was looked for. Texts are
    embedded by the mock's own rule."""

    name = "cassette"
    embedding_models: tuple[str, ...] = (embeddings.MODEL,)

    def __init__(self, path: Path) -> None:
        self._cassette = Cassette.read(path)
        self.models = self._cassette.models
        if not self.models:
            raise UsageError(f"the cassette {path} holds no exchange", hint="record one: exitramp eval record")

    async def say(self, ask: Ask) -> Said:
        key = request_key(ask.model, ask.request, ask.other)
        exchange = self._cassette.play(key)
        if exchange is None:
            raise Refusal("not_recorded", f"The cassette holds no answer to the request {key}. This is a mock.")
        if exchange.error is not None:
            return _failed(exchange.error)
        answer = exchange.answer
        assert answer is not None, "an exchange has one of the two"
        usage = answer.usage
        return Said(
            answer.text,
            answer.tool_calls,
            answer.finish_reason,
            None,
            usage.prompt_tokens,
            usage.gen_tokens,
            usage.cache_read_tokens,
            answer.model_id,
            exchange.streamed.pieces if exchange.streamed is not None else (),
        )

    async def embed(self, ask: EmbedAsk) -> dict[str, object]:
        return embeddings.body_of(ask, embeddings.vectors_of(ask.texts, ask.dimensions))


class ForwardReplies:
    """What a real model on this machine answers, asked in the chat completions shape. It is asked for the whole answer,
    also where the mock streams; the mock's faults come on top."""

    name = "forward"
    models: tuple[str, ...] = ()
    embedding_models: tuple[str, ...] = (embeddings.MODEL,)

    def __init__(self, base_url: str, model: str | None) -> None:
        self._base_url = check_forward(base_url)
        self._model = model
        self._opened: httpx.AsyncClient | None = None

    async def say(self, ask: Ask) -> Said:
        data = await self._post("/chat/completions", await self._body(ask))
        try:
            choice = data["choices"][0]
            message = choice["message"]
            finish = choice["finish_reason"]
            calls = tuple(
                ToolCall(str(call.get("id") or ""), call["function"]["name"], call["function"]["arguments"] or "{}")
                for call in message.get("tool_calls") or ()
            )
            text = message.get("content") or ""
            usage = data.get("usage") or {}
            if finish not in _FINISHES or not isinstance(text, str):
                raise ValueError(finish)
            counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise Refusal("error_500", "The model behind this mock sent an answer that is not in its shape.") from None
        if finish == "stop":
            cut = limited(text, ask.request.stop, None)  # not every server leaves the stop sequence away
            return Said(cut.text, calls, finish, cut.stopped_by, *counts)
        return Said(text, calls, finish, None, *counts)

    async def embed(self, ask: EmbedAsk) -> dict[str, object]:
        if ask.dimensions_asked:
            text = "the model behind this mock may not honour 'dimensions'"
            raise Refusal("invalid_request", text, field="dimensions")
        encoding = "base64" if ask.base64 else "float"
        body = {"model": await self._behind(), "input": list(ask.texts), "encoding_format": encoding}
        data = await self._post("/embeddings", body)
        if not isinstance(data.get("data"), list):
            raise Refusal("error_500", "The model behind this mock sent vectors that are not in their shape.")
        return {**data, "model": ask.model}

    async def _body(self, ask: Ask) -> dict[str, Any]:
        asked = ask.request
        body: dict[str, Any] = {"model": await self._behind(), "messages": [_message(each) for each in asked.messages]}
        body |= {"temperature": asked.temperature, "top_p": asked.top_p, "max_tokens": ask.maximum_tokens}
        body |= {"stop": list(asked.stop) or None, **ask.other}
        if asked.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {"name": t.name, "description": t.description, "parameters": t.parameters},
                }
                for t in asked.tools
            ]
            word = asked.tool_choice in (None, "auto", "none", "required")
            body["tool_choice"] = (
                asked.tool_choice if word else {"type": "function", "function": {"name": asked.tool_choice}}
            )
            if not ask.parallel_calls:
                body["parallel_tool_calls"] = False
        if (wanted := asked.response_format) is not None:
            body["response_format"] = {"type": wanted.kind}
            if wanted.kind == "json_schema":
                body["response_format"]["json_schema"] = {"name": wanted.name, "schema": wanted.schema, "strict": True}
        return {name: value for name, value in body.items() if value is not None}

    async def _behind(self) -> str:
        """The name of the model behind: as it was given, or the first that the server lists."""
        if self._model is None:
            listed = await self._ask("GET", "/models", None)
            try:
                self._model = str(listed["data"][0]["id"])
            except (KeyError, IndexError, TypeError):
                raise Refusal("unavailable", "The server behind this mock lists no model.") from None
        return self._model

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._ask("POST", path, body)

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        import httpx

        if self._opened is None:
            self._opened = httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False)
        try:
            response = await self._opened.request(
                method, self._base_url + path, json=body, headers={"authorization": "Bearer none"}
            )
            data = response.json()
        except httpx.HTTPError as error:
            what = f"The model behind this mock does not answer ({type(error).__name__})."
            raise Refusal("unavailable", what) from None
        except ValueError:
            data = None
        if response.status_code >= 300 or not isinstance(data, dict):
            kind = "invalid_request" if 400 <= response.status_code < 500 else "error_500"
            raise Refusal(kind, f"The model behind this mock answered {response.status_code}.")
        return data


def _failed(error: RecordedError) -> Said:
    """A failure as it is played. Raises `Refusal` where it was an error answer."""
    kind, after = error.error_class, error.retry_after_seconds
    if kind in _BROKEN:
        return Said("This answer breaks off, as it did.", broken=_BROKEN[kind])
    if kind == "content_filter":
        text = "Withheld by the content filter, as it was. This is a mock."
        raise Refusal("invalid_request", text, retry_after_seconds=after)
    if kind == "overloaded":
        raise Refusal("overloaded" if error.http_status == 529 else "unavailable", retry_after_seconds=after)
    raise Refusal(_REFUSED[kind], retry_after_seconds=after)


def check_forward(base_url: str) -> str:
    """`base_url` without a slash at its end. Raises `UsageError` for one that is not on this machine."""
    parts = urlsplit(base_url)
    if parts.scheme != "http" or parts.hostname not in _LOOPBACK:
        raise UsageError(
            "a mock vendor forwards to servers on this machine only",
            hint="give it an address such as http://127.0.0.1:8080/v1",
        )
    return base_url.rstrip("/")


def _message(message: ChatMessage) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return said if message.tool_call_id is None else said | {"tool_call_id": message.tool_call_id}
