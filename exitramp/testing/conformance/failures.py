"""A store that is closed, killed or stopped ends in an error of ours, in time; it never answers something short."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from exitramp.errors import ExitrampError, StoreTimeout, StoreUnavailable
from exitramp.ports import Partition, Query, Store, TransferAccount, VectorSink
from exitramp.records import CollectionSpec
from exitramp.testing.conformance.harness import Feature, StoreHarness, need
from exitramp.testing.conformance.paging import seed
from exitramp.testing.conformance.steps import limits_of, opened, origin_of
from exitramp.testing.rows import Row, batch_from_rows
from exitramp.testing.within import rows_within
from exitramp.wrappers import Deadline, SourceAround

STOPPED_SECONDS = 0.7  # no answer comes however long one waits
SLACK_SECONDS = 1.5  # a machine shared with others may wake a thread that late


class FailureConformance:
    def test_a_closed_store_refuses_and_closing_twice_does_nothing(self, harness: StoreHarness) -> None:
        spec, rows = seed(harness)
        store = harness.open(spec.name)
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
        with opened(harness) as store:
            calls = _Calls(harness, store, spec, rows, deadline_seconds=STOPPED_SECONDS)
            harness.stop()
            try:
                calls.assert_fail_in_time()
            finally:
                harness.resume()
        with opened(harness) as store:
            assert store.source().count() == len(rows), "the server came back with other records"

    def test_a_killed_server_ends_in_an_error_within_the_deadline(self, harness: StoreHarness) -> None:
        need(harness, Feature.SERVER_KILL)
        spec, rows = seed(harness)
        with opened(harness) as store:
            calls = _Calls(harness, store, spec, rows, deadline_seconds=harness.deadline_seconds)
            harness.kill()
            calls.assert_fail_in_time()
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


class _Calls:
    """Every call of the ports on a store that was working when they were prepared, each under a deadline.

    None that tells of records, or says that some were written, may be answered once the server is gone; the others
    may, if they need no server. None may hang.
    """

    def __init__(
        self, harness: StoreHarness, store: Store, spec: CollectionSpec, rows: Sequence[Row], *, deadline_seconds: float
    ) -> None:
        self._deadline_seconds = deadline_seconds
        source, sink = store.source(), store.sink()
        sink.create(spec, origin_of(spec))
        scan = iter(source.scan(Partition(), batch_rows=5))
        assert not next(scan).last
        assert source.count() == len(rows)
        absent = rows_within(spec, sink.limits(), len(rows) + 1, seed=21)[-1].key
        self.must_fail: dict[str, Callable[[], object]] = {
            "count": source.count,
            "scan": lambda: list(source.scan(Partition(), batch_rows=5)),
            "the next page": lambda: next(scan),
            "fetch": lambda: source.fetch([rows[0].key]),
            "upsert and flush": lambda: _flushed(sink, lambda: sink.upsert(batch_from_rows(rows[:2], spec))),
            "delete and flush": lambda: _flushed(sink, lambda: sink.delete([absent])),
        }
        self.may_answer: dict[str, Callable[[], object]] = {
            "identity": source.identity,
            "describe": source.describe,
            "origin": source.origin,
            "finish": lambda: sink.finish(TransferAccount()),
        }
        if Feature.SEARCH not in harness.lacks:
            search = store.search()
            query = Query(spec.vectors[0].name, dense=np.asarray(rows[0].vectors[spec.vectors[0].column]))
            self.must_fail["search"] = lambda: search.search(query, k=2)
            self.may_answer["index_state"] = search.index_state

    def assert_fail_in_time(self) -> None:
        for name, call in self.must_fail.items():
            _assert_fails_in_time(name, self._ended(call), self._deadline_seconds)
        for name, call in self.may_answer.items():
            _assert_fails_in_time(name, self._ended(call), self._deadline_seconds, may_answer=True)

    def _ended(self, call: Callable[[], object]) -> Callable[[], object]:
        return lambda: Deadline(self._deadline_seconds).run("call", call)


def _flushed(sink: VectorSink, write: Callable[[], None]) -> None:
    """A sink may keep what is written to itself, but not beyond a flush."""
    write()
    sink.flush()


def _describe(harness: StoreHarness) -> object:
    with opened(harness) as store:
        return Deadline(harness.deadline_seconds).run("describe", store.source().describe)


def _assert_fails_in_time(
    name: str, call: Callable[[], object], deadline_seconds: float, *, may_answer: bool = False
) -> None:
    began = time.monotonic()
    try:
        call()
        assert may_answer, f"{name} was answered although the server does not run"
    except (StoreUnavailable, StoreTimeout):
        pass
    took = time.monotonic() - began
    assert took <= deadline_seconds + SLACK_SECONDS, f"{name} took {took:.1f} s of at most {deadline_seconds:g} s"
