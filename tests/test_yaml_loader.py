"""YAML here means what its version 1.2 says, and what two readers take for two things is refused by its line."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from exitramp.errors import ConfigError
from exitramp.finops.prices import load_price_book
from exitramp.yaml_loader import dump, load
from exitramp.yaml_reader import read_block


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("OFF", "OFF"),
        ("true", True),
        ("False", False),
        ("2026-11-23", "2026-11-23"),
        ("2026-11-23 10:00:00", "2026-11-23 10:00:00"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("12", 12),
        ("-7", -7),
        ("0", 0),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("'017'", "017"),
        ("~", None),
        ("", None),
        ("1.2.3", "1.2.3"),
        ("{a: no, b: [1:30]}", {"a": "no", "b": ["1:30"]}),
        ("a: 1\r\nb: on\r\n", {"a": 1, "b": "on"}),
        ("\ufeffa: 1", {"a": 1}),
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
    ],
)
def test_a_plain_value_is_what_version_1_2_says(text: str, value: Any) -> None:
    found = load(text, "f.yaml")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 017", "f.yaml:2: '017' is one number to one reader of YAML and another one to the next"),
        ("- 0o17", "f.yaml:1: '0o17' is one number"),
        ("a:\n  b: 1\n  b: 2", "f.yaml:3: the key 'b' stands twice"),
        ("a: [", "f.yaml:1: not YAML"),
        ("a: 1\nb: \x01", "f.yaml:2: not YAML: a character that is not allowed"),
        ("a: !!python/object:os.system {}", "f.yaml:1: could not determine a constructor"),
        (f"a: {'9' * 5000}", "f.yaml:1: a value that no type can hold"),
        ("[" * 60 + "]" * 60, "f.yaml:1: nested too deeply"),
        ("[" * 9000, "f.yaml:1: not YAML that can be read: nested too deeply"),
        ("a: &a [*a]", "f.yaml:1: an alias stands inside what it stands for"),
    ],
)
def test_what_cannot_be_read_or_is_read_two_ways_is_refused_by_its_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text, "f.yaml")
    assert str(caught.value).startswith(said)


def test_aliases_to_aliases_are_counted_written_out() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="holds more than 100,000 values, aliases written out"):
        load("\n".join(lines), "f.yaml")


def test_a_number_in_a_file_of_keys_is_no_time_of_day() -> None:
    """`concurrency: 1:30` was ninety."""
    block = read_block("concurrency: 1:30\nname: no\nflag: yes\nold: 017", "stack.yaml")
    with pytest.raises(ConfigError, match=r"stack.yaml:1: 'concurrency' must be a whole number"):
        block.integer("concurrency")
    assert block.text("name") == "no"
    with pytest.raises(ConfigError, match=r"stack.yaml:3: 'flag' must be true or false"):
        block.flag("flag")
    with pytest.raises(ConfigError, match=r"stack.yaml:4: 'old' cannot be read: '017' is one number") as caught:
        block.integer("old")
    assert caught.value.hint == "write it in decimal figures, or in quotes where it is a text"


@pytest.mark.parametrize("text", ["no", "1e5", "0o17", "017", "1:30", "2026-11-23", "~", "", "0x1f", ".5", "1_000"])
def test_a_text_that_is_written_is_read_back_as_a_text(text: str) -> None:
    assert load(dump({"a": text, f"_{text}": [text]}), "f.yaml") == {"a": text, f"_{text}": [text]}


def test_every_packaged_file_is_read() -> None:
    found = 0
    for package in ("exitramp_drills", "exitramp_fixtures"):
        for path in Path(str(files(package))).rglob("*.yaml"):
            assert load(path.read_text("utf-8"), str(path))
            found += 1
    assert found > 15
    assert load_price_book(files("exitramp_fixtures") / "pricebooks" / "mock_vendors.yaml").prices
