"""A page that comes after its deadline is neither lost nor doubled by the try that follows."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest

from exitramp.backoff import Backoff
from exitramp.errors import StoreTimeout
from exitramp.ports import Cursor, Page, Partition
from exitramp.testing.conformance.steps import keys_of, pages
from exitramp.testing.memory import LIMITS, MemorySink, MemorySource, MemoryStore
from exitramp.testing.rows import batch_from_rows
from exitramp.testing.within import rows_within, spec_within
from exitramp.wrappers import Deadline, Retrying, SourceAround, Stacked

LATE_PAGE = 3


class LateSource(MemorySource):
    """Its third page waits until it is let go; `came` says that it has arrived, after all."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.let_go, self.came = threading.Event(), threading.Event()
        self.scans = 0

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        self.scans += 1
        for number, page in enumerate(super().scan(partition, batch_rows=batch_rows, after=after), start=1):
            if self.scans == 1 and number == LATE_PAGE:
                assert self.let_go.wait(30)
                self.came.set()
            yield page


class Waiting:
    """A clock on which the late page arrives either while the next try is waited for, or not at all before it."""

    def __init__(self, source: LateSource, *, arrives: bool) -> None:
        self._source, self._arrives = source, arrives

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        if self._arrives:
            self._source.let_go.set()
            assert self._source.came.wait(30)


@pytest.fixture
def source(request: pytest.FixtureRequest) -> Iterator[LateSource]:
    store = MemoryStore(f"late-{request.node.name}", "c")
    spec = spec_within(LIMITS, "c")
    sink = MemorySink(store)
    sink.create(spec, None)  # type: ignore[arg-type]
    sink.upsert(batch_from_rows(rows_within(spec, LIMITS, 23, 1), spec))
    late = LateSource(store)
    yield late
    late.let_go.set()


@pytest.mark.parametrize("arrives", [True, False], ids=["before the next try", "after it"])
def test_a_late_page_is_asked_for_again_and_nothing_is_skipped(source: LateSource, arrives: bool) -> None:
    retrying = Retrying(Backoff(tries=2), Waiting(source, arrives=arrives), random.Random(0))  # type: ignore[arg-type]
    wrapped = SourceAround(source, Stacked(retrying, Deadline(0.3)))
    found = keys_of(pages(wrapped, Partition(), 4))
    assert found == keys_of(pages(MemorySource(source._store), Partition(), 4))
    assert (retrying.retries, source.scans) == (1, 2)


def test_without_another_try_a_late_page_ends_the_scan_in_an_error(source: LateSource) -> None:
    wrapped = SourceAround(source, Deadline(0.3))
    with pytest.raises(StoreTimeout):
        pages(wrapped, Partition(), 4)
