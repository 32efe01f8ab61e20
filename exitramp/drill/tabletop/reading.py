"""Reading a table-top drill file: every key by name and type, and every mistake with its file and line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from exitramp.drill.spec import VERSION
from exitramp.drill.tabletop.spec import TABLETOP, Asked, Inject, TabletopSpec
from exitramp.yaml_reader import Block, read_block

_KEYS: Final = (
    "version", "name", "title", "description", "scope", "mode", "expected", "roles", "runbook", "injects",
)  # fmt: skip
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


def is_tabletop(text: str, file: str) -> bool:
    """Whether the drill file says `mode: tabletop`; a mistake in it is left to whoever reads it whole."""
    top = read_block(text, file)
    return top.has("mode") and top.anything("mode") == TABLETOP


def parse_tabletop(text: str, file: str, *, folder: Path | None) -> TabletopSpec:
    """Raises `ConfigError` with file and line for anything that is not known or does not fit together."""
    top = read_block(text, file)
    if "how" in top.keys():  # noqa: SIM118
        hint = "leave it away: a drill with 'mode: tabletop' is table-top, and its report says so"
        raise top.error("'how' is not for a drill file to say", "how", hint=hint)
    if "steps" in top.keys():  # noqa: SIM118
        raise top.error("a table-top drill has no steps: it is talked through", "steps", hint="it has 'injects'")
    top.expect(*_KEYS)
    version = top.integer("version")
    if version != VERSION:
        raise top.error(f"drill files of version {version} are not known to this program", "version")
    roles, runbook = _texts(top, "roles"), _texts(top, "runbook", required=False)
    spec = TabletopSpec(
        name=_name(top, "name"),
        title=top.text("title"),
        description=top.text("description", ""),
        scope=top.text("scope", ""),
        expected=_expected(top),
        roles=roles,
        runbook=runbook,
        injects=_injects(top, roles, runbook),
        folder=folder,
        file=file,
    )
    top.text("mode")
    top.finish()
    return spec


def _expected(top: Block) -> str:
    found: str = top.choice("expected", ("pass", "fail", "inconclusive"), "inconclusive")
    if found == "pass":
        hint = "leave it away, or write 'inconclusive': a decision that nobody recorded is never a pass"
        raise top.error("a table-top drill cannot announce that people will pass it", "expected", hint=hint)
    return found


def _name(block: Block, key: str) -> str:
    name = str(block.text(key))
    if not _NAME.fullmatch(name):
        raise block.error(f"'{key}' must be made of letters, digits, '-' and '_'", key)
    return name


def _texts(top: Block, key: str, *, required: bool = True) -> dict[str, str]:
    block = top.block(key, required=required)
    if block is None:
        return {}
    found = {name: str(block.text(name, "")) for name in block.keys()}  # noqa: SIM118
    block.finish()
    if not found and required:
        raise top.error(f"'{key}' names nobody", key)
    for name in found:
        if not _NAME.fullmatch(name):
            raise block.error(f"'{name}' must be made of letters, digits, '-' and '_'", name)
    return found


def _injects(top: Block, roles: dict[str, str], runbook: dict[str, str]) -> tuple[Inject, ...]:
    found: list[Inject] = []
    for block in top.blocks("injects"):
        block.expect(*Inject.__slots__)
        inject = Inject(
            _name(block, "name"),
            block.number("at_minutes", minimum=0),
            block.text("title"),
            block.text("text").strip(),
            _questions(block, roles, runbook),
        )
        block.finish()
        if any(each.name == inject.name for each in found):
            raise block.error(f"there are two injects '{inject.name}'", "name")
        if found and inject.at_minutes < found[-1].at_minutes:
            raise block.error("injects must stand in the order of their time", "at_minutes")
        found.append(inject)
    if not found:
        raise top.error("a table-top drill needs at least one inject", "injects")
    return tuple(found)


def _questions(inject: Block, roles: dict[str, str], runbook: dict[str, str]) -> tuple[Asked, ...]:
    found: list[Asked] = []
    for block in inject.blocks("questions"):
        block.expect(*Asked.__slots__)
        within: Any = block.number("within_minutes", None, minimum=0.01)
        asked = Asked(
            _name(block, "name"),
            block.text("ask").strip(),
            block.choice("by", tuple(roles)),
            within,
            block.choice("runbook", tuple(runbook), None),
            block.flag("evidence", False),
        )
        block.finish()
        if any(each.name == asked.name for each in found):
            raise block.error(f"there are two questions '{asked.name}' in this inject", "name")
        found.append(asked)
    if not found:
        raise inject.error("an inject needs at least one question", "questions")
    return tuple(found)
