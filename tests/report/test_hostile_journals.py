"""Journals that somebody edited, cut or made up: an error or inconclusive, never a pass and never a traceback."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run
from tests.report.drill_journals import Play, drill, judged, played
from tests.report.drill_results import results
from tests.report.forging import events_of, rechained

Events = list[dict[str, Any]]
PASS, FAIL, INCONCLUSIVE, CORRUPT = 0, 1, 3, 4


def _data(events: Events, kind: str, step: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = next(
        each["data"] for each in events if each["kind"] == kind and step in {None, each["data"].get("step")}
    )
    return found


def _every(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same tree with `change` applied to each leaf."""
    if isinstance(value, dict):
        return {key: _every(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_every(item, change) for item in value]
    return change(value)


def _in_data(change: Callable[[Any], Any]) -> Callable[[Events], Events]:
    """`change` to each leaf of every event's data but the first's, which says what the drill was."""
    return lambda events: [events[0], *({**each, "data": _every(each["data"], change)} for each in events[1:])]


def _quicker(events: Events) -> Events:
    _data(events, "run.judged")["objectives"][0]["measured"] = 0.01
    return events


def _looser(events: Events) -> Events:
    started = _data(events, "run.started")
    started["objectives"]["rto_seconds"] = started["drill"]["objectives"]["rto_seconds"] = 99999
    return events


def _judged_against_others(events: Events) -> Events:
    for each in _data(events, "run.judged")["objectives"]:
        each["target"], each["measured"] = 99999, 0
    return events


def _missed_and_passed(events: Events) -> Events:
    _data(events, "run.judged")["objectives"][0]["measured"] = 99.0
    return events


def _failed_step(events: Events) -> Events:
    _data(events, "step.finished", "parity")["verdict"] = "fail"
    return events


def _undecided_step(events: Events) -> Events:
    _data(events, "step.finished", "parity")["verdict"] = "inconclusive"
    return events


def _ends_as_another(events: Events) -> Events:
    events[-1]["data"]["verdict"] = "fail"
    return events


def _stopped(events: Events) -> Events:
    at = next(place for place, each in enumerate(events) if each["kind"] == "step.finished")
    stop = {**events[at], "kind": "run.aborted", "data": {"step": "start", "reason": "no", "hint": None}}
    return [*events[: at + 1], stop, *events[at + 1 :]]


def _without(*steps: str) -> Callable[[Events], Events]:
    return lambda events: [each for each in events if each["data"].get("step") not in steps]


def _deep(events: Events) -> Events:
    nested: Any = 0
    for _ in range(200):
        nested = [nested]
    _data(events, "step.finished", "dump")["data"]["rows"] = nested
    return events


def _backwards_in_time(events: Events) -> Events:
    for number, each in enumerate(events):
        each["elapsed_seconds"] = float(-number)
    return events


def _unknown_kinds(events: Events) -> Events:
    return [events[0], *({**each, "kind": "something.else"} for each in events[1:])]


def _no_kind_of_verdict(events: Events) -> Events:
    _data(events, "run.judged")["verdict"] = events[-1]["data"]["verdict"] = "splendid"
    return events


def _another_drill(events: Events) -> Events:
    started = _data(events, "run.started")
    started["drill"] = {"name": 7, "steps": "all", "objectives": [], "primary": None, "data": {"show_values": "x"}}
    return events


def _swapped(lines: list[bytes]) -> bytes:
    return b"".join([lines[0], lines[2], lines[1], *lines[3:]])


FORGED: dict[str, Callable[[Events], Events]] = {
    "one figure better": _quicker,
    "objectives made looser": _looser,
    "judged against other targets": _judged_against_others,
    "missed and judged as met": _missed_and_passed,
    "a step that failed": _failed_step,
    "a step that is undecided": _undecided_step,
    "ends as another verdict": _ends_as_another,
    "stopped in between": _stopped,
    "without the steps that could fail": _without("parity", "measure_loss", "restore"),
    "without its last step": _without("rollback"),
    "only its beginning": lambda events: events[:1],
    "beginning and end": lambda events: [events[0], *events[-2:]],
    "without a judgement": lambda events: [each for each in events if each["kind"] != "run.judged"],
    "twice over": lambda events: [*events, *events],
    "backwards": lambda events: [events[0], *events[1:-1][::-1], events[-1]],
    "something after the end": lambda events: [*events, {**events[1], "kind": "note.added"}],
    "back in time": _backwards_in_time,
    "kinds that nobody knows": _unknown_kinds,
    "a verdict that is none": _no_kind_of_verdict,
    "another drill": _another_drill,
    "numbers as texts": _in_data(lambda leaf: str(leaf) if isinstance(leaf, int | float) else leaf),
    "nothing anywhere": _in_data(lambda leaf: None),
    "huge numbers": _in_data(lambda leaf: 10**30 if isinstance(leaf, int) and not isinstance(leaf, bool) else leaf),
    "less than nothing": _in_data(lambda leaf: -1 if isinstance(leaf, int | float) else leaf),
    "yes everywhere": _in_data(lambda leaf: True),
    "hard texts": _in_data(lambda leaf: "\x00<script>\u202e|`\n" if isinstance(leaf, str) else leaf),
    "nested deeply": _deep,
    "empty data": lambda events: [events[0], *({**each, "data": {}} for each in events[1:])],
}


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    played(tmp_path / "run", results()).end("pass", judged())
    assert run(["report", str(tmp_path / "run")]) == PASS
    return tmp_path / "run"


def _anchors(folder: Path) -> list[Path]:
    return [folder / "journal.anchor.json", *folder.glob("report.*")]


@pytest.mark.parametrize("name", FORGED)
def test_a_journal_rewritten_as_a_whole_is_told_by_its_anchor_and_is_no_pass_without_one(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rechained(folder, FORGED[name](copy.deepcopy(events_of(folder))))
    for arguments in ([], ["--verify"], ["--json"]):
        assert run(["report", str(folder), *arguments]) == CORRUPT
    for path in _anchors(folder):
        path.unlink()
    for arguments in ([], ["--verify"], ["--json"], ["--verify", "--json"]):
        assert run(["report", str(folder), *arguments]) in {FAIL, INCONCLUSIVE}
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", FORGED)
def test_even_under_an_anchor_of_its_own_a_journal_that_contradicts_itself_is_no_pass(
    tmp_path: Path, folder: Path, name: str
) -> None:
    """Whoever can write the folder can forge the anchor too: what is left then is what the journal itself says."""
    from exitramp.drill.anchor import write_anchor
    from exitramp.drill.log_reading import read_log

    rechained(folder, FORGED[name](copy.deepcopy(events_of(folder))))
    for path in _anchors(folder):
        path.unlink()
    reading = read_log(folder / "journal.jsonl")
    write_anchor(folder / "journal.jsonl", reading.head, len(reading.events))
    consistent = {"one figure better", "nested deeply"}
    expected = {PASS} if name in consistent else {FAIL, INCONCLUSIVE}
    assert run(["report", str(folder)]) in expected


@pytest.mark.parametrize(
    "damage",
    {
        "emptied": lambda raw: b"",
        "only a line feed": lambda raw: b"\n",
        "cut in a line": lambda raw: raw[: len(raw) // 2],
        "cut at a line's end": lambda raw: b"".join(raw.splitlines(keepends=True)[:-2]),
        "without its last line feed": lambda raw: raw[:-1],
        "first line gone": lambda raw: raw.split(b"\n", 1)[1],
        "a line gone": lambda raw: b"".join([*raw.splitlines(keepends=True)[:5], *raw.splitlines(keepends=True)[6:]]),
        "two lines swapped": lambda raw: _swapped(raw.splitlines(keepends=True)),
        "a blank line": lambda raw: raw.replace(b"\n", b"\n\n", 1),
        "a blank between": lambda raw: raw.replace(b'"seq":3', b'"seq": 3', 1),
        "other line ends": lambda raw: raw.replace(b"\n", b"\r\n"),
        "a byte order mark": lambda raw: b"\xef\xbb\xbf" + raw,
        "zeros at the end": lambda raw: raw + b"\x00" * 512,
        "no text": lambda raw: bytes(range(256)) * 40,
        "another encoding": lambda raw: raw.decode().encode("utf-16"),
        "nested without end": lambda raw: b"[" * 200_000 + b"\n",
        "a number without end": lambda raw: b'{"a":' + b"9" * 20_000 + b"}\n",
        "a key twice": lambda raw: raw.replace(b'"seq":1', b'"seq":1,"seq":1', 1),
        "one figure": lambda raw: raw.replace(b'"rows":40', b'"rows":41', 1),
        "something appended": lambda raw: raw + b"{}\n",
        "no chain": lambda raw: b'{"data":{},"kind":"run.started"}\n',
    }.items(),
    ids=lambda pair: pair[0],
)
def test_a_damaged_journal_is_an_error_that_names_the_file(
    folder: Path, damage: tuple[str, Callable[[bytes], bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    journal = folder / "journal.jsonl"
    journal.write_bytes(damage[1](journal.read_bytes()))
    for arguments in ([], ["--verify"], ["--json"]):
        capsys.readouterr()
        assert run(["report", str(folder), *arguments]) == CORRUPT, arguments
        told = capsys.readouterr()
        assert "journal.jsonl" in told.err + told.out
        assert "Traceback" not in told.err
    for path in _anchors(folder):
        path.unlink()
    for arguments in ([], ["--verify"]):
        assert run(["report", str(folder), *arguments]) in {INCONCLUSIVE, CORRUPT}, arguments
    assert "Traceback" not in capsys.readouterr().err


def test_an_aborted_run_stays_inconclusive_whatever_is_edited_out_of_it(tmp_path: Path) -> None:
    """What once worked: take out the line that says so, judge it as passed, compute the chain anew."""
    play = Play(tmp_path, drill())
    for name in ("start", "load_golden", "check_hypothesis", "baseline"):
        play.step(name, results().get(name, {}), "pass")
    play.abort("dump", "StoreUnavailable: gone")
    play.end("inconclusive", judged(rto_seconds=(None, "inconclusive")), "dump: StoreUnavailable: gone")
    events = [each for each in events_of(tmp_path) if each["kind"] != "run.aborted"]
    conclusion = _data(events, "run.judged")
    conclusion |= {"verdict": "pass", "aborted": None, "objectives": judged()}
    events[-1]["data"]["verdict"] = "pass"
    rechained(tmp_path, events)
    assert run(["report", str(tmp_path)]) == CORRUPT
    (tmp_path / "journal.anchor.json").unlink()
    for arguments in ([], ["--verify"], [], ["--verify"]):
        assert run(["report", str(tmp_path), *arguments]) == INCONCLUSIVE
