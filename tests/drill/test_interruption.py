"""A drill that is told to end takes its way back, writes its report, and leaves no process behind; killed, neither."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exitramp.drill import engine
from exitramp.drill.catalogue import STEPS
from exitramp.drill.engine import run_drill
from exitramp.drill.interruption import Interruption, SignalArrived, WayBackOverdue
from exitramp.drill.log_reading import read_events, read_log
from exitramp.drill.reading import parse_drill
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.steps.base import NoArguments, Step
from exitramp.records import Verdict
from tests.drill.small_stacks import FIELD, SPEC, drill_text, fill

# A shell may have started the tests with Ctrl-C ignored, which a child inherits.
MAIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from exitramp.cli.main import main; main()"
)


@pytest.fixture(autouse=True)
def _listening() -> Iterator[None]:
    """The same for the tests themselves."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


DRILL = """
version: 1
name: interrupted
title: A drill that is told to end
mode: stressed
objectives: {{rto_seconds: 5}}
data: {{corpus: pydocs, embedder: "wordllama:", golden: questions.jsonl, prompts: packaged}}
primary:
  store: {{{store}}}
  chat: {{service: mock-openai}}
substitute:
  store: {{service: qdrant-shim, collection: articles}}
  chat: {{service: mock-anthropic}}
orchestration: {{breaker_cooldown_seconds: 0.3}}
steps:
  - start: {{}}
{build}  - load_golden: {{}}
  - dump: {{}}
  - restore: {{}}
  - outage: {{rate_per_second: 10, warm_up_seconds: 0.2, phases: [{{fault: sigstop, on: {on}, seconds: 100}}]}}
  - measure_loss: {{}}
  - rollback: {{sync: true, seconds: {seconds}}}
"""
QUESTION = {
    "id": "q1", "use_case": "docs_qa", "question": "What is first?", "relevant": {},
    "assertion": {"kind": "contains_any", "phrases": ["the"]},
}  # fmt: skip


class Running:
    """A drill in a process of its own. Whatever a test does, nothing of it outlives the test.

    With `chroma` the primary store is a server that the drill starts, fills and stops by SIGSTOP; else it is one that
    is there already, which takes seconds less, and the chat vendor is stopped.
    """

    def __init__(self, folder: Path, *, chroma: bool, seconds: float) -> None:
        store, build, on = "service: chroma-run, collection: articles", "  - build_primary: {limit: 30}\n", "store"
        if not chroma:
            wide = replace(SPEC, vectors=(replace(FIELD, dimensions=256),))
            store = f'address: "{fill(f"qdrant:{folder}/primary#articles", rows=30, spec=wide)}"'
            build, on = "", "chat"
        file = folder / "drill.yaml"
        file.write_text(DRILL.format(store=store, build=build, on=on, seconds=seconds), encoding="utf-8")
        (folder / "questions.jsonl").write_text(json.dumps(QUESTION) + "\n", encoding="utf-8")
        self.folder = folder / "run"
        self.service_count = 4 if chroma else 3
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "drill", "run", str(file), "--out", str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
        )

    def wait_for(self, text: str, *, seconds: float = 60.0) -> None:
        """Until the journal holds `text`."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            journal = self.folder / "journal.jsonl"
            if journal.exists() and text in journal.read_text(encoding="utf-8"):
                return
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)
        raise AssertionError(f"no {text} within {seconds} s")

    def end(self, seconds: float = 45.0) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, err

    def services(self) -> list[str]:
        """The lines of `ps` about processes that name the run's folder, but for the drill itself."""
        listed = subprocess.run(["ps", "-ww", "-eo", "pid,stat,args"], capture_output=True, text=True, check=True)
        lines = [
            line for line in listed.stdout.splitlines() if str(self.folder) in line and " -c import signal" not in line
        ]
        return [line for line in lines if "<defunct>" not in line]

    def none_left(self, seconds: float = 5.0) -> bool:
        """Whether they are all gone within `seconds`: the kernel tells the children after it has told the parent."""
        ends = time.monotonic() + seconds
        while self.services() and time.monotonic() < ends:
            time.sleep(0.02)
        return not self.services()


