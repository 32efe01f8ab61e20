"""The breaker, the deadline and the bounded calls by themselves."""

from __future__ import annotations

import threading

import pytest

from exitramp.clock import ManualClock
from exitramp.orchestration import (
    BreakerChange,
    BreakerSettings,
    BreakerState,
    CallOverdue,
    CircuitBreaker,
    Deadline,
    Permit,
    ThreadCalls,
)

SETTINGS = BreakerSettings(failures=3, sample=5, window_seconds=10.0, cool_down_seconds=5.0, probe_successes=2)


class Bench:
    def __init__(self, settings: BreakerSettings = SETTINGS) -> None:
        self.clock = ManualClock()
        self.changes: list[BreakerChange] = []
        self.breaker = CircuitBreaker("it", settings, self.clock, self.changes.append)

    def permit(self) -> Permit:
        permit = self.breaker.admit()
        assert permit is not None
        return permit

    def calls(self, results: str) -> None:
        """`+` for a success, `-` for a failure."""
        for result in results:
            permit = self.permit()
            if result == "+":
                self.breaker.succeeded(permit)
            else:
                self.breaker.failed(permit, reason="overloaded")


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ("--", "closed"),
        ("---", "open"),
        ("+-+-+", "closed"),
        ("+-+--", "open"),
        ("--+++-", "closed"),  # the first two are out of the sample by then
        ("-+-+-", "open"),
    ],
)
def test_it_opens_on_failures_among_the_last_calls(results: str, state: str) -> None:
    bench = Bench()
    bench.calls(results)
    assert bench.breaker.state == state


def test_its_changes_say_why_and_when() -> None:
    bench = Bench()
    bench.calls("---")
    bench.clock.advance(5.0)
    bench.calls("++")
    assert [(change.before.value, change.after.value, change.monotonic) for change in bench.changes] == [
        ("closed", "open", 0.0),
        ("open", "half_open", 5.0),
        ("half_open", "closed", 5.0),
    ]
    assert bench.changes[0].reason == "3 of the last 3 calls failed: overloaded"


def test_one_failed_probe_opens_it_for_another_cool_down() -> None:
    bench = Bench()
    bench.calls("---")
    bench.clock.advance(5.0)
    bench.calls("+-")
    assert bench.breaker.state is BreakerState.OPEN
    bench.clock.advance(4.9)
    assert bench.breaker.admit() is None
    bench.clock.advance(0.2)
    assert bench.permit().is_probe


def test_a_permit_that_was_not_used_makes_room_for_the_next_probe() -> None:
    bench = Bench()
    bench.calls("---")
    bench.clock.advance(5.0)
    probe = bench.permit()
    assert bench.breaker.admit() is None
    bench.breaker.unused(probe)
    assert bench.permit().is_probe


def test_what_comes_back_after_a_change_counts_no_more() -> None:
    bench = Bench()
    late = [bench.permit() for _ in range(8)]
    bench.calls("---")
    for permit in late[:4]:
        assert not bench.breaker.counts(permit)
        bench.breaker.succeeded(permit)
    assert bench.breaker.state is BreakerState.OPEN
    bench.clock.advance(5.0)
    bench.calls("++")
    for permit in late[4:]:
        bench.breaker.failed(permit, reason="timeout")
    assert bench.breaker.state is BreakerState.CLOSED


def test_held_while_probing_it_neither_closes_nor_probes() -> None:
    bench = Bench()
    bench.calls("---")
    bench.clock.advance(5.0)
    first = bench.permit()
    bench.breaker.hold()
    bench.breaker.succeeded(first)
    assert bench.breaker.admit() is None
    bench.breaker.release()
    bench.calls("+")
    assert bench.breaker.state is BreakerState.CLOSED


def test_a_retry_after_is_obeyed_up_to_a_limit() -> None:
    bench = Bench(BreakerSettings(failures=1, longest_cool_down_seconds=60.0))
    bench.breaker.failed(bench.permit(), reason="rate_limit", retry_after_seconds=86_400)
    bench.clock.advance(59.0)
    assert bench.breaker.admit() is None
    bench.clock.advance(2.0)
    assert bench.permit().is_probe


def test_many_threads_get_one_probe_between_them() -> None:
    bench = Bench()
    bench.calls("---")
    bench.clock.advance(5.0)
    barrier = threading.Barrier(16)
    permits: list[Permit | None] = []

    def admit() -> None:
        barrier.wait()
        permits.append(bench.breaker.admit())

    threads = [threading.Thread(target=admit) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert sum(permit is not None for permit in permits) == 1


def test_a_deadline_is_shared_among_those_still_to_be_asked() -> None:
    clock = ManualClock()
    deadline = Deadline(6.0, clock)
    assert deadline.share_seconds(10.0, parties=2) == 3.0
    assert deadline.share_seconds(1.0, parties=2) == 1.0
    clock.advance(5.0)
    assert deadline.share_seconds(10.0, parties=1) == 1.0
    clock.advance(5.0)
    assert (deadline.remaining_seconds, deadline.is_over) == (0.0, True)


def test_a_bounded_call_returns_raises_or_is_left_behind() -> None:
    calls = ThreadCalls(left_behind_limit=2)
    never = threading.Event()
    assert calls(lambda: 7, timeout_seconds=5.0) == 7
    with pytest.raises(KeyError):
        calls(lambda: {}["missing"], timeout_seconds=5.0)
    for _ in range(2):
        with pytest.raises(CallOverdue, match="not back within"):
            calls(never.wait, timeout_seconds=0.01)
    assert calls.left_behind == 2
    with pytest.raises(CallOverdue, match="2 calls before it"):
        calls(lambda: 7, timeout_seconds=5.0)
    never.set()
    for thread in threading.enumerate():
        if thread.name == "call":
            thread.join(5)
    assert calls.left_behind == 0
    assert calls(lambda: 7, timeout_seconds=5.0) == 7
