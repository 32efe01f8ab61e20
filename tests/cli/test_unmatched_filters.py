"""A filter of the user's own that lets nothing through is named with its key, and whether any record has that key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.cli.test_compare_losses import put, records


@pytest.fixture(name="pair")
def _pair(name: str, cli: Cli) -> tuple[str, str]:
    one = put(f"memory:{name}-1#articles", records(1.0))
    cli("copy", one, f"memory:{name}-2#articles", code=0)
    return one, f"memory:{name}-2#articles"


def told(cli: Cli, pair: tuple[str, str], *filters: dict[str, Any]) -> tuple[list[Any], str]:
    words = [word for where in filters for word in ("--where", json.dumps(where))]
    found = cli("compare", *pair, *words, "--json", code=3).json
    return [each for each in found["findings"] if each["code"] == "neighbours.unmatched"], cli(
        "compare", *pair, *words, code=3
    ).out


def test_a_key_that_no_record_has_is_named(pair: tuple[str, str], cli: Cli) -> None:
    [found], said = told(cli, pair, {"eq": {"field": "nokey", "value": "kept-to-itself"}})
    text = "none of A's 12 records passes the filter where-1:eq:nokey: no record has the payload key 'nokey'"
    assert found["message"] == text
    assert found["verdict"] is None
    assert "under the filter where-1:eq:nokey, there was nothing to find" in said
    assert "next: exitramp inspect shows the keys that there are" in said
    assert "kept-to-itself" not in said


def test_a_value_that_no_record_has_is_told_from_a_key(pair: tuple[str, str], cli: Cli) -> None:
    [found], said = told(cli, pair, {"eq": {"field": "n", "value": 99}})
    assert found["message"].endswith("passes the filter where-1:eq:n: 12 records have the payload key 'n'")
    assert "exitramp inspect shows" not in said


def test_every_key_of_a_filter_in_parts_is_told(pair: tuple[str, str], cli: Cli) -> None:
    both = {"and": [{"eq": {"field": ["n", "deep"], "value": 1}}, {"exists": {"field": "n"}}]}
    [found], _ = told(cli, pair, {"exists": {"field": "n"}}, both)
    assert found["detail"]["part"] == "where-2:and"
    assert "no record has the payload key '[\"n\", \"deep\"]'; 12 records have the payload key 'n'" in found["message"]


def test_a_filter_that_lets_something_through_is_not_told(pair: tuple[str, str], cli: Cli) -> None:
    assert told(cli, pair, {"eq": {"field": "n", "value": 3}})[0] == []


def test_a_key_that_a_terminal_would_act_on_is_escaped(pair: tuple[str, str], cli: Cli) -> None:
    _, said = told(cli, pair, {"eq": {"field": "a\u001b[2Jb", "value": 1}})
    assert "\u001b[2J" not in said
    assert "\\x1b[2J" in said
