"""A dump is read without exitramp: by pyarrow, by DuckDB and by sha256sum alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "format.md"


def snippets(language: str) -> list[str]:
    """The fenced examples of docs/format.md in one language."""
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENTATION.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def dump(wide: Any, write_dump: Any) -> Path:
    return Path(write_dump(wide, batch_rows=20, shard_bytes=20_000, group_bytes=8_000))


def test_pyarrow_alone_reads_a_shard(dump: Path, wide: Any) -> None:
    program = """
import json, sys, pyarrow.parquet as pq
rows = [row for path in sys.argv[1:] for row in pq.read_table(path).to_pylist()]
assert "exitramp" not in sys.modules
print(json.dumps([[row["id"], row["namespace"], row["document"], row["payload"], row["vector:double"],
                   row["vector:small"], row["sparse:words"], row["multi:late"]] for row in rows]))
"""
    shards = sorted(str(path) for path in (dump / "shards").iterdir())
    done = subprocess.run([sys.executable, "-I", "-c", program, *shards], check=True, capture_output=True, text=True)
    single = [
        [row["id"], row["namespace"], row["document"], row["payload"], row["vector:double"], row["vector:small"]]
        for row in wide.rows
    ]
    found = json.loads(done.stdout)
    assert [row[:6] for row in found] == single
    exact = wide.batch()
    assert [row[6] for row in found] == exact.column("sparse:words").to_pylist()
    assert [row[7] for row in found] == exact.column("multi:late").to_pylist()


def test_duckdb_alone_reads_all_shards(dump: Path, wide: Any) -> None:
    with duckdb.connect() as connection:
        found = connection.sql(
            f"""select id, namespace, document, payload, vector, "vector:half.é", "vector:double", "vector:bits",
                       "multi:late", "sparse:words".indices, "sparse:words"."values"
                from '{dump}/shards/*.parquet'"""
        ).fetchall()
    expected = {(row["id"], row["namespace"]): row for row in wide.batch().to_pylist()}
    assert len(found) == len(expected)
    for id_, namespace, document, payload, vector, half, double, bits, late, indices, values in found:
        row = expected[(id_, namespace)]
        assert (document, payload) == (row["document"], row["payload"])
        for numbers, column in ((vector, "vector"), (half, "vector:half.é"), (double, "vector:double")):
            assert (numbers is None) == (row[column] is None)
            assert numbers is None or np.array_equal(numbers, np.array(row[column], dtype=np.float64), equal_nan=True)
        assert (None if bits is None else list(bits)) == row["vector:bits"]
        assert (None if late is None else [list(item) for item in late]) == row["multi:late"]
        sparse = row["sparse:words"]
        assert (indices, values) == ((None, None) if sparse is None else (sparse["indices"], sparse["values"]))


def test_sha256sum_alone_checks_the_manifest(dump: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum on this machine")
    command = ["sha256sum", "--check", "--strict", "manifest.json.sha256"]
    assert subprocess.run(command, cwd=dump, capture_output=True, check=False).returncode == 0
    (dump / "manifest.json").write_text("{}")
    assert subprocess.run(command, cwd=dump, capture_output=True, check=False).returncode == 1


def test_the_documentations_pyarrow_example_runs(plain: Any, write_dump: Any) -> None:
    [example, *_] = snippets("python")
    folder = write_dump(plain)
    done = subprocess.run(
        [sys.executable, "-I", "-c", example.replace("my-dump", str(folder))],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "(120, 4)" in done.stdout


def test_the_documentations_duckdb_example_runs(plain: Any, write_dump: Any) -> None:
    [example, *_] = snippets("sql")
    folder = write_dump(plain)
    with duckdb.connect() as connection:
        result = connection.sql(example.replace("my-dump", str(folder)))
        assert result is not None
        assert len(result.fetchall()) > 0
