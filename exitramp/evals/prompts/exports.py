"""Langfuse's, promptfoo's and LangChain's prompts, in the shapes that their own code writes and reads.

Langfuse: prompts of its API or a list of them. promptfoo: `prompts` of a configuration; a text that it would take for
a path is one here too. LangChain: what `dumps` makes of a PromptTemplate or ChatPromptTemplate, what `save` wrote, and
a commit of LangSmith's hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.evals.prompts import rewriting
from exitramp.evals.prompts.imported import (
    Imported,
    file_name,
    hints_of,
    joined,
    lose_keys,
    loser,
    messages_of,
    text_of,
)
from exitramp.evals.sets.carried import Loss

_ENDINGS: Final = (".cjs", ".cts", ".js", ".json", ".jsonl", ".mjs", ".mts", ".py", ".ts", ".txt", ".yml", ".yaml")
_ELSEWHERE: Final = ("portkey://", "langfuse://", "helicone://")
_BY_FORMAT: Final[Mapping[str, Callable[[str, rewriting.Lose], str]]] = {
    "f-string": rewriting.from_f_string,
    "jinja2": rewriting.from_jinja,
    "mustache": rewriting.from_mustache,
}


def langfuse(data: Any, path: Path, losses: list[Loss]) -> Iterator[Imported]:
    listed = data.get("data", [data]) if isinstance(data, Mapping) else data
    for each in listed if isinstance(listed, list) else []:
        if not isinstance(each, Mapping) or "prompt" not in each:
            is_listing = isinstance(each, Mapping) and "versions" in each
            losses.append(Loss("a listing without the prompt's text" if is_listing else "something that is no prompt"))
            continue
        called = str(each.get("name") or path.stem)
        lose = loser(losses, file_name(called))
        lose_keys(lose, each, ("name", "version", "prompt", "config", "type", "id"))
        parts = [(role, rewriting.from_langfuse(text, lose)) for role, text in messages_of(each["prompt"], lose)]
        hints = hints_of(each.get("config"), lose)
        yield Imported(file_name(called), str(each.get("version", 1)), joined(parts, lose), hints, called)


def promptfoo(data: Any, path: Path, losses: list[Loss]) -> Iterator[Imported]:
    given = data.get("prompts") if isinstance(data, Mapping) else None
    if isinstance(given, Mapping):  # its older form: files and what they are called
        given = [{"raw": raw, "label": label} for raw, label in given.items()]
    listed = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    for key in sorted(set(data) - {"prompts", "description"}) if isinstance(data, Mapping) and listed else ():
        hint = ": see `exitramp eval sets convert`" if key in ("tests", "defaultTest") else ""
        losses.append(Loss(f"the key {key} of the configuration{hint}"))
    for number, each in enumerate(listed, start=1):
        entry = each if isinstance(each, Mapping) else {"raw": each}
        raw = entry.get("raw") or entry.get("id")
        called = str(entry.get("label") or f"{path.stem}-{number}")
        lose = loser(losses, file_name(called))
        lose_keys(lose, entry, ("raw", "label", "id", "display"))
        if not isinstance(raw, str) or _is_elsewhere(raw):
            lose("a prompt that stands in another file, or is a script")
            continue
        parts = [(role, rewriting.from_jinja(text, lose)) for role, text in messages_of(raw, lose)]
        yield Imported(file_name(called), "1", joined(parts, lose), {}, called)


def _is_elsewhere(raw: str) -> bool:
    """Whether promptfoo would take it for a path, a program or another service's prompt, by its own rule."""
    if raw.startswith("exec:") or any(each in raw for each in _ELSEWHERE):
        return True
    if "\n" in raw:
        return False
    if raw.startswith("file://") or "*" in raw or "/" in raw or "\\" in raw:
        return not any(sign in raw for sign in ("{{", " ")) or raw.startswith("file://")
    ends = any(part.endswith(_ENDINGS) for part in raw.split(":")[-2:])
    return ends or ((raw[-3:-2] == "." or raw[-4:-3] == ".") and " " not in raw)


def langchain(data: Any, path: Path, losses: list[Loss]) -> Iterator[Imported]:
    data = _unwrapped(data, path, losses)
    if not isinstance(data, Mapping):
        return
    if data.get("type") == "not_implemented":
        losses.append(Loss(f"a {_kind(data)}, which LangChain does not write down", file_name(path.stem)))
        return
    fields = data.get("kwargs", data)
    named = data.get("name")
    called = str(path.stem if named in (None, "", _kind(data)) else named)
    lose = loser(losses, file_name(called))
    kept = ("template", "template_format", "messages", "input_variables", "name", "_type", "input_types")
    lose_keys(lose, fields, kept)
    if isinstance(fields.get("messages"), list):
        parts = [part for message in fields["messages"] if (part := _message(message, lose)) is not None]
        yield Imported(file_name(called), "1", joined(parts, lose), {}, called)
    elif isinstance(fields.get("template"), str):
        yield Imported(file_name(called), "1", _by_format(fields, lose), {}, called)


def _message(message: Any, lose: rewriting.Lose) -> tuple[str, str] | None:
    """A message's role and its template. None where there is no text in it."""
    data: Mapping[str, Any] = message if isinstance(message, Mapping) else {}
    inner = data.get("kwargs", data)
    role = str(inner.get("role") or _role(data))
    if "variable_name" in inner:
        lose(f"a placeholder for other messages ({inner['variable_name']})")
        return None
    if "content" in inner:  # a message that says the same each time
        lose_keys(lose, inner, ("content", "type", "role"), "a message's ")
        text = text_of(inner["content"], lose)
        return None if text is None else (role, rewriting.as_text(text, lose))
    prompts = inner.get("prompt")
    texts = []
    for prompt in prompts if isinstance(prompts, list) else [prompts]:
        fields = prompt.get("kwargs", prompt) if isinstance(prompt, Mapping) else {}
        if isinstance(fields.get("template"), str):
            lose_keys(lose, fields, ("template", "template_format", "input_variables", "_type", "input_types"))
            texts.append(_by_format(fields, lose))
        else:
            lose(f"a part of a message that is no text ({_kind(prompt) if isinstance(prompt, Mapping) else 'none'})")
    return (role, "\n".join(texts)) if texts else None


def _unwrapped(data: Any, path: Path, losses: list[Loss]) -> Any:
    """The template in a commit of LangSmith's hub (`manifest`) or in a chain that begins with it (`first`)."""
    if isinstance(data, Mapping) and isinstance(data.get("manifest"), Mapping):
        data = data["manifest"]
    while isinstance(data, Mapping) and isinstance(data.get("kwargs"), Mapping):
        first = data["kwargs"].get("first")
        if not isinstance(first, Mapping):
            break
        what = "what follows the template in its chain, such as a model with settings"
        losses.append(Loss(what, file_name(path.stem)))
        data = first
    return data


def _kind(data: Mapping[str, Any]) -> str:
    """The class that LangChain says this is one of."""
    path = data.get("id")
    return str(path[-1]) if isinstance(path, list) and path else str(data.get("_type") or data.get("type") or "object")


def _role(message: Mapping[str, Any]) -> str:
    return _kind(message).replace("PromptTemplate", "").replace("Message", "").lower() or "message"


def _by_format(fields: Mapping[str, Any], lose: rewriting.Lose) -> str:
    form = fields.get("template_format") or "f-string"
    rewrite = _BY_FORMAT.get(str(form))
    if rewrite is None:
        lose(f"the template's language, {form}: it stands there as it was")
        return rewriting.as_text(str(fields["template"]), lose)
    return rewrite(str(fields["template"]), lose)
