"""Runs killed with -9 and gone on with: what was billed without a result is counted or held, and no limit is passed."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest
import yaml

from exitramp.clock import SystemClock
from exitramp.evals.measuring import Measurer
from exitramp.evals.runs.bills import Bills
from exitramp.evals.runs.folder import RunFolder, read_run
from exitramp.evals.runs.questioning import Asking
from exitramp.evals.runs.replay_cache import ReplayCache
from exitramp.evals.runs.running import Finished, run_set
from exitramp.evals.runs.spending import Allowance
from exitramp.evals.runs.subject import ModelSubject
from exitramp.finops.prices import load_price_book
from exitramp.orchestration.trace import TraceWriter, read_traces
from exitramp.records import TraceRecord
from exitramp_adapters.services.mock_vendor.adapter import MockVendor
from tests.evals.test_runs import YES, Scripted, case
from tests.evals.vendors import command, vendor, write_cases
from tests.orchestration.libraries import price_book

ROWS = [("test", "scripted", f"usd_per_million_{kind}_tokens", "1000") for kind in ("input", "output")]
ANSWER_USD = Decimal("0.015")
CASES = [case(name, f"{name}?", checks=YES) for name in "abc"]


class Place:
    """A run of three cases with a price book, in one process: a kill is what the journal and the traces lack."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "prices.yaml").write_text(price_book(ROWS))
        self.book = load_price_book(folder / "prices.yaml")
        self.model = Scripted(lambda question: "yes")
        self.plan = {"set": {"cases": 3}, "repeats": 1, "subject": dict(ModelSubject(self.model).describe())}

    def opened(self) -> RunFolder:
        return RunFolder(self.folder / "r", self.plan, {})

    def go(self, max_usd: str | None = None, cache: ReplayCache | None = None) -> Finished:
        with self.opened() as folder:
            spent = folder.bills.usd + folder.bills.held_usd
            limit = None if max_usd is None else Decimal(max_usd)
            allowance = Allowance(SystemClock(), book=self.book, max_usd=limit, spent_usd=spent)
            asking = Asking(concurrency=1, maximum_tokens=20)
            return run_set(CASES, ModelSubject(self.model), folder, Measurer(), asking=asking, allowance=allowance,
                           cache=cache)  # fmt: skip

    def killed(self, *places: tuple[str, int]) -> None:
        """Before there was a result of these."""
        with self.opened() as folder:
            for place in places:
                folder.asking(place)

    def traced(self) -> list[TraceRecord]:
        return list(read_traces(self.folder / "r" / "traces.jsonl"))


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_an_answer_that_was_traced_before_the_kill_is_paid(place: Place) -> None:
    place.go()
    first = next(record for record in place.traced() if record.request_id == "a/1")
    place.killed(("a", 1))
    with TraceWriter(place.folder / "r" / "traces.jsonl") as traces:
        traces.append(replace(first, attempt=2))
    totals = place.go().totals
    assert (Decimal(totals["usd"]), Decimal(totals["usd_held"])) == (4 * ANSWER_USD, Decimal(0))
    assert Decimal(place.go().totals["usd"]) == 4 * ANSWER_USD, "counted once, however often it is gone on with"


def test_what_left_no_trace_is_held_at_the_most_that_it_may_cost_and_no_limit_is_passed(place: Place) -> None:
    place.killed(("a", 1), ("b", 1))
    ended = place.go("0.10")
    assert ended.state == "stopped"
    totals = ended.totals
    assert Decimal(totals["usd_held"]) >= 2 * ANSWER_USD
    assert Decimal(totals["usd"]) + Decimal(totals["usd_held"]) <= Decimal("0.10")
    assert len(place.model.requests) < 3, "which could all be asked if nothing had been billed before"
    told = place.go().totals
    assert (told["results"], Decimal(told["usd"])) == (3, 3 * ANSWER_USD)
    assert told["usd_held"] == totals["usd_held"]


def test_an_answer_of_this_run_out_of_its_cache_is_paid_and_was_not_known_before(place: Place, tmp_path: Path) -> None:
    cache = ReplayCache(tmp_path / "cache")
    place.go(cache=cache)
    asked = len(place.model.requests)
    journal = place.folder / "r" / "cases.jsonl"
    kept = journal.read_bytes().splitlines(keepends=True)
    assert b'"kind":"result"' in kept[-1]
    journal.write_bytes(b"".join(kept[:-1]))
    totals = place.go(cache=cache).totals
    assert (len(place.model.requests), totals["replayed"]) == (asked, 0)
    assert (Decimal(totals["usd"]), Decimal(totals["usd_held"])) == (3 * ANSWER_USD, Decimal(0))
    assert read_run(place.folder / "r").lost == ()
    (tmp_path / "other").mkdir()
    assert Place(tmp_path / "other").go(cache=cache).totals["replayed"] == 3


