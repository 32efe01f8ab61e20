"""DuckDB's pages fetched ahead: few, in order, whatever happens to the file; errors, deadlines, signals are heard."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from exitramp.arrow import record_keys
from exitramp.errors import StoreRejected, StoreTimeout
from exitramp.ports import Origin, Page, Partition, Store, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing.rows import Row, batch_from_rows
from exitramp.wrappers import Deadline, SourceAround
from exitramp_adapters.stores.duckdb.scan import Scan

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 8)
SPEC = CollectionSpec("articles", IdKind.STRING, (FIELD,))
IDS = [f"r{n:05d}" for n in range(300)]


@pytest.fixture
def where(tmp_path: Path) -> str:
    address = f"duckdb:{tmp_path}/x.duckdb#articles"
    matrix = np.random.default_rng(1).standard_normal((len(IDS), 8), dtype=np.float32)
    store = open_store(address)
    sink = store.sink()
    sink.create(SPEC, Origin(SPEC, "0"))
    rows = [Row(id_, None, None, {"n": n}, {"vector": matrix[n]}) for n, id_ in enumerate(IDS)]
    sink.upsert(batch_from_rows(rows, SPEC))
    sink.flush()
    sink.finish(TransferAccount())
    store.close()
    return address


@pytest.fixture
def store(where: str) -> Iterator[Store]:
    opened = open_store(where)
    yield opened
    opened.close()


def scanned(store: Store, batch_rows: int = 20) -> Iterator[Page]:
    return store.source().scan(Partition(), batch_rows=batch_rows)


def ids_of(page: Page) -> list[str]:
    return [key.id for key in record_keys(page.batch)]


def before_each_fetch(monkeypatch: pytest.MonkeyPatch, call: Callable[[int], None]) -> None:
    """Has every scan call with the number of the page, from 0, before it fetches that."""
    begin = Scan._begin

    def begun(scan: Scan) -> None:
        begin(scan)
        rows = scan._rows

        def counted() -> Iterator[Any]:
            for number, page in enumerate(rows):
                call(number)
                yield page

        scan._rows = counted()

    monkeypatch.setattr(Scan, "_begin", begun)


def fetchers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "exitramp-duckdb-ahead"]


def until(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    ends = time.monotonic() + seconds
    while not true() and time.monotonic() < ends:
        time.sleep(0.005)
    return true()


def test_what_came_before_an_error_of_the_fetching_thread_is_read_before_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def fail(number: int) -> None:
        if number == 7:
            threads.append(threading.current_thread().name)
            raise duckdb.OutOfMemoryException("of a test")

    before_each_fetch(monkeypatch, fail)
    found: list[str] = []
    with pytest.raises(StoreRejected, match="DuckDB has more to hold at once"):
        for page in scanned(store):
            found += ids_of(page)
    assert threads == ["exitramp-duckdb-ahead"]
    assert found == IDS[:120], "all but the page that is read before another is told to be the last"


@pytest.mark.parametrize("seed", range(12))
def test_a_scan_that_is_let_go_of_at_any_moment_yields_every_record_once(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    scan, found = scanned(store, chance.choice([1, 7, 20, 100])), []
    for page in scan:
        found += ids_of(page)
        if chance.random() < 0.3:
            file = store.file  # type: ignore[attr-defined]
            with file.lock:
                for reader in list(file.readers):
                    reader.let_go()
    assert found == IDS


def test_no_more_is_fetched_than_a_few_pages_ahead(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[int] = []
    before_each_fetch(monkeypatch, fetched.append)
    scan = scanned(store, batch_rows=5)
    next(scan)
    assert until(lambda: len(fetched) >= 6)
    assert not until(lambda: len(fetched) > 2 + 2 * 4, 0.2), "two pages are read, and twice four are held or fetched"
    scan.close()  # type: ignore[attr-defined]


def test_a_reader_that_stops_early_leaves_no_thread_and_no_open_result(where: str) -> None:
    store = open_store(where)
    scan = scanned(store)
    next(scan)
    assert fetchers()
    scan.close()  # type: ignore[attr-defined]
    assert until(lambda: not fetchers())
    assert not store.file.readers  # type: ignore[attr-defined]
    scan = scanned(store)
    next(scan)
    del scan
    assert until(lambda: not fetchers())
    assert [id_ for page in scanned(store) for id_ in ids_of(page)] == IDS
    assert until(lambda: not fetchers()), "nor does one that was read to its end"
    store.close()


def test_a_fetch_that_never_comes_back_is_told_by_the_deadline(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    before_each_fetch(monkeypatch, lambda number: None if number < 4 else free.wait(60) and None)
    scan = SourceAround(store.source(), Deadline(0.5)).scan(Partition(), batch_rows=20)
    try:
        with pytest.raises(StoreTimeout):
            list(scan)
    finally:
        free.set()


def test_an_interruption_is_heard_while_a_page_is_fetched(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, in_time = threading.Event(), []

    def interrupted(*_: object) -> None:
        heard.set()
        raise KeyboardInterrupt

    def fetch(number: int) -> None:
        if number == 4:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            in_time.append(heard.wait(20))

    before_each_fetch(monkeypatch, fetch)
    before = signal.signal(signal.SIGINT, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(scanned(store))
    finally:
        signal.signal(signal.SIGINT, before)
    assert in_time == [True]


def test_a_process_ends_with_a_scan_that_is_still_open(where: str) -> None:
    source = (
        "import sys\n"
        "from exitramp.ports import Partition\n"
        "from exitramp.registry import open_store\n"
        "store = open_store(sys.argv[1])\n"
        "scan = store.source().scan(Partition(), batch_rows=20)\n"
        "print(next(scan).batch.num_rows)\n"
    )
    ended = subprocess.run([sys.executable, "-c", source, where], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "20\n", "")
