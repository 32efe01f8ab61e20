"""How a number of things is said, and a choice of records: by every sentence, on the terminal and in findings."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping


def counted(number: int, one: str, many: str = "") -> str:
    """`1 record was` or `1,500 records were`, of `one` and `many`; `many` is `one` with an s where it is not given."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def selections(begun: Mapping[str, str], asked: Mapping[str, str]) -> tuple[str, str]:
    """What two selections of records say differently, each in the words of whoever chose it."""
    differing = [name for name in sorted({*begun, *asked}) if begun.get(name) != asked.get(name)]
    old, new = (", ".join(_chosen(name, each.get(name)) for name in differing) for each in (begun, asked))
    return old, new


def _chosen(name: str, value: str | None) -> str:
    option = "--" + name.replace("_", "-")
    if name == "namespaces":
        return "every namespace" if value is None else _namespaces(value)
    if name in ("source", "target"):
        return f"the {name} {value}"
    return f"no {option}" if value is None else f"{option} {value}"


def _namespaces(text: str) -> str:
    try:
        named = json.loads(text)
        return " ".join(f"--namespace {shlex.quote(each)}" if each is not None else "--no-namespace" for each in named)
    except (ValueError, TypeError):  # of a file that somebody else wrote
        return f"--namespace {shlex.quote(text)}"
