"""Two ways of doing the same thing, measured in turn within one run."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from benchmarks.corpus import QUICK

ROUNDS: Final = 2 if QUICK else 5


def against_bare(
    benchmark: Any,
    ours: Callable[[], object],
    bare: Mapping[str, Callable[[], object]],
    *,
    rows: int,
    target: float,
    floor: float,
    rounds: int = ROUNDS,
    before: Callable[[], object] = lambda: None,
) -> float:
    """How fast `ours` is as a fraction of the fastest of `bare`: the ratio of the medians of `rounds` each.

    In each round every variant of the bare loop runs once and then ours, so that whatever else the machine does meets
    them alike; a first round of all of them is not counted, nor is `before`, which is called before each. The ratios
    of single rounds show how noisy it was. `cpu_ratio` is that of the processor time of this process, in which other
    load on the machine hardly shows. Below `floor` the benchmark fails: that is no noise any more, something became
    slow. Below `target` it says so.
    """
    seconds: dict[str, list[float]] = {name: [] for name in bare}
    busy: dict[str, list[float]] = {name: [] for name in ("", *bare)}

    def run_bare() -> None:
        for name, call in bare.items():
            before()
            elapsed, processor = _timed(call)
            seconds[name].append(elapsed)
            busy[name].append(processor)
        before()
        gc.collect()

    def run_ours() -> None:
        before = time.process_time()
        ours()
        busy[""].append(time.process_time() - before)

    benchmark.pedantic(run_ours, setup=run_bare, rounds=rounds, warmup_rounds=1)
    mine: list[float] = list(benchmark.stats.stats.data)
    counted = {name: found[-len(mine) :] for name, found in seconds.items()}
    best = min(counted, key=lambda name: statistics.median(counted[name]))
    ratio = statistics.median(counted[best]) / statistics.median(mine)
    singles = sorted(theirs / own for theirs, own in zip(counted[best], mine, strict=True))
    benchmark.extra_info.update(
        ratio=round(ratio, 2),
        target=f"at least {target:g}",
        met=ratio >= target,
        rounds=f"{singles[0]:.2f} to {singles[-1]:.2f}",
        cpu_ratio=round(statistics.median(busy[best]) / statistics.median(busy[""]), 2),
        rows_per_second=round(rows / statistics.median(mine)),
        bare_rows_per_second=round(rows / statistics.median(counted[best])),
        bare=best,
    )
    assert ratio >= floor, f"{ratio:.2f} of the bare client's speed, where {target:g} is wanted and {floor:g} expected"
    return ratio


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and those of this process's processor time."""
    gc.collect()
    started, before = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - started, time.process_time() - before
