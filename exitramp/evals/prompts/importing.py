"""Prompts of other tools as a `.mustache` file and its side-car, with everything that did not carry over.

Langfuse: one prompt of its API or a list (`name`, `version`, `prompt`, `config`). Prompty: front matter and a template.
promptfoo: `prompts` of a configuration. LangChain: `lc` JSON of a PromptTemplate or a ChatPromptTemplate. A variable
becomes `{{{name}}}`; what a template language can do beyond that (loops, conditions, filters) is lost and named.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from exitramp.durable import make_folder, write_atomically
from exitramp.errors import ConfigError, PathUnusable
from exitramp.evals.prompts.checking import variables_in
from exitramp.evals.sets.carried import Loss
from exitramp.evals.sets.own import read_text

FORMS: Final = ("langfuse", "prompty", "promptfoo", "langchain")
_JINJA: Final = re.compile(r"\{\{-?\s*([A-Za-z_]\w*(?:\.\w+)*)\s*-?\}\}")
_BRACES: Final = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")
_FRONT: Final = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Imported:
    """One prompt that was taken over."""

    name: str
    version: str
    template: str = field(repr=False)
    hints: Mapping[str, Any] = field(default_factory=dict, hash=False)


def read_prompts(path: Path, form: str) -> tuple[list[Imported], list[Loss]]:
    """The prompts in a file of another tool. Raises `ConfigError` for what is none."""
    losses: list[Loss] = []
    text = read_text(path)
    if form == "prompty":
        found = [_prompty(text, path, losses)]
    else:
        data = _loaded(text, path)
        readers = {"langfuse": _langfuse, "promptfoo": _promptfoo, "langchain": _langchain}
        found = list(readers[form](data, path, losses))
    if not found:
        raise ConfigError("no prompt in it", file=str(path))
    return found, losses


def write_prompts(prompts: Sequence[Imported], folder: Path) -> list[Path]:
    """Each prompt with its side-car. Raises `PathUnusable` where a file of that name is there already."""
    make_folder(folder)
    paths = [folder / f"{prompt.name}.mustache" for prompt in prompts]
    for path in paths:
        if path.exists() or paths.count(path) > 1:
            raise PathUnusable(f"{path}: is there already, or stands twice", hint="name another folder with --out")
    for prompt, path in zip(prompts, paths, strict=True):
        raw = prompt.template.encode("utf-8")
        names = sorted(variables_in(prompt.template))
        side_car = {
            "name": prompt.name,
            "version": prompt.version,
            "template": path.name,
            "sha256": hashlib.sha256(raw).hexdigest(),
            "input_schema": {
                "type": "object",
                "required": names,
                "additionalProperties": False,
                "properties": {name: {} for name in names},
            },
            "model_hints": dict(prompt.hints),
            "golden_variables": [],
        }
        write_atomically(path, raw)
        text = yaml.safe_dump(side_car, allow_unicode=True, sort_keys=False)
        write_atomically(path.with_suffix(".yaml"), text.encode("utf-8"))
    return paths


def _langfuse(data: Any, path: Path, losses: list[Loss]) -> Iterator[Imported]:
    listed = data.get("data", [data]) if isinstance(data, Mapping) else data
    for each in listed if isinstance(listed, list) else []:
        if not isinstance(each, Mapping) or "prompt" not in each:
            losses.append(Loss("something that is no prompt"))
            continue
        name = _name(str(each.get("name") or path.stem))
        _lose(losses, name, each, {"name", "version", "prompt", "config", "type", "id"})
        body = _chat(each["prompt"], name, losses)
        config = each.get("config")
        hints = _hints(config if isinstance(config, Mapping) else {}, name, losses)
        yield Imported(name, str(each.get("version", 1)), _from_jinja(body, name, losses), hints)


def _promptfoo(data: Any, path: Path, losses: list[Loss]) -> Iterator[Imported]:
    listed = data.get("prompts") if isinstance(data, Mapping) else None
    for number, each in enumerate(listed if isinstance(listed, list) else [], start=1):
        raw = each.get("raw") if isinstance(each, Mapping) else each
        label = each.get("label") if isinstance(each, Mapping) else None
        name = _name(str(label or f"{path.stem}-{number}"))
        if not isinstance(raw, str) or raw.startswith("file://"):
            losses.append(Loss("a prompt that stands in another file, or is a script", name))
            continue
        yield Imported(name, "1", _from_jinja(_chat(raw, name, losses), name, losses))


def _langchain(data: Any, path: Path, losses: list[Loss]) -> Iterator[Imported]:
    data = _unwrapped(data, path, losses)
    fields = data.get("kwargs", data) if isinstance(data, Mapping) else {}
    name = _name(str(data.get("name") or path.stem) if isinstance(data, Mapping) else path.stem)
    _lose(losses, name, fields, {"template", "template_format", "messages", "input_variables", "name", "_type"})
    if isinstance(fields.get("messages"), list):
        parts = []
        for message in fields["messages"]:
            inner = message.get("kwargs", message) if isinstance(message, Mapping) else {}
            prompt = inner.get("prompt")
            prompt = prompt.get("kwargs", prompt) if isinstance(prompt, Mapping) else {}
            if isinstance(inner.get("content"), str):  # a message that says the same each time
                parts.append((_role(message), _verbatim(inner["content"])))
                continue
            if not isinstance(prompt.get("template"), str):
                losses.append(Loss("a message that is no text template, such as a placeholder for others", name))
                continue
            parts.append((_role(message), _by_format(prompt, name, losses)))
        yield Imported(name, "1", _joined(parts, name, losses))
    elif isinstance(fields.get("template"), str):
        yield Imported(name, "1", _by_format(fields, name, losses))


def _unwrapped(data: Any, path: Path, losses: list[Loss]) -> Any:
    """The template in a commit of LangSmith's hub (`manifest`) or in a chain that begins with it (`first`)."""
    if isinstance(data, Mapping) and isinstance(data.get("manifest"), Mapping):
        data = data["manifest"]
    while isinstance(data, Mapping) and isinstance(data.get("kwargs"), Mapping):
        first = data["kwargs"].get("first")
        if not isinstance(first, Mapping):
            break
        losses.append(Loss("what follows the template in its chain, such as a model with settings", _name(path.stem)))
        data = first
    return data


