"""A store that is closed, killed or stopped ends in an error of ours, in time; it never answers something short."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from exitramp.errors import ExitrampError, StoreTimeout, StoreUnavailable
from exitramp.ports import Partition, Query
from exitramp.testing.conformance.harness import Feature, StoreHarness, need
from exitramp.testing.conformance.paging import seed
from exitramp.testing.conformance.steps import NAME, limits_of, opened, origin_of
from exitramp.testing.rows import batch_from_rows
from exitramp.wrappers import Deadline, SearchAround, SinkAround, SourceAround

SLACK_SECONDS = 1.5  # a machine shared with others may wake a thread that late


class FailureConformance:
    def test_a_closed_store_refuses_and_closing_twice_does_nothing(self, harness: StoreHarness) -> None:
        _, rows = seed(harness)
        store = harness.open(NAME)
        source = store.source()
        assert source.count() == len(rows)
        source.close()
        source.close()
        store.close()
        store.close()
        with pytest.raises(ExitrampError):
            list(store.source().scan(Partition(), batch_rows=5))
        with opened(harness) as again:
            assert again.source().count() == len(rows), "closing one handle took the records from the next"

    def test_a_stopped_server_ends_in_an_error_within_the_deadline(self, harness: StoreHarness) -> None:
        """A client library may hang for good on a server that does not answer: the deadline ends the call."""
        need(harness, Feature.SERVER_STOP)
        spec, rows = seed(harness)
        query = Query(spec.vectors[0].name, dense=np.asarray(rows[0].vectors[spec.vectors[0].column]))
        with opened(harness) as store:
            source = SourceAround(store.source(), Deadline(harness.deadline_seconds))
            sink = SinkAround(store.sink(), Deadline(harness.deadline_seconds))
            sink.create(spec, origin_of(spec))
            calls: dict[str, Callable[[], object]] = {
                "count": source.count,
                "scan": lambda: list(source.scan(Partition(), batch_rows=5)),
                "upsert": lambda: sink.upsert(batch_from_rows(rows[:2], spec)),
            }
            if Feature.SEARCH not in harness.lacks:
                search = SearchAround(store.search(), Deadline(harness.deadline_seconds))
                calls["search"] = lambda: search.search(query, k=2)
            harness.stop()
            try:
                for name, call in calls.items():
                    _assert_fails_in_time(name, call, harness.deadline_seconds)
            finally:
                harness.resume()
        with opened(harness) as store:
            assert store.source().count() == len(rows), "the server came back with other records"

    def test_a_killed_server_ends_in_an_error_within_the_deadline(self, harness: StoreHarness) -> None:
        need(harness, Feature.SERVER_KILL)
        spec, rows = seed(harness)
        with opened(harness) as store:
            source = SourceAround(store.source(), Deadline(harness.deadline_seconds))
            sink = SinkAround(store.sink(), Deadline(harness.deadline_seconds))
            sink.create(spec, origin_of(spec))
            assert source.count() == len(rows)
            harness.kill()
            _assert_fails_in_time("count", source.count, harness.deadline_seconds)
            _assert_fails_in_time(
                "scan", lambda: list(source.scan(Partition(), batch_rows=5)), harness.deadline_seconds
            )
            _assert_fails_in_time(
                "upsert", lambda: sink.upsert(batch_from_rows(rows[:2], spec)), harness.deadline_seconds
            )
        _assert_fails_in_time("open and describe", lambda: _describe(harness), 10 * harness.deadline_seconds)
        harness.restart()
        if limits_of(harness).durable:
            with opened(harness) as store:
                assert store.source().count() == len(rows), "the server came back with other records"

    def test_a_server_killed_in_a_scan_never_looks_like_its_end(self, harness: StoreHarness) -> None:
        need(harness, Feature.SERVER_KILL)
        seed(harness)
        with opened(harness) as store:
            scan = SourceAround(store.source(), Deadline(harness.deadline_seconds)).scan(Partition(), batch_rows=2)
            assert not next(scan).last
            harness.kill()
            with pytest.raises((StoreUnavailable, StoreTimeout)):
                for page in scan:
                    assert not page.last, "the scan said it was complete although the server was killed in it"
        harness.restart()


def _describe(harness: StoreHarness) -> object:
    with opened(harness) as store:
        return SourceAround(store.source(), Deadline(harness.deadline_seconds)).describe()


def _assert_fails_in_time(name: str, call: Callable[[], object], deadline_seconds: float) -> None:
    began = time.monotonic()
    with pytest.raises((StoreUnavailable, StoreTimeout)):
        call()
        pytest.fail(f"{name} was answered although the server does not run")
    took = time.monotonic() - began
    assert took <= deadline_seconds + SLACK_SECONDS, f"{name} took {took:.1f} s of at most {deadline_seconds:g} s"
