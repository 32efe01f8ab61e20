"""Prompty: front matter between two lines of `---`, and a template whose lines `system:` and the like begin messages.

Both of its versions: `sample`, `model.parameters` and `template: jinja2` of the first; `inputs` as a list,
`model.options` and `template: {format: …}` of the second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.errors import ConfigError
from exitramp.evals.prompts import rewriting
from exitramp.evals.prompts.checking import variables_in
from exitramp.evals.prompts.imported import Imported, file_name, hints_of, joined, lose_keys, loser
from exitramp.evals.sets.carried import Loss
from exitramp.yaml_loader import load

_FRONT: Final = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n(.*)\Z", re.DOTALL)
_ROLE: Final = re.compile(
    r"(?im)^[ \t]*#?[ \t]*(system|user|assistant|developer|function)(\[[^\]\n]*\])?[ \t]*:[ \t]*$\n?"
)
_IMAGE: Final = re.compile(r"!\[[^\]\n]*\]\([^)\n]*\)")
_SETTINGS: Final = ("parameters", "options")
_TYPES: Final = {
    "string": "string", "integer": "integer", "number": "number", "float": "number", "boolean": "boolean",
    "array": "array", "object": "object", "list": "array", "dict": "object",
}  # fmt: skip


def read(text: str, path: Path, losses: list[Loss]) -> Imported:
    """Raises `ConfigError` for what has no front matter of keys and values."""
    match = _FRONT.match(text)
    if match is None:
        raise ConfigError("no front matter between two lines of ---", file=str(path))
    front = load(match[1], str(path), first_line=2) or {}
    if not isinstance(front, Mapping):
        raise ConfigError("the front matter must hold keys and values", file=str(path))
    called = str(front.get("name") or path.stem)
    name = file_name(called)
    lose = loser(losses, name)
    if name != called:
        lose(f"its name {called!r}, which no file can have")
    lose_keys(lose, front, ("name", "version", "model", "sample", "inputs", "template"))
    given = front.get("model")
    model: Mapping[str, Any] = given if isinstance(given, Mapping) else {"id": given}
    lose_keys(lose, model, _SETTINGS, "model.")
    hints: dict[str, Any] = {}
    for key in _SETTINGS:
        hints |= hints_of(model.get(key), lose)
    template = _template(match[2], _language(front.get("template"), lose), lose)
    schemas, samples = _inputs(front.get("inputs"), lose)
    if isinstance(front.get("sample"), Mapping):
        samples |= dict(front["sample"])
    elif front.get("sample"):
        lose("the key sample, which stands in another file")
    asked = variables_in(template)
    if samples and not asked <= set(samples):
        lose("its sample values, since some variables have none")
    unused = sorted(set(samples) - asked)
    if unused:
        lose(f"sample values that the template does not ask for: {', '.join(unused)}")
    return Imported(name, str(front.get("version", 1)), template, hints, called, (samples,) if samples else (), schemas)


def _template(body: str, language: str, lose: rewriting.Lose) -> str:
    parts = _ROLE.split(body)
    said = [("system", parts[0].strip("\n"))] if parts[0].strip() and len(parts) > 1 else []
    for role, attributes, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        if attributes:
            lose("a message's own settings, such as its name")
        said.append((role.lower(), text.strip("\n")))
    if len(parts) == 1:
        said = [("system", body.strip("\n"))]  # as Prompty itself takes a text without a role
    if _IMAGE.search(body):
        lose("an image in a message: it stands in the template as it was")
    rewrite = rewriting.from_mustache if language == "mustache" else rewriting.from_jinja
    return joined([(role, rewrite(text, lose)) for role, text in said], lose)


def _language(given: Any, lose: rewriting.Lose) -> str:
    """jinja2 unless it says otherwise: as a text, as `type`, or as `format` with a `kind`."""
    if isinstance(given, Mapping):
        inner = given.get("format", given.get("type"))
        given = inner.get("kind") if isinstance(inner, Mapping) else inner
    found = str(given or "jinja2")
    if found not in ("jinja2", "mustache"):
        lose(f"the template's language, {found}: it is read as jinja2")
    return found


def _inputs(given: Any, lose: rewriting.Lose) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each input's schema, and the values that came with it."""
    entries = given if isinstance(given, list) else []
    if isinstance(given, Mapping):
        entries = [
            {**(each if isinstance(each, Mapping) else {"type": each}), "name": key} for key, each in given.items()
        ]
    schemas, samples = {}, {}
    for each in entries:
        if not isinstance(each, Mapping) or not isinstance(each.get("name"), str):
            lose("an input without a name")
            continue
        name, kind = each["name"], str(each.get("kind") or each.get("type") or "string")
        lose_keys(lose, each, ("name", "kind", "type", "sample", "example", "required"), f"of the input {name!r}: ")
        if kind in _TYPES:
            schemas[name] = {"type": _TYPES[kind]}
        else:
            lose(f"that the input {name!r} is of the kind {kind}: it becomes text")
        value = each.get("sample", each.get("example", each.get("default")))
        if value is not None:
            samples[name] = value
    return schemas, samples
