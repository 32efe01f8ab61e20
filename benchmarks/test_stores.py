"""Reading and loading stores that are tables or keys, beside the best of their bare clients.

A complete read is every page of a scan, decoded, payloads canonical; ours reads the very collection that the bare
client filled. A bulk load is batches in memory written, flushed and finished, into a collection that exitramp makes;
what it keeps is more (payloads natively queryable and exact), and as durable. Where exitramp builds an index when all
is written (PostgreSQL), the load ends before it, and once more the two are measured with the same index. Both include
opening the store: of a read some 50 ms, whatever the number of rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest

from benchmarks import bare_tables, corpus
from benchmarks.bare_tables import Bare
from benchmarks.corpus import DIMENSIONS, NAME, QUICK, Block
from benchmarks.turns import against_bare
from exitramp import canonical
from exitramp.arrow import dense_array, stream_schema
from exitramp.parity.alignment import read_all
from exitramp.ports import Origin, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import service_adapter
from exitramp.wrappers import open_endpoint

TARGET: Final = 0.8
FLOOR: Final = 0.1
ROWS: Final = 1_000 if QUICK else 20_000
READ_ROWS: Final = 3 * ROWS
BATCH_ROWS: Final = 2_000
FIELD: Final = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, DIMENSIONS)
SPEC: Final = CollectionSpec(NAME, IdKind.STRING, (FIELD,), has_documents=True)


@contextmanager
def store(
    kind: str, folder: Path, options: Mapping[str, Any] | None = None, *, fields: bool = False
) -> Iterator[tuple[Bare, Callable[[str], str]]]:
    """The bare client of a kind of store, and the addresses of its collections; `options` are of its service."""
    files = {"duckdb": "x.duckdb", "lancedb": "db", "sqlite-vec": "x.db"}
    if kind in files:
        path = folder / files[kind]
        bare = getattr(bare_tables, kind.replace("-", "_"))(path)
        yield bare, lambda name: f"{kind}:{path}?{bare.options.strip('&') if name == NAME else ''}#{name}"
        return
    services = {"pgvector": "postgres", "redis": "redis-server"}
    service = service_adapter(services[kind]).make(str(folder), 0, options or {})
    address = service.start()
    try:
        if kind == "redis":
            bare = bare_tables.redis(address.port or 0, fields=fields)
        else:
            bare = bare_tables.postgres(f"postgresql:{address.location}")
        options = bare.options.strip("&")
        yield bare, lambda name: f"{address.with_collection(None).text}?{options if name == NAME else ''}#{name}"
    finally:
        service.stop()


def batches(block: Block) -> list[pa.RecordBatch]:
    payloads = [canonical.dumps(payload) for payload in block.payloads]
    columns = [block.ids, block.documents, payloads, dense_array(block.vectors, FIELD)]
    whole = pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=stream_schema(SPEC))
    return [whole.slice(start, BATCH_ROWS) for start in range(0, whole.num_rows, BATCH_ROWS)]


def read(address: str, rows: int) -> None:
    with open_endpoint(address) as endpoint:
        assert sum(batch.num_rows for batch in read_all(endpoint.source(), batch_rows=1000)) == rows


def load(address: Callable[[], str], found: list[pa.RecordBatch], *, finish: bool = True) -> None:
    with open_endpoint(address()) as endpoint:
        sink = endpoint.sink()
        sink.create(SPEC, Origin(SPEC, "benchmark"))
        for batch in found:
            sink.upsert(batch)
        sink.flush()
        if finish:
            sink.finish(TransferAccount())


def emptied(address: str) -> None:
    """A Redis without a record of the load before, all synced. The bare client empties it too, which for 120,000 hashes
    would take it half a second, and ours would not have to."""
    import redis

    client = redis.Redis.from_url(address.partition("#")[0])
    client.flushall()
    client.execute_command("WAITAOF", 1, 0, 0)
    client.close()


KINDS = ("pgvector", "duckdb", "lancedb", "sqlite-vec", "redis")


@pytest.mark.parametrize("kind", KINDS)
def test_complete_read(benchmark: Any, tmp_path: Path, kind: str) -> None:
    with store(kind, tmp_path) as (bare, address):
        bare.load(corpus.whole(READ_ROWS))
        ours = partial(read, address(NAME), READ_ROWS)
        target = 0.2 if kind == "lancedb" else TARGET  # LanceDB gives its own columns: at most five times a bare scan
        theirs = {"bare": partial(bare.read, READ_ROWS)}
        against_bare(benchmark, ours, theirs, rows=READ_ROWS, target=target, floor=FLOOR)


@pytest.mark.parametrize("kind", KINDS)
def test_bulk_load(benchmark: Any, tmp_path: Path, kind: str) -> None:
    """Redis is given three times the rows, since a load into it ends with a wait for a sync once a second: 20,000 are
    written in half a second, and the wait would be more than the work. Each begins on an empty server that has just
    synced, or what was left of that second, and of the load before, would decide (see `emptied`)."""
    rows = READ_ROWS if kind == "redis" else ROWS
    block = corpus.whole(rows)
    found = batches(block)
    numbers = iter(range(1000))
    with store(kind, tmp_path) as (bare, address):
        ours = partial(load, lambda: address(f"ours{next(numbers)}"), found, finish=bare.index is None)
        before = partial(emptied, address(NAME)) if kind == "redis" else (lambda: None)
        theirs = {"bare": partial(bare.load, block)}
        against_bare(benchmark, ours, theirs, rows=rows, target=TARGET, floor=FLOOR, before=before)


def test_synced_bulk_load_into_lancedb(benchmark: Any, tmp_path: Path) -> None:
    """LanceDB leaves what it wrote to the operating system; here the bare load syncs its files, as ours does."""
    block = corpus.whole(ROWS)
    found = batches(block)
    numbers = iter(range(1000))
    with store("lancedb", tmp_path) as (bare, address):

        def theirs() -> None:
            bare.load(block)
            folder = tmp_path / "db"
            for path in (*folder.rglob("*"), folder):
                handle = os.open(path, os.O_RDONLY)
                os.fsync(handle)
                os.close(handle)

        ours = partial(load, lambda: address(f"ours{next(numbers)}"), found)
        against_bare(benchmark, ours, {"synced": theirs}, rows=ROWS, target=TARGET, floor=FLOOR)


def test_bulk_load_with_an_index(benchmark: Any, tmp_path: Path) -> None:
    block = corpus.whole(ROWS)
    found = batches(block)
    numbers = iter(range(1000))
    with store("pgvector", tmp_path) as (bare, address):

        def theirs() -> None:
            assert bare.index is not None
            bare.load(block)
            bare.index()

        ours = partial(load, lambda: address(f"ours{next(numbers)}"), found)
        against_bare(benchmark, ours, {"bare": theirs}, rows=ROWS, target=TARGET, floor=FLOOR, rounds=3)


@pytest.mark.parametrize(("fsync", "fields"), [("everysec", True), ("always", False), ("always", True)])
def test_bulk_load_into_redis(benchmark: Any, tmp_path: Path, fsync: str, fields: bool) -> None:
    """A server that syncs once a second lets both wait for that second, whatever they did before; one that syncs every
    write lets nobody wait. With `fields` the bare client writes the keys of a payload as fields too."""
    rows = READ_ROWS if fsync == "everysec" else ROWS
    block = corpus.whole(rows)
    found = batches(block)
    numbers = iter(range(1000))
    with store("redis", tmp_path, {"appendfsync": fsync}, fields=fields) as (bare, address):
        ours = partial(load, lambda: address(f"ours{next(numbers)}"), found)
        before, theirs = partial(emptied, address(NAME)), {"bare": partial(bare.load, block)}
        against_bare(benchmark, ours, theirs, rows=rows, target=TARGET, floor=FLOOR, before=before)
