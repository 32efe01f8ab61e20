"""Sessions: that reading cannot write, whose rights count, and what a server, or a connection to it, may do to us."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psycopg
import pytest

from exitramp.errors import (
    AddressError,
    DataInvalid,
    ExitrampError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
    UsageError,
)
from exitramp.faults import Fault
from exitramp.ports import Origin, Partition
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store, service_adapter
from exitramp.testing.rows import Row, batch_from_rows
from exitramp.urls import Address, Network
from exitramp_adapters.services.postgres import Postgres
from exitramp_adapters.stores.pgvector.session import Server
from tests.adapters.pgvector_harness import PgvectorHarness, connected, served
from tests.adapters.test_pgvector_foreign import address, make

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 64)
SPEC = CollectionSpec("docs", IdKind.INT64, (FIELD,))
ROWS = 2000


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with served(tmp_path_factory.mktemp("postgres")) as made:
        yield made


@pytest.fixture
def harness(service: Postgres) -> PgvectorHarness:
    service.inject(Fault("none"))
    fresh = PgvectorHarness(service)
    fresh.clear()
    return fresh


def rows(count: int, *, start: int = 0) -> list[Row]:
    rng = np.random.default_rng(start)
    return [
        Row(str(start + number), payload={"n": start + number}, vectors={"vector": row})
        for number, row in enumerate(rng.standard_normal((count, 64), dtype=np.float32))
    ]


def fill(where: str, count: int) -> None:
    store = open_store(where)
    sink = store.sink()
    sink.create(SPEC, Origin(SPEC, "0"))
    for start in range(0, count, 500):
        sink.upsert(batch_from_rows(rows(min(500, count - start), start=start), SPEC))
    sink.flush()
    store.close()


def ids_of(where: str) -> list[str]:
    store = open_store(where)
    pages = list(store.source().scan(Partition(), batch_rows=500))
    store.close()
    assert pages[-1].last
    return [id_ for page in pages for id_ in page.batch.column("id").to_pylist()]


def as_user(where: str, user: str, **options: str) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return where.replace("//postgres@", f"//{user}@").replace("#", f"?{query}#" if query else "#")


def role(harness: PgvectorHarness, name: str, *grants: str, password: str = "") -> None:
    make(
        harness,
        f"DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN DROP OWNED BY {name}; "
        f"DROP ROLE {name}; END IF; END $$",
        f"CREATE ROLE {name} LOGIN" + (f" PASSWORD '{password}'" if password else ""),
        f"GRANT USAGE ON SCHEMA public TO {name}",
        *(f"GRANT {grant} TO {name}" for grant in grants),
    )


def test_a_role_that_may_only_select_reads_everything_and_cannot_write(harness: PgvectorHarness) -> None:
    where = address(harness, "docs")
    fill(where, 30)
    role(harness, "reader", "SELECT ON docs")
    mine = as_user(where, "reader")
    store = open_store(mine)
    source = store.source()
    identity = source.identity()
    assert (identity.can_write, identity.collections) == (False, ("public.docs",))
    assert source.describe().vectors == (FIELD,)
    assert source.origin() is not None
    assert len(list(store.source().partitions(3))) == 3
    store.search().index_state()
    store.search().coverage()  # type: ignore[attr-defined]
    store.close()
    assert len(ids_of(mine)) == 30
    sink = open_store(mine).sink()
    sink.upsert(batch_from_rows(rows(1, start=99), SPEC))
    with pytest.raises(StoreRejected, match="permission denied"):
        sink.flush()
    with pytest.raises(StoreRejected, match="permission denied"):
        open_store(as_user(address(harness, "other"), "reader")).sink().create(SPEC, Origin(SPEC, "0"))
    assert open_store(where).source().identity().can_write is True
    role(harness, "writer", "SELECT, INSERT ON docs")
    assert open_store(as_user(where, "writer")).source().identity().can_write is True


def test_the_sessions_of_a_source_cannot_write_whoever_they_are(harness: PgvectorHarness) -> None:
    make(harness, "CREATE TABLE anything (a int)")
    server = Server(Address.parse(address(harness, "docs")), Network())
    with pytest.raises(StoreRejected, match="read-only"), server.connected_for_reading() as session:
        session.execute("INSERT INTO anything VALUES (1)", [])
    with pytest.raises(StoreRejected, match="read-only"), server.reading() as session:
        session.execute("INSERT INTO anything VALUES (1)", [])
    server.close()


def test_a_scan_sees_the_table_as_it_was_when_it_began(harness: PgvectorHarness) -> None:
    where = address(harness, "docs")
    fill(where, 100)
    store = open_store(where)
    scan = store.source().scan(Partition(), batch_rows=10)
    found = next(scan).batch.column("id").to_pylist()
    make(
        harness,
        "DELETE FROM docs WHERE id >= 50",
        "INSERT INTO docs (id) VALUES (1000)",
        "UPDATE docs SET payload = '{}'",
    )
    for page in scan:
        found += page.batch.column("id").to_pylist()
        assert '{"n":' in page.batch.column("payload")[0].as_py()
    store.close()
    assert found == [str(number) for number in range(100)]


def test_a_scan_that_nobody_wants_the_rest_of_leaves_no_session_behind(harness: PgvectorHarness) -> None:
    where = address(harness, "docs")
    fill(where, ROWS)
    store = open_store(where)
    scan = store.source().scan(Partition(), batch_rows=10)
    next(scan)
    scan.close()  # type: ignore[attr-defined]  # a generator, as every scan is
    store.close()
    with harness.connection() as connection:
        for _ in range(500):  # a server notices in its own time that a connection ended
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'exitramp'"
            [left] = connection.execute(query).fetchone() or (None,)
            if not left:
                break
            connection.execute("SELECT pg_sleep(0.01)")
    assert left == 0


def test_passwords_come_by_reference_and_stand_nowhere(
    harness: PgvectorHarness, service: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = address(harness, "docs")
    fill(where, 5)
    role(harness, "locked", "SELECT ON docs", password="correct-horse-battery")
    hba = service.data / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text(f"host all locked 127.0.0.1/32 scram-sha-256\n{before}")
    make(harness, "SELECT pg_reload_conf()")
    try:
        monkeypatch.delenv("PGPASSWORD", raising=False)
        monkeypatch.setenv("RIGHT", "correct-horse-battery")
        monkeypatch.setenv("WRONG", "wrong-horse-battery")
        mine = as_user(where, "locked", password="env:RIGHT")
        assert len(ids_of(mine)) == 5
        assert "horse" not in str(open_store(mine).source().identity())
        for options, hint in (({"password": "env:WRONG"}, "is the password right"), ({}, "?password=env:NAME")):
            with pytest.raises(StoreRejected) as caught:
                open_store(as_user(where, "locked", **options)).source().count()
            assert hint in str(caught.value)
            assert "horse" not in str(caught.value)
            assert not caught.value.retryable
    finally:
        hba.write_text(before)
        make(harness, "SELECT pg_reload_conf()")
    with pytest.raises(AddressError, match="password"):
        open_store(where.replace("//postgres@", "//postgres:secret-word@"))


def test_addresses_that_lead_nowhere_say_why(harness: PgvectorHarness, service: Postgres) -> None:
    port = service.address.port
    refused: list[tuple[str, type[ExitrampError], str]] = [
        (f"pgvector://postgres@127.0.0.1:{port}/nowhere#docs", StoreRejected, "nowhere"),
        (f"pgvector://nobody@127.0.0.1:{port}/postgres#docs", StoreRejected, "nobody"),
        ("pgvector://postgres@127.0.0.1:1/postgres#docs", StoreUnavailable, "127.0.0.1:1"),
        (f"pgvector://postgres@127.0.0.1:{port}#docs", AddressError, "names no database"),
        ("pgvector:some/path#docs", AddressError, "names no host"),
        (f"pgvector://postgres@127.0.0.1:{port}/postgres?sslmode=perhaps#docs", UsageError, "verify-full"),
        (f"pgvector://postgres@127.0.0.1:{port}/postgres?sslmode=require#docs", StoreUnavailable, "SSL"),
        (f"pgvector://postgres@127.0.0.1:{port}/postgres?nonsense=1#docs", AddressError, "nonsense"),
        (f"pgvector://postgres@127.0.0.1:{port}/postgres", AddressError, "names no collection"),
    ]
    for where, error, word in refused:
        with pytest.raises(error, match=word):
            open_store(where).source().count()
    with pytest.raises(UsageError, match="proxy"):
        open_store("pgvector://postgres@db.example/postgres#docs", Network(proxy="http://127.0.0.1:1")).source().count()


def test_a_database_without_the_extension_says_so(harness: PgvectorHarness) -> None:
    make(harness, "DROP EXTENSION vector CASCADE")
    role(harness, "maker", "CREATE ON SCHEMA public")
    with pytest.raises(StoreRejected, match=r"permission denied|extension"):
        open_store(as_user(address(harness, "docs"), "maker")).sink().create(SPEC, Origin(SPEC, "0"))
    fill(address(harness, "docs"), 3)  # whoever may, makes it
    assert len(ids_of(address(harness, "docs"))) == 3


def test_a_session_that_is_ended_by_an_administrator_is_worth_another_try(harness: PgvectorHarness) -> None:
    where = address(harness, "docs")
    fill(where, 50)
    store = open_store(where)
    source, sink = store.source(), store.sink()
    assert source.count() == 50
    sink.create(SPEC, Origin(SPEC, "0"))
    make(harness, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'exitramp'")
    with pytest.raises(StoreUnavailable) as caught:
        source.count()
    assert caught.value.retryable
    sink.upsert(batch_from_rows(rows(5, start=50), SPEC))
    with pytest.raises(StoreUnavailable):
        sink.flush()
    sink.flush()  # by a session that is made anew
    assert source.count() == 55
    store.close()


def test_values_stand_in_no_error_of_the_servers(harness: PgvectorHarness) -> None:
    make(
        harness,
        "CREATE TABLE strict (id int PRIMARY KEY, name text CHECK (name <> 'secret-value'), v vector(64))",
        "CREATE INDEX ON strict USING hnsw (v vector_cosine_ops)",
    )
    field = VectorField("v", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 64)
    spec = CollectionSpec("strict", IdKind.INT64, (field,))
    sink = open_store(address(harness, "strict")).sink()
    sink.create(spec, Origin(spec, "0"))
    sink.upsert(batch_from_rows([Row("1", payload={"name": "secret-value"})], spec))
    with pytest.raises(DataInvalid, match="strict_name_check") as caught:
        sink.flush()
    assert "secret-value" not in str(caught.value)


def test_records_that_a_trigger_holds_back_are_missed(harness: PgvectorHarness) -> None:
    where = address(harness, "docs")
    fill(where, 2)
    make(
        harness,
        "CREATE OR REPLACE FUNCTION public.held() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.id = 7 THEN RETURN NULL; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER held BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION held()",
    )
    sink = open_store(where).sink()
    sink.upsert(batch_from_rows(rows(4, start=5), SPEC))
    with pytest.raises(StoreRejected, match="of 4 records 3 landed"):
        sink.flush()
    assert len(ids_of(where)) == 2


class Cutter:
    """Passes bytes on between a client and the server, and cuts the connection once `after` came one way."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.after = {"up": 2**60, "down": 2**60}
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for way, one, other in (("up", client, server), ("down", server, client)):
                    threading.Thread(target=self._pass_on, args=(way, one, other), daemon=True).start()

    def _pass_on(self, way: str, source: socket.socket, target: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while (data := source.recv(16384)) and passed + len(data) <= self.after[way]:
                target.sendall(data)
                passed += len(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting(service: Postgres) -> Iterator[Cutter]:
    cutter = Cutter(service.address.port or 0)
    try:
        yield cutter
    finally:
        cutter.close()


def test_a_connection_that_is_cut_in_a_scan_is_no_end_and_the_scan_goes_on_behind_the_last_page(
    harness: PgvectorHarness, service: Postgres
) -> None:
    where = address(harness, "docs")
    fill(where, ROWS)
    with cutting(service) as cutter:
        through = where.replace(f":{service.address.port}/", f":{cutter.port}/")
        cutter.after["down"] = 200_000
        store = open_store(through)
        found: list[str] = []
        cursor = None
        with pytest.raises(StoreUnavailable) as caught:
            for page in store.source().scan(Partition(), batch_rows=100):
                assert not page.last
                found += page.batch.column("id").to_pylist()
                cursor = page.cursor
        store.close()
    assert caught.value.retryable
    assert 0 < len(found) < ROWS
    store = open_store(where)
    for page in store.source().scan(Partition(), batch_rows=100, after=cursor):
        found += page.batch.column("id").to_pylist()
    store.close()
    assert found == [str(number) for number in range(ROWS)]


def test_a_connection_that_is_cut_in_a_load_leaves_all_of_a_batch_or_none(
    harness: PgvectorHarness, service: Postgres
) -> None:
    where = address(harness, "docs")
    fill(where, 10)
    with cutting(service) as cutter:
        store = open_store(where.replace(f":{service.address.port}/", f":{cutter.port}/"))
        sink = store.sink()
        sink.create(SPEC, Origin(SPEC, "0"))
        batch = batch_from_rows(rows(1000, start=10), SPEC)
        sink.upsert(batch)
        cutter.after["up"] = 100_000
        with pytest.raises(StoreUnavailable) as caught:
            sink.flush()
        assert caught.value.retryable
        assert len(ids_of(where)) == 10
        cutter.after["up"] = 2**60
        sink.flush()  # what could not be sent was kept
        store.close()
    assert len(ids_of(where)) == 1010


def test_a_server_that_is_stopped_is_not_waited_for_when_connecting(
    harness: PgvectorHarness, service: Postgres
) -> None:
    where = address(harness, "docs")
    fill(where, 5)
    service.inject(Fault("sigstop"))
    try:
        with pytest.raises(StoreTimeout) as caught:
            open_store(where, Network(timeout_seconds=1)).source().count()
        assert caught.value.retryable
    finally:
        service.inject(Fault("sigcont"))
    assert len(ids_of(where)) == 5


def _noting(call: Callable[[], object], ended: list[BaseException]) -> None:
    try:
        call()
    except ExitrampError as error:
        ended.append(error)


def test_a_store_may_be_closed_while_a_call_is_under_way(harness: PgvectorHarness, service: Postgres) -> None:
    """What the call waits for is another thread's, and stays so: the next store's answers are its own."""
    where = address(harness, "docs")
    fill(where, ROWS)
    for _ in range(5):
        store = open_store(where)
        source, ended = store.source(), list[BaseException]()
        assert source.count() == ROWS
        service.inject(Fault("sigstop"))

        scan = source.scan(Partition(), batch_rows=10)
        calls = [
            threading.Thread(target=_noting, args=(call, ended), daemon=True)
            for call in (source.count, functools.partial(next, scan))
        ]
        for call in calls:
            call.start()
        store.close()
        service.inject(Fault("sigcont"))
        fresh = open_store(where, Network(timeout_seconds=10))
        assert fresh.source().count() == ROWS
        fresh.close()
        for call in calls:
            call.join(timeout=20)
            assert not call.is_alive()
        assert all(isinstance(error, StoreUnavailable) for error in ended)


def test_the_service_starts_breaks_heals_and_leaves_nothing(tmp_path: Path) -> None:
    adapter = service_adapter("postgres")
    made = adapter.make(str(tmp_path / "service"), 0, {})
    assert isinstance(made, Postgres)
    base = made.start()
    data = made.data
    try:
        with connected(made) as connection:
            connection.execute("CREATE TABLE kept (a int)")
            assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
            made.inject(Fault("sigkill"))
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        made.inject(Fault("restart"))
        assert made.address == base
        made.inject(Fault("sigstop"))
        made.inject(Fault("none"))
        with connected(made) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        assert made.counters() == {}
    finally:
        made.stop()
        made.stop()
    assert not data.exists()
    assert (tmp_path / "service" / "postgres.log").exists()
    with pytest.raises(UsageError, match="no options"):
        adapter.make(str(tmp_path), 0, {"speed": 1})