@contextmanager
def running(folder: Path, *, chroma: bool = False, seconds: float = 1) -> Iterator[Running]:
    drill = Running(folder, chroma=chroma, seconds=seconds)
    try:
        yield drill
    finally:
        drill.process.kill()
        drill.process.communicate()
        for line in drill.services():
            os.kill(int(line.split()[0]), signal.SIGKILL)


@pytest.mark.parametrize(("number", "chroma", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)])
def test_a_signal_ends_a_drill_by_its_way_back(number: signal.Signals, chroma: bool, code: int, tmp_path: Path) -> None:
    with running(tmp_path, chroma=chroma) as drill:
        drill.wait_for("fault.injected")
        assert len(drill.services()) == drill.service_count
        drill.process.send_signal(number)
        ended, err = drill.end()
        assert ended == code, err
        assert "Traceback" not in err
        assert drill.none_left()
    events = read_events(drill.folder / "journal.jsonl")
    steps = {event.data["step"]: event for event in events if event.kind == "step.finished"}
    assert list(steps)[-1] == "rollback"
    assert "measure_loss" not in steps
    assert steps["rollback"].data["data"]["traffic"]["back_on_primary"] is True
    assert steps["rollback"].data["data"]["sync"] is not None
    [aborted] = [event for event in events if event.kind == "run.aborted"]
    assert number.name in aborted.data["reason"]
    assert aborted.seq < steps["rollback"].seq
    assert events[-1].kind == "log.finished"
    report = json.loads((drill.folder / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "inconclusive"
    assert number.name in report["verdict_reason"]
    assert (drill.folder / "report.html").exists()


def test_a_second_signal_ends_a_drill_at_once(tmp_path: Path) -> None:
    with running(tmp_path, seconds=100) as drill:
        drill.wait_for("fault.injected")
        drill.process.send_signal(signal.SIGINT)
        drill.wait_for("rollback.healed")
        drill.process.send_signal(signal.SIGTERM)
        code, err = drill.end(15.0)  # far below the 25 s that the way back may take; a busy machine needs some
        assert code == 143, err
        assert "ended at once" in err
        assert drill.none_left()
    assert not read_log(drill.folder / "journal.jsonl").finished
    assert not (drill.folder / "report.json").exists()


def test_a_drill_that_is_killed_leaves_no_service_and_a_run_that_says_unfinished(tmp_path: Path) -> None:
    with running(tmp_path) as drill:
        drill.wait_for("fault.injected")
        assert len(drill.services()) == drill.service_count
        assert any(line.split()[1].startswith("T") for line in drill.services()), "the vendor is to be stopped by now"
        drill.process.kill()
        drill.end()
        assert drill.none_left()
    assert not read_log(drill.folder / "journal.jsonl").finished
    done = subprocess.run(
        [sys.executable, "-m", "exitramp", "report", str(drill.folder), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] == "inconclusive"
    assert "did not end" in found["verdict_reason"]
    assert "run.unfinished" in {each["code"] for each in found["findings"]}


# ---------------------------------------------------------------- the same in this process, where time can be short


def _raise(run: DrillRun, arguments: NoArguments) -> StepOutcome:
    signal.raise_signal(signal.SIGTERM)
    raise AssertionError("a step went on after the signal")


def _wait(run: DrillRun, arguments: NoArguments) -> StepOutcome:
    threading.Event().wait(60)
    return StepOutcome({})


def _signal_and_finish(run: DrillRun, arguments: NoArguments) -> StepOutcome:
    signal.raise_signal(signal.SIGINT)
    return StepOutcome({"done": True})


def _swallow(run: DrillRun, arguments: NoArguments) -> StepOutcome:
    """As where a library runs a callback of ours and lets nothing out of it."""
    try:
        signal.raise_signal(signal.SIGTERM)
    except BaseException:  # noqa: BLE001
        return StepOutcome({})
    raise AssertionError("nothing was raised")


OURS = {
    "raise": Step("raise", "a signal in a step", _raise),
    "swallow": Step("swallow", "a signal that nobody hears of", _swallow),
    "wait": Step("wait", "a way back without end", _wait, always=True),
    "finish": Step("finish", "a signal in the way back", _signal_and_finish, always=True),
}


def _played(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch, *, way_back_seconds: float = 25.0) -> Any:
    steps = {**STEPS, **OURS}
    monkeypatch.setattr(engine, "STEPS", steps)
    primary = fill(f"memory:{folder.name}-i#articles")
    text = drill_text(primary, f"memory:{folder.name}-j#articles", "  - start: {}\n" + body, objectives="{}")
    spec = parse_drill(text, "small.yaml", folder=folder, steps={name: each.parse for name, each in steps.items()})
    with Interruption(way_back_seconds=way_back_seconds) as interruption:
        return run_drill(spec, folder / "run", interruption=interruption)


def _steps(folder: Path, kind: str) -> list[str]:
    return [event.data["step"] for event in read_events(folder / "run" / "journal.jsonl") if event.kind == kind]


def test_the_way_back_has_so_long_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = _played(tmp_path, "  - raise: {}\n  - wait: {}\n", monkeypatch, way_back_seconds=0.2)
    assert result.interrupted_by == "SIGTERM"
    [finding] = [each for each in result.findings if each.code == "drill.way_back"]
    assert "not done 0.2 s after SIGTERM" in finding.message
    assert read_log(tmp_path / "run" / "journal.jsonl").finished


def test_a_signal_during_the_way_back_lets_it_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = _played(tmp_path, "  - finish: {}\n  - dump: {}\n", monkeypatch)
    assert result.results["finish"] == {"done": True}
    assert "SIGINT" in (result.aborted or "")
    assert result.verdict is Verdict.INCONCLUSIVE
    assert _steps(tmp_path, "step.skipped") == ["dump"]


def test_a_signal_that_a_step_swallowed_still_ends_the_drill_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = _played(tmp_path, "  - swallow: {}\n  - dump: {}\n", monkeypatch)
    assert "told to end (SIGTERM)" in (result.aborted or "")
    assert _steps(tmp_path, "step.skipped") == ["dump"]


def test_handlers_are_those_of_before_afterwards_and_what_is_ignored_stays_ignored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            assert signal.getsignal(signal.SIGTERM) != before
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
            assert interruption.arrived is None
        assert signal.getsignal(signal.SIGTERM) == before
    finally:
        signal.signal(signal.SIGINT, ignored)


def test_a_signal_is_raised_after_what_must_be_done_whole_and_not_in_it() -> None:
    done = []
    with Interruption() as interruption:
        with pytest.raises(SignalArrived), interruption.interruptible():
            with interruption.held():
                signal.raise_signal(signal.SIGTERM)
                done.append("whole")
            done.append("never")
        signal_seen = interruption.arrived
        with interruption.interruptible():
            done.append("once is enough")
    assert done == ["whole", "once is enough"]
    assert signal_seen is signal.SIGTERM
    assert interruption.exit_code == 143


def test_time_that_runs_out_while_something_is_done_whole_shows_after_it() -> None:
    done = []
    with Interruption(way_back_seconds=0.05) as interruption:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(WayBackOverdue), interruption.way_back():
            with interruption.held():
                ends = time.monotonic() + 10
                while not interruption._overdue and time.monotonic() < ends:
                    time.sleep(0.001)
                done.append("whole")
            done.append("never")
    assert done == ["whole"]


HOLDING = """
import ctypes, signal, threading
signal.signal(2, signal.default_int_handler)
from exitramp.drill.interruption import Interruption
lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
with Interruption() as interruption, interruption.way_back():
    lock(mutex)
    threading.Timer(0.5, lambda: print("holds", flush=True)).start()
    lock(mutex)
"""


def test_a_second_signal_ends_a_process_whose_main_thread_does_not_come_back_to_the_interpreter() -> None:
    """Deep in a library no handler of Python's can run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20.0)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode in {130, 143}, err  # which of the two is told first is the kernel's choice
    assert "again: ended at once" in err
