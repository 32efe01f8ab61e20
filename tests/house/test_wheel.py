"""A wheel built from the tree holds what it needs, and works where there is no checkout.

`EXITRAMP_ALL_DRILLS=1` runs every packaged drill from the wheel as well, each held to the verdict it announces. That
takes some three minutes on two cores.
"""

from __future__ import annotations

import json
import os
import zipfile
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.house.scratch import ROOT, Scratch, build_wheel

DRILLS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8")).get("expected", "pass")
    for path in sorted((ROOT / "drills" / "exitramp_drills").glob("*.yaml"))
}
EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 3}
PACKAGES = ("exitramp", "exitramp_adapters", "exitramp_drills", "exitramp_fixtures")
TREES = (ROOT, ROOT / "adapters", ROOT / "drills", ROOT / "fixtures")
# Hard ids, payloads and vectors, in an engine that others than exitramp write to as well.
SEED = """
from exitramp.codec import EncodingSink
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing import hard_records

field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 16)
spec = CollectionSpec("articles", IdKind.STRING, (field,), has_documents=True)
store = open_store("qdrant:./db#articles")
sink = EncodingSink(store.sink())
sink.create(spec, Origin(spec, "test"))
for batch in hard_records(spec, 300, seed=5):
    sink.upsert(batch)
sink.flush()
store.close()
"""


@dataclass(frozen=True, slots=True)
class Outside:
    """The wheel in an environment of its own, and an empty folder to work in."""

    scratch: Scratch
    cwd: Path

    def exitramp(self, *arguments: str, timeout_seconds: float = 120.0) -> tuple[int, str, str]:
        done = self.scratch.run(["-m", "exitramp", *arguments], cwd=self.cwd, timeout_seconds=timeout_seconds)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    scratch = Scratch.make(tmp_path_factory.mktemp("outside") / "environment")
    scratch.install(wheel)
    return scratch


@pytest.fixture
def outside(environment: Scratch, tmp_path: Path) -> Outside:
    return Outside(environment, tmp_path)


