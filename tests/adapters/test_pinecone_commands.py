"""The commands with a Pinecone that charges: what they pay, where they stop and how they go on: wire mocked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from exitramp.cli.main import run
from tests.adapters.pinecone_mock import Mocked, running

IDS = [f"doc-{number:04d}" for number in range(2_000)]


@pytest.fixture
def mocked(tmp_path: Path) -> Iterator[Mocked]:
    with running(tmp_path, rates=False) as found:
        yield found


def units(mocked: Mocked) -> int:
    return int(mocked.service.counters()["read_units"])


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--limit", "170", "limit=170"),
        ("--max-read-units", "30", "max_read_units=30"),
        ("--max-usd", "0.0005", "max_usd=0.0005"),
        ("--max-minutes", "0.000001", "max_minutes=1e-06"),
    ],
)
def test_a_dump_stops_before_a_limit_that_is_given_as_an_option(
    mocked: Mocked, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, named: str
) -> None:
    mocked.fill("docs", {"": IDS[:450]})
    before = units(mocked)
    assert run(["dump", str(mocked.address("docs")), str(tmp_path / "dump"), option, value]) == 5
    assert named in capsys.readouterr().err
    assert units(mocked) - before <= 31
