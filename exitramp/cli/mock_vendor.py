"""`exitramp mock-vendor`: a model vendor on this machine that breaks on schedule."""

from __future__ import annotations

import json
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from exitramp.cli import output
from exitramp.cli.options import NumberRange, json_option
from exitramp.cli.schedules import read_faults
from exitramp.clock import SystemClock
from exitramp.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from exitramp.ports import Service

_LOOKS_SECONDS: Final = 0.25
"""How often it is looked whether the service is still there."""


@click.command("mock-vendor")
@click.argument("shape", type=click.Choice(["openai", "anthropic"]))
@click.option(
    "--options",
    "options_text",
    default="{}",
    metavar="JSON",
    help='Latency, quality, schedule, e.g. {"latency_ms_median": 40}.',
)
@click.option(
    "--schedule",
    "schedule_path",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="YAML file with the faults and when they come.",
)
@click.option(
    "--cassette",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Answer with what was recorded for the same request.",
)
@click.option("--forward", default=None, metavar="URL", help="Let a model on this machine answer, with faults on top.")
@click.option("--forward-model", default=None, metavar="NAME", help="Its name there.  [default: the first it lists]")
@click.option(
    "--listen", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Its port.  [default: a free one]"
)
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of latency and of scheduled faults.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=None,
    help="Where its account of what it answered is kept.  [default: a temporary folder]",
)
@click.option(
    "--for-seconds",
    type=NumberRange(min=0),
    default=None,
    metavar="SECONDS",
    help="Stop by itself after that long.  [default: on Ctrl-C]",
)
@json_option
def mock_vendor(
    shape: str,
    options_text: str,
    schedule_path: Path | None,
    cassette: Path | None,
    forward: str | None,
    forward_model: str | None,
    listen: int,
    seed: int,
    folder: Path | None,
    for_seconds: float | None,
    as_json: bool,
) -> int:
    """Serve a mock model vendor on loopback until Ctrl-C. It answers by a documented rule and says that it is a mock.

    Its address is printed first. What can fail, and when, stands in docs/mock-vendors.md.

    \b
    Example:
      exitramp mock-vendor openai --schedule faults.yaml
      exitramp mock-vendor anthropic --cassette recorded.jsonl
      exitramp mock-vendor openai --for-seconds 1 --options '{"latency_ms_median": 40}'
    """
    from exitramp.registry import service_adapter

    try:
        options: dict[str, Any] = json.loads(options_text)
    except ValueError as error:
        hint = """write e.g. --options '{"latency_ms_median": 40}'"""
        raise ConfigError("--options is not JSON", hint=hint) from error
    if not isinstance(options, dict):
        raise ConfigError("--options must be a JSON object")
    make = service_adapter(f"mock-{shape}").make  # which looks at what it is given, and starts nothing
    given = {
        "cassette": None if cassette is None else str(cassette.resolve()),
        "forward": forward,
        "forward_model": forward_model,
        "listen": listen or None,
        "schedule": None
        if schedule_path is None
        else read_faults(schedule_path, lambda fault: make(".", seed, {"schedule": [fault]})),
    }
    for name, value in given.items():
        if value is not None and name in options:
            raise ConfigError(f"{name!r} stands in --options and in an option of its own", hint="leave one away")
        options |= {name: value} if value is not None else {}
    with tempfile.TemporaryDirectory(prefix="exitramp-mock-") as temporary:
        service = make(str(folder or temporary), seed, options)
        address = service.start()
        try:
            if as_json:
                output.emit_json({"address": str(address), "mock": True})
            else:
                output.say(str(address))
                source = "a cassette" if cassette else "the model it forwards to" if forward else "a rule, not a model"
                output.note(f"a mock: its answers come from {source}. Ctrl-C stops it.")
            wait_for_end(for_seconds, service)
            counts = dict(service.counters())
        finally:
            service.stop()
    output.note("answered: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return int(ExitCode.PASS)


def wait_for_end(seconds: float | None, service: Service) -> None:
    """Return after `seconds`, or when somebody wants it to end. Raises `RemoteError` where `service` ends before."""
    from exitramp.ports import TellsItsEnd

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    clock = SystemClock()
    until = None if seconds is None else clock.monotonic() + seconds
    while not ended.wait(_LOOKS_SECONDS if until is None else min(_LOOKS_SECONDS, until - clock.monotonic())):
        if until is not None and clock.monotonic() >= until:
            return
        if isinstance(service, TellsItsEnd):
            service.require_running()
