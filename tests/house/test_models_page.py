"""The page about models says what the adapters say of themselves, and what it shows runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exitramp.errors import MODEL_ERROR_CLASSES, RETRYABLE_MODEL_ERRORS
from exitramp.ports import ModelAdapter, over_http
from exitramp.ports.over_http import endpoint
from exitramp.registry import MODELS, listed, load
from exitramp_adapters.models import anthropic, onnx, openai_embeddings
from exitramp_adapters.models._onnx_side_car import SideCar

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def rows_after(header: str) -> list[list[str]]:
    lines = PAGE.partition(f"| {header} |")[2].splitlines()[2:]
    return [cells(line) for line in lines[: lines.index("")]]


def test_the_table_says_of_every_adapter_what_it_says_itself() -> None:
    expected = set()
    for item in listed(MODELS):
        adapter = load(MODELS, item.name)
        assert isinstance(adapter, ModelAdapter)
        needs = f"`exitramp[{adapter.extra}]`" if adapter.extra else "nothing more"
        roles = ", ".join(adapter.roles)
        expected.add((f"`{adapter.address_form}`", adapter.summary, roles, needs, adapter.evidence))
    assert {tuple(row) for row in rows_after("address")} == expected


def test_the_page_names_every_class_of_error_and_whether_to_try_again() -> None:
    found = {row[0].strip("`"): row[2] for row in rows_after("class")}
    assert found == {each: "yes" if each in RETRYABLE_MODEL_ERRORS else "no" for each in MODEL_ERROR_CLASSES}


def test_the_page_names_every_option() -> None:
    named = {name for row in rows_after("option") for name in re.findall(r"`(\w+)`", row[0])}
    known = {*endpoint.OPTIONS, *openai_embeddings.OPTIONS, "version", "threads", "side_car", "normalise"}
    assert named == known
    assert all(version in PAGE for version in anthropic.VERSIONS)


def test_the_side_car_on_the_page_is_that_of_the_packaged_model() -> None:
    [block] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    found = SideCar.parse(json.loads(block), "docs/models.md")
    assert found.sha256 == onnx.MINILM.sha256
    assert (found.pooling, found.normalisation, found.maximum_tokens) == ("mean", "l2", onnx.MINILM.maximum_tokens)


def test_what_the_page_shows_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    exec(compile(shown.replace("/tmp/vendor", str(tmp_path)), "docs/models.md", "exec"), {})
    said = capsys.readouterr().out
    assert "stop Usage(" in said
    assert "(1, 256)" in said


@pytest.mark.parametrize(("adapter", "skipped"), [("tiny_embedder", 3), ("say_chat", 52)], ids=["embedder", "chat"])
def test_the_adapter_on_the_page_passes_the_suite_as_the_page_runs_it(
    tmp_path: Path, adapter: str, skipped: int
) -> None:
    files = dict(re.findall(r"<!-- (\w+\.py) -->\n```python\n(.*?)```", PAGE, re.DOTALL))
    assert list(files) == ["tiny_embedder.py", "test_tiny_embedder.py", "say_chat.py", "test_say_chat.py"]
    for name in (f"{adapter}.py", f"test_{adapter}.py"):
        (tmp_path / name).write_text(files[name], "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert re.search(rf"\d\d passed, {skipped} skipped", done.stdout), done.stdout


def test_every_name_that_adapters_over_http_get_stands_on_the_page() -> None:
    section = PAGE.partition("## A chat model over HTTP")[2]
    parts_of_others = {"Endpoint", "ServerEvent", "StreamParts"}  # what `ModelHttp` has, feeds and takes
    assert [name for name in over_http.__all__ if f"`{name}" not in section and name not in parts_of_others] == []
