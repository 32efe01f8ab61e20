"""An adapter that is no part of exitramp: installed beside a wheel of it and held to its suite."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from exitramp.ports import SinkLimits
from tests.house.scratch import ROOT, Scratch, build_wheel

PACKAGE = Path(__file__).parent / "exitramp-jsonl-store"
PAGE = ROOT / "docs" / "write-an-adapter.md"
FILES = ("pyproject.toml", "exitramp_jsonl_store.py", "test_jsonl_store.py")
BLOCK = re.compile(
    r"^<!-- (?P<file>\S+?)(?:: (?P<region>\w+))? -->\n```\w+\n(?P<text>.*?)\n```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Installed:
    scratch: Scratch
    cwd: Path

    def exitramp(self, *arguments: str) -> tuple[int, str, str]:
        done = self.scratch.run(["-m", "exitramp", *arguments], cwd=self.cwd)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Both wheels in one environment; the suite's file elsewhere, so that the adapter it finds is the installed one."""
    folder = tmp_path_factory.mktemp("third-party")
    source = shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    scratch = Scratch.make(folder / "environment")
    scratch.install(build_wheel(source, folder / "wheels"), build_wheel(ROOT, folder / "wheels"))
    cwd = folder / "empty"
    cwd.mkdir()
    shutil.copy(PACKAGE / "test_jsonl_store.py", cwd)
    return Installed(scratch, cwd)


def test_the_adapter_and_exitramp_itself_come_from_the_environment_and_not_from_the_checkout(
    installed: Installed,
) -> None:
    for module in ("exitramp", "exitramp_adapters", "exitramp_jsonl_store"):
        where = installed.scratch.where(module, cwd=installed.cwd)
        assert where.is_relative_to(installed.scratch.site_packages), f"{module} was imported from {where}"


def test_it_is_listed_among_the_stores_with_the_package_that_brought_it(installed: Installed) -> None:
    code, out, err = installed.exitramp("stores", "--json")
    assert code == 0, err
    rows = {row["scheme"]: row for row in json.loads(out)["stores"]}
    assert rows["jsonl"]["package"] == "exitramp-jsonl-store"
    assert (rows["jsonl"]["installed"], rows["jsonl"]["address"]) == ("yes", "jsonl:FOLDER#COLLECTION")
    assert rows["faiss"]["package"] == "exitramp", "the adapters of exitramp itself are still listed"


def test_it_passes_the_shipped_suite(installed: Installed) -> None:
    done = installed.scratch.run(
        ["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "test_jsonl_store.py"], cwd=installed.cwd
    )
    assert done.returncode == 0, done.stdout[-4000:]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    assert set(counts) == {"passed", "skipped"}
    assert counts["passed"] > 50, "a suite that hardly runs shows nothing"
    reasons = re.findall(r"^SKIPPED \[\d+\] \S+ (\w+): ", done.stdout, re.MULTILINE)
    allowed = {"filters", "server_kill", "server_stop", *(each.name for each in fields(SinkLimits))}
    assert set(reasons) <= allowed, f"skipped for other reasons than the adapter declares: {set(reasons) - allowed}"


def test_what_an_application_wrote_goes_out_through_the_commands_and_comes_back_the_same(installed: Installed) -> None:
    lines: list[dict[str, Any]] = [
        {"dimensions": 4, "metric": "dot"},
        {"id": "a", "document": "größer", "payload": {"n": 1, "x": -0.0, "tags": []}, "vector": [0.1, 0.2, 0.3, 0.4]},
        {"id": "007", "document": "", "payload": {}, "vector": [1.0, 0.0, -0.0, 2.5]},
        {"id": "7", "vector": [3.0, 4.0, 0.0, 0.0]},
        *({"id": f"row {n}", "payload": {"n": n}, "vector": [n / 7, 1.0, 2.0 - n, n % 5 / 3]} for n in range(157)),
    ]
    (installed.cwd / "files").mkdir()
    (installed.cwd / "files" / "notes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    way = (
        ("dump", "jsonl:./files#notes", "./notes-dump"),
        ("verify", "./notes-dump"),
        ("restore", "./notes-dump", "qdrant:./db#notes"),
        ("copy", "qdrant:./db#notes", "jsonl:./back#notes"),
        ("compare", "jsonl:./files#notes", "jsonl:./back#notes"),
    )
    digests = []
    for command in way:
        code, out, err = installed.exitramp(*command, "--json")
        assert code == 0, f"{command}: {out}{err}"
        found = json.loads(out)
        assert found["rows"] == 160
        digests.append(found["digests"])
    assert all(one == other for one, other in pairwise(digests))


def _regions(name: str) -> dict[str, str]:
    """The parts of a file between `# region NAME` and `# endregion`, and `top`, which is before the first."""
    parts: dict[str, str] = {}
    inside, lines = "top", list[str]()
    for line in (PACKAGE / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("# region "):
            if inside == "top":
                parts["top"] = "\n".join(lines).strip("\n")
            assert inside in ("top", ""), f"{name}: a region begins inside the region '{inside}'"
            inside, lines = line.removeprefix("# region "), []
        elif line == "# endregion":
            parts[inside] = "\n".join(lines).strip("\n")
            inside, lines = "", []
        else:
            assert inside or not line, f"{name}: this line is in no region, so no block shows it: {line}"
            lines.append(line)
    assert inside in ("top", ""), f"{name}: the region '{inside}' does not end"
    return parts


def test_the_blocks_of_the_page_are_the_files_and_all_of_them() -> None:
    """Whoever pastes the blocks one after the other has the files that are installed and tested above."""
    shown: dict[str, list[str]] = {name: [] for name in FILES}
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        whole = (PACKAGE / block["file"]).read_text(encoding="utf-8").strip("\n")
        wanted = _regions(block["file"])[block["region"]] if block["region"] else whole
        assert block["text"] == wanted, f"the block '{block['file']}: {block['region']}' is not what the file holds"
        shown[block["file"]].append(block["region"])
    assert shown["pyproject.toml"] == shown["test_jsonl_store.py"] == [None]
    assert shown["exitramp_jsonl_store.py"] == list(_regions("exitramp_jsonl_store.py")), "a region is missing or moved"


def test_every_block_of_code_on_the_page_is_taken_from_a_file() -> None:
    text = PAGE.read_text(encoding="utf-8")
    openings = re.findall(r"^```(\w+)$", text, re.MULTILINE)
    code = [language for language in openings if language not in ("console", "text")]
    assert len(code) == len(BLOCK.findall(text)) > 5
