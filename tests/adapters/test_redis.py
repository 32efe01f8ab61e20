"""A real Redis with RediSearch, seeded and read back by redis-py alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import redis

from exitramp import canonical
from exitramp.faults import Fault
from exitramp.ports import Service
from exitramp.records import CollectionSpec, Metric
from exitramp.registry import service_adapter
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness

DISTANCES = {Metric.COSINE: "COSINE", Metric.DOT: "IP", Metric.EUCLIDEAN: "L2"}
NUMBERS = {"FLOAT32": "<f4", "FLOAT64": "<f8", "FLOAT16": "<f2"}
MARK = b"exitramp:json"


class RedisHarness(StoreHarness):
    lacks: dict[Feature, str] = {}

    def __init__(self, service: Service, base: str) -> None:
        self.service = service
        self.base = base

    def address(self, collection: str) -> str:
        return f"{self.base}#{quote(collection, safe='')}"

    @contextmanager
    def client(self) -> Iterator[Any]:
        client: Any = redis.Redis.from_url(self.base, protocol=3, socket_timeout=30)
        try:
            yield client
        finally:
            client.close()

    def clear(self) -> None:
        with self.client() as client:
            client.flushall()
            for name in client.execute_command("FT._LIST"):
                client.execute_command("FT.DROPINDEX", name)

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        with self.client() as client:
            prefix = f"raw/{collection}/".encode()
            command: list[Any] = ["FT.CREATE", collection, "ON", "HASH", "PREFIX", 1, prefix, "SCHEMA"]
            for field in spec.vectors:
                name = field.name or "vector"
                pairs = ["TYPE", field.dtype.value.upper(), "DIM", field.dimensions]
                pairs += ["DISTANCE_METRIC", DISTANCES[field.metric]]
                command += [name, "VECTOR", "FLAT", len(pairs), *pairs]
            client.execute_command(*command)
            for row in rows:
                client.hset(prefix + row.id.encode(), mapping=raw_hash(row))

    def raw_read(self, collection: str) -> list[Row]:
        with self.client() as client:
            info = client.execute_command("FT.INFO", collection)
            [prefix] = info[b"index_definition"][b"prefixes"]
            pattern = b"".join(b"\\" + bytes((byte,)) for byte in prefix) + b"*"
            keys = sorted(set(client.scan_iter(pattern, count=5000, _type="hash")))
            with client.pipeline(transaction=False) as asking:
                for key in keys:
                    asking.hgetall(key)
                hashes = asking.execute()
            found = zip(keys, hashes, strict=True)
            return [raw_row(key.removeprefix(prefix).decode(), held, info[b"attributes"]) for key, held in found]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        with self.client() as client:
            [prefix] = client.execute_command("FT.INFO", collection)[b"index_definition"][b"prefixes"]
            assert client.exists(prefix + id_.encode())
            client.hset(prefix + id_.encode(), key, value)

    def raw_collections(self) -> list[str]:
        with self.client() as client:
            return [name.decode() for name in client.execute_command("FT._LIST")]

    def kill(self) -> None:
        self.service.inject(Fault("sigkill"))

    def restart(self) -> None:
        self.service.inject(Fault("restart"))

    def stop(self) -> None:
        self.service.inject(Fault("sigstop"))

    def resume(self) -> None:
        self.service.inject(Fault("sigcont"))


def raw_hash(row: Row) -> dict[bytes, bytes]:
    """The documented layout, written a second time: texts and bytes as they are, all else as JSON that is marked."""
    held = {
        (column.partition(":")[2] or "vector").encode(): np.asarray(v).tobytes() for column, v in row.vectors.items()
    }
    typed = []
    for key, value in (row.payload or {}).items():
        if isinstance(value, str):
            held[key.encode()] = value.encode()
        elif isinstance(value, bytes) and b"\xff" in value:
            held[key.encode()] = value
        else:
            held[key.encode()] = canonical.dumps(value).encode()
            typed.append(key.encode())
    held[MARK] = b"\n".join(typed) if row.payload else b"" if row.payload is None else b"{}"
    return held


def raw_row(id_: str, held: dict[bytes, bytes], attributes: Sequence[Any]) -> Row:
    vectors: dict[str, Any] = {}
    for each in attributes:
        if each[b"type"] != b"VECTOR" or each[b"identifier"] not in held:
            continue
        blob, name = held.pop(each[b"identifier"]), each[b"attribute"].decode()
        column = "vector" if name == "vector" else f"vector:{name}"
        vectors[column] = np.frombuffer(blob, NUMBERS[each[b"data_type"].decode()])
    mark = held.pop(MARK, b"")
    if not held:
        return Row(id_, payload={} if mark == b"{}" else None, vectors=vectors)
    return Row(id_, payload={key.decode(): raw_value(key, held[key], mark) for key in held}, vectors=vectors)


def raw_value(key: bytes, value: bytes, mark: bytes) -> Any:
    if key in mark.split(b"\n"):
        try:
            json.loads(value)
        except ValueError:
            return value.decode()
        return canonical.loads(value.decode())
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    """It syncs at every write, so that a flush has not to wait for the next full second."""
    folder = str(tmp_path_factory.mktemp("redis"))
    service = service_adapter("redis-server").make(folder, 0, {"appendfsync": "always"})
    address = service.start()
    yield service, str(address)
    service.stop()


@pytest.fixture
def harness(server: tuple[Service, str]) -> RedisHarness:
    service, base = server
    service.inject(Fault("none"))  # alive, whatever the test before did to it
    fresh = RedisHarness(service, base)
    fresh.clear()
    return fresh


class TestRedis(StoreConformance):
    """The suite; `harness` is the module's."""
