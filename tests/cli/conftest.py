"""The command line as a function: words in, exit code and the two streams out, in a folder of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, all of it, as JSON."""
        return json.loads(self.out)


Cli = Callable[..., Ended]


@pytest.fixture(name="cli")
def _cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)

    def call(*words: object, code: int | None = None) -> Ended:
        capsys.readouterr()
        ended = run([str(word) for word in words])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        assert code is None or ended == code, f"{ended}\n{shown.out}\n{shown.err}"
        return Ended(ended, shown.out, shown.err)

    return call


@pytest.fixture(name="name")
def _name(tmp_path: Path) -> str:
    """A name for memory stores that no other test has: they live as long as the process."""
    return "-".join(tmp_path.parts[-2:])
