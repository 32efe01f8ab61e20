"""The page about servers that start here names every one of them, and what it shows runs."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "services.md").read_text()


def test_the_page_names_every_service_and_no_other() -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert named == {each.name for each in entry_points(group="exitramp.services")}


def test_what_the_page_shows_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [shown] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    code = shown.replace('"postgres"', '"mock-pinecone"').replace("/tmp/postgres", str(tmp_path / "made"))
    monkeypatch.setattr("builtins.input", lambda text: "")
    exec(compile(code, "docs/services.md", "exec"), {})
    assert re.search(r"pinecone://127\.0\.0\.1:\d+", capsys.readouterr().out)
