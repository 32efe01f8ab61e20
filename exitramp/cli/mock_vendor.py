"""`exitramp mock-vendor`: a model vendor on this machine that breaks on schedule."""

from __future__ import annotations

import json
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import click

from exitramp.cli import output
from exitramp.cli.options import NumberRange, json_option
from exitramp.errors import ConfigError, ExitCode


@click.command("mock-vendor")
@click.argument("shape", type=click.Choice(["openai", "anthropic"]))
@click.option(
    "--options",
    "options_text",
    default="{}",
    metavar="JSON",
    help='Latency, quality, schedule, e.g. {"latency_ms_median": 40}.',
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
    shape: str, options_text: str, seed: int, folder: Path | None, for_seconds: float | None, as_json: bool
) -> int:
    """Serve a mock chat vendor on loopback until Ctrl-C. It answers by a documented rule and says that it is a mock.

    Its address is printed first. Faults go into --options as a schedule; see docs/mock-vendors.md.

    \b
    Example:
      exitramp mock-vendor openai --for-seconds 1 --options '{"latency_ms_median": 40}'
    """
    from exitramp.registry import service_adapter

    try:
        options: dict[str, Any] = json.loads(options_text)
    except ValueError as error:
        raise ConfigError("--options is not JSON") from error
    if not isinstance(options, dict):
        raise ConfigError("--options must be a JSON object")
    with tempfile.TemporaryDirectory(prefix="exitramp-mock-") as temporary:
        service = service_adapter(f"mock-{shape}").make(str(folder or temporary), seed, options)
        address = service.start()
        try:
            if as_json:
                output.emit_json({"address": str(address), "mock": True})
            else:
                output.say(str(address))
                output.note("a mock: its answers come from a rule, not from a model. Ctrl-C stops it.")
            _wait(for_seconds)
            counts = dict(service.counters())
        finally:
            service.stop()
    output.note("answered: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return int(ExitCode.PASS)


def _wait(seconds: float | None) -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait(seconds)
