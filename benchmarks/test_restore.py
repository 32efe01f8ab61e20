"""A restore beside the bare client's best bulk load of the same records, at the same durability.

The bare load begins with the records in memory (a float32 matrix, payload dicts, texts) and ends when everything is as
durable as the restore leaves it: in the store's log and synced, index files synced too where the store does not. The
restore begins with a dump on the disk, which it hashes, decodes and digests on the way. Both include opening the store
and making the collection. Two steps of the whole command are left out of the ratio, since a bare load has nothing like
them: measuring the dump for the plan, before, and reading the target back, after. `whole_command_seconds` is with them.

Qdrant is filled twice: with fewer rows than what its engine begins to index, since building an index is its own work,
the same on both sides, and only makes the ratio look better; and with more, as most collections are. Chroma builds its
index as records come in.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks import corpus
from benchmarks.corpus import NAME, QUICK, Block
from benchmarks.turns import against_bare
from exitramp.migration import migrate, plan_move
from exitramp.ports import Service
from exitramp.records import Verdict
from exitramp.registry import service_adapter
from exitramp.transfer.plan import Plan
from exitramp.wrappers import open_endpoint

TARGET: Final = 0.8
FLOOR: Final = 0.2
QDRANT_ROWS: Final = 1_000 if QUICK else 6_000
INDEXED_ROWS: Final = 8_000 if QUICK else 20_000
"""The engine builds an index from 10 MB of vectors on, which are 6,667 of these."""
CHROMA_ROWS: Final = 500 if QUICK else 4_000
EMBEDDED_CHROMA_ROWS: Final = 500 if QUICK else 12_000


def dump_of_qdrant(root: Path, rows: int) -> Path:
    """Taken from Qdrant, so that nothing in it needs another form to go back: the bare client loads the same."""
    corpus.fill_edge(root / "files", rows)
    with open_endpoint(f"qdrant:{root / 'files'}#{NAME}") as source, open_endpoint(f"dump:{root / 'dump'}") as target:
        migrate(source, target)
    return root / "dump"


@pytest.fixture(scope="module")
def qdrant_dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dump_of_qdrant(tmp_path_factory.mktemp("qdrant"), QDRANT_ROWS)


def dump_of_chroma(root: Path, rows: int) -> Path:
    corpus.fill_chroma(root / "files", rows)
    with open_endpoint(f"chroma:{root / 'files'}#{NAME}") as source, open_endpoint(f"dump:{root / 'dump'}") as target:
        migrate(source, target)
    return root / "dump"


@pytest.fixture(scope="module")
def chroma_dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dump_of_chroma(tmp_path_factory.mktemp("chroma"), CHROMA_ROWS)


def planned(dump: Path, address: str) -> Plan:
    with open_endpoint(f"dump:{dump}") as source, open_endpoint(address) as target:
        return plan_move(source, target)


def restore(dump: Path, plan: Plan, rows: int, next_address: Callable[[], str]) -> None:
    with open_endpoint(f"dump:{dump}") as source, open_endpoint(next_address()) as target:
        result = migrate(source, target, plan=plan, verify=False)
    assert result.rows_landed == rows


def whole_command(benchmark: Any, dump: Path, address: str) -> None:
    """Once, for the record: measured, planned, copied, read back and compared."""
    started = time.perf_counter()
    with open_endpoint(f"dump:{dump}") as source, open_endpoint(address) as target:
        result = migrate(source, target)
    assert result.verdict is Verdict.PASS
    benchmark.extra_info["whole_command_seconds"] = round(time.perf_counter() - started, 2)


def fresh(root: Path, before: str, after: str = "") -> Callable[[], str]:
    """Addresses in a folder that is emptied each time."""

    def address() -> str:
        shutil.rmtree(root, ignore_errors=True)
        return f"{before}{root}{after}"

    return address


def load_edge(root: Path, block: Block, batch_rows: int) -> None:
    shutil.rmtree(root, ignore_errors=True)
    shard = corpus.make_shard(root / NAME)
    corpus.load_shard(shard, block, batch_rows)
    shard.flush()
    shard.optimize()
    shard.flush()
    shard.close()


def load_chroma(root: Path, block: Block, sync_rows: int | None) -> None:
    shutil.rmtree(root, ignore_errors=True)
    client = corpus.chroma_client(root)
    corpus.load_chroma(corpus.make_chroma(client, sync_rows=sync_rows), block, 1000)
    for file in [*root.glob("*/*"), *root.glob("*/")]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    client.close()


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    service = service_adapter(request.param).make(str(tmp_path / "server"), 0, {})
    service.start()
    yield service
    service.stop()


@pytest.mark.parametrize("rows", [QDRANT_ROWS, INDEXED_ROWS], ids=["without index", "with index"])
def test_restore_into_qdrant_embedded(benchmark: Any, tmp_path: Path, rows: int) -> None:
    dump = dump_of_qdrant(tmp_path, rows)
    block = corpus.whole(rows)
    address = fresh(tmp_path / "ours", "qdrant:", f"#{NAME}")
    plan = planned(dump, address())
    bare = {f"batches of {each}": partial(load_edge, tmp_path / "bare", block, each) for each in (250, 1000)}
    ours = partial(restore, dump, plan, rows, address)
    against_bare(benchmark, ours, bare, rows=rows, target=TARGET, floor=FLOOR)
    whole_command(benchmark, dump, address())


@pytest.mark.parametrize("server", ["qdrant-shim"], indirect=True)
def test_restore_into_qdrant_http(benchmark: Any, server: Service, qdrant_dump: Path) -> None:
    from qdrant_client import QdrantClient

    block, place = corpus.whole(QDRANT_ROWS), server.start().location
    number = itertools.count()

    def address() -> str:
        return f"qdrant+http:{place}#{NAME}-{next(number)}"

    def load(batch_rows: int) -> None:
        name = f"bare-{next(number)}"
        client = QdrantClient(url=f"http:{place}", check_compatibility=False, timeout=60, trust_env=False)
        corpus.make_remote(client, name)
        corpus.load_remote(client, block, batch_rows, name)
        client.close()

    plan = planned(qdrant_dump, address())
    bare = {f"batches of {rows}": partial(load, rows) for rows in (256, 1000)}
    against_bare(
        benchmark,
        partial(restore, qdrant_dump, plan, QDRANT_ROWS, address),
        bare,
        rows=QDRANT_ROWS,
        target=TARGET,
        floor=FLOOR,
    )
    whole_command(benchmark, qdrant_dump, address())


def test_restore_into_chroma_embedded(benchmark: Any, tmp_path: Path) -> None:
    dump = dump_of_chroma(tmp_path / "made", EMBEDDED_CHROMA_ROWS)
    block = corpus.whole(EMBEDDED_CHROMA_ROWS)
    address = fresh(tmp_path / "ours", "chroma:", f"#{NAME}")
    plan = planned(dump, address())
    bare = {
        "as Chroma comes": partial(load_chroma, tmp_path / "bare", block, None),
        "index files written seldom": partial(load_chroma, tmp_path / "bare", block, 10_000),
    }
    ours = partial(restore, dump, plan, EMBEDDED_CHROMA_ROWS, address)
    against_bare(benchmark, ours, bare, rows=EMBEDDED_CHROMA_ROWS, target=TARGET, floor=FLOOR)
    whole_command(benchmark, dump, address())


@pytest.mark.parametrize("server", ["chroma-run"], indirect=True)
def test_restore_into_chroma_http(benchmark: Any, server: Service, chroma_dump: Path) -> None:
    import chromadb
    from chromadb.config import Settings

    block, place = corpus.whole(CHROMA_ROWS), server.start().location
    number = itertools.count()
    client = chromadb.HttpClient(
        host="127.0.0.1", port=int(place.rpartition(":")[2]), settings=Settings(anonymized_telemetry=False)
    )

    def address() -> str:
        return f"chroma+http:{place}#{NAME}-{next(number)}"

    def load(batch_rows: int) -> None:
        collection = client.create_collection(
            f"bare-{next(number)}", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )
        corpus.load_chroma(collection, block, batch_rows)

    plan = planned(chroma_dump, address())
    bare = {f"adds of {rows}": partial(load, rows) for rows in (300, 1000)}
    against_bare(
        benchmark,
        partial(restore, chroma_dump, plan, CHROMA_ROWS, address),
        bare,
        rows=CHROMA_ROWS,
        target=TARGET,
        floor=FLOOR,
    )
    whole_command(benchmark, chroma_dump, address())
