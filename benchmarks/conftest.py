"""A last table: every benchmark with its ratio, as docs/benchmarks.md shows them."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    session = getattr(config, "_benchmarksession", None)
    found = [bench for bench in getattr(session, "benchmarks", ()) if bench.extra_info]
    if found:
        terminalreporter.section("ratios within this run")
    for bench in found:
        told = ", ".join(f"{name} {value}" for name, value in bench.extra_info.items())
        terminalreporter.write_line(f"{bench.name}: {told}")
