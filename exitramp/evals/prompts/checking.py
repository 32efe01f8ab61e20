"""Whether prompts are portable: the same text under two independent engines, and all that they need is declared.

combustache renders without HTML escaping, as exitramp does when it asks a model; chevron renders as it does by itself,
escaping included. A template that writes `{{name}}` where `{{{name}}}` is meant therefore shows, as soon as one of its
golden variables holds a sign that HTML would escape, and it is told even where none does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exitramp.errors import ConfigError, DependencyMissing
from exitramp.evals.sets.own import read_text
from exitramp.records import Verdict
from exitramp.yaml_loader import load

_DELIMITERS: Final = re.compile(r"=\s*(\S+)\s+(\S+)\s*=")
_MAKE: Final = (
    "name the folder that holds the prompts themselves, NAME.mustache and NAME.yaml; 'exitramp prompts import' makes "
    "one of another tool's export"
)
_NEEDED: Final = ("name", "version", "sha256", "input_schema", "golden_variables")


@dataclass(frozen=True, slots=True)
class PromptFinding:
    """One thing that is wrong with a prompt. No text of the prompt or of its variables is in it."""

    prompt: str
    code: str
    message: str

    def to_json(self) -> dict[str, Any]:
        return {"prompt": self.prompt, "code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class PromptsChecked:
    """What a folder's prompts came to. `rendered`: how many renderings were compared under two engines."""

    prompts: tuple[tuple[str, str, str], ...]
    rendered: int
    findings: tuple[PromptFinding, ...]

    @property
    def verdict(self) -> Verdict:
        """A fail for any finding; inconclusive where nothing could be rendered."""
        if self.findings:
            return Verdict.FAIL
        return Verdict.PASS if self.rendered else Verdict.INCONCLUSIVE


def check_prompts(folder: Path) -> PromptsChecked:
    """Check every `.mustache` file of a folder. Raises `ConfigError` where there is none, or a side-car is no YAML."""
    if not folder.is_dir():
        raise ConfigError("there is no such folder", file=str(folder), hint=_MAKE)
    templates = sorted(folder.glob("*.mustache"))
    if not templates:
        raise ConfigError("there is no .mustache file in this folder", file=str(folder), hint=_MAKE)
    findings: list[PromptFinding] = []
    prompts: list[tuple[str, str, str]] = []
    rendered = 0
    for path in templates:
        raw, side_car = path.read_bytes(), path.with_suffix(".yaml")
        digest = hashlib.sha256(raw).hexdigest()
        if not side_car.is_file():
            findings.append(PromptFinding(path.stem, "side_car", f"{side_car.name} is missing"))
            continue
        data = _side_car(side_car)
        prompts.append((str(data.get("name")), str(data.get("version")), digest))
        for code, message in _wrong(read_text(path), data, digest, path.stem):
            findings.append(PromptFinding(path.stem, code, message))
        rendered += len(data.get("golden_variables") or [])
    return PromptsChecked(tuple(prompts), rendered, tuple(findings))


def render_twice(template: str, variables: Mapping[str, Any]) -> tuple[str, str]:
    """The text under combustache without escaping, and under chevron as it is."""
    try:
        import chevron
        import combustache
    except ImportError as error:
        raise DependencyMissing("checking prompts", "evals", module="chevron") from error
    one: str = combustache.render(template, dict(variables), escape=lambda value: value)
    other: str = chevron.render(template, dict(variables))
    return one, other


def tags_in(template: str) -> Iterator[tuple[str, str]]:
    """Every tag's sign (`{` and `&` for a value as it is, none for one that is escaped) and name, in order."""
    opening, closing, at = "{{", "}}", 0
    while (start := template.find(opening, at)) >= 0:
        inner = start + len(opening)
        is_triple = opening == "{{" and template.startswith("{", inner)
        ending = "}}}" if is_triple else closing
        end = template.find(ending, inner)
        if end < 0:
            return
        said, at = template[inner:end].strip(), end + len(ending)
        sign = said[:1] if said[:1] and said[0] in "{#^/&!>=" else ""
        yield sign, said.removeprefix(sign).strip()
        if sign == "=" and (pair := _DELIMITERS.fullmatch(said)) is not None:
            opening, closing = pair[1], pair[2]


def variables_in(template: str) -> set[str]:
    """The names at the top of what a template asks for: of `{{a.b}}` it is `a`; what a section holds is its own."""
    names: set[str] = set()
    depth = 0
    for kind, name in tags_in(template):
        if kind in ("!", ">", "="):
            continue
        if kind == "/":
            depth -= 1
            continue
        if depth == 0 and name != ".":
            names.add(name.partition(".")[0])
        if kind in ("#", "^"):
            depth += 1
    return names


def _wrong(template: str, data: Mapping[str, Any], digest: str, stem: str) -> Iterator[tuple[str, str]]:
    for key in _NEEDED:
        if not data.get(key):
            yield "side_car", f"the side-car has no '{key}'"
    if data.get("sha256") and str(data["sha256"]) != digest:
        yield "sha256", f"the template is not the one the side-car was written for; its SHA-256 is {digest}"
    if data.get("name") and data["name"] != stem:
        yield "name", "the side-car's name is not that of its file"
    kinds = {kind for kind, _ in tags_in(template)}
    if ">" in kinds or "=" in kinds:
        yield "portable", "it uses partials or its own delimiters, which not every engine has"
    if "" in kinds:
        yield "escaping", "it writes {{name}}, which other engines escape for HTML: write {{{name}}}"
    schema = data.get("input_schema")
    if isinstance(schema, Mapping):
        declared = set(schema.get("properties") or {})
        for name in sorted(variables_in(template) - declared):
            yield "schema", f"the variable '{name}' is not in input_schema"
        for name in sorted(declared - variables_in(template)):
            yield "schema", f"input_schema declares '{name}', which the template does not use at its top"
    yield from _rendered_wrong(template, data)


def _rendered_wrong(template: str, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    schema, listed = data.get("input_schema"), data.get("golden_variables") or []
    for number, golden in enumerate(listed, start=1):
        which = f"golden variables {number}"
        if not isinstance(golden, Mapping) or not isinstance(golden.get("variables"), Mapping):
            yield "golden", f"{which}: no object with 'variables'"
            continue
        if isinstance(schema, Mapping) and (at := _misfit(golden["variables"], schema)) is not None:
            yield "golden", f"{which}: they do not fit input_schema at {at}"
        try:
            one, other = render_twice(template, golden["variables"])
        except Exception as error:  # noqa: BLE001  (two libraries, each with errors of its own)
            yield "portable", f"{which}: an engine cannot render them ({type(error).__name__})"
            continue
        if one != other:
            yield "portable", f"{which}: two engines render different texts"
        digest = hashlib.sha256(one.encode()).hexdigest()
        if golden.get("rendered_sha256") not in (None, digest):
            yield "golden", f"{which}: they render to another text than was recorded; its SHA-256 is {digest}"


def _misfit(variables: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    try:
        import jsonschema
        import referencing
    except ImportError as error:
        raise DependencyMissing("checking prompts", "evals", module="jsonschema") from error
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    found = next(iter(kind(schema, registry=referencing.Registry()).iter_errors(dict(variables))), None)
    return None if found is None else f"{found.json_path} ({found.validator})"


def _side_car(path: Path) -> Mapping[str, Any]:
    data = load(read_text(path), str(path))
    if not isinstance(data, Mapping):
        raise ConfigError("the side-car must hold keys and values", file=str(path))
    return data
