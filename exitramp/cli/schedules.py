"""Schedules of faults, as `--schedule FILE.yaml` gives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from exitramp.errors import UsageError
from exitramp.faults import ScheduledFault
from exitramp.yaml_reader import Block, read_file


def read_schedule(path: Path) -> list[tuple[Block, dict[str, Any]]]:
    """The entries under `schedule:`, as mappings, each with where it stands. Raises `ConfigError`."""
    block = read_file(path)
    entries = block.blocks("schedule")
    block.finish()
    return [(entry, {key: entry.anything(key) for key in entry.keys()}) for entry in entries]  # noqa: SIM118


def read_toxics(path: Path, check: Callable[[dict[str, Any]], object]) -> list[dict[str, Any]]:
    """The entries, each put to `check`; what that raises is told with the entry's line. Raises `ConfigError`."""
    found = read_schedule(path)
    for entry, values in found:
        try:
            check(values)
        except UsageError as error:
            raise entry.error(error.message, hint=error.hint) from None
    return [values for _, values in found]


def read_faults(path: Path, check: Callable[[dict[str, Any]], object]) -> list[dict[str, Any]]:
    """The entries, each a scheduled fault, and put to `check`. Raises `ConfigError` that names the line."""

    def both(values: dict[str, Any]) -> None:
        ScheduledFault.parse(values)
        check(values)

    return read_toxics(path, both)
