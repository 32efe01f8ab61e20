"""Peak memory of each operation at 20,000 and at 200,000 rows of 384 numbers, each in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.corpus import QUICK
from benchmarks.memory_run import OPERATIONS, seed

SMALL, LARGE = (2_000, 20_000) if QUICK else (20_000, 200_000)
GROWTH_AT_MOST_MB: Final = 50


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Path]]:
    """By rows. The operations come in their order: the dump that the first one writes is what the others read."""
    found = {rows: tmp_path_factory.mktemp(f"rows{rows}") for rows in (SMALL, LARGE)}
    for rows, folder in found.items():
        seed(folder, rows)
    yield found
    for folder in found.values():
        shutil.rmtree(folder)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", list(OPERATIONS))
def test_peak_memory(benchmark: Any, folders: dict[int, Path], name: str) -> None:
    """Ten times the rows must not take 50 MB more."""
    found: dict[int, dict[str, int]] = {}

    def run() -> None:
        for rows, folder in folders.items():
            command = [sys.executable, "-m", "benchmarks.memory_run", name, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[rows] = json.loads(done.stdout)
            assert found[rows]["rows"] == rows

    benchmark.pedantic(run, rounds=1)
    growth = found[LARGE]["private_mb"] - found[SMALL]["private_mb"]
    for rows, figures in found.items():
        benchmark.extra_info[f"{rows} rows"] = f"{figures['private_mb']} MB ({figures['resident_mb']} resident)"
    benchmark.extra_info.update(
        growth_mb=growth, target=f"at most {GROWTH_AT_MOST_MB}", met=growth <= GROWTH_AT_MOST_MB
    )
    assert growth <= GROWTH_AT_MOST_MB
