"""What becomes of index settings is said by the plan, and done by the copy."""

from __future__ import annotations

from pathlib import Path

import chromadb
import numpy as np
from chromadb.config import Settings

from tests.cli.conftest import Cli


def made(folder: Path) -> None:
    client = chromadb.PersistentClient(folder.resolve(), Settings(anonymized_telemetry=False))
    found = client.create_collection(
        "articles", configuration={"hnsw": {"space": "l2", "max_neighbors": 21, "ef_construction": 77}}
    )
    found.add(ids=[f"a{n}" for n in range(50)], embeddings=np.random.default_rng(1).standard_normal((50, 8)))


def test_a_graphs_settings_go_over_to_a_store_of_another_kind(cli: Cli) -> None:
    made(Path("db"))
    said = cli("plan", "chroma:./db#articles", "hnswlib:./x.bin", code=0).out
    assert "index.settings: the source's graph has m 21, ef_construction 77, ef_search 100" in said
    assert "the target's is built with m 21, ef_construction 77; not carried over: ef_search 100" in said
    cli("copy", "chroma:./db#articles", "hnswlib:./x.bin", code=0)
    index = cli("inspect", "hnswlib:./x.bin", "--json", code=0).json["collection"]["index"]
    assert (index["hnswlib"]["M"], index["hnswlib"]["ef_construction"]) == (21, 77)


def test_a_store_of_the_same_kind_needs_no_word(cli: Cli) -> None:
    made(Path("db"))
    assert "index.settings" not in cli("plan", "chroma:./db#articles", "chroma:./other#articles", code=0).out


def test_a_dump_keeps_them_for_whoever_comes_next(cli: Cli) -> None:
    made(Path("db"))
    cli("dump", "chroma:./db#articles", "out", code=0)
    cli("restore", "out", "usearch:./x.usearch", code=0)
    index = cli("inspect", "usearch:./x.usearch", "--json", code=0).json["collection"]["index"]
    assert index["usearch"]["connectivity"] == 21
