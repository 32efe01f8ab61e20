"""For every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from exitramp import secrets

LONGEST = (
    *("drills/test_packaged", "adapters/test_milvus", "adapters/test_lancedb", "adapters/test_pinecone"),
    *("adapters/test_chroma", "adapters/test_weaviate", "drill/test_engine", "orchestration/test_referee"),
    *("adapters/test_duckdb", "adapters/test_servers_failing", "adapters/test_pgvector", "adapters/test_faiss"),
    *("adapters/test_pinecone_commands", "adapters/test_pinecone_indexes", "adapters/test_hdf5"),
    *("adapters/test_pinecone_limits", "adapters/test_faiss_lossy", "services/test_llama_server"),
    *("drill/test_application", "testing/test_narrow_stores", "adapters/test_embedders", "migration/test_chain"),
    *("tour/test_tour", "testing/test_suite_catches", "adapters/test_qdrant_http", "adapters/test_qdrant_edge"),
    *("adapters/test_usearch", "adapters/test_vdf", "adapters/test_redis", "adapters/test_models"),
    *("adapters/test_chat_models", "drill/test_interruption", "report/test_hostile_journals", "cli/test_reindex"),
    *("adapters/test_lancedb_tables", "cli/test_stores_check", "drill/test_silent_drift", "house/test_network"),
    *("dump/test_agreement", "adapters/test_faiss_files", "dump/test_crashes", "adapters/test_side_car_files"),
)
"""Files of a quarter of a minute and more, the longest first, as they were measured one at a time. A worker takes a
file at a time: none of these may begin when the others have nothing left, as those with few tests did."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest begins first, where several workers share the files (with --no-loadscope-reorder)."""
    if not hasattr(config, "workerinput"):
        return
    places = {Path(__file__).parent / f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True)
def _secrets_are_those_of_the_test() -> Iterator[None]:
    """A process remembers every secret it was given, so as to mask it; one test's `word` is another's plain text."""
    before = set(secrets._fetched)
    yield
    secrets._fetched.clear()
    secrets._fetched.update(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The verdicts of the independent referee (tests/orchestration/test_referee.py), however many processes ran."""
    told = [
        (report.nodeid.rpartition("::")[2], str(said))
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for name, said in report.user_properties
        if name == "referee"
    ]
    if told:
        terminalreporter.section("verdicts of llmock")
        for test, said in sorted(told):
            lines = [line.strip() for line in said.splitlines() if line.strip()]
            terminalreporter.write_line(f"{test}: {' | '.join(lines)}")