def _role(message: Mapping[str, Any]) -> str:
    name = str((message.get("id") or ["message"])[-1])
    return name.replace("PromptTemplate", "").replace("Message", "").lower() or "message"


def _verbatim(text: str) -> str:
    """A text in which nothing is filled in, as a template: its braces stay what they are."""
    return text if "{{" not in text else "{{=<% %>=}}" + text + "<%={{ }}=%>"


def _prompty(text: str, path: Path, losses: list[Loss]) -> Imported:
    match = _FRONT.match(text)
    if match is None:
        raise ConfigError("no front matter between two lines of ---", file=str(path))
    try:
        front = yaml.safe_load(match[1]) or {}
    except yaml.YAMLError as error:
        raise ConfigError("the front matter is not YAML", file=str(path)) from error
    name = _name(str(front.get("name") or path.stem))
    _lose(losses, name, front, {"name", "version", "model", "description"})
    given = front.get("model")
    model: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    _lose(losses, name, model, {"parameters"}, "model.")
    parts = re.split(r"(?m)^[ \t]*#?[ \t]*(system|user|assistant):[ \t]*$\n?", match[2])
    said = list(zip(parts[1::2], (each.strip("\n") for each in parts[2::2]), strict=True)) or [("user", match[2])]
    body = _from_jinja(_joined(said, name, losses), name, losses)
    parameters = model.get("parameters")
    hints = _hints(parameters if isinstance(parameters, Mapping) else {}, name, losses)
    return Imported(name, str(front.get("version", 1)), body, hints)


def _chat(prompt: Any, name: str, losses: list[Loss]) -> str:
    """A text, or messages as one text."""
    if isinstance(prompt, str):
        try:
            listed = json.loads(prompt) if prompt.lstrip().startswith("[") else None
        except ValueError:
            listed = None
        if not isinstance(listed, list):
            return prompt
        prompt = listed
    messages = prompt if isinstance(prompt, list) else []
    parts = []
    for each in messages:
        if isinstance(each, Mapping) and isinstance(each.get("content"), str):
            parts.append((str(each.get("role", "user")), each["content"]))
        else:
            losses.append(Loss("a message that is no text", name))
    return _joined(parts, name, losses)


def _joined(parts: Sequence[tuple[str, str]], name: str, losses: list[Loss]) -> str:
    if len(parts) > 1:
        losses.append(
            Loss(f"the roles of its messages ({', '.join(role for role, _ in parts)}): one text of all", name)
        )
    return "\n\n".join(text for _, text in parts)


def _from_jinja(text: str, name: str, losses: list[Loss]) -> str:
    if "@@@langfusePrompt:" in text:
        losses.append(Loss("a reference to another prompt of Langfuse: it stands in the template as it was", name))
    made = _JINJA.sub(r"{{{\1}}}", text)
    if "{%" in made or "{#" in made or re.search(r"(?<!\{)\{\{(?!\{)", made):
        losses.append(Loss("loops, conditions, filters or comments: they stand in the template as they were", name))
    return made


def _by_format(fields: Mapping[str, Any], name: str, losses: list[Loss]) -> str:
    template, form = str(fields["template"]), fields.get("template_format", "f-string")
    if form == "f-string":
        return _BRACES.sub(lambda found: {"{{": "{", "}}": "}"}.get(found[0], f"{{{{{{{found[1]}}}}}}}"), template)
    if form == "mustache":
        return re.sub(r"(?<!\{)\{\{\s*([A-Za-z_][\w.]*)\s*\}\}(?!\})", r"{{{\1}}}", template)
    return _from_jinja(template, name, losses)


def _hints(given: Mapping[str, Any], name: str, losses: list[Loss]) -> dict[str, Any]:
    hints = {key: given[key] for key in ("temperature", "max_tokens") if isinstance(given.get(key), int | float)}
    _lose(losses, name, given, set(hints), "setting ")
    return hints


def _lose(losses: list[Loss], name: str, data: Mapping[str, Any], kept: set[str], what: str = "") -> None:
    for key in sorted(str(key) for key, value in data.items() if key not in kept and value not in (None, [], {}, "")):
        losses.append(Loss(f"{what or 'the key '}{key}", name))


def _name(text: str) -> str:
    """A name that a file can have."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:80] or "prompt"


def _loaded(text: str, path: Path) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError("neither JSON nor YAML", file=str(path)) from error
