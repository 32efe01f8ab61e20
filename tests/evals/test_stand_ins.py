"""Who answered where a stack file's order was asked: told by the run, held by the comparison."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from exitramp.cli.main import run
from exitramp.evals.comparing.comparison import compare_runs
from exitramp.evals.runs.answerers import StandIn, answerers_of
from exitramp.evals.runs.folder import read_run
from exitramp.faults import Fault
from exitramp.records import Verdict
from tests.evals.test_comparing import made
from tests.evals.vendors import write_cases
from tests.orchestration.libraries import QUESTION, fill
from tests.orchestration.vendors import Vendors, write

CASES = 20
BY_STAND_IN = f"{CASES} of {CASES} answers of the second run came from a stand-in: 'backup' for 'main' 20 times"


@pytest.fixture(scope="module", name="vendors")
def _vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    found = Vendors(tmp_path_factory.mktemp("vendors"))
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def _healed(vendors: Vendors) -> Iterator[None]:
    yield
    vendors.heal()


@contextmanager
def holding(address: str) -> Iterator[None]:
    """Another process has the collection open."""
    code = "import sys\nfrom exitramp.registry import open_store\nstore = open_store(sys.argv[1])\n"
    code += "print(store.source().count(), flush=True)\nsys.stdin.read()\n"
    words = [sys.executable, "-c", code, address]
    with subprocess.Popen(words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "10"
        yield
        process.communicate()


class Place:
    def __init__(self, folder: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.set = folder / "set.jsonl"
        write_cases(self.set, CASES)
        self.stack = write(folder / "stack.yaml", document)

    def run(self, out: str, *words: str, code: int = 0) -> dict[str, Any]:
        words = (str(self.set), "--stack", str(self.stack), "--out", str(self.folder / out), *words)
        self.capsys.readouterr()
        assert run(["eval", "run", *words, "--concurrency", "1", "--margin", "0.2", "--json"]) == code
        told: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return told

    def compare(self, one: str, other: str, *words: str) -> tuple[int, dict[str, Any]]:
        self.capsys.readouterr()
        code = run(["eval", "compare", str(self.folder / one), str(self.folder / other), *words, "--json"])
        return code, json.loads(self.capsys.readouterr().out)


@pytest.fixture(name="place")
def _place(tmp_path: Path, vendors: Vendors, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, vendors.document("main", "backup"), capsys)


def test_a_substitute_that_never_answered_does_not_pass(place: Place, vendors: Vendors) -> None:
    place.run("now", "--only", "backup")
    vendors["main"].inject(Fault("auth"))
    told = place.run("then")
    assert told["answered_by"] == {"backup": CASES}
    stands_in = {"answered_by": "backup", "stands_in_for": "main", "because": "auth", "results": CASES}
    assert told["stand_ins"] == [stands_in]
    assert read_run(place.folder / "then").manifest["totals"]["stand_ins"] == [stands_in]
    junit = place.folder / "out.xml"
    code, found = place.compare("now", "then", "--junit", str(junit))
    assert (code, found["verdict"]) == (3, "inconclusive")
    assert BY_STAND_IN in found["reason"]
    assert "--only NAME" in found["next_step"]
    assert found["first"]["answered_by"] == found["second"]["answered_by"] == {"backup": CASES}
    assert {metric["verdict"] for metric in found["metrics"] if metric["decides"]} == {"inconclusive"}
    suite = ElementTree.fromstring(junit.read_text("utf-8"))[0]
    assert (suite.get("errors"), suite.get("failures")) == ("2", "0")
    said = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert said["exitramp.second.answered_by"] == "backup 20; 'backup' for 'main' 20 times (auth)"
    assert "next: " in junit.read_text("utf-8")
    assert run(["eval", "compare", str(place.folder / "now"), str(place.folder / "then")]) == 3
    shown = place.capsys.readouterr().out
    assert "B answered by: backup 20; 'backup' for 'main' 20 times (auth)" in shown
    assert "--judge-order" in shown


def test_the_order_itself_is_judged_where_that_is_said(place: Place, vendors: Vendors) -> None:
    place.run("now", "--only", "backup")
    vendors["main"].inject(Fault("auth"))
    place.run("then")
    code, found = place.compare("now", "then", "--judge-order")
    assert (code, found["judges_order"]) == (0, True)
    assert any(BY_STAND_IN in note and "the order that is judged" in note for note in found["notes"])


def test_a_run_says_in_words_who_answered_for_whom_and_why(place: Place, vendors: Vendors) -> None:
    vendors["main"].inject(Fault("auth"))
    words = [str(place.set), "--stack", str(place.stack), "--out", str(place.folder / "r"), "--concurrency", "1"]
    assert run(["eval", "run", *words]) == 0
    said = place.capsys.readouterr().out
    assert "answered by: backup 20" in said
    assert "stood in: 'backup' for 'main' 20 times (auth)" in said


def test_one_of_the_order_is_asked_alone_by_its_name(place: Place, vendors: Vendors) -> None:
    vendors["main"].inject(Fault("auth"))
    before = vendors.answered("backup")
    told = place.run("main", "--only", "main", code=5)
    assert (told["answered_by"], told["outcomes"]) == ({}, {"provider_error": CASES})
    assert told["error_classes"] == {"auth": CASES}, "of which the breaker kept some from being sent"
    assert told["asked_of_nobody"] > 0
    assert vendors.answered("backup") == before
    words = ["eval", "run", str(place.set), "--out", str(place.folder / "x")]
    assert run([*words, "--stack", str(place.stack), "--only", "nobody"]) == 2
    assert "it names: main, backup" in place.capsys.readouterr().err
    assert run([*words, "--model", vendors.addresses["main"].text, "--only", "main"]) == 2


def test_the_price_of_one_that_is_asked_alone_is_all_that_is_needed(place: Place) -> None:
    rows = "".join(
        f"  - {{id: {unit}, provider: anthropic, model: mock-medium, unit: usd_per_million_{unit}_tokens, amount: '1', "
        "source: test, retrieved: 2026-01-01, valid_from: 2020-01-01, illustrative: true}\n"
        for unit in ("input", "output")
    )
    prices = place.folder / "prices.yaml"
    prices.write_text(f"version: 1\nname: test\ncurrency: USD\nprices:\n{rows}")
    limit = ("--prices", str(prices), "--max-usd", "1")
    assert place.run("one", "--only", "backup", *limit)["state"] == "complete"
    words = ["eval", "run", str(place.set), "--stack", str(place.stack), "--out", str(place.folder / "all")]
    assert run([*words, *limit]) == 2


def test_a_hedge_and_some_of_many_are_stand_ins_too(place: Place, vendors: Vendors, tmp_path: Path) -> None:
    write(place.stack, vendors.document("main", "backup", hedge={"after_ms": 50}))
    vendors["main"].inject(Fault("slow_first_token", {"delay_seconds": 0.4}))
    words = ("--only", "backup")
    write_cases(place.set, 3)
    place.run("alone", *words)
    told = place.run("hedged")
    assert told["stand_ins"] == [{"answered_by": "backup", "stands_in_for": "main", "because": "slower", "results": 3}]
    code, found = place.compare("alone", "hedged")
    assert code == 3
    assert "(it was silent for too long)" in found["reason"]


def test_whom_routing_asks_first_stands_in_for_nobody(place: Place, vendors: Vendors) -> None:
    write(place.stack, vendors.document("main", "backup", routing={"small_below": 0.5, "medium_below": 0.9}))
    told = place.run("routed")
    assert (told["answered_by"], told["stand_ins"]) == ({"backup": CASES}, []), "the medium one is nearer to small"
    vendors["backup"].inject(Fault("auth"))
    [stood_in] = place.run("down")["stand_ins"]
    assert (stood_in["answered_by"], stood_in["stands_in_for"]) == ("main", "backup")


def test_one_answer_of_a_stand_in_among_many_leaves_it_open_and_an_unknown_one_too(tmp_path: Path) -> None:
    one = read_run(made(tmp_path / "a", [["pass"]] * 200))
    for name, more in (("b", {"answered_by": "x", "stands_in_for": "y", "stands_in_because": "auth"}), ("c", {})):
        folder = made(tmp_path / name, [["pass"]] * 200, kind="stack", more={"model_id": "m", "answered_by": "y"})
        marked = made(tmp_path / name, [["pass"]], cases=200, kind="stack", more={"model_id": "m", **more})
        assert folder == marked
        found = compare_runs(one, read_run(folder), {"*": 0.05}, margin_fixed="x")
        assert found.verdict is Verdict.INCONCLUSIVE
        assert "1 of 200 answers of the second run" in found.reason
        turned = compare_runs(read_run(folder), one, {"*": 0.05}, margin_fixed="x")
        assert turned.verdict is Verdict.INCONCLUSIVE
        assert "of the first run" in turned.reason
        assert (
            compare_runs(one, read_run(folder), {"*": 0.05}, margin_fixed="x", judges_order=True).verdict
            is Verdict.PASS
        )


def test_replayed_answers_keep_who_gave_them_and_stand_ins_are_asked_anew(place: Place, vendors: Vendors) -> None:
    cache = ("--replay-cache", str(place.folder / "cache"))
    vendors["main"].inject(Fault("auth"))
    place.run("down", *cache)
    vendors.heal()
    told = place.run("up", *cache)
    assert (told["replayed"], told["answered_by"], told["stand_ins"]) == (0, {"main": CASES}, [])
    again = place.run("again", *cache)
    assert (again["replayed"], again["answered_by"], again["answered_by_unknown"]) == (CASES, {"main": CASES}, 0)
    for path in (place.folder / "cache").rglob("*.json"):
        entry = json.loads(path.read_text())
        del entry["reply"]["answered_by"]  # as it was kept before
        path.write_text(json.dumps(entry))
    assert place.run("older", *cache)["replayed"] == 0


def test_what_the_stacks_journal_kept_of_a_stand_in_is_one_too(place: Place, vendors: Vendors) -> None:
    """A run that was killed after its stack had the answer gets it from there, and nobody says why it was that one."""
    write(place.stack, vendors.document("main", "backup", idempotency={"path": "keys.jsonl", "spool": "answers"}))
    vendors["main"].inject(Fault("auth"))
    place.run("r")
    journal = place.folder / "r" / "cases.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    before = vendors.answered("backup")
    told = place.run("r")
    assert (told["asked_now"], vendors.answered("backup")) == (1, before)
    because = {each["because"]: each["results"] for each in told["stand_ins"]}
    assert because == {"auth": CASES - 1, "kept": 1}


def test_a_store_that_is_locked_is_no_providers_error(
    tmp_path: Path, vendors: Vendors, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(f"qdrant:{tmp_path}/copy#docs")
    fill(f"chroma:{tmp_path}/db#docs")
    stores = {
        "docs": {"address": f"chroma:{tmp_path}/db#docs", "embedder": "words"},
        "copy": {"address": f"qdrant:{tmp_path}/copy#docs", "embedder": "words"},
    }
    document = vendors.document("main") | {
        "embedders": {"words": {"address": "wordllama:"}},
        "stores": stores,
        "prompts": "packaged",
        "stacks": {"now": {"chat": "main", "store": "docs"}, "then": {"chat": "main", "store": "copy"}},
    }
    place = Place(tmp_path, document, capsys)
    cases = [
        {"id": f"c{n:02}", "question": f"{QUESTION} ({n})", "use_case": "docs_qa"}
        | {"checks": [{"kind": "contains", "text": "path"}]}
        for n in range(CASES)
    ]
    place.set.write_text("".join(json.dumps(case) + "\n" for case in cases))
    place.run("now", "--only", "now")
    with holding(f"qdrant:{tmp_path}/copy#docs"):
        told = place.run("then", "--only", "then", code=5)
        assert told["outcomes"] == {"store_error": CASES}
        assert all(name.startswith("store_") for name in told["error_classes"])
        assert any("another process has this collection open" in said for said in told["store_said"])
        assert place.run("order", code=0)["answered_by"] == {"now": CASES}
        write(place.stack, document | {"failover": {"stacks": ["then", "now"]}})
        [stood_in] = place.run("turned", code=0)["stand_ins"]
        assert (stood_in["answered_by"], stood_in["stands_in_for"]) == ("now", "then")
        assert stood_in["because"].startswith("store_")
    code, found = place.compare("now", "then")
    assert (code, found["verdict"]) == (1, "fail")
    assert "20 of 20 results of the second run are a failure of its store (store_" in found["reason"]
    assert any("says nothing of how good an answer is" in note for note in found["notes"])


def test_only_a_stack_file_has_answerers() -> None:
    assert answerers_of([], {"kind": "model"}).to_json() == {
        "answered_by": {}, "stand_ins": [], "answered_by_unknown": 0,
    }  # fmt: skip
    assert str(StandIn("b", "a", "breaker_open", 1)) == "'b' for 'a' 1 time (its breaker was open)"
