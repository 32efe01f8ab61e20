"""Whoever parses `--json` finds one JSON document, whatever went wrong."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        (("inspect", "memory:nobody#b"), "CollectionMissing", 2),
        (("inspect", "nonsense"), "AddressError", 2),
        (("inspect",), "MissingParameter", 2),
        (("inspect", "memory:a#b", "--nonsense"), "NoSuchOption", 2),
        (("nonsense",), "NoSuchCommand", 2),
        (("verify", "nowhere"), "CollectionMissing", 2),
        (("report", "nowhere"), "UsageError", 2),
        (("drill", "run", "nowhere.yaml"), "UsageError", 2),
        (("inspect", "qdrant+http://127.0.0.1:1#a", "--retries", "1"), "StoreUnavailable", 5),
    ],
)
def test_an_error_is_a_document_too(cli: Cli, words: tuple[str, ...], kind: str, code: int) -> None:
    ended = cli(*words, "--json", code=code)
    assert ended.json["exit_code"] == code
    assert (ended.json["verdict"], ended.json["findings"]) == (None, [])
    assert ended.json["error"]["kind"] == kind
    assert ended.json["error"]["message"]
    assert ended.err, "people are told on stderr as before"


def test_without_json_nothing_stands_on_stdout(cli: Cli) -> None:
    assert cli("inspect", "memory:nobody#b", code=2).out == ""


def test_a_password_in_an_address_is_masked_there_too(cli: Cli) -> None:
    ended = cli("inspect", "chroma+http://me:hunter2-hunter2@127.0.0.1:9#a", "--json")
    assert "hunter2" not in ended.out + ended.err
