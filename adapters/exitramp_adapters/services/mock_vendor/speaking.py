"""What a mock vendor says by its rule: text out of passages and tools' results, JSON for a schema, calls of tools.

In full, the first line that applies being taken:

1. A tool is called if `tool_choice` names one (that one), if it is `required` (the one whose name and description
   share most terms with the last user message, the first of equals), or if it is `auto` and the last user message
   names tools, `_` and `-` being blanks as well (those, in the order offered; one alone where parallel calls are off),
   unless the last message is a tool's result. Arguments are filled in from the tool's schema and that message's text.
2. After results of tools, these are passages, each with the name of its tool for an id, and the last user message is
   the question. Where no term of it stands in them, the first units of the last result are said.
3. Otherwise the extractive rule answers.
4. A response format wraps what 2 or 3 say: `json_object` as `{"answer": TEXT}`, `json_schema` as the schema filled
   with the text.
5. Text ends before the first stop sequence in it, or with the last token that `max_tokens` allows, whichever is first.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Final

from exitramp.ports import ChatMessage, ResponseFormat, ToolCall, ToolSpec
from exitramp_adapters.services import extractive
from exitramp_adapters.services.extractive import Rule
from exitramp_adapters.services.mock_vendor.filling import fill
from exitramp_adapters.services.mock_vendor.shape import Ask

_WORDS: Final = ("auto", "none", "required")


@dataclass(frozen=True, slots=True)
class Said:
    """What is answered, whoever said it.

    finish: stop, length or tool_calls. stopped_by: the stop sequence that ended the text.
    prompt_tokens, gen_tokens, cached_tokens: what the one who said it counted; None where the mock counts.
    model: the name that it answered by. pieces: the lengths in which a stream brought its text.
    broken: the fault that its delivery ends in: truncate, malformed or reset.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    finish: str = "stop"
    stopped_by: str | None = None
    prompt_tokens: int | None = None
    gen_tokens: int | None = None
    cached_tokens: int | None = None
    model: str | None = None
    pieces: tuple[int, ...] = ()
    broken: str | None = None


def speak(ask: Ask, rule: Rule) -> Said:
    """The answer to `ask` by `rule`. Raises `Refusal` for a schema that cannot be filled."""
    chosen = _chosen(ask)
    if chosen:
        asked = _asked(ask)
        calls = tuple(ToolCall("", tool.name, _dump(fill(tool.parameters, asked, field="tools"))) for tool in chosen)
        return _limited_calls(calls, ask.maximum_tokens)
    text = _extracted(ask, rule)
    if ask.request.response_format is not None:
        text = _formatted(ask.request.response_format, text)
    return limited(text, ask.request.stop, ask.maximum_tokens)


def limited(text: str, stop: tuple[str, ...], maximum_tokens: int | None) -> Said:
    """`text` up to the first stop sequence or the last token allowed."""
    places = [(text.find(each), each) for each in stop if each and each in text]
    ended, stopped_by = min(places, default=(len(text), None), key=lambda found: found[0])
    cut = text[:ended] if maximum_tokens is None else extractive.cut_tokens(text[:ended], maximum_tokens)
    if cut != text[:ended]:
        return Said(cut, finish="length")
    return Said(text[:ended], stopped_by=stopped_by)


def _limited_calls(calls: tuple[ToolCall, ...], maximum_tokens: int | None) -> Said:
    kept: list[ToolCall] = []
    left = maximum_tokens
    for call in calls:
        if left is None:
            kept.append(call)
            continue
        cut = extractive.cut_tokens(call.arguments, left) if left else ""
        kept.append(replace(call, arguments=cut))
        if cut != call.arguments:
            return Said("", tuple(kept), finish="length")
        left -= extractive.count_tokens(cut)
    return Said("", tuple(kept), finish="tool_calls")


def _chosen(ask: Ask) -> tuple[ToolSpec, ...]:
    tools, choice = ask.request.tools, ask.request.tool_choice
    if not tools or choice == "none":
        return ()
    if choice is not None and choice not in _WORDS:
        return tuple(tool for tool in tools if tool.name == choice)
    asked = _asked(ask)
    if choice == "required":
        wanted = extractive.terms_of(asked)
        return (max(tools, key=lambda tool: len(wanted & extractive.terms_of(f"{tool.name} {tool.description}"))),)
    if ask.request.messages[-1].role == "tool":
        return ()
    named = tuple(tool for tool in tools if _names(asked, tool.name))
    return named if ask.parallel_calls else named[:1]


def _names(text: str, name: str) -> bool:
    pattern = r"[_\-\s]".join(re.escape(part) for part in re.split(r"[_\-]", name))
    return re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE) is not None


def _asked(ask: Ask) -> str:
    """The last user message: its question, or all of it but the passages."""
    last = next((message.content for message in reversed(ask.request.messages) if message.role == "user"), "")
    return extractive.question_of(last)


def _extracted(ask: Ask, rule: Rule) -> str:
    results = _results(ask.request.messages)
    if not results:
        return extractive.answer(ask.prompt, rule)
    passages = "\n".join(f"[passage {name}]\n{text}\n[/passage]" for name, text in results)
    said = extractive.answer(f"{passages}\nQuestion: {_asked(ask)}", rule)
    if said != extractive.UNKNOWN_ANSWER:
        return said
    name, text = results[-1]
    units = extractive.units_of(text)[: rule.sentences]
    return " ".join(unit.text for unit in units) + f" [{name}]" if units else said


def _results(messages: tuple[ChatMessage, ...]) -> list[tuple[str, str]]:
    """What tools gave since the user last spoke, by the name of the tool."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    found: list[tuple[str, str]] = []
    for message in messages:
        if message.role == "user":
            found.clear()
        elif message.role == "tool":
            found.append((names.get(message.tool_call_id or "", "tool"), message.content))
    return found


def _formatted(wanted: ResponseFormat, text: str) -> str:
    if wanted.kind == "json_object":
        return _dump({"answer": text})
    return _dump(fill(wanted.schema, text, field="response_format"))


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
