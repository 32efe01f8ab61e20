"""The commands beside moving data: what is installed, drills, reports, mock vendors; for machines and for people."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from exitramp import registry
from tests.cli.conftest import Cli
from tests.drill.small_stacks import drill_text, fill, write_drill

PACKAGED = [
    "application_over_a_bad_network",
    "bad_backup",
    "chat_vendor_down",
    "embedding_vendor_gone",
    "five_questions",
    "planned_exit",
    "rate_limit_squeeze",
    "silent_loss",
    "silent_quality_drift",
    "table_top_vendor_exit",
    "vector_store_lost",
    "vendor_outage",
    "wrong_metric",
]
STEPS = "  - start: {}\n  - dump: {}\n  - verify_dump: {}\n  - plan: {}\n  - restore: {}\n  - measure_loss: {}\n"


def test_stores_and_models_are_listed_with_what_they_can_do(cli: Cli) -> None:
    stores = {each["scheme"]: each for each in cli("stores", "--json", code=0).json["stores"]}
    assert {"memory", "dump", "qdrant", "chroma", "faiss"} <= set(stores)
    assert stores["qdrant"]["roles"] == ["source", "sink", "search"]
    models = {each["scheme"] for each in cli("models", "--json", code=0).json["models"]}
    assert {"openai", "anthropic"} <= models
    assert cli("stores", code=0).out.startswith("store ")
    assert cli("models", code=0).out.startswith("model ")


def test_packaged_drills_are_listed_and_shown(cli: Cli) -> None:
    assert [each["name"] for each in cli("drill", "list", "--json", code=0).json["drills"]] == PACKAGED
    assert all(name in cli("drill", "list", code=0).out for name in PACKAGED)
    for name in PACKAGED:
        found = cli("drill", "show", name, "--json", code=0).json
        assert found["name"] == name
        assert found["steps"]
        assert "objectives: " in cli("drill", "show", name, code=0).out


@pytest.fixture(name="drill")
def _drill(name: str, tmp_path: Path) -> Path:
    primary = fill(f"memory:{name}-p#articles", rows=8)
    return write_drill(tmp_path, drill_text(primary, f"memory:{name}-s#articles", STEPS))


def test_a_drill_is_run_for_machines(drill: Path, cli: Cli) -> None:
    ended = cli("drill", "run", drill, "--out", "run", "--operator", "somebody", "--json", code=0)
    found = ended.json
    assert found["verdict"] == "pass"
    assert found["rows"] == 8
    assert len(found["digests"]["ids"]) == len(found["digests"]["payloads"]) == 64
    assert list(found["digests"]["vectors"]) == ["vector"]
    assert found["findings"]
    assert (found["aborted"], found["interrupted_by"]) == (None, None)
    assert [each["name"] for each in found["objectives"]] == ["rpo_records"]
    assert {Path(path).name for path in found["reports"].values()} == {
        "report.html", "report.md", "report.json", "report.xml",
    }  # fmt: skip
    verified = cli("report", "run", "--verify", "--json", code=0).json
    assert verified["event_log_head"] == found["event_log_head"]
    assert cli("report", "run", "--json", code=0).json["digests"] == found["digests"]


def test_a_drill_is_run_for_people(drill: Path, cli: Cli) -> None:
    ended = cli("drill", "run", drill, "--out", "run", code=0)
    assert "PASS" in ended.out
    assert "Records lost (RPO)" in ended.out
    assert "report run/report.html" in ended.out
    assert "restore" in ended.err, "steps are told as they go, beside the result"
    again = cli("drill", "run", drill, "--out", "run", code=2)
    assert "is not empty" in again.err


def test_a_drill_that_stopped_says_so_for_both(name: str, cli: Cli, tmp_path: Path) -> None:
    primary, substitute = fill(f"memory:{name}-p#articles", rows=8), fill(f"memory:{name}-s#articles", rows=1)
    file = write_drill(tmp_path, drill_text(primary, substitute, STEPS))
    found = cli("drill", "run", file, "--out", "one", "--json", code=3).json
    assert "already holds 1 record" in found["aborted"]
    said = cli("drill", "run", file, "--out", "two", code=3)
    assert "stopped: start: " in said.out
    assert "already holds 1 record" in said.out
    assert "INCONCLUSIVE" in said.out


def test_a_drill_of_ones_own_is_begun_and_runs(name: str, cli: Cli) -> None:
    primary = fill(f"memory:{name}-p#articles", rows=8)
    words = ("drill", "init", "--primary", primary, "--substitute", f"memory:{name}-s")
    found = cli(*words, "--out", "one", "--json", code=0).json
    assert found["rows"] == 8
    assert found["primary"]["records"] == 8
    assert found["substitute"]["records"] is None
    assert {line["class"] for line in found["plan"]} == {"exact"}
    assert cli("drill", "show", found["drill_file"], "--json", code=0).json["primary"]["store"]["address"] == primary
    said = cli("drill", "show", found["drill_file"], code=0).out
    assert "primary.store (simulated)" in said
    assert "exitramp's own calls to it fail instead" in said
    assert "play the primary's outage under load" in said
    assert "expected to end" not in said, "nobody knows that of a drill of one's own"
    assert "--allow-writes" not in said
    said = cli(*words, "--out", "two", code=0).out
    assert "8 records" in said
    assert "exitramp drill run two/drill.yaml" in said


def test_a_mock_vendor_answers_and_tells_what_it_answered(tmp_path: Path) -> None:
    words = ["mock-vendor", "openai", "--json", "--for-seconds", "2", "--folder", "vendor"]
    process = subprocess.Popen(
        [sys.executable, "-m", "exitramp", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        found = json.loads("".join(lines))
        assert found["mock"] is True
        base = urlsplit(found["address"].partition("base_url=")[2].partition("&")[0])
        connection = http.client.HTTPConnection(base.netloc, timeout=5)
        asked = {"model": "mock-large", "messages": [{"role": "user", "content": "Who are you?"}]}
        headers = {"content-type": "application/json", "authorization": "Bearer anything"}
        connection.request("POST", f"{base.path}/chat/completions", json.dumps(asked), headers)
        assert connection.getresponse().status == 200
        connection.close()
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert re.search(r"answered: .*\banswered 1\b", err), err


def test_help_and_version_are_told(cli: Cli) -> None:
    assert "Exit codes: 0 pass" in cli("--help", code=0).out
    assert cli("--version", code=0).out.startswith("exitramp")
    assert "Usage" in cli("drill", "--help", code=0).out


@pytest.mark.parametrize("value", ["nowhere_at_all:ADAPTER", "exitramp.urls:NOTHING", "exitramp.cli.main:cli"])
def test_an_adapter_that_cannot_be_loaded_spoils_no_list_and_is_named(
    value: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = registry.listed

    def listed(group: str) -> list[registry.Listed]:
        broken = registry.Listed("broken", group, "some-package", EntryPoint("broken", value, group))
        return [*real(group), broken]

    monkeypatch.setattr(registry, "listed", listed)
    monkeypatch.setattr("exitramp.cli.listing.listed", listed)
    for command in ("stores", "models"):
        rows = {each["scheme"]: each for each in cli(command, "--json", code=0).json[command]}
        assert rows["broken"]["installed"] == "broken"
        assert rows["broken"]["package"] == "some-package"
        assert "some-package" in cli(command, code=0).out
    assert "'some-package'" in cli("inspect", "broken:x", code=2).err
