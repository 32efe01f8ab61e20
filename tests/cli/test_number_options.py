"""Numbers that are none are refused: NaN is in every range, and a limit of NaN would never be reached."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli
from tests.drill.small_stacks import fill


@pytest.mark.parametrize("number", ["nan", "inf", "1e18", "-nan"])
@pytest.mark.parametrize(
    "words",
    [
        ("inspect", "A", "--timeout"),
        ("inspect", "A", "--rate"),
        ("compare", "A", "A", "--recall-floor"),
        ("dump", "A", "out", "--max-usd"),
        ("dump", "A", "out", "--max-minutes"),
    ],
    ids=lambda words: words[-1],
)
def test_a_number_that_is_none_is_a_mistake(cli: Cli, name: str, words: tuple[str, ...], number: str) -> None:
    there = fill(f"memory:{name}#articles", rows=3)
    ended = cli(*(there if word == "A" else word for word in words), number, code=2)
    assert words[-1] in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("tolerance", ["vector=ulp:nan", "vector=cosine:nan", "vector=l2:inf"])
def test_a_tolerance_that_is_no_number_is_a_mistake(cli: Cli, name: str, tolerance: str) -> None:
    there = fill(f"memory:{name}#articles", rows=3)
    cli("compare", there, there, "--tolerance", tolerance, code=2)
