"""Versioned prompts: a `.mustache` file and its YAML side-car, rendered without HTML escaping."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

from exitramp.clock import Clock, SystemClock
from exitramp.errors import ConfigError, DependencyMissing
from exitramp.orchestration.stack import Passage, Question, RenderedPrompt
from exitramp.ports import ChatMessage
from exitramp.yaml_reader import Block, read_block

DEFAULT = "default"
_EXAMPLE: Final = "write name, version and sha256; docs/prompts.md has an example"
ASKED_SECONDS: Final = 300.0
"""A use case that nobody has asked for in so long needs no prompt any more."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt; `sha256` is over the bytes of its template."""

    name: str
    version: str
    template: str
    sha256: str
    maximum_tokens: int
    temperature: float


class PromptSet:
    """The prompts of a folder, one per use case; a use case without its own takes the one named `default`."""

    def __init__(self, prompts: Mapping[str, Prompt], where: str, clock: Clock) -> None:
        """`where`: what an error begins with."""
        self._prompts = prompts
        self._where = where
        self._clock = clock
        self._asked: dict[str, float] = {}

    def take_over(self, before: PromptSet) -> None:
        """Stand in for the prompts of before. Raises `ConfigError` where one is gone that was asked for in the last
        `ASKED_SECONDS`; who asks for it now would get no answer."""
        asked = before._asked.copy()
        for use_case, at in sorted(asked.items()):
            if self._clock.monotonic() - at < ASKED_SECONDS:
                try:
                    self._found(use_case)
                except ConfigError as error:
                    error.hint = (
                        f"{error.hint}; or leave it so: it was asked for a short while ago, and the edit is taken once "
                        f"nobody has for {ASKED_SECONDS:g} s"
                    )
                    raise
        self._asked = {**asked, **self._asked}

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self._prompts.values())

    def check(self) -> None:
        """Raises `ConfigError` for a prompt that no question could be put into."""
        for prompt in self:
            _mustache(prompt, {"question": "a question", "passages": [{"id": "a", "text": "a text"}]})

    def for_use_case(self, use_case: str) -> Prompt:
        """Raises `ConfigError` where there is none for it and no `default`."""
        found = self._found(use_case)
        self._asked[use_case] = self._clock.monotonic()
        return found

    def _found(self, use_case: str) -> Prompt:
        found = self._prompts.get(use_case) or self._prompts.get(DEFAULT)
        if found is None:
            raise ConfigError(
                f"no prompt for the use case '{use_case}'",
                file=self._where,
                hint=f"name one that it has, {', '.join(self._prompts)}; or, in a folder of your own, add "
                f"{use_case}.mustache and {use_case}.yaml, or {DEFAULT}.mustache and {DEFAULT}.yaml",
            )
        return found

    def render(self, question: Question, passages: Sequence[Passage]) -> RenderedPrompt:
        """The prompt for a question and its passages, as one user message."""
        prompt = self.for_use_case(question.use_case_id)
        text = _mustache(
            prompt,
            {
                "question": " ".join(question.text.split()),
                "passages": [{"id": passage.id, "text": passage.text} for passage in passages],
            },
        )
        return RenderedPrompt((ChatMessage("user", text),), prompt.name, prompt.version, prompt.sha256)


def load_prompts(folder: Traversable | Path, *, where: str | None = None, clock: Clock | None = None) -> PromptSet:
    """Every prompt of a folder. Raises `ConfigError` for one whose template is not the one its side-car names.

    `where`: what an error about a use case without a prompt begins with; by itself the folder.
    """
    found: dict[str, Prompt] = {}
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if not entry.name.endswith(".mustache"):
            continue
        name = entry.name.removesuffix(".mustache")
        side_car = folder / f"{name}.yaml"
        if not side_car.is_file():
            raise ConfigError("the prompt has no side-car", file=str(entry), hint=f"add {name}.yaml beside it")
        found[name] = _prompt(entry.read_bytes(), side_car.read_bytes(), str(side_car))
    if not found:
        hint = "add NAME.mustache and NAME.yaml; docs/prompts.md says what stands in them"
        raise ConfigError("there is no .mustache file in this folder", file=str(folder), hint=hint)
    return PromptSet(found, where or str(folder), clock or SystemClock())


def _prompt(template: bytes, side_car: bytes, where: str) -> Prompt:
    try:
        text, words = side_car.decode("utf-8-sig"), template.decode("utf-8")
    except UnicodeDecodeError as error:
        why = "not a prompt's side-car: it, or its template, is no text in UTF-8"
        raise ConfigError(why, file=where, hint=_EXAMPLE) from error
    block = read_block(text, where)
    hints = block.block("model_hints", required=False)
    prompt = Prompt(
        name=block.text("name"),
        version=_version(block),
        template=words,
        sha256=hashlib.sha256(template).hexdigest(),
        maximum_tokens=512 if hints is None else hints.integer("max_tokens", 512, minimum=1),
        temperature=0.0 if hints is None else hints.number("temperature", 0.0, minimum=0),
    )
    if block.text("sha256") != prompt.sha256:
        raise ConfigError(
            "the template is not the one this side-car was written for",
            file=where,
            hint=f"its SHA-256 is {prompt.sha256}; raise the version and write that down",
        )
    return prompt


def _version(block: Block) -> str:
    """A text or a whole number: 1.10 without quotes would be the number 1.1."""
    found = block.anything("version")
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise block.error("'version' must be a text or a whole number", "version", hint="put quotes around it")
    return str(found)


def _mustache(prompt: Prompt, variables: Mapping[str, Any]) -> str:
    try:
        import combustache
        from combustache.exceptions import CombustacheError
    except ImportError as error:
        raise DependencyMissing("prompts", "evals", module="combustache") from error
    # HTML escaping corrupts prompts, so the escape function leaves everything as it is.
    try:
        text: str = combustache.render(prompt.template, dict(variables), escape=lambda value: value)
    except CombustacheError as error:  # whose message holds a piece of the prompt
        raise ConfigError(
            f"the prompt '{prompt.name}' is no template that can be filled in ({type(error).__name__})",
            hint="mend it and its side-car; exitramp prompts check shows what is wrong",
        ) from error
    return text
