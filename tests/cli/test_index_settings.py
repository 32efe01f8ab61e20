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


def test_they_come_back_by_way_of_stores_that_have_no_notion_of_them(cli: Cli) -> None:
    """DuckDB makes no graph of its own accord, and tells of none."""
    made(Path("db"))
    cli("copy", "chroma:./db#articles", "duckdb:./x.duckdb#articles", code=0)
    cli("dump", "duckdb:./x.duckdb#articles", "out", code=0)
    for source, command in (("duckdb:./x.duckdb#articles", "copy"), ("out", "restore")):
        cli(command, source, f"chroma:./{command}#articles", code=0)
        found = cli("inspect", f"chroma:./{command}#articles", "--json", code=0).json
        graph = found["collection"]["index"]["chroma"]["hnsw"]
        assert (graph["max_neighbors"], graph["ef_construction"]) == (21, 77)
        assert "source.settings_left" not in {each["code"] for each in found["findings"]}
        cli(command, source, f"usearch:./{command}.usearch", code=0)
        told = cli("inspect", f"usearch:./{command}.usearch", "--json", code=0).json["collection"]["index"]
        assert told["usearch"]["connectivity"] == 21


def test_the_settings_of_the_store_at_hand_go_before_those_of_the_first(cli: Cli) -> None:
    made(Path("db"))
    cli("copy", "chroma:./db#articles", "hnswlib:./x.bin?M=9", code=0)
    cli("copy", "hnswlib:./x.bin", "usearch:./x.usearch", code=0)
    told = cli("inspect", "usearch:./x.usearch", "--json", code=0).json["collection"]["index"]
    assert told["usearch"]["connectivity"] == 9


def test_a_dump_keeps_them_for_whoever_comes_next(cli: Cli) -> None:
    made(Path("db"))
    cli("dump", "chroma:./db#articles", "out", code=0)
    cli("restore", "out", "usearch:./x.usearch", code=0)
    index = cli("inspect", "usearch:./x.usearch", "--json", code=0).json["collection"]["index"]
    assert index["usearch"]["connectivity"] == 21
