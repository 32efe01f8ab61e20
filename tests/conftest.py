"""For every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exitramp import secrets


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
