"""Prompts of other tools as a `.mustache` file and its side-car, with everything that did not carry over.

messages   messages of a chat as one text
rewriting  templates of other languages as mustache
exports    Langfuse, promptfoo and LangChain
prompty    front matter and a template
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from exitramp.durable import make_folder, write_atomically
from exitramp.errors import ConfigError, PathUnusable
from exitramp.evals.prompts import exports, prompty
from exitramp.evals.prompts.checking import variables_in
from exitramp.evals.prompts.imported import Imported
from exitramp.evals.sets.carried import Loss
from exitramp.evals.sets.own import read_text
from exitramp.yaml_loader import dump, load

FORMS: Final = ("langfuse", "prompty", "promptfoo", "langchain")
_READERS: Final = {"langfuse": exports.langfuse, "promptfoo": exports.promptfoo, "langchain": exports.langchain}

__all__ = ["FORMS", "Imported", "read_prompts", "write_prompts"]


def read_prompts(path: Path, form: str) -> tuple[list[Imported], list[Loss]]:
    """The prompts in a file of another tool. Raises `ConfigError` for what is none."""
    losses: list[Loss] = []
    text = read_text(path)
    if form == "prompty":
        found = [prompty.read(text, path, losses)]
    else:
        found = list(_newest(list(_READERS[form](load(text, str(path)), path, losses)), losses))
    if not found:
        hint = f"what there is: {losses[0].what}" if losses else f"is it an export of {form}?"
        raise ConfigError("no prompt in it", file=str(path), hint=hint)
    return found, losses


def write_prompts(prompts: Sequence[Imported], folder: Path) -> list[Path]:
    """Each prompt with its side-car. Raises `PathUnusable` where a file of that name is there already."""
    make_folder(folder)
    paths = [folder / f"{prompt.name}.mustache" for prompt in prompts]
    for path in paths:
        if path.exists():
            raise PathUnusable(f"{path}: is there already", hint="name another folder with --out")
    for prompt, path in zip(prompts, paths, strict=True):
        raw = prompt.template.encode("utf-8")
        names = sorted(variables_in(prompt.template))
        golden = [each for each in prompt.golden if set(each) >= set(names)]
        side_car: dict[str, Any] = {
            "name": prompt.name,
            "version": prompt.version,
            "template": path.name,
            "sha256": hashlib.sha256(raw).hexdigest(),
            "input_schema": {
                "type": "object",
                "required": names,
                "additionalProperties": False,
                "properties": {name: dict(prompt.schemas.get(name, {})) for name in names},
            },
            "model_hints": dict(prompt.hints),
            "golden_variables": [{"variables": {name: each[name] for name in names}} for each in golden],
        }
        write_atomically(path, raw)
        text = dump(side_car)
        write_atomically(path.with_suffix(".yaml"), text.encode("utf-8"))
    return paths


def _newest(prompts: list[Imported], losses: list[Loss]) -> Iterator[Imported]:
    """Of versions of one prompt the newest; of two prompts whose names are one file's, each under a name of its own."""
    taken: set[str] = set()
    for called in dict.fromkeys(prompt.called for prompt in prompts):
        versions = [prompt for prompt in prompts if prompt.called == called]
        newest = max(versions, key=lambda prompt: (prompt.version.isdigit(), int(prompt.version or 0)
                     if prompt.version.isdigit() else 0))  # fmt: skip
        name, number = newest.name, 1
        while name in taken:
            number += 1
            name = f"{newest.name}-{number}"
        taken.add(name)
        losses += [
            Loss(f"its version {each.version}: the newest is taken", name) for each in versions if each is not newest
        ]
        if name != called:
            losses.append(Loss(f"its name {called!r}, which no file can have", name))
        yield replace(newest, name=name)
