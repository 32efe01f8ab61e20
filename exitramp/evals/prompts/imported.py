"""A prompt that was taken over, and what all readers of other tools' prompts have in common."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from exitramp.errors import ConfigError
from exitramp.evals.sets.carried import Loss
from exitramp.yaml_loader import load

HINTS: Final = {
    "temperature": "temperature",
    "max_tokens": "max_tokens",
    "maxOutputTokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
}


@dataclass(frozen=True, slots=True)
class Imported:
    """`called`: what the other tool calls it. `golden`: variables that came with it. `schemas`: of variables."""

    name: str
    version: str
    template: str = field(repr=False)
    hints: Mapping[str, Any] = field(default_factory=dict, hash=False)
    called: str = ""
    golden: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, hash=False)
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)


def file_name(text: str) -> str:
    """A name that a file can have."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:80] or "prompt"


def loser(losses: list[Loss], name: str) -> Callable[[str], None]:
    """What tells that something of the prompt `name` did not carry over, each thing once."""

    def lose(what: str) -> None:
        loss = Loss(what, name)
        if loss not in losses:
            losses.append(loss)

    return lose


def lose_keys(
    lose: Callable[[str], None], data: Mapping[str, Any], kept: Sequence[str], what: str = "the key "
) -> None:
    for key in sorted(str(key) for key, value in data.items() if key not in kept and value not in (None, [], {}, "")):
        lose(f"{what}{key}")


def hints_of(given: Any, lose: Callable[[str], None]) -> dict[str, Any]:
    """A side-car's hints, of a model's settings; the other settings are lost."""
    settings: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    kept = {key: value for key, value in settings.items() if key in HINTS and isinstance(value, int | float)}
    lose_keys(lose, settings, tuple(kept), "setting ")
    return {HINTS[key]: value for key, value in kept.items()}


def joined(parts: Sequence[tuple[str, str]], lose: Callable[[str], None]) -> str:
    """Messages, as roles and templates, as one template."""
    if len(parts) > 1:
        lose(f"the roles of its messages ({', '.join(role for role, _ in parts)}): one text of all")
    elif parts and parts[0][0] not in ("user", "human"):
        lose(f"the role of its message ({parts[0][0]})")
    return "\n\n".join(text for _, text in parts)


def messages_of(prompt: Any, lose: Callable[[str], None]) -> list[tuple[str, str]]:
    """Roles and texts of a text, of a list of messages, or of such a list that is written as JSON or YAML in a text."""
    if isinstance(prompt, str):
        listed = _listed(prompt)
        if listed is None:
            return [("user", prompt)]
        prompt = listed
    parts = []
    for each in prompt if isinstance(prompt, list) else []:
        content = each.get("content") if isinstance(each, Mapping) else None
        if isinstance(each, Mapping) and each.get("type") == "placeholder":
            lose(f"a placeholder for other messages ({each.get('name')})")
        elif (text := text_of(content, lose)) is not None:
            parts.append((str(each.get("role", "user")), text))
            lose_keys(lose, each, ("role", "content", "type"), "a message's ")
        else:
            lose("a message that is no text")
    return parts


def text_of(content: Any, lose: Callable[[str], None]) -> str | None:
    """A message's text, of parts the texts; None where there is none."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else None
    texts = []
    for part in content:
        if isinstance(part, str) or (isinstance(part, Mapping) and isinstance(part.get("text"), str)):
            texts.append(part if isinstance(part, str) else part["text"])
        else:
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            lose(f"a part of a message that is no text ({kind})")
    return "\n".join(texts) if texts else None


def _listed(text: str) -> list[Any] | None:
    start = text.lstrip()
    try:
        if start.startswith("["):
            found = json.loads(text)
        elif start.startswith("- role:"):
            found = load(text, "a prompt")
        else:
            return None
    except (ValueError, ConfigError):
        return None
    is_chat = isinstance(found, list) and found and all(isinstance(each, Mapping) and "role" in each for each in found)
    return found if is_chat else None
