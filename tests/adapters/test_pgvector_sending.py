"""Rows that are sent while the next are made: what fails under way is told, is not lost, and keeps its order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exitramp.errors import StoreRejected, StoreUnavailable
from exitramp.faults import Fault
from exitramp.ports import Origin, Partition
from exitramp.registry import open_store
from exitramp.testing.rows import Row, batch_from_rows
from exitramp_adapters.services.postgres import Postgres
from exitramp_adapters.stores.pgvector import sending
from tests.adapters.pgvector_harness import PgvectorHarness, connected, served
from tests.adapters.test_pgvector_foreign import address
from tests.adapters.test_pgvector_sessions import SPEC, cutting, rows


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    path: Path = tmp_path_factory.mktemp("postgres")
    with served(path) as made:
        yield made


@pytest.fixture
def harness(service: Postgres, monkeypatch: pytest.MonkeyPatch) -> PgvectorHarness:
    service.inject(Fault("none"))
    fresh = PgvectorHarness(service)
    fresh.clear()
    monkeypatch.setattr(sending, "_AT_ONCE_BYTES", 1)  # each batch goes when the next one comes
    return fresh


def held(where: str) -> dict[str, object]:
    store = open_store(where)
    pages = list(store.source().scan(Partition(), batch_rows=1000))
    store.close()
    ids = [id_ for page in pages for id_ in page.batch.column("id").to_pylist()]
    payloads = [text for page in pages for text in page.batch.column("payload").to_pylist()]
    assert len(set(ids)) == len(ids)
    return dict(zip(ids, payloads, strict=True))


def changed(count: int, *, start: int) -> list[Row]:
    return [Row(row.id, payload={"n": -1}, vectors=row.vectors) for row in rows(count, start=start)]


def test_a_connection_cut_under_way_is_told_by_a_later_call_and_nothing_is_lost(
    harness: PgvectorHarness, service: Postgres
) -> None:
    where = address(harness, "docs")
    with cutting(service) as cutter:
        store = open_store(where.replace(f":{service.address.port}/", f":{cutter.port}/"))
        sink = store.sink()
        sink.create(SPEC, Origin(SPEC, "0"))
        batches = [batch_from_rows(rows(500, start=start), SPEC) for start in range(0, 2000, 500)]
        sink.upsert(batches[0])
        cutter.after["up"] = 50_000
        sink.upsert(batches[1])  # the first is on its way, and will not arrive
        with pytest.raises(StoreUnavailable) as caught:
            sink.upsert(batches[2])
        assert caught.value.retryable
        assert held(where) == {}
        cutter.after["up"] = 2**60
        for batch in (*batches[2:], batch_from_rows(changed(10, start=5), SPEC)):
            sink.upsert(batch)
        sink.flush()
        store.close()
    found = held(where)
    assert len(found) == 2000
    assert {id_ for id_, text in found.items() if text == '{"n":-1}'} == {str(number) for number in range(5, 15)}


def test_what_the_server_refuses_under_way_is_told_and_a_flush_does_not_pass_over_it(
    harness: PgvectorHarness,
) -> None:
    where = address(harness, "docs")
    store = open_store(where)
    sink = store.sink()
    sink.create(SPEC, Origin(SPEC, "0"))
    with connected(harness.service) as connection:
        hold_back = "BEGIN IF NEW.id = 7 THEN RETURN NULL; END IF; RETURN NEW; END"
        connection.execute(f"CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ {hold_back} $$")
        connection.execute("CREATE TRIGGER hold BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION hold()")
        sink.upsert(batch_from_rows(rows(10), SPEC))
        sink.upsert(batch_from_rows(rows(10, start=10), SPEC))
        for _ in range(2):
            with pytest.raises(StoreRejected, match=r"of \d0 records \d?9 landed"):
                sink.flush()
        connection.execute("DROP TRIGGER hold ON docs")
    assert held(where) == {}
    sink.flush()
    store.close()
    assert sorted(held(where), key=int) == [str(number) for number in range(20)]


def test_a_store_that_is_closed_with_rows_under_way_leaves_whole_batches(harness: PgvectorHarness) -> None:
    where = address(harness, "docs")
    store = open_store(where)
    sink = store.sink()
    sink.create(SPEC, Origin(SPEC, "0"))
    with connected(harness.service) as connection, connection.transaction():
        connection.execute("LOCK TABLE docs IN SHARE MODE")  # nobody writes until this ends
        sink.upsert(batch_from_rows(rows(500), SPEC))
        sink.upsert(batch_from_rows(rows(500, start=500), SPEC))
        sink.close()
        store.close()
        hung_up = "SELECT count(*), pg_sleep(0.02) FROM pg_stat_activity WHERE application_name = 'exitramp'"
        deadline = time.monotonic() + 60
        while connection.execute(hung_up).fetchone()[0] and time.monotonic() < deadline:  # type: ignore[index]
            pass
    assert len(held(where)) in (0, 500)
