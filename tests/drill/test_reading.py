"""A drill file with a mistake in it is one error that names the file and the line, whatever the mistake is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exitramp.cli.main import run
from exitramp.drill.catalogue import read_drill
from exitramp.errors import ConfigError

GOOD = """version: 1
name: small
title: Small
mode: stressed
objectives: {rto_seconds: 5}
stop: {minutes: 5}
primary:
  store: {address: "memory:a#x"}
substitute:
  store: {address: "memory:b#x"}
orchestration: {tries: 2}
steps:
  - start: {}
  - outage: {phases: [{fault: refuse, on: store, seconds: 9}]}
"""
STORE = '{address: "memory:a#x"}'
LAUGHS = "{a: &a [1,2,3,4,5,6,7,8,9,0], " + ", ".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]" for before, name in zip("abcdef", "bcdefg", strict=True)
)


def options(value: str) -> tuple[str, str]:
    return STORE, f"{{service: mock-openai, options: {value}}}"


MISTAKES: dict[str, tuple[str, str, int, str]] = {
    # what was, what stands there instead, the line, what is said
    "nothing": (GOOD, "", 1, "must hold keys and values"),
    "only a comment": (GOOD, "# nothing\n", 1, "must hold keys and values"),
    "a list": (GOOD, "- a\n- b\n", 1, "must hold keys and values"),
    "a text": (GOOD, "hello\n", 1, "must hold keys and values"),
    "two documents": (GOOD, f"{GOOD}---\n{GOOD}", 15, "not YAML"),
    "a tab": ("  store: " + STORE, "\tstore: " + STORE, 8, "not YAML"),
    "a key twice": ("mode: stressed", "mode: stressed\nname: other", 5, "'name' stands twice"),
    "a key twice within": ("{minutes: 5}", "{minutes: 5, minutes: 6}", 6, "'minutes' stands twice"),
    "an alias of nothing": ("{minutes: 5}", "*nowhere", 6, "not YAML"),
    "an alias of itself": ("{minutes: 5}", "&a {minutes: *a}", 6, "stands inside what it stands for"),
    "aliases of aliases": (*options(LAUGHS + "}"), 8, "more than 100,000 values"),
    "a merged key": ("{minutes: 5}", "{<<: {errors: 3}, minutes: 5}", 6, "unknown key 'stop.<<'"),
    "a word for a number": ("minutes: 5", "minutes: five", 6, "'stop.minutes' must be a number"),
    "true for a number": ("minutes: 5", "minutes: true", 6, "'stop.minutes' must be a number"),
    "a list for a number": ("minutes: 5", "minutes: [5]", 6, "'stop.minutes' must be a number"),
    "a number of 400 digits": ("minutes: 5", "minutes: 1" + "0" * 400, 6, "must be at most"),
    "a number of 5,000 digits": ("minutes: 5", "minutes: 1" + "0" * 5000, 6, "cannot be read"),
    "a float beyond floats": ("minutes: 5", "minutes: 1.0e+400", 6, "must be a number"),
    "not a number": ("minutes: 5", "minutes: .nan", 6, "must be a number"),
    "a fault on what is not there": ("on: store", "on: chat", 14, "a fault on chat, and the primary has none"),
    "infinity": ("seconds: 9", "seconds: .inf", 14, "must be a number"),
    "a negative duration": ("seconds: 9", "seconds: -9", 14, "must be at least 0.5"),
    "a duration of ages": ("seconds: 9", "seconds: 1e+12", 14, "must be"),
    "a share above one": ("rto_seconds: 5", "error_rate: 5", 5, "must be at most 1"),
    "half a try": ("tries: 2", "tries: 2.5", 11, "must be a whole number"),
    "tries without end": ("tries: 2", "tries: 99999999999999999999", 11, "must be at most"),
    "a limit of no errors": ("minutes: 5", "errors: 0", 6, "must be at least 1"),
    "an unknown key": ("mode: stressed", "mode: stressed\nmood: good", 5, "unknown key 'mood'"),
    "a key misspelt": ("objectives:", "objektives:", 5, "unknown key 'objektives'"),
    "a block misspelt": ("store: " + STORE, "stoer: " + STORE, 8, "unknown key 'primary.stoer'"),
    "an argument misspelt": ("fault: refuse", "fautl: refuse", 14, "unknown key 'steps[1].outage.phases[0].fautl'"),
    "an unknown step": ("- start", "- strat", 13, "unknown step 'strat'"),
    "an unknown argument": ("- start: {}", "- start: {fast: true}", 13, "unknown key 'steps[0].start.fast'"),
    "an unknown fault": ("fault: refuse", "fault: sulk", 14, "is 'sulk'; it can be"),
    "two steps in one": ("- start: {}", "- {start: {}, dump: {}}", 13, "a step is one name"),
    "a step without arguments": ("- start: {}", "- start", 13, "must be a list of keys and values"),
    "a step that is nothing": ("- start: {}", "-", 13, "must be a list of keys and values"),
    "no step": (GOOD[GOOD.index("steps:") :], "steps: []\n", 12, "at least one step"),
    "steps without order": (GOOD[GOOD.index("steps:") :], "steps: {start: {}}\n", 12, "'steps' must be a list"),
    "steps left out": (GOOD[GOOD.index("steps:") :], "", 1, "'steps' is missing"),
    "a number of two readings": ("title: Small", "title: 017", 3, "'title' cannot be read: '017' is one number"),
    "a time of day for a number": ("{minutes: 5}", "{minutes: 1:30}", 6, "'stop.minutes' must be a number"),
    "bytes for options": (*options("{x: !!binary aGVsbG8=}"), 8, "must hold names and plain values"),
    "a set for options": (*options("!!set {a, b}"), 8, "must hold names and plain values"),
    "a number for a name": (*options("{1: 2}"), 8, "must hold names and plain values"),
    "an object of Python's": ("title: Small", "title: !!python/object/apply:os.system [ls]", 3, "cannot be read"),
    "a tag on a block": ("{minutes: 5}", "!!python/object:os.x {minutes: 5}", 6, "is not known here"),
    "a list for a key": ("{minutes: 5}", "{? [a] : 5}", 6, "a key must be a plain word"),
    "brackets without end": (*options("{a: " + "[" * 3000 + "]" * 3000 + "}"), 1, "nested too deeply"),
    "an open bracket": ("{minutes: 5}", "{minutes: 5", 7, "not YAML"),
    "a NUL": ("title: Small", "title: Sm\x00all", 3, "not allowed"),
    "another version": ("version: 1", "version: 2", 1, "version 2"),
    "an unknown mode": ("mode: stressed", "mode: wild", 4, "it can be stressed, planned"),
    "an outage in good order": ("mode: stressed", "mode: planned", 4, "the step in line 14 is an outage"),
    "a name that is a path": ("name: small", "name: ../../small", 2, "must be made of letters"),
    "address and service": (STORE, '{address: "memory:a#x", service: chroma-run}', 8, "needs either"),
    "no address": (STORE, "{collection: x}", 8, "needs either"),
    "an address that is none": (STORE, '{address: "nonsense"}', 8, "is not an address"),
    "a store that nobody installed": (STORE, '{address: "nowhere:a#x"}', 8, "no store 'nowhere' is installed"),
    "a service that nobody installed": (STORE, "{service: nowhere}", 8, "no service 'nowhere' is installed"),
    "a password": (STORE, '{address: "qdrant+http://me:hunter22@127.0.0.1#x"}', 8, "holds a password"),
}  # fmt: skip


def test_the_file_without_a_mistake_is_read() -> None:
    assert len(MISTAKES) >= 50
    assert [step.name for step in read_drill(GOOD, "small.yaml", None).steps] == ["start", "outage"]


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_error_with_file_and_line(name: str) -> None:
    was, instead, line, said = MISTAKES[name]
    assert GOOD.count(was) == 1
    with pytest.raises(ConfigError) as caught:
        read_drill(GOOD.replace(was, instead), "small.yaml", None)
    assert re.match(rf"small\.yaml:{line}: ", caught.value.message), caught.value.message
    assert said in caught.value.message
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("was", "instead", "meant"),
    [
        ("objectives:", "objektives:", "objectives"),
        ("steps:", "step:", "steps"),
        ("fault: refuse", "fautl: x", "fault"),
    ],
)
def test_what_was_meant_is_asked_before_anything_is_called_missing(was: str, instead: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_drill(GOOD.replace(was, instead), "small.yaml", None)
    assert "is missing" not in caught.value.message
    assert caught.value.hint == f"did you mean '{meant}'?"


def test_what_is_missing_and_like_nothing_there_is_missing() -> None:
    with pytest.raises(ConfigError, match="'objectives' is missing"):
        read_drill(GOOD.replace("objectives: {rto_seconds: 5}\n", ""), "small.yaml", None)


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_line_ends_and_a_byte_order_mark_of_other_systems_are_read(ends: str) -> None:
    assert read_drill("\ufeff" + GOOD.replace("\n", ends), "small.yaml", None).name == "small"


def test_a_broken_file_ends_the_command_with_2_and_begins_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(GOOD.replace("minutes: 5", "minutes: .nan"), encoding="utf-8")
    assert run(["drill", "run", str(file), "--out", str(tmp_path / "run")]) == 2
    assert f"error: {file}:6: 'stop.minutes' must be a number" in capsys.readouterr().err
    file.write_bytes(b"\xff\xfe\x00")
    assert run(["drill", "show", str(file)]) == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{golden: nowhere.jsonl}", "small.yaml:6: data.golden: there is neither a file"),
        ("{prices: nowhere}", "small.yaml:6: data.prices: there is neither a file"),
        ("{prompts: nowhere}", "small.yaml:6: data.prompts: there is no folder"),
        ("{embedder: 'anthropic:x'}", "small.yaml:6: data.embedder: 'anthropic' is no embedding model"),
        ("{golden: broken.jsonl}", "broken.jsonl:1"),
        ("{prices: broken.jsonl}", "broken.jsonl"),
    ],
)
def test_a_file_of_the_drill_that_is_missing_or_wrong_is_told_before_anything_starts(
    data: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jsonl").write_text("{not json\n", encoding="utf-8")
    file = tmp_path / "small.yaml"
    file.write_text(GOOD.replace("mode: stressed", f"mode: stressed\ndata:\n  {data[1:-1]}"), encoding="utf-8")
    assert run(["drill", "run", str(file), "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------ which file is meant


def test_a_file_that_is_not_there_is_said_not_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drill", "run", "nope.yaml"]) == 2
    assert "error: there is no file nope.yaml\n" in capsys.readouterr().err


def test_a_file_that_is_a_folder_or_no_text_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    for name, said in (("folder.yaml", "Is a directory"), ("bytes.yaml", "no text in UTF-8")):
        assert run(["drill", "show", str(tmp_path / name)]) == 2
        shown = capsys.readouterr().err
        assert f"{name}: cannot be read: " in shown
        assert said in shown
        assert "Error" not in shown


def test_a_folder_with_a_drill_in_it_is_answered_with_the_drills_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own-drill").mkdir()
    assert run(["drill", "run", "own-drill"]) == 2
    assert "it holds no drill.yaml" in capsys.readouterr().err
    (tmp_path / "own-drill" / "drill.yaml").write_text(GOOD, encoding="utf-8")
    assert run(["drill", "run", "own-drill"]) == 2
    shown = capsys.readouterr().err
    assert "no drill 'own-drill': it is a folder" in shown
    assert "next: its drill is own-drill/drill.yaml" in shown


def test_a_folder_that_is_called_like_a_packaged_drill_does_not_stand_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "silent_loss").mkdir()
    assert run(["drill", "show", "silent_loss"]) == 0
