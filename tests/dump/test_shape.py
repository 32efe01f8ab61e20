"""Manifests are read as strictly as their JSON Schema says, and a little more."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from exitramp.dump.integrity import verify_dump
from exitramp.dump.manifest import Manifest
from exitramp.dump.reader import DumpSource
from exitramp.dump.shape import manifest_schema, quoted, require_shape, strict_json
from exitramp.errors import DumpCorrupt, IntegrityError
from exitramp.records import Verdict
from tests.dump.damage import change_json, read_journal, write_journal, write_manifest
from tests.dump.damage import read_manifest as manifest_json

VALIDATOR = jsonschema.Draft202012Validator(dict(manifest_schema()))


class _Chance:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, number: int) -> int:
        return self._random.randrange(number)


@pytest.fixture
def dump(plain: Any, write_dump: Any) -> Path:
    folder: Path = write_dump(plain)
    return folder


def is_taken(value: Any) -> bool:
    try:
        require_shape(value, None, file="manifest.json")
    except DumpCorrupt:
        return False
    return True


def has_whole_float(value: Any) -> bool:
    """Whether somewhere a number like 4.0 stands: to JSON Schema an integer, and not to this format."""
    if isinstance(value, dict | list):
        return any(has_whole_float(item) for item in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and value.is_integer()


@pytest.mark.parametrize("kind", ["plain", "wide"])
def test_what_is_read_of_json_schema_judges_as_a_whole_implementation_does(
    kind: str, few: dict[str, Any], write_dump: Any, tmp_path: Path
) -> None:
    data = manifest_json(write_dump(few[kind], tmp_path / kind))
    for facts in data["vector_facts"].values():
        facts.update(norm_minimum=None, norm_maximum=None, magnitude_maximum=None)
    taken = 0
    for seed in range(600):
        changed = copy.deepcopy(data)
        for _ in range(2):
            change_json(changed, _Chance(seed))
        try:
            expected = VALIDATOR.is_valid(changed)
            stricter = expected and has_whole_float(changed)
        except RecursionError:
            continue  # nested deeper than that implementation can look
        if not stricter:
            assert is_taken(changed) is expected, seed
            taken += expected
    assert 20 < taken < 500


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (2**40, "'collection.vectors[0].dimensions' is above 16777216"),
        (2**24 + 1, "'collection.vectors[0].dimensions' is above 16777216"),
        (0, "'collection.vectors[0].dimensions' is below 1"),
        (-4, "'collection.vectors[0].dimensions' is below 1"),
        (True, "'collection.vectors[0].dimensions' is no integer and no null"),
        (4.0, "'collection.vectors[0].dimensions' is no integer and no null"),
        ("4", "'collection.vectors[0].dimensions' is no integer and no null"),
        ([4], "'collection.vectors[0].dimensions' is no integer and no null"),
    ],
)
def test_dimensions_that_nothing_can_have_are_refused_by_name(dump: Path, value: Any, fault: str) -> None:
    data = manifest_json(dump)
    data["collection"]["vectors"][0]["dimensions"] = value
    write_manifest(dump, data)
    assert fault in verify_dump(dump).findings[0].message
    with pytest.raises(DumpCorrupt) as caught:
        DumpSource(dump)
    assert fault in str(caught.value)


@pytest.mark.parametrize("value", [2**40, True, 4.0, "4"])
def test_a_journal_is_read_as_strictly(dump: Path, value: Any) -> None:
    lines = read_journal(dump)
    lines[0]["data"]["collection"]["vectors"][0]["dimensions"] = value
    write_journal(dump, lines)
    [finding] = verify_dump(dump).findings
    assert finding.message.startswith("journal.jsonl: line 1: does not say what is dumped ('collection.vectors[0].dim")


@pytest.mark.parametrize(
    "path", ["shards/\x1b[2J", "shards/a\nb", "shards/\x7f", "shards/\u202egnp", "shards/\u2028", "a" * 5000]
)
def test_a_path_that_a_terminal_would_obey_or_no_disk_holds_is_refused(dump: Path, path: str) -> None:
    data = manifest_json(dump)
    data["shards"][0]["path"] = path
    write_manifest(dump, data)
    report = verify_dump(dump)
    assert report.verdict is Verdict.FAIL
    assert all(finding.message.isprintable() for finding in report.findings)


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":1,"a":1}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b"[" * 101 + b"]" * 101,
        b"[" * 100_000,
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xff"}',
        b"",
    ],
)
def test_text_that_is_hardly_json_is_refused(content: bytes) -> None:
    with pytest.raises(DumpCorrupt, match="here"):
        strict_json(content, name="here")


@pytest.mark.parametrize("value", [{}, [], {"a": [1.5, None, True, "é\U0001f680"]}, 10**4000])
def test_all_other_json_is_read_as_it_is(value: Any) -> None:
    assert strict_json(json.dumps(value, ensure_ascii=False).encode(), name="here") == value


def test_nesting_as_deep_as_it_may_be_can_be_read_and_printed(dump: Path) -> None:
    def nested(levels: int) -> dict[str, Any]:
        deep: Any = 1
        for _ in range(levels):
            deep = {"in": deep}
        return {"index": deep}

    data = manifest_json(dump)
    data["origin"]["spec"].update(nested(98))
    write_manifest(dump, data)
    with pytest.raises(IntegrityError, match="nested deeper than 100"):
        DumpSource(dump)
    data["origin"]["spec"].update(nested(96))
    write_manifest(dump, data)
    assert DumpSource(dump).manifest().to_json() == data
    assert verify_dump(dump).verdict is Verdict.FAIL


def test_a_manifest_too_great_to_be_one_is_not_read(dump: Path) -> None:
    with (dump / "manifest.json").open("r+b") as file:
        file.truncate(2**40)  # takes no room on the disk
    report = verify_dump(dump)
    assert "are the most there can be" in report.findings[0].message


def test_texts_of_others_are_quoted_short_plain_and_masked() -> None:
    assert quoted("a") == "'a'"
    assert quoted("\x1b\ud800é") == "'\\x1b\\ud800\\xe9'"
    assert len(quoted("x" * 10**6)) < 100
    assert "a1b2" not in quoted("sk-" + "a1b2" * 10)


def test_a_version_of_any_length_is_told_shortly() -> None:
    with pytest.raises(IntegrityError) as caught:
        Manifest.from_bytes(json.dumps({"format": "exitramp-dump", "format_version": ["x" * 10_000]}).encode())
    assert len(str(caught.value)) < 400
