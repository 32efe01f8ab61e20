"""An application that is killed while it works, and limits that hold while many ask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exitramp.faults import Fault
from exitramp.orchestration import Application, NotAnswered, read_traces
from exitramp.orchestration.idempotency import key_sha256
from exitramp.orchestration.trace_files import open_traces
from exitramp.ports import ChatAnswer, ChatDelta, ChatModel, ChatRequest
from tests.orchestration.vendors import WHOLE, Vendors, request, write

AT_ONCE = 8
APPLICATION = """\
import sys, threading
from exitramp.orchestration import Application
from tests.orchestration.vendors import request

def work():
    while True:
        found = application.chat(request())
        sys.stdout.write(found.request_id + "\\n")
        sys.stdout.flush()

with Application.open(sys.argv[1]) as application:
    threads = [threading.Thread(target=work) for _ in range(int(sys.argv[2]))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
"""


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    made = Vendors(tmp_path_factory.mktemp("vendors"))
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def healed(vendors: Vendors) -> None:
    vendors.heal()


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_an_application_killed_under_load_leaves_a_trace_of_every_answer_that_it_gave(
    vendors: Vendors, tmp_path: Path, form: str
) -> None:
    """Each answer that was told has its record, and each that a vendor gave, but for what was under way."""
    traces = tmp_path / "traces"
    document = vendors.document("main", trace={"path": str(traces), "format": form})
    path = write(tmp_path / "stack.yaml", document)
    before = vendors.answered("main")
    process = subprocess.Popen(
        [sys.executable, "-c", APPLICATION, str(path), str(AT_ONCE)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(60)]
    process.send_signal(signal.SIGKILL)
    rest = process.communicate(timeout=15)[0].split("\n")
    told += rest[:-1]  # a line that the kill cut is none
    written = traces
    if form == "parquet":
        open_traces(traces, form).close()  # the next start takes up what was left
        import pyarrow.parquet as pq

        rows = pq.read_table(traces).select(["request_id", "status"]).to_pylist()
        found = Counter(row["request_id"] for row in rows if row["status"] == "ok")
    else:
        found = Counter(record.request_id for record in read_traces(written) if record.status == "ok")
        with Application.open(path) as application:
            application.chat(request("after"))
        assert [record.request_id for record in read_traces(written)][-1] == key_sha256("after"), (
            "it goes on in the same file"
        )
    assert len(told) >= 60
    assert set(told) <= set(found)
    assert set(found.values()) == {1}
    answered = vendors.answered("main") - before - (form == "jsonl")
    assert 0 <= answered - len(found) <= AT_ONCE


class Counted:
    """A model that knows how many calls of it are under way."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self._lock = threading.Lock()
        self.under_way = self.peak = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def answer(
        self, asked: ChatRequest, *, timeout_seconds: float, on_delta: Callable[[ChatDelta], None] | None = None
    ) -> ChatAnswer:
        with self._lock:
            self.under_way += 1
            self.peak = max(self.peak, self.under_way)
        try:
            return self._model.answer(asked, timeout_seconds=timeout_seconds, on_delta=on_delta)
        finally:
            with self._lock:
                self.under_way -= 1


@pytest.mark.parametrize("limit", [1, 3])
def test_a_models_concurrency_is_reached_and_never_passed(
    vendors: Vendors, tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exitramp.orchestration.building import Builder

    counted: list[Counted] = []
    build = Builder.model

    def model(self: Builder, spec: object) -> Counted:
        counted.append(Counted(build(self, spec)))  # type: ignore[arg-type]
        return counted[-1]

    monkeypatch.setattr(Builder, "model", model)
    document = vendors.document("main")
    document["models"]["main"]["concurrency"] = limit
    traces = tmp_path / "t.jsonl"
    path = write(tmp_path / "stack.yaml", document | {"trace": {"path": str(traces)}})
    vendors["main"].inject(Fault("slow_first_token", {"delay_seconds": 0.05}))
    with Application.open(path) as application, ThreadPoolExecutor(16) as pool:
        answers = [each.result() for each in [pool.submit(application.chat, request()) for _ in range(16)]]
    assert {answer.text for answer in answers} == {WHOLE}
    assert [each.peak for each in counted] == [limit]
    waited = sorted(record.queue_ms for record in read_traces(traces))
    assert waited[-1] >= 100, "the last ones waited, and their traces say so"


def test_a_request_that_gets_no_place_in_time_is_busy_and_the_next_model_answers(
    vendors: Vendors, tmp_path: Path
) -> None:
    document = vendors.document("main", deadlines={"attempt_seconds": 0.3, "request_seconds": 2})
    document["models"]["main"]["concurrency"] = 1
    path = write(tmp_path / "stack.yaml", document)
    vendors["main"].inject(Fault("slow_first_token", {"delay_seconds": 5}))
    with Application.open(path) as application, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(application.chat, request()) for _ in range(4)]
        errors = {type(each.exception()) for each in waiting}
        assert errors == {NotAnswered}
        vendors.heal()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                assert application.chat(request()).text == WHOLE
                break
            except NotAnswered:
                time.sleep(0.1)
        else:
            raise AssertionError("a place that was lost never came back")