def test_what_was_asked_again_after_an_error_stays_paid(place: Place) -> None:
    place.model = Scripted(lambda question: ("yes", "length") if question == "a?" else "yes")
    place.go()
    with place.opened() as folder:
        folder.asking(("a", 1))
        folder.record(("a", 1), dict(folder.results["a", 1].data) | {"outcome": "pass", "usd": "0.5", "records": 0})
        assert folder.bills.usd == 3 * ANSWER_USD + Decimal("0.5")


def test_what_is_held_is_let_go_once_the_answer_is_given_again_with_its_cost() -> None:
    """By a cassette, which has what the run's own traces had not got."""
    bills = Bills()
    lost = {"usd": "0", "usd_held": "0.03", "records": 0, "answered": False}
    for kind, data in (("asking", {}), ("lost", lost), ("asking", {}), ("lost", lost), ("asking", {})):
        bills.take(kind, ("a", 1), data)
    assert bills.newest_held(("a", 1)) == Decimal("0.03")
    bills.take("result", ("a", 1), {"usd": "0.01", "records": 1, "given_again": True})
    assert (bills.usd, bills.held_usd) == (Decimal("0.01"), Decimal("0.03")), "of two that left, one is known"
    assert bills.open == ()


@pytest.fixture(scope="module", name="openai")
def _openai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockVendor]:
    with vendor(tmp_path_factory.mktemp("vendor"), latency_ms_median=60) as made:
        yield made


@pytest.mark.parametrize("way", ["model", "cache", "stack"])
def test_a_run_that_is_killed_at_any_moment_tells_no_less_than_its_vendor_bills(
    tmp_path: Path, openai: MockVendor, way: str
) -> None:
    rng = random.Random(way)
    write_cases(tmp_path / "set.jsonl", 20)
    with as_file(files("exitramp_fixtures") / "pricebooks" / "mock_vendors.yaml") as book:
        prices = yaml.safe_load(book.read_text("utf-8").replace("provider: mock-openai", "provider: openai"))
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump(prices))
    words = ["eval", "run", str(tmp_path / "set.jsonl"), "--out", str(tmp_path / "r"), "--repeats", "2", "--json"]
    words += ["--max-tokens", "100", "--prices", str(tmp_path / "prices.yaml"), "--max-usd", "1"]
    if way == "stack":
        stack = {"version": 1, "models": {"main": {"address": openai.address.text}}}
        stack |= {"idempotency": {"path": "keys.jsonl", "spool": "answers"}}
        (tmp_path / "stack.yaml").write_text(yaml.safe_dump(stack))
        words += ["--stack", str(tmp_path / "stack.yaml")]
    else:
        words += ["--model", openai.address.text]
        words += ["--replay-cache", str(tmp_path / "cache")] if way == "cache" else []
    before = len(list(openai.account()))
    journal = tmp_path / "r" / "cases.jsonl"

    def results() -> int:
        return journal.read_bytes().count(b'"kind":"result"') if journal.exists() else 0

    for _ in range(3):
        process = command(*words)
        wanted, ends = results() + rng.randrange(1, 8), time.monotonic() + 60
        while time.monotonic() < ends and process.poll() is None and results() < wanted:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.communicate()
    process = command(*words)
    told: dict[str, Any] = json.loads(process.communicate()[0])
    assert (process.returncode, told["state"], told["results"]) == (0, "complete", 40)
    entries = list(openai.account())[before:]
    price = {row["unit"]: Decimal(str(row["amount"])) for row in prices["prices"]
             if (row["provider"], row.get("model")) == ("openai", "mock-large")}  # fmt: skip
    bill = sum(
        each["prompt_tokens"] * price["usd_per_million_input_tokens"]
        + each["gen_tokens"] * price["usd_per_million_output_tokens"]
        for each in entries
    ) / Decimal(1_000_000)
    usd, held = Decimal(told["usd"]), Decimal(told["usd_held"])
    assert usd <= bill <= usd + held
    assert held > 0, "at least one was on its way"
