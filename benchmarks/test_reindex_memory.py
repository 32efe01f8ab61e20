"""`exitramp reindex` must not take more memory for more documents: 5,000 against 50,000, in a process each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.corpus import QUICK
from benchmarks.reindex_memory import measure

SMALL, LARGE = (1_000, 5_000) if QUICK else (5_000, 50_000)
GROWTH_AT_MOST_MIB: Final = 40
"""45,000 vectors of 256 numbers kept by mistake would be 44 MiB, and their texts 13; 20 to 25 were measured."""


@pytest.mark.timeout(600)
def test_peak_memory_of_reindex(benchmark: Any, tmp_path: Path) -> None:
    """Ten times the documents must not take 40 MiB more."""
    peaks: dict[int, float] = {}

    def run() -> None:
        for documents in (SMALL, LARGE):
            peaks[documents], _ = measure(tmp_path, documents)

    benchmark.pedantic(run, rounds=1)
    growth = peaks[LARGE] - peaks[SMALL]
    for documents, peak in peaks.items():
        benchmark.extra_info[f"{documents} documents"] = f"{peak:.0f} MiB"
    target = {"target": f"at most {GROWTH_AT_MOST_MIB}", "met": growth <= GROWTH_AT_MOST_MIB}
    benchmark.extra_info.update(growth_mib=round(growth, 1), **target)
    assert growth <= GROWTH_AT_MOST_MIB
