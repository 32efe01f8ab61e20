"""What the two shapes of the mock vendors have in common: a question read, a reply to be written, a refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Final, Protocol

from exitramp.ports import ChatMessage, ChatRequest, ToolCall, ToolSpec

MODEL_OF_QUALITY: Final = {"good": "mock-large", "slightly_worse": "mock-medium", "poor": "mock-small"}
FINGERPRINT: Final = "fp_exitramp_mock"

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_PIECE = re.compile(r"(?:\S+\s*){1,4}")


class Refusal(Exception):
    """The vendor says no. `kind` is a name in a shape's table of errors; `message` replaces the one there."""

    def __init__(
        self,
        kind: str,
        message: str | None = None,
        *,
        field: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message or kind)
        self.retry_after_seconds = retry_after_seconds
        self.kind = kind
        self.message = message
        self.field = field


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for.

    request: as our own adapters would have asked it. maximum_tokens: None where nothing was said.
    parallel_calls: whether more than one tool may be called.
    other: what may change an answer and has no place in `request`.
    """

    model: str
    request: ChatRequest
    maximum_tokens: int | None
    stream: bool
    usage_in_stream: bool = True
    parallel_calls: bool = True
    other: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def prompt(self) -> str:
        """Everything that was said, joined."""
        texts = (part for message in self.request.messages for part in (message.content, *_arguments(message)) if part)
        return "\n".join(texts)

    @property
    def system(self) -> str:
        """The part that a vendor's cache may know."""
        return "\n".join(message.content for message in self.request.messages if message.role == "system")

    @property
    def tools_text(self) -> str:
        """The tools as text: vendors count their tokens too."""
        tools = self.request.tools
        return json.dumps([[t.name, t.description, t.parameters] for t in tools]) if tools else ""


def _arguments(message: ChatMessage) -> tuple[str, ...]:
    return tuple(call.arguments for call in message.tool_calls)


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered. `prompt_tokens` includes `cached_tokens`; each shape reports it in its own way.

    finish: stop, length or tool_calls. stopped_by: the stop sequence that ended the text.
    """

    id: str
    model: str
    text: str
    calls: tuple[ToolCall, ...]
    finish: str
    stopped_by: str | None
    prompt_tokens: int
    cached_tokens: int
    gen_tokens: int
    created: int
    pieces: tuple[int, ...] = ()

    @property
    def half(self) -> Reply:
        """The same as far as it came when it broke off in the middle."""
        kept = self.calls[: len(self.calls) // 2 + 1]
        cut = tuple(replace(call, arguments=call.arguments[: len(call.arguments) // 2]) for call in kept)
        return replace(self, text=self.text[: len(self.text) // 2], calls=cut)


@dataclass(frozen=True, slots=True)
class StreamPieces:
    """The events of a streamed reply; the finish reason stands in `closing` only."""

    opening: tuple[bytes, ...]
    tokens: tuple[bytes, ...]
    closing: tuple[bytes, ...]

    def __iter__(self) -> Iterator[bytes]:
        yield from self.opening
        yield from self.tokens
        yield from self.closing


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error as the vendor would put it."""

    status: int
    body: bytes


class Shape(Protocol):
    """One vendor's published contract, as far as the mock keeps it."""

    name: str
    path: str
    embeddings_path: str | None
    rerank_paths: tuple[str, ...]
    scheme: str
    request_id_header: str

    def key(self, headers: Mapping[str, str]) -> str | None:
        """The API key in the headers; None without one."""
        ...

    def read(self, headers: Mapping[str, str], body: bytes) -> Ask:
        """What the request asks for. Raises `Refusal` for whatever the contract does not allow."""
        ...

    def error(self, refusal: Refusal, request_id: str) -> ErrorAnswer: ...

    def whole(self, reply: Reply) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        ...

    def without_finish(self, reply: Reply) -> dict[str, Any]:
        """The same, with half of the text and no finish reason."""
        ...

    def stream(self, ask: Ask, reply: Reply) -> StreamPieces: ...

    def models(self, names: Sequence[str], created: int) -> dict[str, Any]:
        """The body of the list of models."""
        ...

    def model(self, name: str, created: int) -> dict[str, Any]:
        """The body of one model's description."""
        ...


def fields(names: str) -> frozenset[str]:
    """The names in `names`, set apart by blanks."""
    return frozenset(names.split())


def bearer(headers: Mapping[str, str]) -> str | None:
    """The token of `Authorization: Bearer TOKEN`; None without one."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if kind.lower() == "bearer" else None


def read_json(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """The request's object. Raises `Refusal`."""
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise Refusal("unsupported_media", "the content type must be application/json")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal("invalid_request", "the body is not valid JSON") from None
    if not isinstance(data, dict):
        raise Refusal("invalid_request", "the body is not a JSON object")
    if b"\\u" in body:
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise Refusal("invalid_request", "the body holds half of a surrogate pair") from None
    return data


