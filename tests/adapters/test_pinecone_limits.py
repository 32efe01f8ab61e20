"""What reading from Pinecone costs, and that it ends before it costs more than was allowed: wire mocked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.arrow import record_keys
from exitramp.cli.main import run
from exitramp.errors import SpendExceeded, StoreUnavailable, UsageError
from exitramp.faults import Fault
from exitramp.ports import Cursor, Partition, Query
from exitramp.ports.estimating import Estimates, TellsSpending
from exitramp.records import RecordKey
from tests.adapters.pinecone_mock import Mocked, keys_in, running

IDS = [f"doc-{number:04d}" for number in range(450)]
SPACES = {"": IDS[:250], "b": IDS[:130], "c": IDS[:70]}


@pytest.fixture
def mocked(tmp_path: Path) -> Iterator[Mocked]:
    with running(tmp_path, rates=False) as found:
        yield found


def read_until_stopped(
    mocked: Mocked, after: Cursor | None, **options: Any
) -> tuple[list[RecordKey], Cursor | None, str, int]:
    """What one run reads, where it stands behind that, why it ended ("" at the end of the index), and its units."""
    keys: list[RecordKey] = []
    said = ""
    with mocked.opened("docs", **options) as store:
        source = store.source()
        assert isinstance(source, TellsSpending)
        try:
            for page in source.scan(Partition(), batch_rows=100, after=after):
                keys += record_keys(page.batch)
                after = page.cursor
        except SpendExceeded as error:
            said = str(error)
        return keys, after, said, source.spent().read_units


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_read_units": 20}, "max_read_units=20"),
        ({"max_read_units": 7}, "max_read_units=7"),
        ({"max_read_units": 45}, "max_read_units=45"),
        ({"limit": 170}, "limit=170"),
        ({"max_usd": 0.0003}, "max_usd=0.0003"),
        ({"max_usd": 0.1, "usd_per_million_read_units": 5000}, "max_usd=0.1"),
    ],
)
def test_a_limit_ends_the_reading_before_it_is_exceeded_and_the_next_run_goes_on(
    mocked: Mocked, options: dict[str, Any], named: str
) -> None:
    begun = mocked.fill("docs", SPACES)
    units = options.get(
        "max_read_units", int(1e6 * options.get("max_usd", 1) / options.get("usd_per_million_read_units", 16))
    )
    everything: list[RecordKey] = []
    after: Cursor | None = None
    for turn in range(1, 80):
        keys, after, said, spent = read_until_stopped(mocked, after, **options)
        assert spent <= units, "more was spent than was allowed"
        # A list that was under way when a run ended may be counted in the next.
        counted = mocked.service.counters()
        assert counted["read_units"] - begun["read_units"] <= turn * units, "the mock counted more than was allowed"
        assert len(keys) <= options.get("limit", 450)
        everything += keys
        if not said:
            break
        assert keys, "a run was paid for and read nothing"
        assert named in said, "it does not say which limit ended it"
        assert re.search(r"after [\d,]+ records for [\d,]+ read units", said), "it does not say how far it got"
        assert "run the same command again" in said, "it does not say how to go on"
    assert len(everything) == len(set(everything)) == 450, "records were lost or read twice over the limits"


def test_a_reading_that_may_take_no_time_takes_none(mocked: Mocked) -> None:
    mocked.fill("docs", SPACES)
    keys, _, said, _ = read_until_stopped(mocked, None, max_minutes=0.000001)
    assert "max_minutes" in said
    assert len(keys) <= 100


def test_a_collection_as_large_as_the_limit_is_read_without_an_error(mocked: Mocked) -> None:
    mocked.fill("docs", SPACES)
    keys, _, said, _ = read_until_stopped(mocked, None, limit=450)
    assert (len(keys), said) == (450, "")


def test_whoever_looks_at_one_page_pays_for_one(mocked: Mocked) -> None:
    before = mocked.fill("docs", {"": IDS})
    with mocked.opened("docs") as store:
        scan = store.source().scan(Partition(), batch_rows=10)
        assert next(scan).batch.num_rows == 10
        scan.close()  # type: ignore[attr-defined]
    spent = mocked.service.counters()
    assert spent["fetch"] - before["fetch"] == 1, "records were fetched that nobody asked for"


def test_units_are_summed_from_the_answers(mocked: Mocked) -> None:
    before = mocked.fill("docs", SPACES)
    with mocked.opened("docs") as store:
        source = store.source()
        assert len(keys_in(store)) == 450
        assert isinstance(source, TellsSpending)
        told = source.spent()
    counted = mocked.service.counters()
    assert told.read_units == counted["read_units"] - before["read_units"]
    assert told.requests == sum(counted[kind] - before[kind] for kind in ("list", "fetch"))
    assert told.rows == 450


def test_a_dump_reads_an_index_once_and_a_copy_says_that_it_reads_it_twice(
    mocked: Mocked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = mocked.fill("docs", SPACES)
    source = str(mocked.address("docs"))
    assert run(["dump", source, str(tmp_path / "dump")]) == 0
    dumped = mocked.service.counters()
    assert "twice" not in capsys.readouterr().err
    assert run(["copy", source, f"memory:{tmp_path.name}#docs"]) == 0
    copied = mocked.service.counters()
    assert "reads it twice" in capsys.readouterr().err
    assert copied["fetch"] - dumped["fetch"] == 2 * (dumped["fetch"] - begun["fetch"])


@pytest.mark.parametrize("wrong", ["limit=0", "max_usd=-1", "max_minutes=soon", "max_read_units=nan"])
def test_a_limit_that_is_none_is_refused(mocked: Mocked, wrong: str) -> None:
    name, _, value = wrong.partition("=")
    with pytest.raises(UsageError, match=name), mocked.opened("docs", **{name: value}):
        pass


def test_forty_million_records_are_reckoned_without_reading_one(tmp_path: Path) -> None:
    with running(tmp_path, stats={"__default__": 30_000_000, "b": 10_000_000}) as mocked:
        dense = {"_values": {"type": "dense_vector", "dimension": 1536, "metric": "cosine"}}
        before = mocked.fill("large", {}, schema=dense)
        with mocked.opened("large") as store:
            source = store.source()
            assert isinstance(source, Estimates)
            assert source.count() == 40_000_000
            told = source.estimate()
        counted = mocked.service.counters()
    assert [counted[kind] - before[kind] for kind in ("list", "fetch", "query", "read_units")] == [0, 0, 0, 0]
    assert told.rows == 40_000_000
    assert told.requests == 800_000
    assert told.read_units == 4_400_000
    assert told.usd == pytest.approx(70.4)
    assert told.price is not None
    assert told.price.captured == "2026-11-04"
    assert 1.0 < told.seconds / 3600 < 2.5
    assert told.assumptions["seconds_one_request_after_another"] / 3600 == pytest.approx(13.3, abs=0.1)
    assert 700 < told.bytes / 1e9 < 800
    assert told.findings[0].code == "pinecone.export"
    assert "pinecone.bandwidth" in {finding.code for finding in told.findings}, "the line is what it hangs on, unsaid"
    assert {line.what: line.read_units for line in told.lines} == {"list": 400_000, "fetch": 4_000_000}
    assert told.to_json()["price"]["usd_per_million_units"] == 16.0


def test_reading_keeps_below_the_requests_a_second_that_the_index_lets_through(tmp_path: Path) -> None:
    with running(tmp_path) as mocked:
        mocked.fill("docs", {"": [f"doc-{number:05d}" for number in range(13_000)]})
        with mocked.opened("docs") as store:
            assert len(keys_in(store)) == 13_000
        assert mocked.service.counters()["limited"] == 0


def test_searches_keep_below_what_the_index_lets_through(tmp_path: Path) -> None:
    with running(tmp_path) as mocked:
        mocked.fill("docs", {"": IDS[:50]})
        with mocked.opened("docs") as store:
            for _ in range(150):
                assert len(store.search().search(Query(dense=np.array([1, 0], np.float32)), k=3).keys) == 3
        assert mocked.service.counters()["limited"] == 0


def test_too_many_requests_are_said_with_the_wait_that_is_asked_for_and_not_tried_again_here(tmp_path: Path) -> None:
    with running(tmp_path) as mocked:
        mocked.fill("docs", {"": IDS[:5]})
        with mocked.opened("docs") as store:
            source = store.source()
            source.count()
            before = mocked.service.counters()["limited"]
            mocked.service.inject(Fault("rate_limit", {"retry_after_seconds": 7, "calls": 1}))
            with pytest.raises(StoreUnavailable, match="7 s") as caught:
                source.fetch([RecordKey("doc-0001")])
            assert caught.value.retryable
            assert caught.value.retry_after_seconds == 7  # type: ignore[attr-defined]
            assert mocked.service.counters()["limited"] == before + 1, "the client tried again by itself"
            assert source.fetch([RecordKey("doc-0001")]).num_rows == 1


def test_the_mock_lets_no_more_fetches_through_than_documented(tmp_path: Path) -> None:
    with running(tmp_path) as mocked:
        mocked.fill("docs", {"": [f"doc-{number:05d}" for number in range(30_000)]})
        with mocked.opened("docs", fetches_per_second=0, in_flight=12) as store, pytest.raises(StoreUnavailable):
            keys_in(store)
        assert mocked.service.counters()["limited"] > 0


def test_an_empty_index_is_reckoned_at_nothing(mocked: Mocked) -> None:
    mocked.fill("docs", {})
    with mocked.opened("docs") as store:
        source = store.source()
        assert isinstance(source, Estimates)
        told = source.estimate()
    assert (told.rows, told.requests, told.read_units, told.usd) == (0, 0, 0, 0.0)


def test_a_query_that_failed_once_it_was_sent_is_counted_as_one_that_may_be_billed(mocked: Mocked) -> None:
    """The second of three units: a 500 does not tell whether the query ran, and what is left pays for one."""
    mocked.fill("docs", {"a": ["a", "b"]})
    query = Query(dense=np.array([1.0, 0.5], np.float32))
    with mocked.opened("docs", max_read_units=3) as store:
        search = store.search()
        search.search(query, k=1)
        mocked.service.inject(Fault("error_500"))
        with pytest.raises(StoreUnavailable):
            search.search(query, k=1)
        mocked.service.inject(Fault("none"))
        search.search(query, k=1)
        with pytest.raises(SpendExceeded, match=r"for 2 read units.*and perhaps 1 more for requests that failed"):
            search.search(query, k=1)


def test_a_query_that_was_never_sent_costs_nothing(mocked: Mocked) -> None:
    mocked.fill("docs", {"a": ["a", "b"]})
    query = Query(dense=np.array([1.0, 0.5], np.float32))
    with mocked.opened("docs", max_read_units=2) as store:
        search = store.search()
        search.search(query, k=1)
        mocked.service.inject(Fault("sigkill"))
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                search.search(query, k=1)
        mocked.service.inject(Fault("restart"))
        search.search(query, k=1)
