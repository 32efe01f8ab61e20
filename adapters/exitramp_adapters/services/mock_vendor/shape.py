"""What the two shapes of the mock vendors have in common: a question read, a reply to be written, a refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

MODEL_OF_QUALITY: Final = {"good": "mock-large", "slightly_worse": "mock-medium", "poor": "mock-small"}
FINGERPRINT: Final = "fp_exitramp_mock"

_PIECE = re.compile(r"(?:\S+\s*){1,4}")


class Refusal(Exception):
    """The vendor says no. `kind` is a name in a shape's table of errors; `message` replaces the one there."""

    def __init__(self, kind: str, message: str | None = None, *, field: str | None = None) -> None:
        super().__init__(message or kind)
        self.kind = kind
        self.message = message
        self.field = field


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for. `prompt` is all its texts joined; `system` the part that a cache may know."""

    model: str
    prompt: str
    system: str
    maximum_tokens: int | None
    stream: bool
    usage_in_stream: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered. `prompt_tokens` includes `cached_tokens`; each shape reports it in its own way."""

    id: str
    model: str
    text: str
    is_cut_by_limit: bool
    prompt_tokens: int
    cached_tokens: int
    gen_tokens: int
    created: int


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
    for field in data:
        if field in unsupported:
            raise Refusal("invalid_request", f"the mock does not support '{field}'", field=field)
        if field not in known:
            raise Refusal("invalid_request", f"unrecognised request argument: '{field}'", field=field)


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


def pieces_of(text: str) -> Sequence[str]:
    """`text` cut into pieces of at most four words; together they are the text."""
    return _PIECE.findall(text) or [text]