def need(
    data: Mapping[str, Any], field: str, kind: type | tuple[type, ...], *, default: Any = Refusal, what: str
) -> Any:
    """`data[field]`, of the right type. Raises `Refusal` when it is not, or is missing and there is no default."""
    if field not in data:
        if default is Refusal:
            raise Refusal("invalid_request", f"missing required parameter: '{field}'", field=field)
        return default
    value = data[field]
    # A JSON true is an int to Python, and would pass for a count.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Refusal("invalid_request", f"invalid type for '{field}': expected {what}", field=field)
    return value


def need_range(value: float | None, field: str, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        raise Refusal("invalid_request", f"'{field}' must be between {least:g} and {most:g}", field=field)


def only_fields(data: Mapping[str, Any], known: frozenset[str], unsupported: frozenset[str]) -> None:
    """Raises `Refusal` for a field outside the contract, and for one of it that the mock does not honour."""
    for name in data:
        if name in unsupported:
            raise Refusal("invalid_request", f"the mock does not support '{name}'", field=name)
        if name not in known:
            raise Refusal("invalid_request", f"unrecognised request argument: '{name}'", field=name)


def text_of(content: object, field: str, part_type: str = "text") -> str:
    """A message's content: text, or a list of text parts. Raises `Refusal`."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        texts = []
        for part in content:
            if not (isinstance(part, dict) and part.get("type") == part_type and isinstance(part.get("text"), str)):
                raise Refusal("invalid_request", f"'{field}' holds a part that is no text", field=field)
            texts.append(part["text"])
        return "".join(texts)
    raise Refusal("invalid_request", f"'{field}' must be text or a list of text parts", field=field)


def pieces_of(text: str, lengths: Sequence[int] = ()) -> Sequence[str]:
    """`text` cut into pieces of at most four words, or by `lengths` if they fit; together they are the text."""
    if lengths and sum(lengths) == len(text):
        ends = list(accumulate(lengths))
        return [text[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    return _PIECE.findall(text) or [text]


def read_tools(entries: Sequence[tuple[str, Any, Any, Any]]) -> tuple[ToolSpec, ...]:
    """Tools from (where it stands, name, description, schema). Raises `Refusal`."""
    tools: list[ToolSpec] = []
    for where, name, description, schema in entries:
        if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
            raise Refusal("invalid_request", f"'{where}.name' must be 1 to 64 of a-z, A-Z, 0-9, _ and -", field="tools")
        if any(tool.name == name for tool in tools):
            raise Refusal("invalid_request", f"'{where}.name': tool names must be unique", field="tools")
        if description is not None and not isinstance(description, str):
            raise Refusal("invalid_request", f"'{where}.description' must be a string", field="tools")
        schema = {"type": "object", "properties": {}} if schema is None else schema
        if not isinstance(schema, dict) or schema.get("type") not in ("object", None):
            raise Refusal("invalid_request", f"'{where}': the schema must be of the type 'object'", field="tools")
        tools.append(ToolSpec(name, description or "", schema))
    return tuple(tools)


def need_closed(schema: object, where: str, *, all_required: bool) -> None:
    """Vendors take only schemas whose objects say `additionalProperties: false`, one of them only such in which every
    property is required. Raises `Refusal`."""
    if isinstance(schema, list):
        for part in schema:
            need_closed(part, where, all_required=all_required)
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        if schema.get("additionalProperties") is not False:
            text = f"invalid schema for '{where}': 'additionalProperties' is required to be supplied and to be false"
            raise Refusal("invalid_request", text, field=where)
        named = properties if isinstance(properties, dict) else {}
        if all_required and set(named) - set(schema.get("required") or ()):
            text = f"invalid schema for '{where}': 'required' must include every key in properties"
            raise Refusal("invalid_request", text, field=where)
    for name, part in schema.items():
        if name in ("properties", "$defs", "definitions") and isinstance(part, dict):
            need_closed(list(part.values()), where, all_required=all_required)
        elif name in ("items", "anyOf", "oneOf", "allOf", "prefixItems"):
            need_closed(part, where, all_required=all_required)


def read_stop(value: object, name: str, most: int | None) -> tuple[str, ...]:
    """Stop sequences. Raises `Refusal`."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise Refusal("invalid_request", f"'{name}' must be a list of texts that are not empty", field=name)
    if most is not None and len(value) > most:
        raise Refusal("invalid_request", f"'{name}' may hold at most {most}", field=name)
    return tuple(value)
