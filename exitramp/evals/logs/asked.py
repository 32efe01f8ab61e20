"""What a user asked, in an entry's input: a text, or the user's last message in the shapes of vendors and tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_KEYS: Final = ("question", "query", "input", "prompt", "text", "messages", "contents")
_USERS: Final = ("user", "human", "HumanMessage", "HumanMessageChunk")
_DEEPEST: Final = 6
"""Of lists and objects within one another, behind which nobody's question stands."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, or None, and what stood beside it and does not carry over."""

    text: str | None
    beside: tuple[str, ...] = ()


def asked_in(given: Any, depth: int = 0) -> Asked:
    if depth > _DEEPEST:
        return Asked(None)
    if isinstance(given, str):
        return Asked(given if given.strip() else None)
    if isinstance(given, list):
        return _of_list(given, depth)
    if not isinstance(given, Mapping):
        return Asked(None)
    for key in _KEYS:
        found = asked_in(given.get(key), depth + 1)
        if found.text is not None:
            others = sorted(
                str(each) for each, value in given.items() if each != key and value not in (None, [], {}, "")
            )
            more = (f"what else was given: {', '.join(others)}",) if others else ()
            return Asked(found.text, (*found.beside, *more))
    return _of_call(given, depth)


def said_by(message: Mapping[str, Any]) -> str:
    """The role of a message in the shapes of vendors and of LangChain, serialised or not."""
    if message.get("type") == "constructor" and isinstance(message.get("id"), list) and message["id"]:
        return str(message["id"][-1])
    return str(message.get("role") or message.get("type") or "")


def _of_call(given: Mapping[str, Any], depth: int) -> Asked:
    """As a decorator writes down what a function was called with; a single text is the question, whatever its name."""
    called = [given.get("kwargs"), *(given["args"] if isinstance(given.get("args"), list) else ())]
    for each in called:
        found = asked_in(each, depth + 1)
        if found.text is not None:
            return found
    values = [value for each in called if isinstance(each, Mapping) for value in each.values() if value]
    return Asked(values[0]) if len(values) == 1 and isinstance(values[0], str) and values[0].strip() else Asked(None)


def _of_list(given: list[Any], depth: int) -> Asked:
    if given and all(isinstance(each, list) for each in given):  # a batch of conversations
        found = asked_in(given[0], depth + 1)
        more = ("other conversations of the same batch",) if len(given) > 1 else ()
        return Asked(found.text, (*found.beside, *more))
    messages = [each for each in given if isinstance(each, Mapping) and said_by(each) in _USERS]
    if not messages:
        return _of_parts(given)
    last = max(place for place, each in enumerate(given) if each is messages[-1])
    found = asked_in(_content(messages[-1]), depth + 1)
    beside = [*found.beside]
    if last > 0:
        beside.append("the messages before the question")
    if last < len(given) - 1:
        beside.append("the messages after the question")
    return Asked(found.text, tuple(beside))


def _of_parts(given: list[Any]) -> Asked:
    """A message in parts: its texts, and what else there is, such as a picture."""
    texts, others = [], []
    for part in given:
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None
        if isinstance(text, str):
            texts.append(text.strip())
        else:
            others.append(str(part.get("type") or next(iter(part), "")) if isinstance(part, Mapping) else "")
    kinds = ", ".join(sorted(set(filter(None, others)))) or "unknown"
    beside = (f"a part of the question that is no text ({kinds})",) if others and texts else ()
    return Asked(" ".join(filter(None, texts)) or None, beside)


def _content(message: Mapping[str, Any]) -> Any:
    inner = next((message[key] for key in ("kwargs", "data") if isinstance(message.get(key), Mapping)), message)
    return inner.get("content", inner.get("parts"))
