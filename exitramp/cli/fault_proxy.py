"""`exitramp fault-proxy`: a TCP proxy on this machine that delays, cuts and resets what passes through it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from exitramp.cli import output
from exitramp.cli.mock_vendor import wait_for_end
from exitramp.cli.options import NumberRange, json_option
from exitramp.cli.schedules import read_toxics
from exitramp.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from exitramp.urls import Address


@click.command("fault-proxy")
@click.argument("target")
@click.option(
    "--listen", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Its port.  [default: a free one]"
)
@click.option(
    "--control",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="Port of its JSON control.  [default: a free one]",
)
@click.option("--toxic", "toxics", multiple=True, metavar="JSON", help="A toxic that is there from the start; again.")
@click.option(
    "--schedule",
    "schedule_path",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="YAML file with toxics and when they come.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of which connections a toxic takes.")
@click.option("--allow-remote", is_flag=True, help="Allow a target that is not on this machine.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=None,
    help="Where its log and its control's port are kept.  [default: a temporary folder]",
)
@click.option(
    "--for-seconds",
    type=NumberRange(min=0),
    default=None,
    metavar="SECONDS",
    help="Stop by itself after that long.  [default: on Ctrl-C]",
)
@json_option
def fault_proxy(
    target: str,
    listen: int,
    control: int,
    toxics: tuple[str, ...],
    schedule_path: Path | None,
    seed: int,
    allow_remote: bool,
    folder: Path | None,
    for_seconds: float | None,
    as_json: bool,
) -> int:
    """Stand in front of TARGET, a store's or vendor's address or HOST:PORT, and spoil what passes, until Ctrl-C.

    The address that leads through it is printed first, and where its control listens. The toxics are latency, jitter,
    bandwidth, down, timeout, reset, slow_close, slicer and limit_data; docs/fault-proxy.md tells what each takes.

    \b
    Example:
      exitramp fault-proxy 127.0.0.1:8000 --for-seconds 1 --toxic '{"kind": "latency", "latency_ms": 200}'
    """
    from exitramp.registry import service_adapter

    given: list[Any] = []
    for text in toxics:
        try:
            given.append(json.loads(text))
        except ValueError as error:
            hint = """write e.g. --toxic '{"kind": "latency", "latency_ms": 200}'"""
            raise ConfigError("--toxic is not JSON", hint=hint) from error
    options = {"target": target, "toxics": given, "listen": listen, "control": control, "allow_remote": allow_remote}
    if schedule_path is not None:
        make = service_adapter("fault-proxy").make  # which looks at what it is given, and starts nothing
        given += read_toxics(schedule_path, lambda toxic: make(".", seed, {**options, "toxics": [toxic]}))
    with tempfile.TemporaryDirectory(prefix="exitramp-proxy-") as temporary:
        service = service_adapter("fault-proxy").make(str(folder or temporary), seed, options)
        address: Address = service.start()
        try:
            url = str(cast(Any, service).control_url)
            if as_json:
                output.emit_json({"address": str(address), "control": url})
            else:
                output.say(str(address))
                output.note(f"control: {url}. Ctrl-C stops it.")
            wait_for_end(for_seconds, service)
            counts = dict(service.counters())
        finally:
            service.stop()
    output.note("passed: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return int(ExitCode.PASS)
