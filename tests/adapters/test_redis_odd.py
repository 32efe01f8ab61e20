"""What Redis allows and few expect: documents whose keys the index does not tell, fields that expire."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from exitramp.cli.main import run
from exitramp.errors import DataInvalid, StoreRejected
from exitramp.ports import Origin, Partition, Service
from exitramp.records import RecordKey
from exitramp.registry import service_adapter
from tests.adapters.test_redis_foreign import codes, make, numbers, opened, rows_of, vector


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = service_adapter("redis-server").make(str(tmp_path_factory.mktemp("redis")), 0, {})
    service.start()
    yield service
    service.stop()


@pytest.fixture
def base(service: Any) -> str:
    return str(service.address)


@pytest.fixture
def client(base: str) -> Iterator[Any]:
    client: Any = redis.Redis.from_url(base, protocol=3)
    client.flushall()
    yield client
    client.close()


def test_documents_that_have_expired_are_not_looked_for_in_vain(base: str, client: Any) -> None:
    """The index gives them back without a key until the server has cleared them away."""
    make(client, "a", *vector("v", 2))
    for number in range(2000):
        client.hset(f"doc:{number}", mapping={"v": numbers(number, 1)})
        client.pexpire(f"doc:{number}", 1 if number >= 20 else 10**6)
    client.hset("doc:wrong", mapping={"v": b"no vector"})
    store = opened(base, "a")
    told = codes(store)
    assert told["source.expiring_keys"].verdict is None
    rows = rows_of(store)
    assert {f"{number}" for number in range(20)} | {"wrong"} <= {*rows}
    assert rows["wrong"].payload == {"v": "no vector"}
    store.close()


@pytest.mark.parametrize("filtered", [False, True])
def test_a_key_with_a_zero_byte_is_known_to_be_in_the_index(base: str, client: Any, filtered: bool) -> None:
    where = ["FILTER", "@n > 5"] if filtered else []
    client.execute_command(
        *("FT.CREATE", "a", "ON", "HASH", "PREFIX", 1, "doc:", *where),
        *("SCHEMA", "n", "NUMERIC", *vector("v", 2)),
    )
    client.hset(b"doc:a\0b", mapping={"v": numbers(1, 2), "n": "7"})
    client.hset(b"doc:c", mapping={"v": numbers(1, 2), "n": "7"})
    client.hset(b"doc:d\0", mapping={"v": b"no vector", "n": "7"})
    client.hset(b"doc:e", mapping={"v": numbers(1, 2), "n": "1"})
    store = opened(base, "a")
    finding = codes(store)["source.filtered_out" if filtered else "source.not_indexed"]
    assert finding.ids == (("d\0", "e") if filtered else ("d\0",))
    assert {*rows_of(store)} == ({"a\0b", "c"} if filtered else {"a\0b", "c", "d\0", "e"})
    store.close()


def test_fields_that_expire_are_announced(base: str, client: Any) -> None:
    make(client, "a", *vector("v", 2))
    client.hset("doc:1", mapping={"v": numbers(1, 2), "n": "7"})
    store = opened(base, "a")
    assert "source.expiring_fields" not in codes(store)
    client.execute_command("HEXPIRE", "doc:1", 1000, "FIELDS", 1, "n")
    until = time.monotonic() + 5
    while "source.expiring_fields" not in codes(store):
        assert time.monotonic() < until
    store.close()


@pytest.mark.parametrize("on", ["HASH", "JSON"])
def test_records_that_are_all_gone_are_none(base: str, client: Any, on: str) -> None:
    field = vector("v", 2) if on == "HASH" else vector("$.v AS v", 2)
    make(client, "a", *field, on=on)
    for key in ("doc:1", "doc:2"):
        client.hset(key, "v", numbers(1, 2)) if on == "HASH" else client.json().set(key, "$", {"v": [1, 2]})
    store = opened(base, "a")
    source = store.source()
    keys = [RecordKey("1"), RecordKey("2")]
    assert source.fetch([RecordKey("3")]).num_rows == 0
    pages = source.scan(Partition(), batch_rows=1)
    assert next(pages).batch.num_rows == 1
    client.set("doc:1", "a text now")
    client.delete("doc:2")
    assert [page.batch.num_rows for page in pages] == [0]
    assert source.fetch(keys).num_rows == 0
    store.close()


def test_a_server_without_room_says_what_helps(base: str, client: Any) -> None:
    make(client, "a", *vector("v", 2))
    client.hset("doc:1", "v", numbers(1, 2))
    store, other = opened(base, "a"), opened(base, "b")
    spec = store.source().describe()
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreRejected) as caught:
            other.sink().create(spec, Origin(spec, "test"))
    finally:
        client.config_set("maxmemory", 0)
    assert "make room in the server's memory" in str(caught.value.hint)
    store.close()
    other.close()


def test_a_whole_server_is_listed_and_taken_out(base: str, client: Any, tmp_path: Path) -> None:
    make(client, "a", *vector("v", 2))
    client.hset("doc:1", mapping={"v": numbers(1, 2)})
    assert run(["inspect", base]) == 0
    assert run(["dump", base, str(tmp_path / "out"), "--all"]) == 0
    assert run(["verify", str(tmp_path / "out")]) == 0
    client.execute_command("FT.DROPINDEX", "a")


def test_a_name_that_redisearch_tells_otherwise_is_read_and_not_given(base: str, client: Any, tmp_path: Path) -> None:
    """It tells a line break as a backslash and a letter: an index made of such a name was not found again."""
    make(client, "a\nb", *vector("v", 2))
    client.hset("doc:1", mapping={"v": numbers(1, 2)})
    assert [*rows_of(opened(base, "a%0Ab"))] == ["1"]
    assert run(["dump", f"{base}#a%0Ab", str(tmp_path / "out")]) == 0
    assert run(["restore", str(tmp_path / "out"), f"{base}#c%0Ad"]) == 2
    assert run(["restore", str(tmp_path / "out"), f"{base}?prefix=e%0Af:#e"]) == 2
    assert client.execute_command("FT._LIST") == [rb"a\nb"]
    client.execute_command("FT.DROPINDEX", "a\nb")


def test_records_under_a_prefix_that_redisearch_tells_otherwise_are_not_taken_for_none(base: str, client: Any) -> None:
    make(client, "a", *vector("v", 2), prefixes=("doc\n:",))
    client.hset("doc\n:1", mapping={"v": numbers(1, 2)})
    with pytest.raises(DataInvalid, match="stands for one with a line break"):
        opened(base, "a").source().count()
    client.execute_command("FT.DROPINDEX", "a")
    make(client, "a", *vector("v", 2), prefixes=(r"doc\n:",))
    client.hset(r"doc\n:2", mapping={"v": numbers(1, 2)})
    assert [*rows_of(opened(base, "a"))] == ["2"]
    client.execute_command("FT.DROPINDEX", "a")
