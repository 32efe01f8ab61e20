"""Where something stands in JSON, and JSON with places to fill in.

A path is `$` and then `.name`, `["a name"]`, `[0]` or `[*]`, e.g. `$.choices[0].text` and `$.sources[*].id`. A template
is any JSON whose texts may hold `{{question}}`, `{{id}}`, `{{use_case}}` and `{{variables.NAME}}`; a text that is
nothing but `{{variables.NAME}}` or `{{messages}}` becomes that value itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exitramp.errors import ModelError
from exitramp.evals.sets.case import Case

_STEP: Final = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+|\*)\]|\[\"([^\"\]]+)\"\]")
_PLACE: Final = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A parsed path: names, places in a list, and `*` for all of a list."""

    text: str
    steps: tuple[str | int, ...]

    def find(self, data: Any) -> list[Any]:
        """What stands there; empty where nothing does."""
        found = [data]
        for step in self.steps:
            following: list[Any] = []
            for each in found:
                if step == "*" and isinstance(each, list):
                    following += each
                elif isinstance(step, int):
                    following += each[step : step + 1] if isinstance(each, list) else []
                elif isinstance(each, Mapping) and step in each:
                    following.append(each[step])
            found = following
        return found

    def text_in(self, data: Any) -> str:
        """The one text there. Raises `ModelError` (malformed) for anything else."""
        found = self.find(data)
        if len(found) != 1 or not isinstance(found[0], str):
            raise ModelError(
                f"at {self.text} of the application's answer there is not one text",
                error_class="malformed",
                hint="look at the paths in the file that describes the application",
            )
        return found[0]

    def ids_in(self, data: Any) -> tuple[str, ...]:
        """The ids there, in their order, each once: texts or whole numbers, one by one or as a list."""
        found = self.find(data)
        if len(found) == 1 and isinstance(found[0], list):
            found = found[0]
        ids = [each for each in found if isinstance(each, str | int) and not isinstance(each, bool)]
        if len(ids) != len(found):
            raise ModelError(f"at {self.text} there is something that is no id", error_class="malformed")
        return tuple(dict.fromkeys(str(each) for each in ids))


def parse_path(text: str) -> JsonPath | None:
    """The path, or None where it is none."""
    rest = text.removeprefix("$")
    rest = rest if rest[:1] in (".", "[", "") else f".{rest}"
    steps: list[str | int] = []
    at = 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None:
            return None
        name, place, quoted = match.groups()
        steps.append(name or quoted or ("*" if place == "*" else int(place)))
        at = match.end()
    return JsonPath(text, tuple(steps))


def filled(template: Any, case: Case) -> Any:
    """A template with a case's values; a place that the case has nothing for becomes an empty text."""
    if isinstance(template, Mapping):
        return {key: filled(value, case) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(each, case) for each in template]
    if not isinstance(template, str):
        return template
    whole = _PLACE.fullmatch(template.strip())
    if whole is not None:
        return _value(whole[1], case)
    return _PLACE.sub(lambda match: _as_text(_value(match[1], case)), template)


def case_json(case: Case) -> dict[str, Any]:
    """A case as an application gets it: nothing of what tells a good answer."""
    return {
        "id": case.id,
        "use_case": case.use_case,
        "question": case.asked()[-1].content,
        "messages": [{"role": each.role, "content": each.content} for each in case.asked()],
        "variables": dict(case.variables),
    }


def _value(name: str, case: Case) -> Any:
    if name.startswith("variables."):
        return case.variables.get(name.removeprefix("variables."), "")
    return case_json(case).get(name, "")


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
