"""One application, two vendors of different shapes, and nothing but the stack file between them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exitramp.errors import ConfigError, UsageError
from exitramp.faults import Fault
from exitramp.orchestration import (
    Answered,
    Application,
    LoadEnd,
    LoadRequest,
    NotAnswered,
    read_traces,
    reconcile,
)
from exitramp.orchestration.following import LOOKS_SECONDS
from exitramp.records import TraceRecord
from tests.orchestration.vendors import WHOLE, Vendors, request, write


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    made = Vendors(tmp_path_factory.mktemp("vendors"))
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def healed(vendors: Vendors) -> None:
    vendors.heal()


def the_application(path: Path) -> str:
    """What a user wrote once; no test below changes a word of it."""
    with Application.open(path) as application:
        return application.chat(request()).text


def until(condition: object, seconds: float = 5.0) -> bool:
    assert callable(condition)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("vendor", ["main", "backup"])
def test_the_same_application_is_answered_by_either_vendor(vendors: Vendors, tmp_path: Path, vendor: str) -> None:
    before = vendors.answered(vendor)
    path = write(tmp_path / "stack.yaml", vendors.document(vendor))
    assert the_application(path) == WHOLE
    assert vendors.answered(vendor) == before + 1


def test_an_edit_is_in_force_without_a_restart_and_a_broken_one_is_told_once(vendors: Vendors, tmp_path: Path) -> None:
    told: list[str] = []
    path = write(tmp_path / "stack.yaml", vendors.document("main"))
    with Application.open(path, on_notice=told.append) as application:
        assert application.chat(request()).name == "main"
        write(path, vendors.document("backup"))
        assert until(lambda: application.chat(request()).name == "backup", LOOKS_SECONDS + 2)
        assert len(told) == 1
        path.write_text("version: 1\nmodells: {}\n")
        assert until(lambda: application.chat(request()).name == "backup" and application.problem)
        for _ in range(3):
            time.sleep(LOOKS_SECONDS)
            assert application.chat(request()).name == "backup"
        assert len(told) == 2
        assert "unknown key 'modells'" in told[1]
        assert f"{path}:2" in told[1]
        path.unlink()
        assert until(lambda: application.chat(request()).name == "backup" and len(told) == 3)
        write(path, vendors.document("main"))
        assert until(lambda: application.chat(request()).name == "main")
        assert application.problem is None


def test_what_a_backup_does_not_take_is_told_once_when_the_file_is_opened(vendors: Vendors, tmp_path: Path) -> None:
    told: list[str] = []
    path = write(tmp_path / "stack.yaml", vendors.document("main", "backup"))
    with Application.open(path, on_notice=told.append) as application:
        [notice] = told
        assert notice.startswith("models.backup: does not take a temperature above 0, top_p, json_object")
        write(path, vendors.document("main", "backup", environment="edited"))
        assert until(lambda: application.file.environment == "edited")
        assert len(told) == 2, "that the edit is in force"
    with Application.open(write(path, vendors.document("backup", "main")), on_notice=told.append):
        assert len(told) == 2, "nobody stands before it"


def test_a_breaker_that_is_open_is_the_reason_where_the_substitute_takes_no_such_request(
    vendors: Vendors, tmp_path: Path
) -> None:
    once = {"failures": 1, "sample": 1, "cool_down_seconds": 60}
    path = write(tmp_path / "stack.yaml", vendors.document("main", "backup", breaker=once, retry={"tries": 1}))
    vendors["main"].inject(Fault("unavailable"))
    with Application.open(path, on_notice=lambda text: None) as application:
        for error_class in ("overloaded", "no_stack"):
            with pytest.raises(NotAnswered, match="'backup' cannot stand in") as caught:
                application.chat(request(temperature=0.3))
            assert caught.value.error_class == error_class
        assert caught.value.http_status is None


def test_a_request_that_is_under_way_ends_on_the_version_it_began_on(vendors: Vendors, tmp_path: Path) -> None:
    path = write(tmp_path / "stack.yaml", vendors.document("main"))
    vendors["main"].inject(Fault("slow_first_token", {"delay_seconds": 1.0}))
    with Application.open(path, on_notice=lambda text: None) as application, ThreadPoolExecutor(1) as pool:
        before = vendors["main"].counters()["requests"]
        slow = pool.submit(application.chat, request())
        assert until(lambda: vendors["main"].counters()["requests"] > before or slow.running())
        time.sleep(LOOKS_SECONDS)
        write(path, vendors.document("backup"))
        assert until(lambda: application.chat(request()).name == "backup")
        assert slow.result(10).name == "main"


def test_after_a_503_the_substitute_answers_within_a_second(vendors: Vendors, tmp_path: Path) -> None:
    times = []
    for number in range(3):  # a machine shared with others may be late once
        traces = tmp_path / f"traces-{number}.jsonl"
        path = write(tmp_path / "stack.yaml", vendors.document(trace={"path": str(traces)}))
        with Application.open(path) as application:
            vendors["main"].inject(Fault("unavailable"))
            answered = application.chat(request(), use_case="support", tenant="acme", tags=("a",))
        assert (answered.name, answered.text, answered.is_mock) == ("backup", WHOLE, True)
        records = list(read_traces(traces))
        first, last = records[0], records[-1]
        times.append((last.ts - first.ts).total_seconds() + last.latency_ms / 1000)
    print(f"503: whole answers {', '.join(f'{took * 1000:.0f}' for took in times)} ms after the first failure")
    assert sorted(times)[1] < 1.0
    assert (first.status, first.http_status, first.use_case_id, first.tenant) == ("error", 503, "support", "acme")
    assert (last.status, last.route_reason, last.fallback_from) == ("ok", "failed_over", "main")


@pytest.mark.parametrize(("fault", "options"), [("truncate", {}), ("truncate", {"after_bytes": 150}), ("reset", {})])
@pytest.mark.parametrize("streams", [True, False], ids=["stream", "whole"])
def test_half_an_answer_is_never_shown_and_the_substitute_answers(
    vendors: Vendors, tmp_path: Path, fault: str, options: dict[str, int], streams: bool
) -> None:
    path = write(tmp_path / "stack.yaml", vendors.document())
    vendors["main"].inject(Fault(fault, options))
    shown: list[str] = []
    with Application.open(path) as application:
        listener = (lambda delta: shown.append(delta.text)) if streams else None
        answered = application.chat(request(), on_delta=listener)
    assert (answered.name, answered.text) == ("backup", WHOLE)
    assert "".join(shown) == (WHOLE if streams else "")


def test_what_was_shown_from_the_first_token_on_is_voided_or_the_end(vendors: Vendors, tmp_path: Path) -> None:
    traces = tmp_path / "traces.jsonl"
    document = vendors.document(stream={"commit": "first_token"}, trace={"path": str(traces)})
    path = write(tmp_path / "stack.yaml", document)
    vendors["main"].inject(Fault("truncate", {}))
    shown: list[str] = []
    with Application.open(path) as application:
        with pytest.raises(NotAnswered) as caught:
            application.chat(request(), on_delta=lambda delta: shown.append(delta.text))
        assert caught.value.error_class == "truncated"
        assert [attempt.stack for attempt in caught.value.outcome.attempts] == ["main"]
        assert 0 < len("".join(shown)) < len(WHOLE)
        shown.clear()
        answered = application.chat(
            request(), on_delta=lambda delta: shown.append(delta.text), on_restart=lambda: shown.append("|")
        )
    assert answered.name == "backup"
    half, whole = "".join(shown).split("|")
    assert 0 < len(half) < len(WHOLE)
    assert whole == WHOLE
    assert [record.route_reason for record in read_traces(traces)][-1] == "resume_as_new"


def test_the_same_key_gets_the_same_answer_and_is_asked_once(vendors: Vendors, tmp_path: Path) -> None:
    document = vendors.document("main", idempotency={"path": "journal.jsonl", "spool": "answers"})
    path = write(tmp_path / "stack.yaml", document)
    before = vendors["main"].counters()["requests"]
    with Application.open(path) as application, ThreadPoolExecutor(8) as pool:
        answers = [each.result() for each in [pool.submit(application.chat, request("key-1")) for _ in range(8)]]
    with Application.open(path) as application:  # another process would see the same
        answers.append(application.chat(request("key-1")))
        assert application.billing_doubts() == []
    assert {answer.text for answer in answers} == {WHOLE}
    assert vendors["main"].counters()["requests"] == before + 1


def test_64_at_once_during_an_outage_none_lost_none_twice_and_the_accounts_add_up(
    vendors: Vendors, tmp_path: Path
) -> None:
    """The vendor breaks while they are under way, and the traces tell the same story as both vendors' counters."""
    traces = tmp_path / "traces.jsonl"
    seen: list[TraceRecord] = []
    document = vendors.document(trace={"path": str(traces)}, idempotency={"path": "journal.jsonl"})
    path = write(tmp_path / "stack.yaml", document)
    before = {name: len(list(vendors[name].account())) for name in ("main", "backup")}

    def one(application: Application, number: int) -> Answered:
        if number == 20:
            vendors["main"].inject(Fault("unavailable"))
        return application.chat(request(f"outage-{number}"))

    with Application.open(path, on_trace=seen.append) as application, ThreadPoolExecutor(64) as pool:
        answers = [each.result() for each in [pool.submit(one, application, number) for number in range(64)]]
    assert all(answer.text == WHOLE for answer in answers)
    assert "backup" in {answer.name for answer in answers}
    accounts = {name: list(vendors[name].account())[before[name] :] for name in before}
    requests = [
        LoadRequest(
            number,
            answer.request_id,
            "chat",
            answer.outcome.asked_at,
            0.0,
            0.0,
            answer.outcome.duration_seconds,
            LoadEnd.ANSWERED,
            answer.outcome,
        )
        for number, answer in enumerate(answers)
    ]
    found = reconcile(requests, accounts, slow_seconds=30)
    assert found.adds_up, found
    assert len(found.answered) == 64
    records = list(read_traces(traces))
    assert len(seen) == len(records)
    providers = {"main": "openai", "backup": "anthropic"}
    for name, provider in providers.items():
        ok = sum(record.status == "ok" for record in records if record.provider == provider)
        assert ok == sum(entry["outcome"] == "answered" for entry in accounts[name])
        failed = sum(record.http_status == 503 for record in records if record.provider == provider)
        assert failed == sum(entry["outcome"] == "failed" for entry in accounts[name])


def test_a_price_book_that_is_not_there_and_an_embedder_of_a_file_without_any_are_told_with_what_to_do(
    vendors: Vendors, tmp_path: Path
) -> None:
    path = write(tmp_path / "stack.yaml", vendors.document("main", prices="nowhere.yaml"))
    with pytest.raises(ConfigError, match=r"stack\.yaml:[0-9]+: 'prices': there is no file .*nowhere\.yaml"):
        Application.open(path)
    path = write(tmp_path / "stack.yaml", vendors.document("main"))
    with Application.open(path) as application, pytest.raises(UsageError, match=r"no embedder\n  next: add 'embedders"):
        application.embed(["a"])
