"""What an outage writes down: the router's words as they come, and attempts that failed after a fault was healed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exitramp.clock import ManualClock
from exitramp.drill.catalogue import find_drill
from exitramp.drill.engine import run_drill
from exitramp.drill.event_log import EventLog
from exitramp.drill.heard import Heard
from exitramp.drill.log_reading import read_events, read_log
from exitramp.drill.measuring import measure_phase
from exitramp.orchestration.events import EventKind, RouterEvent
from tests.drill.small_stacks import drill_text, fill, write_drill

STEPS = """
  - start: {}
  - dump: {}
  - plan: {}
  - restore: {}
  - outage: {rate_per_second: 20, warm_up_seconds: 0.3, after_seconds: 0.5, heal_seconds: 3,
             phases: [{fault: refuse, on: store, seconds: 1}, {fault: hang, on: store, seconds: 1}]}
  - rollback: {sync: false, seconds: 1}
"""


def test_what_the_router_says_is_written_while_the_outage_lasts(tmp_path: Path) -> None:
    primary = fill(f"qdrant:{tmp_path}/primary#articles")
    file = write_drill(tmp_path, drill_text(primary, "qdrant:{folder}/substitute#articles", STEPS))
    run_drill(find_drill(str(file)), tmp_path / "run", seed=1)
    events = read_events(tmp_path / "run" / "journal.jsonl")
    [ended] = [e.seq for e in events if e.kind == "step.finished" and e.data["step"] == "outage"]
    heard = [e for e in events if e.kind == "router"]
    faults = [e for e in events if e.kind == "fault.injected"]
    assert [e.data["fault"] for e in faults] == ["refuse", "hang"]
    between = [e for e in heard if faults[0].seq < e.seq < faults[1].seq]
    assert {"first_failure", "breaker_opened", "breaker_closed"} <= {e.data["kind"] for e in between}
    late = [e.elapsed_seconds - e.data["elapsed_seconds"] for e in heard]
    assert min(late) >= 0
    assert max(late) < 3, "written when the outage had ended, long after they were said"
    moments = [e.data["elapsed_seconds"] for e in heard]
    assert moments == sorted(moments)
    assert [e.data["kind"] for e in heard if e.seq > ended], "the way back was not heard"


def test_what_was_written_of_an_outage_outlives_the_process_that_is_killed_in_it(tmp_path: Path) -> None:
    """The log of a run that is not ended holds what was heard before."""
    clock = ManualClock()
    log = EventLog.create(tmp_path / "journal.jsonl", clock)
    clock.advance(2.0)
    heard = Heard(log)
    heard.add(RouterEvent(EventKind.FIRST_FAILURE, "primary", datetime(2030, 1, 1, tzinfo=UTC), clock.monotonic()))
    clock.advance(0.25)
    heard.write()
    heard.write()
    [event] = read_log(tmp_path / "journal.jsonl").events
    assert (event.data["kind"], event.data["elapsed_seconds"], event.elapsed_seconds) == ("first_failure", 2.0, 2.25)


# ------------------------------------------------------------------------------ attempts that outlast their fault


@dataclass
class Attempt:
    began_seconds: float
    duration_seconds: float
    stack: str = "primary"
    error_class: str | None = "timeout"


@dataclass
class Request:
    began: float
    outcome: Any
    due: float = 0.0
    ended: float | None = None
    end: Any = None


@dataclass
class Outcome:
    attempts: list[Attempt]
    stack: str = "substitute"
    is_answered: bool = False
    finish_reason: str | None = None
    retrieved_ids: tuple[str, ...] = ()


@dataclass
class Report:
    requests: list[Request]


def test_an_attempt_that_ran_out_of_time_after_the_fault_is_counted_by_itself() -> None:
    """The fault lasts from 10 to 15 s; attempts take 0.6 s to run out of time."""
    began = [9.0, 9.9, 10.0, 12.0, 14.3, 14.41, 14.99, 15.2]
    requests = [Request(at, Outcome([Attempt(0.0, 0.6)])) for at in began]
    requests.append(Request(11.0, Outcome([Attempt(0.0, 0.1, error_class=None)])))
    requests.append(Request(11.0, Outcome([Attempt(0.0, 0.6, stack="substitute")])))
    phase = {"fault": "hang", "on": "chat", "seconds": 5.0}
    found = measure_phase(phase, "live", 10.0, 15.0, True, [], Report(requests), 0.0)  # type: ignore[arg-type]
    assert (found.failures, found.late_failures) == (4, 2)
    assert found.detect_seconds is not None
    assert round(found.detect_seconds, 6) == 0.5, "the attempt that was under way when the fault came"
