"""Runs: what is kept of every answer, and what a run does when it is killed, limited or refused."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run
from exitramp.errors import DumpCorrupt, ModelError
from exitramp.evals.comparing.margins import fixed_margins, parse_margins
from exitramp.evals.measuring import Judge, Measurer
from exitramp.evals.runs.folder import RunFolder, read_run
from exitramp.evals.runs.questioning import Asking
from exitramp.evals.runs.replay_cache import ReplayCache
from exitramp.evals.runs.running import run_set
from exitramp.evals.runs.subject import ModelSubject
from exitramp.evals.sets import Case
from exitramp.evals.sets.case import parse_case
from exitramp.ports import ChatAnswer, ChatDelta, ChatRequest, ModelIdentity
from exitramp.records import Usage
from exitramp_adapters.services.mock_vendor.adapter import MockVendor
from tests.evals.vendors import command, vendor, write_cases

ONE_AT_A_TIME = Asking(concurrency=1)


class Scripted:
    """Answers by question; what it was asked is kept."""

    def __init__(self, answers: Callable[[str], Any], name: str = "scripted") -> None:
        self._answers = answers
        self._name = name
        self.requests: list[ChatRequest] = []

    def identity(self) -> ModelIdentity:
        return ModelIdentity("test", self._name, f"test:{self._name}", is_mock=True)

    def answer(
        self,
        request: ChatRequest,
        *,
        timeout_seconds: float,
        on_delta: Callable[[ChatDelta], None] | None = None,
    ) -> ChatAnswer:
        self.requests.append(request)
        said = self._answers(request.messages[-1].content)
        if isinstance(said, BaseException):
            raise said
        text, finish = said if isinstance(said, tuple) else (said, "stop")
        return ChatAnswer(text, finish, self._name, Usage(10, 5), 1.0)

    def close(self) -> None:
        pass


def case(id_: str, question: str = "Why?", **data: Any) -> Case:
    return parse_case({"id": id_, "question": question} | data)


def asked(
    cases: list[Case],
    model: Scripted,
    folder: Path,
    *,
    measurer: Measurer | None = None,
    asking: Asking = ONE_AT_A_TIME,
    cache: ReplayCache | None = None,
) -> dict[str, Any]:
    subject = ModelSubject(model)
    plan = {"set": {"cases": len(cases)}, "repeats": asking.repeats, "subject": dict(subject.describe())}
    with RunFolder(folder, plan, {}) as opened:
        run_set(cases, subject, opened, measurer or Measurer(), asking=asking, cache=cache)
    return {f"{place[0]}#{place[1]}": result for place, result in read_run(folder).results.items()}


YES = [{"kind": "contains", "text": "yes"}]


def test_wrong_answers_errors_truncations_and_unlabelled_cases_are_kept_apart(tmp_path: Path) -> None:
    said = {
        "right": "yes",
        "wrong": "no",
        "cut": ("yes, and", "length"),
        "broken": ModelError("half", error_class="truncated"),
        "quota": ModelError("no more", error_class="quota_exhausted", http_status=429),
        "bare": "whatever",
    }
    cases = [case(name, name, **({} if name == "bare" else {"checks": YES})) for name in said]
    asking = Asking(concurrency=2)
    found = asked(cases, Scripted(said.__getitem__), tmp_path / "r", asking=asking)
    assert {name: found[f"{name}#1"].outcome for name in said} == {
        "right": "pass",
        "wrong": "wrong",
        "cut": "truncated",
        "broken": "truncated",
        "quota": "provider_error",
        "bare": None,
    }
    assert found["quota#1"].error_class == "quota_exhausted"
    manifest = read_run(tmp_path / "r").manifest
    assert manifest["state"] == "complete"
    assert manifest["totals"]["error_classes"] == {"quota_exhausted": 1, "truncated": 1}
    traces = [json.loads(line) for line in (tmp_path / "r" / "traces.jsonl").read_text("utf-8").splitlines()]
    assert sum(trace["request_id"] == "broken/1" for trace in traces) == 3, "worth another try"
    assert sum(trace["request_id"] == "quota/1" for trace in traces) == 1, "worth none"


def test_no_text_of_an_answer_is_kept_unless_asked_for(tmp_path: Path) -> None:
    cases = [case("a", checks=YES)]
    asked(cases, Scripted(lambda question: "yes, the secret word"), tmp_path / "r")
    assert not any(b"secret word" in path.read_bytes() for path in (tmp_path / "r").iterdir())
    asking = Asking(concurrency=1, keep_answers=True)
    found = asked(cases, Scripted(lambda question: "yes, the secret word"), tmp_path / "s", asking=asking)
    assert found["a#1"].data["answer"] == "yes, the secret word"


def test_repeats_are_asked_each_and_a_replay_cache_answers_them_each(tmp_path: Path) -> None:
    numbers: Iterator[int] = iter(range(100))
    model = Scripted(lambda question: f"yes {next(numbers)}")
    cases = [case("a", checks=YES), case("b", "How?", checks=YES)]
    cache, asking = ReplayCache(tmp_path / "cache"), Asking(repeats=3, concurrency=1)
    first = asked(cases, model, tmp_path / "r1", asking=asking, cache=cache)
    assert len(first) == len({result.data["answer_sha256"] for result in first.values()}) == 6
    assert len({request.idempotency_key for request in model.requests}) == 6
    second = asked(cases, model, tmp_path / "r2", asking=asking, cache=cache)
    assert len(model.requests) == 6, "nothing was asked again"
    assert {key: result.data["answer_sha256"] for key, result in first.items()} == {
        key: result.data["answer_sha256"] for key, result in second.items()
    }
    assert all(result.data["replayed"] for result in second.values())
    asked(cases, Scripted(lambda question: "yes", "another"), tmp_path / "r3", asking=asking, cache=cache)
    entry = next((tmp_path / "cache").rglob("*.json"))
    entry.write_text("{}")
    with pytest.raises(DumpCorrupt, match="replay cache"):
        asked(cases, model, tmp_path / "r4", asking=asking, cache=cache)


def test_errors_and_truncations_do_not_get_into_the_replay_cache(tmp_path: Path) -> None:
    said = {"a": ("yes", "length"), "b": ModelError("x", error_class="auth")}
    cache = ReplayCache(tmp_path / "cache")
    asked([case(name, name, checks=YES) for name in said], Scripted(said.__getitem__), tmp_path / "r", cache=cache)
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_a_judge_is_recorded_with_its_prompt_and_one_that_says_neither_leaves_the_case_unscored(tmp_path: Path) -> None:
    check = [{"kind": "judge", "criterion": "is kind"}]
    verdicts = {"good": '{"verdict": "pass"}', "bad": '{"verdict": "fail"}', "odd": "hm", "ill": "pass"}
    judge = Judge(Scripted(lambda prompt: next(said for name, said in verdicts.items() if f"say {name}" in prompt)))
    measurer = Measurer(judge=judge)
    cases = [case(name, name, checks=check) for name in verdicts]
    found = asked(cases, Scripted(lambda question: f"say {question}"), tmp_path / "r", measurer=measurer)
    outcomes = [found[f"{name}#1"].outcome for name in verdicts]
    assert outcomes == ["pass", "wrong", "unscored", "unscored"]
    described = measurer.describe()["judge"]
    assert described["model"] == "scripted"
    assert len(described["prompt_sha256"]) == 64
    traces = [json.loads(line) for line in (tmp_path / "r" / "traces.jsonl").read_text("utf-8").splitlines()]
    assert sum(trace["operation"] == "judge" for trace in traces) == 4


def test_errors_are_asked_again_only_where_that_was_wanted(tmp_path: Path) -> None:
    down = ModelError("down", error_class="auth")
    cases = [case("a", "a", checks=YES), case("b", "b", checks=YES)]
    asked(cases, Scripted(lambda question: down if question == "b" else "yes"), tmp_path / "r")
    model = Scripted(lambda question: "yes")
    assert asked(cases, model, tmp_path / "r")["b#1"].outcome == "provider_error"
    assert model.requests == []
    found = asked(cases, model, tmp_path / "r", asking=Asking(concurrency=1, retry_errors=True))
    assert found["b#1"].outcome == "pass"
    assert len(model.requests) == 1
    assert read_run(tmp_path / "r").lost == ()


@pytest.fixture(scope="module")
def openai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockVendor]:
    with vendor(tmp_path_factory.mktemp("vendor"), latency_ms_median=25) as made:
        yield made


def test_a_run_killed_in_the_middle_goes_on_without_asking_twice(tmp_path: Path, openai: MockVendor) -> None:
    write_cases(tmp_path / "set.jsonl", 80)
    words = ["eval", "run", str(tmp_path / "set.jsonl"), "--model", openai.address.text, "--out", str(tmp_path / "r")]
    before = openai.counters()["requests"]
    killed = 0
    for wanted in (15, 40):
        process = command(*words, "--concurrency", "3")
        deadline = time.monotonic() + 60
        journal = tmp_path / "r" / "cases.jsonl"
        while time.monotonic() < deadline and process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b'"kind":"result"') >= wanted:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        killed += process.wait() == -signal.SIGKILL
        process.communicate()
    assert killed == 2
    process = command(*words, "--json")
    told = json.loads(process.communicate()[0])
    assert process.returncode == 0
    assert told["state"] == "complete"
    assert told["results"] == 80
    asked_in_all = openai.counters()["requests"] - before
    assert 80 <= asked_in_all <= 80 + len(told["possibly_billed_twice"])
    assert len(told["possibly_billed_twice"]) <= 6
    assert len(read_run(tmp_path / "r").results) == 80
    again = command(*words, "--json")
    assert json.loads(again.communicate()[0])["asked_now"] == 0


def test_another_plan_or_another_set_is_refused_in_the_same_folder(
    tmp_path: Path, openai: MockVendor, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cases(tmp_path / "set.jsonl", 3)
    words = ["eval", "run", str(tmp_path / "set.jsonl"), "--model", openai.address.text, "--out", str(tmp_path / "r")]
    assert run(words) == 0
    assert run([*words, "--repeats", "2"]) == 2
    assert "what differs: repeats" in capsys.readouterr().err
    write_cases(tmp_path / "set.jsonl", 4)
    assert run(words) == 2
    assert "set.cases" in capsys.readouterr().err


def test_a_limit_of_money_stops_before_it_is_exceeded_and_the_run_goes_on_later(
    tmp_path: Path, openai: MockVendor, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cases(tmp_path / "set.jsonl", 12)
    with as_file(files("exitramp_fixtures") / "pricebooks" / "mock_vendors.yaml") as book:
        prices = book.read_text("utf-8").replace("provider: mock-openai", "provider: openai")
    (tmp_path / "prices.yaml").write_text(prices, "utf-8")
    words = ["eval", "run", str(tmp_path / "set.jsonl"), "--model", openai.address.text, "--out", str(tmp_path / "r")]
    words += ["--max-tokens", "100", "--json"]
    assert run([*words, "--max-usd", "0.004"]) == 2, "no prices"
    capsys.readouterr()
    words += ["--prices", str(tmp_path / "prices.yaml")]
    assert run([*words, "--max-usd", "0.004"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "stopped"
    assert 0 < told["results"] < 12
    assert 0 < float(told["usd"]) <= 0.004
    assert run([*words, "--max-minutes", "0"]) == 3
    assert json.loads(capsys.readouterr().out)["asked_now"] == 0
    assert run([*words, "--max-usd", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == 12


def test_a_limit_of_money_is_refused_where_nobody_knows_what_was_spent_before(
    tmp_path: Path, openai: MockVendor, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cases(tmp_path / "set.jsonl", 3)
    with as_file(files("exitramp_fixtures") / "pricebooks" / "mock_vendors.yaml") as book:
        prices = book.read_text("utf-8").replace("provider: mock-openai", "provider: openai")
    (tmp_path / "prices.yaml").write_text(prices, "utf-8")
    words = ["eval", "run", str(tmp_path / "set.jsonl"), "--model", openai.address.text, "--out", str(tmp_path / "r")]
    assert run(words) == 0
    capsys.readouterr()
    assert run([*words, "--prices", str(tmp_path / "prices.yaml"), "--max-usd", "1"]) == 2
    assert "3 results in" in capsys.readouterr().err


def test_prompts_are_rendered_by_use_case_and_recorded(
    tmp_path: Path, openai: MockVendor, capsys: pytest.CaptureFixture[str]
) -> None:
    passages = [{"id": "p#0", "text": "The well is called Ada."}]
    rows = [
        {"id": "a", "use_case": "docs_qa", "question": "What is the well called?", "variables": {"passages": passages}}
        | {"checks": [{"kind": "contains", "text": "called Ada"}]}
    ]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with as_file(files("exitramp_fixtures") / "prompts") as prompts:
        words = ["eval", "run", str(tmp_path / "set.jsonl"), "--model", openai.address.text, "--prompts", str(prompts)]
        assert run([*words, "--out", str(tmp_path / "r")]) == 0
        rows[0]["use_case"] = "unheard_of"
        (tmp_path / "set.jsonl").write_text(json.dumps(rows[0]), "utf-8")
        assert run([*words, "--out", str(tmp_path / "r2")]) == 2
    assert "unheard_of" in capsys.readouterr().err
    manifest = read_run(tmp_path / "r").manifest
    assert list(manifest["plan"]["subject"]["prompts"]) == ["api_lookup@1", "docs_qa@1", "error_triage@1"]
    assert manifest["totals"]["outcomes"] == {"pass": 1}
    [trace] = [json.loads(line) for line in (tmp_path / "r" / "traces.jsonl").read_text("utf-8").splitlines()]
    assert trace["prompt_name"] == "docs_qa"


def test_what_a_set_needs_and_was_not_given_is_said_before_the_first_question(
    tmp_path: Path, openai: MockVendor, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"id": "a", "question": "Why?", "checks": [{"kind": "similarity", "text": "x", "threshold": 0.5}]}
    (tmp_path / "set.jsonl").write_text(json.dumps(row), "utf-8")
    before = openai.counters()["requests"]
    words = ["eval", "run", str(tmp_path / "set.jsonl"), "--out", str(tmp_path / "r")]
    assert run(words) == 2
    assert "name one" in capsys.readouterr().err
    assert run([*words, "--model", openai.address.text]) == 2
    assert "--embedder" in capsys.readouterr().err
    assert run([*words, "--model", openai.address.text, "--margin", "0"]) == 2
    assert run([*words, "--model", openai.address.text, "--margin", "speed=0.1"]) == 2
    assert openai.counters()["requests"] == before
    assert run([*words, "--model", openai.address.text, "--embedder", "wordllama:"]) == 0
    measured = read_run(tmp_path / "r").plan["measured_by"]["embedder"]
    assert measured["dimensions"] > 0


def test_a_pattern_that_takes_too_long_leaves_its_case_unscored_and_the_run_goes_on(tmp_path: Path) -> None:
    cases = [
        case("endless", "a" * 60 + "!", checks=[{"kind": "regex", "pattern": "(a+)+$"}]),
        case("fine", "yes", checks=[{"kind": "regex", "pattern": "^y"}]),
    ]
    found = asked(cases, Scripted(lambda question: question), tmp_path / "r")
    assert [found[name].outcome for name in ("endless#1", "fine#1")] == ["unscored", "pass"]
    assert read_run(tmp_path / "r").manifest["totals"]["unscored"] == {"too_slow": ["endless"]}


def test_a_run_made_when_mrr_had_another_name_is_read_and_gone_on_with(tmp_path: Path) -> None:
    old = {"set": {"cases": 1}, "repeats": 1, "margins": {"reciprocal_rank": 0.1}}
    with RunFolder(tmp_path / "r", old, {}) as opened:
        opened.record(("q", 1), {"outcome": None, "values": {"reciprocal_rank": 0.5}})
    with RunFolder(tmp_path / "r", old | {"margins": parse_margins(["mrr=0.1"])}, {}) as opened:
        assert opened.is_resumed
    run = read_run(tmp_path / "r")
    assert run.results["q", 1].values == {"mrr": 0.5}
    assert fixed_margins(run.plan["margins"], {"mrr": 0.1}, parse_margins(["reciprocal_rank=0.1"]))[0] == {"mrr": 0.1}
