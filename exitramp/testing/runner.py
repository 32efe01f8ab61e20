"""Running the suite without pytest's command line: for support tables, and for tests of the suite itself."""

from __future__ import annotations

import inspect
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exitramp.testing.conformance import StoreConformance


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one test: `passed`, `failed` or `skipped`; `reason` is the failure's or the skip's text."""

    test: str
    outcome: str
    reason: str = ""


def run_suite(
    make_harness: Callable[[Path], Any],
    *,
    suite: type[Any] = StoreConformance,
    only: Callable[[str], bool] = lambda test: True,
    until_failed: bool = False,
) -> list[Outcome]:
    """Every test of `suite` whose name satisfies `only`, each with a fresh harness in a fresh folder. With
    `until_failed`, none after the first that fails."""
    outcomes = []
    for test, arguments in _tests(suite):
        if only(test):
            with tempfile.TemporaryDirectory(prefix="exitramp-suite-") as folder:
                outcomes.append(_run(suite, test, make_harness(Path(folder)), arguments))
            if until_failed and outcomes[-1].outcome == "failed":
                break
    return outcomes


def _run(suite: type[Any], test: str, harness: Any, arguments: dict[str, Any]) -> Outcome:
    name = test + (str(list(arguments.values())) if arguments else "")
    try:
        getattr(suite(), test)(harness=harness, **arguments)
    except pytest.skip.Exception as skipped:
        return Outcome(name, "skipped", str(skipped))
    except (Exception, pytest.fail.Exception) as failure:  # noqa: BLE001  (whatever a broken store raises is a failure)
        return Outcome(name, "failed", f"{type(failure).__name__}: {failure}")
    return Outcome(name, "passed")


def _tests(suite: type[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, function in inspect.getmembers(suite, inspect.isfunction):
        if name.startswith("test_"):
            marks = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "parametrize"]
            choices = [[(mark.args[0], value) for value in mark.args[1]] for mark in marks]
            for chosen in itertools.product(*choices):
                yield name, dict(chosen)
