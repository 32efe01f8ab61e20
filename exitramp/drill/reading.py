"""Reading a drill file: every key by name and type, and every mistake with its file and line."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.drill.order import require_order
from exitramp.drill.spec import (
    SHOWABLE,
    VERSION,
    ApplicationSpec,
    DataSpec,
    DrillSpec,
    Objectives,
    OrchestrationSpec,
    Part,
    StackSpec,
    StartSpec,
    StepSpec,
    StopConditions,
    SwitchHook,
)
from exitramp.errors import AddressError
from exitramp.registry import MODELS, SERVICES, STORES, listed
from exitramp.urls import Address
from exitramp.yaml_reader import Block, read_block

ROLES: Final = ("owner", "coordinator", "reporter", "observer")
_KEYS: Final = (
    "version", "name", "title", "description", "scope", "mode", "expected", "roles", "objectives", "stop", "data",
    "primary", "substitute", "application", "orchestration", "steps",
)  # fmt: skip
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def parse_drill(text: str, file: str, *, folder: Path | None, steps: Mapping[str, Any]) -> DrillSpec:
    """The drill that a YAML text describes; `steps` maps a step's name to what reads its arguments from a block.

    Raises `ConfigError` with file and line for anything that is not known.
    """
    top = read_block(text, file)
    if "how" in top.keys():  # noqa: SIM118
        hint = "leave it away: the report says table-top, simulated or live by what was done"
        raise top.error("'how' is not for a drill file to say", "how", hint=hint)
    top.expect(*_KEYS)
    version = top.integer("version")
    if version != VERSION:
        raise top.error(f"drill files of version {version} are not known to this program", "version")
    spec = DrillSpec(
        name=_name(top),
        title=top.text("title"),
        description=top.text("description", ""),
        scope=top.text("scope", ""),
        mode=top.choice("mode", ("stressed", "planned")),
        expected=top.choice("expected", ("pass", "fail", "inconclusive"), "pass"),
        roles=_roles(top),
        objectives=_objectives(top),
        stop=_stop(top),
        data=_data(top),
        primary=_stack(top, "primary"),
        substitute=_stack(top, "substitute"),
        orchestration=_orchestration(top),
        steps=_steps(top, steps),
        folder=folder,
        file=file,
        lines=_lines(top),
        application=_application(top),
    )
    top.finish()
    _require_true_mode(top, spec)
    require_order(spec)
    data = top.block("data", required=False)
    if spec.primary.embedding is not None and data is not None and data.has("embedder"):
        raise data.error(
            "the primary's 'embedding' is the model that embeds here, so there can be no other", "embedder"
        )
    if spec.stop.usd is not None and (spec.data.prices is None or spec.application is not None):
        stop = top.block("stop")
        assert stop is not None
        needs = "needs 'data.prices'" if spec.application is None else "cannot be held: an application tells no costs"
        raise stop.error(f"'stop.usd' {needs}: money that nobody counts is never reached", "usd")
    return spec


def _lines(top: Block) -> dict[str, int]:
    """Where what names a file or an address stands; of blocks that were read without a mistake before."""
    found = {}
    for path in (
        "data.golden",
        "data.prompts",
        "data.prices",
        "data.embedder",
        "primary.store.address",
        "application.file",
    ):
        block: Block | None = top
        *outer, key = path.split(".")
        for name in outer:
            block = block.block(name, required=False) if block is not None else None
        if block is not None and block.has(key):
            found[path] = block.line_of(key)
    return found


def _require_true_mode(top: Block, spec: DrillSpec) -> None:
    """A vendor that is left in good order does not fail meanwhile: the report would say both."""
    outages = [step for step in spec.steps if step.name == "outage"]
    if spec.mode == "planned" and outages:
        raise top.error(
            f"'mode' is 'planned', an exit in good order, and the step in line {outages[0].line} is an outage",
            "mode",
            hint="write 'mode: stressed', or leave the outage away",
        )


def _name(top: Block) -> str:
    name = str(top.text("name"))
    if not _NAME.fullmatch(name):  # the run's folder is called after it
        raise top.error("'name' must be made of letters, digits, '-', '_' and '.'", "name")
    return name


def _roles(top: Block) -> dict[str, str]:
    block = top.block("roles", required=False)
    found = {role: (block.text(role, "") if block else "") for role in ROLES}
    if block:
        block.finish()
    return found


def _objectives(top: Block) -> Objectives:
    block = top.block("objectives")
    assert block is not None
    found = Objectives(
        rto_seconds=block.number("rto_seconds", None, minimum=0),
        rpo_records=block.integer("rpo_records", None, minimum=0),
        rpo_seconds=block.number("rpo_seconds", None, minimum=0),
        error_rate=block.number("error_rate", None, minimum=0, maximum=1),
        p95_latency_ms=block.number("p95_latency_ms", None, minimum=0),
        quality_margin=block.number("quality_margin", None, minimum=0, maximum=1),
        usd_per_request=block.number("usd_per_request", None, minimum=0),
    )
    block.finish()
    return found


def _stop(top: Block) -> StopConditions:
    block = top.block("stop", required=False)
    if block is None:
        return StopConditions()
    found = StopConditions(
        errors=block.integer("errors", None, minimum=1),
        usd=block.number("usd", None, minimum=0),
        minutes=block.number("minutes", None, minimum=0),
    )
    block.finish()
    return found


def _data(top: Block) -> DataSpec:
    block = top.block("data", required=False)
    if block is None:
        return DataSpec()
    found = DataSpec(
        corpus=block.text("corpus", None),
        embedder=block.text("embedder", None),
        golden=block.text("golden", None),
        prompts=block.text("prompts", None),
        prices=block.text("prices", None),
        monthly_requests=block.integer("monthly_requests", None, minimum=0),
        show_values=block.texts("show_values", ()),
    )
    for name in found.show_values:
        if name not in SHOWABLE:
            raise block.error(f"'{name}' cannot be shown", "show_values", hint=f"what can: {', '.join(SHOWABLE)}")
    block.finish()
    return found


def _stack(top: Block, name: str) -> StackSpec:
    block = top.block(name)
    assert block is not None
    block.expect("store", "chat", "embedding")
    store = block.block("store")
    assert store is not None
    chat = block.block("chat", required=False)
    embedding = block.block("embedding", required=False)
    found = StackSpec(
        name,
        _part(store, STORES),
        _part(chat, MODELS) if chat else None,
        _part(embedding, MODELS) if embedding else None,
    )
    block.finish()
    return found


def _application(top: Block) -> ApplicationSpec | None:
    block = top.block("application", required=False)
    if block is None:
        return None
    block.expect(*ApplicationSpec.__slots__)
    hook = block.block("switch", required=False)
    switch = None
    if hook is not None:
        hook.expect(*SwitchHook.__slots__)
        switch = SwitchHook(hook.texts("command"), hook.texts("back", ()), hook.number("seconds", 30.0, minimum=0.1))
        if not switch.command:
            raise hook.error("'command' is empty", "command")
        hook.finish()
    begun = block.block("start", required=False)
    start = None
    if begun is not None:
        begun.expect(*StartSpec.__slots__)
        start = StartSpec(begun.texts("command"), begun.number("seconds", 30.0, minimum=0.1))
        if not start.command:
            raise begun.error("'command' is empty", "command")
        begun.finish()
    found = ApplicationSpec(block.text("file"), switch, start)
    block.finish()
    return found


def _part(block: Block, group: str) -> Part:
    block.expect(*Part.__slots__)
    found = Part(
        address=block.text("address", None),
        service=block.text("service", None),
        collection=block.text("collection", None),
        model=block.text("model", None),
        options=block.anything("options", {}),
        proxy_port=block.integer("proxy_port", None, minimum=1),
    )
    if (found.address is None) == (found.service is None):
        raise block.error(f"'{block.path}' needs either 'address' or 'service'")
    if found.address is not None:
        try:
            scheme = Address.parse(found.address.replace("{folder}", "folder")).scheme
        except AddressError as error:
            raise block.error(error.message, "address", hint=error.hint) from error
        _require_installed(block, "address", group, scheme)
    if found.service is not None:
        _require_installed(block, "service", SERVICES, found.service)
    if not isinstance(found.options, dict) or not _is_plain(found.options):
        raise block.error(f"'{block.path}.options' must hold names and plain values", "options")
    block.finish()
    return found


def _require_installed(block: Block, key: str, group: str, name: str) -> None:
    known = [item.name for item in listed(group)]
    if name not in known:
        kind = "service" if group == SERVICES else "store" if group == STORES else "model"
        raise block.error(f"no {kind} '{name}' is installed", key, hint=f"installed are: {', '.join(known)}")


def _is_plain(value: object) -> bool:
    """Whether JSON has a form for it: what a service is given crosses into another process, and into the journal."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(item) for name, item in value.items())
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def _orchestration(top: Block) -> OrchestrationSpec:
    block = top.block("orchestration", required=False)
    if block is None:
        return OrchestrationSpec()
    usual = OrchestrationSpec()
    stop = block.texts("stop", ())
    if not all(stop):
        raise block.error("'stop' must hold texts, and an empty one would end every answer", "stop")
    found = OrchestrationSpec(
        depth_k=block.integer("depth_k", usual.depth_k, minimum=1),
        maximum_tokens=block.integer("maximum_tokens", usual.maximum_tokens, minimum=1),
        stop=tuple(stop),
        attempt_timeout_seconds=block.number("attempt_timeout_seconds", usual.attempt_timeout_seconds, minimum=0.01),
        deadline_seconds=block.number("deadline_seconds", usual.deadline_seconds, minimum=0.01),
        tries=block.integer("tries", usual.tries, minimum=1),
        breaker_failures=block.integer("breaker_failures", usual.breaker_failures, minimum=1),
        breaker_window_seconds=block.number("breaker_window_seconds", usual.breaker_window_seconds, minimum=0.1),
        breaker_cooldown_seconds=block.number("breaker_cooldown_seconds", usual.breaker_cooldown_seconds, minimum=0.1),
    )
    block.finish()
    return found


def _steps(top: Block, known: Mapping[str, Any]) -> tuple[StepSpec, ...]:
    found: list[StepSpec] = []
    for block in top.blocks("steps"):
        names = block.keys()
        if len(names) != 1:
            raise block.error("a step is one name with its arguments, e.g. '- dump: {}'")
        [name] = names
        if name not in known:
            raise block.error(f"unknown step '{name}'", name, hint=f"known are: {', '.join(known)}")
        arguments = block.block(name, required=False) or read_block("{}", top.file)
        read = known[name](arguments)
        arguments.finish()
        found.append(StepSpec(name, read, block.line))
    if not found:
        raise top.error("a drill needs at least one step", "steps")
    return tuple(found)
