"""What docs/stack.md shows runs as it stands there, and names every key that the reader knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exitramp.orchestration.stack_file import parse_stack_file, stack_schema
from tests.orchestration.vendors import Vendors

PAGE = (Path(__file__).parents[2] / "docs" / "stack.md").read_text("utf-8")


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_page_has_every_key_of_the_file() -> None:
    rows = re.findall(r"^\| `([a-z_]+)", PAGE.partition("## Every key")[2], re.MULTILINE)
    assert rows == list(stack_schema()["properties"]) or set(rows) == set(stack_schema()["properties"])


def test_what_the_page_shows_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    vendors = Vendors(tmp_path)
    try:
        text = block("yaml")
        for name, url in (("main", "http://127.0.0.1:8801/v1"), ("backup", "http://127.0.0.1:8802")):
            assert url in text
            text = text.replace(url, vendors.addresses[name].options["base_url"])
        (tmp_path / "stack.yaml").write_text(text)
        monkeypatch.chdir(tmp_path)
        exec(compile(block("python"), "docs/stack.md", "exec"), {})
        assert capsys.readouterr().out.startswith("main True ")
        parse_stack_file(block("yaml").encode(), file="docs/stack.md", folder=tmp_path)
    finally:
        vendors.stop()
