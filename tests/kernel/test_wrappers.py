"""Policies do what they say, on a clock that is turned by hand."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress

import pytest

from exitramp.backoff import Backoff, parse_retry_after
from exitramp.clock import ManualClock
from exitramp.errors import CollectionMissing, StoreRejected, StoreTimeout, StoreUnavailable
from exitramp.faults import Fault, FaultSchedule, ScheduledFault
from exitramp.wrappers import Deadline, Faulty, Meter, Metered, RateLimited, Retrying, open_endpoint


def test_a_retryable_failure_is_tried_again_with_growing_waits_and_a_final_one_is_not() -> None:
    clock = ManualClock()
    retrying = Retrying(Backoff(tries=4, base_seconds=1.0), clock, random.Random(1))
    calls = 0

    def flaky() -> str:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise StoreUnavailable("not yet")
        return "done"

    assert retrying.run("scan", flaky) == "done"
    assert (calls, retrying.retries) == (4, 3)
    assert all(0 <= waited <= 2.0**index for index, waited in enumerate(clock.slept_seconds))
    with pytest.raises(StoreRejected):
        retrying.run("scan", lambda: (_ for _ in ()).throw(StoreRejected("no")))
    assert retrying.retries == 3


def test_a_call_that_never_comes_back_is_ended_by_our_deadline() -> None:
    release = threading.Event()
    deadline = Deadline(0.05, what="the stopped store")
    with pytest.raises(StoreTimeout, match="the stopped store did not answer 'count'"):
        deadline.run("count", release.wait)
    assert deadline.run("count", lambda: 7) == 7, "the next call gets a thread that is not stuck"
    release.set()


def test_calls_are_spaced_by_the_rate() -> None:
    clock = ManualClock()
    limited = RateLimited(4.0, clock)
    for _ in range(5):
        limited.run("count", lambda: None)
    assert clock.monotonic() == pytest.approx(1.0)


def test_every_try_is_counted_also_those_that_fail() -> None:
    meter = Meter()
    metered = Metered(meter, ManualClock())
    metered.run("scan", lambda: 1)
    with pytest.raises(ZeroDivisionError):
        metered.run("scan", lambda: 1 // 0)
    assert (meter.calls, meter.failures) == ({"scan": 2}, {"scan": 1})


def test_faults_come_on_schedule() -> None:
    schedule = FaultSchedule(
        [ScheduledFault(Fault("unavailable"), calls=frozenset({2})), ScheduledFault(Fault("hang"), from_seconds=10)]
    )
    clock = ManualClock()
    faulty = Faulty(schedule, clock)
    assert faulty.run("scan", lambda: 1) == 1
    with pytest.raises(StoreUnavailable):
        faulty.run("scan", lambda: 1)
    assert faulty.run("scan", lambda: 1) == 1
    clock.advance(10)
    with pytest.raises(StoreTimeout):
        faulty.run("scan", lambda: 1)


def test_a_store_that_asks_for_time_is_given_it() -> None:
    clock = ManualClock()
    failures = [StoreUnavailable("slow down", retry_after_seconds=7.5), StoreUnavailable("away")]

    def call() -> str:
        if failures:
            raise failures.pop(0)
        return "done"

    assert Retrying(Backoff(tries=3), clock, random.Random(1)).run("scan", call) == "done"
    assert clock.slept_seconds[0] >= 7.5
    assert clock.slept_seconds[1] < 7.5


@pytest.mark.parametrize(
    ("value", "milliseconds", "seconds"),
    [("3", None, 3.0), (None, "250", 0.25), ("9", "1500", 1.5), ("nonsense", None, None), (None, None, None)],
)
def test_retry_after_is_read_in_each_of_its_forms(
    value: str | None, milliseconds: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(value, milliseconds=milliseconds) == seconds


def test_an_endpoint_that_is_closed_leaves_no_thread_waiting() -> None:
    def waiting() -> int:
        return sum(thread.name == "exitramp-store-call" for thread in threading.enumerate())

    before = waiting()
    for _ in range(5):
        with open_endpoint("memory:threads#a") as endpoint, suppress(CollectionMissing):
            endpoint.source().count()
    deadline = time.monotonic() + 10
    while waiting() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert waiting() <= before


def test_a_call_that_comes_back_after_its_deadline_lets_its_thread_end() -> None:
    release = threading.Event()
    deadline = Deadline(0.05, what="it")
    with pytest.raises(StoreTimeout):
        deadline.run("count", release.wait)
    names = [thread for thread in threading.enumerate() if thread.name == "exitramp-store-call"]
    release.set()
    for thread in names[-1:]:
        thread.join(10)
        assert not thread.is_alive()