def test_the_wheel_holds_every_file_that_the_program_reads(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    data = {
        path.relative_to(tree).as_posix()
        for tree, package in zip(TREES, PACKAGES, strict=True)
        for path in (tree / package).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and "__pycache__" not in path.parts
    }
    named = {
        *(f"exitramp_drills/{name}.yaml" for name in DRILLS),
        "exitramp_drills/own_stack/drill.yaml.txt",
        "exitramp_drills/own_stack/README.md.txt",
        "exitramp_drills/own_stack/prices.yaml.txt",
        "exitramp_fixtures/golden/pydocs.jsonl",
        "exitramp_fixtures/golden/pydocs_five.jsonl",
        "exitramp_fixtures/prompts/docs_qa.mustache",
        "exitramp_fixtures/prompts/docs_qa.yaml",
        "exitramp_fixtures/pricebooks/mock_vendors.yaml",
        "exitramp/report/report.css",
        "exitramp/dump/manifest.schema.json",
        "exitramp/py.typed",
        "exitramp_adapters/py.typed",
        "exitramp_drills/py.typed",
    }
    assert not named - held
    assert not data - held, "data files of the tree that the wheel lacks"


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {*PACKAGES, wheel.name.replace("-py3-none-any.whl", ".dist-info")}
    strange = [
        name
        for name in names
        if "/tests/" in name or "/test_" in name or name.endswith((".pyc", "conftest.py", ".lock"))
    ]
    assert not strange


def test_the_wheel_says_what_it_needs_and_what_it_brings(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as held:
        [entry_points] = [name for name in held.namelist() if name.endswith("entry_points.txt")]
        parser = ConfigParser(delimiters=("=",))
        parser.read_string(held.read(entry_points).decode())
        metadata = held.read(entry_points.replace("entry_points.txt", "METADATA")).decode()
    assert {"exitramp.stores", "exitramp.models", "exitramp.services", "exitramp.corpora"} <= set(parser.sections())
    assert parser["console_scripts"]["exitramp"] == "exitramp.cli.main:main"
    for extra in ("chroma", "qdrant", "faiss", "demo", "all"):
        assert f"Provides-Extra: {extra}\n" in metadata


def test_nothing_comes_from_the_checkout(outside: Outside) -> None:
    for package in PACKAGES:
        where = outside.scratch.where(package, cwd=outside.cwd)
        assert where.is_relative_to(outside.scratch.site_packages), f"{package} was imported from {where}"
    done = outside.scratch.run(["-c", "import sys; print('\\n'.join(sys.path))"], cwd=outside.cwd)
    assert not {str(tree) for tree in TREES} & set(done.stdout.splitlines())


def test_the_installed_command_answers(outside: Outside) -> None:
    script = outside.scratch.folder / "bin" / "exitramp"
    assert script.is_file()
    done = outside.scratch.run([str(script), "--help"], cwd=outside.cwd)
    assert done.returncode == 0
    assert "Exit codes:" in done.stdout


def test_stores_and_drills_are_listed_and_shown(outside: Outside) -> None:
    code, out, err = outside.exitramp("stores", "--json")
    assert code == 0, err
    stores = {row["scheme"]: row["installed"] for row in json.loads(out)["stores"]}
    assert {"dump", "chroma", "chroma+http", "qdrant", "qdrant+http", "faiss"} <= set(stores)
    assert set(stores.values()) == {"yes"}, f"an SDK is missing here: {stores}"
    code, out, err = outside.exitramp("drill", "list", "--json")
    assert code == 0, err
    assert {row["name"]: row["expected"] for row in json.loads(out)["drills"]} == DRILLS
    code, out, err = outside.exitramp("drill", "show", "vendor_outage")
    assert code == 0, err
    assert "rollback" in out


def test_a_collection_goes_out_of_one_engine_through_a_dump_into_another(outside: Outside) -> None:
    done = outside.scratch.run(["-c", SEED], cwd=outside.cwd)
    assert done.returncode == 0, done.stderr
    found = []
    for command in (
        ("dump", "qdrant:./db#articles", "./articles-dump"),
        ("verify", "./articles-dump"),
        ("restore", "./articles-dump", "faiss:./articles.faiss"),
        ("inspect", "faiss:./articles.faiss"),
    ):
        code, out, err = outside.exitramp(*command, "--json")
        assert code == 0, f"{command}: {out}{err}"
        found.append(json.loads(out))
    assert [each["rows"] for each in found] == [300] * 4
    assert all(each["digests"] == found[0]["digests"] for each in found)


def test_a_drill_for_ones_own_stack_is_begun_from_the_packaged_texts(outside: Outside) -> None:
    done = outside.scratch.run(["-c", SEED], cwd=outside.cwd)
    assert done.returncode == 0, done.stderr
    code, out, err = outside.exitramp(
        "drill", "init", "--primary", "qdrant:./db#articles", "--substitute", "faiss:./new.faiss", "--json"
    )
    assert code == 0, out + err
    assert {path.name for path in (outside.cwd / "own-drill").iterdir()} == {"drill.yaml", "README.md", "prices.yaml"}
    code, out, err = outside.exitramp("drill", "show", "own-drill/drill.yaml")
    assert code == 0, out + err


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not os.environ.get("EXITRAMP_ALL_DRILLS"), reason="minutes long: set EXITRAMP_ALL_DRILLS=1")
@pytest.mark.parametrize(("name", "expected"), DRILLS.items())
def test_a_packaged_drill_ends_from_the_wheel_as_it_announces(outside: Outside, name: str, expected: str) -> None:
    code, out, err = outside.exitramp("drill", "run", name, "--out", "run", "--json", timeout_seconds=500.0)
    assert code == EXIT_CODES[expected], out[-2000:] + err[-2000:]
    assert json.loads(out)["verdict"] == expected
    for report in ("report.html", "report.md", "report.json"):
        assert (outside.cwd / "run" / report).stat().st_size > 1000
