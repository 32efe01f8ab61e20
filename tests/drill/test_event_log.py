"""The event log: what it holds, what its chain shows, what it does with a crash, and what it never writes down."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from exitramp.clock import ManualClock, SystemClock
from exitramp.drill import event_log
from exitramp.drill.anchor import ANCHOR_PROPERTY
from exitramp.drill.event import FINISHED, GENESIS
from exitramp.drill.event_log import EventLog
from exitramp.drill.log_reading import LogReading, read_events, read_log, verify_against_anchor
from exitramp.errors import DataInvalid, ExitCode, JournalCorrupt

DOCS = Path(__file__).parents[2] / "docs" / "report.md"


def write_log(path: Path, *, finish: bool = True) -> EventLog:
    clock = ManualClock()
    log = EventLog.create(path, clock)
    log.append("run.started", {"run_id": "r-1", "seed": 7, "note": "naïve — ✓ \u2028 \x7f \x00"})
    clock.advance(10.0004567)
    log.append("fault.injected", {"fault": "http_503", "target": "primary", "hash": "a" * 64, "kind": "outage"})
    clock.advance(2.25)
    log.append("switch.decided", {"latency_ms": 12.5, "none": None, "nested": {"z": [1, 2.0, -0.0], "a": True}})
    if finish:
        log.finish({"verdict": "pass"})
    else:
        log.close()
    return log


def write_junit(path: Path, head: str | None) -> Path:
    properties = f'<property name="{ANCHOR_PROPERTY}" value="{head}"/>' if head is not None else ""
    path.write_text(f"<testsuites><testsuite name='d'><properties>{properties}</properties></testsuite></testsuites>")
    return path


def test_what_is_appended_is_what_is_read(tmp_path: Path) -> None:
    clock = ManualClock()
    with EventLog.create(tmp_path / "log.jsonl", clock) as log:
        first = log.append("run.started", {"count": 3, "tuple": (1, 2), "price": Decimal("0.10"), "big": 2**70})
        clock.advance(1.5)
        second = log.append("run.step", {})
    assert read_events(tmp_path / "log.jsonl") == [first, second]
    assert (first.seq, first.prev, first.elapsed_seconds) == (1, GENESIS, 0.0)
    assert (second.seq, second.prev, second.elapsed_seconds) == (2, first.hash, 1.5)
    assert (first.ts, second.ts) == ("2030-01-01T00:00:00.000Z", "2030-01-01T00:00:01.500Z")
    assert first.data == {"count": 3, "tuple": [1, 2], "price": Decimal("0.10"), "big": 2**70}
    assert log.head == second.hash


def test_each_event_is_on_disk_when_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(event_log.os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_size), real(fd))[1])
    log = EventLog.create(tmp_path / "log.jsonl", SystemClock())
    sizes = []
    for step in range(3):
        log.append("run.step", {"step": step})
        sizes.append((tmp_path / "log.jsonl").stat().st_size)
    assert synced[-3:] == sizes
    log.close()


def test_a_log_is_never_reopened_or_overwritten(tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl")
    before = (tmp_path / "log.jsonl").read_bytes()
    with pytest.raises(DataInvalid, match="there is a log already"):
        EventLog.create(tmp_path / "log.jsonl", ManualClock())
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_a_finished_log_says_so_and_takes_no_more_events(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl")
    reading = read_log(tmp_path / "log.jsonl")
    assert reading.finished
    assert reading.events[-1].kind == FINISHED
    assert reading.head == log.head
    with pytest.raises(JournalCorrupt, match="no more events"):
        log.append("run.step", {})


def test_changing_any_single_byte_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    head = write_log(path).head
    junit = write_junit(tmp_path / "junit.xml", head)
    whole = path.read_bytes()
    assert verify_against_anchor(path, junit) == head
    for index in range(len(whole)):
        for changed in {whole[index] ^ 1, whole[index] ^ 0x20, ord("0"), ord(" ")} - {whole[index]}:
            path.write_bytes(whole[:index] + bytes([changed]) + whole[index + 1 :])
            with pytest.raises(JournalCorrupt, match=r"log\.jsonl:\d+: "):
                read_events(path)


def test_removing_or_inserting_any_single_byte_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path)
    whole = path.read_bytes()
    for index in range(len(whole)):
        for changed in (whole[:index] + whole[index + 1 :], whole[:index] + b" " + whole[index:]):
            path.write_bytes(changed)
            with pytest.raises(JournalCorrupt):
                read_events(path)


def test_the_error_names_the_line_that_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path)
    path.write_text(path.read_text().replace('"latency_ms":12.5', '"latency_ms":12.4'))
    with pytest.raises(JournalCorrupt, match=r"log\.jsonl:3: its hash") as caught:
        read_events(path)
    assert caught.value.exit_code is ExitCode.INTEGRITY


@pytest.mark.parametrize(
    "rearranged",
    [
        pytest.param(lambda lines: [lines[0], lines[2], lines[1], lines[3]], id="swapped"),
        pytest.param(lambda lines: [lines[0], lines[2], lines[3]], id="dropped from the middle"),
        pytest.param(lambda lines: lines[1:], id="dropped from the start"),
        pytest.param(lambda lines: [lines[0], lines[1], lines[1], lines[2], lines[3]], id="doubled"),
        pytest.param(lambda lines: [*lines, lines[0]], id="added at the end"),
        pytest.param(lambda lines: [lines[0], b"", *lines[1:]], id="an empty line"),
    ],
)
def test_lines_that_were_moved_are_detected(tmp_path: Path, rearranged: object) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join(rearranged(lines)) + b"\n")  # type: ignore[operator]
    with pytest.raises(JournalCorrupt):
        read_events(path)


def test_a_log_cut_off_between_lines_holds_as_a_chain_but_not_against_the_anchor(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    junit = write_junit(tmp_path / "junit.xml", write_log(path).head)
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines)):
        path.write_bytes(b"".join(lines[:kept]))
        assert len(read_events(path)) == kept
        assert not read_log(path).finished
        with pytest.raises(JournalCorrupt, match="cut short, extended or rewritten"):
            verify_against_anchor(path, junit)
    path.write_bytes(b"")
    with pytest.raises(JournalCorrupt, match="holds no event"):
        verify_against_anchor(path, junit)


def test_a_chain_recomputed_by_a_forger_holds_by_itself_and_fails_against_the_anchor(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    junit = write_junit(tmp_path / "junit.xml", write_log(path).head)
    head, forged = GENESIS, []
    for line in path.read_text().split("\n")[:-1]:
        event = json.loads(line.replace("http_503", "http_200"))
        event.pop("hash")
        event["prev"] = head
        text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        head = event["hash"] = hashlib.sha256(text.encode()).hexdigest()
        forged.append(json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    path.write_text("\n".join(forged) + "\n")
    assert len(read_events(path)) == 4, "the chain alone proves nothing: this is why there is an anchor"
    with pytest.raises(JournalCorrupt, match="its head is"):
        verify_against_anchor(path, junit)


@pytest.mark.parametrize("head", [None, "", "abc", "A" * 64])
def test_an_anchor_that_is_missing_or_malformed_never_passes(tmp_path: Path, head: str | None) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path)
    with pytest.raises(JournalCorrupt, match=ANCHOR_PROPERTY):
        verify_against_anchor(path, write_junit(tmp_path / "junit.xml", head))


def test_an_anchor_file_that_is_missing_or_no_xml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path)
    with pytest.raises(JournalCorrupt, match=r"junit\.xml"):
        verify_against_anchor(path, tmp_path / "junit.xml")
    (tmp_path / "junit.xml").write_text("<testsuites>")
    with pytest.raises(JournalCorrupt, match=r"junit\.xml"):
        verify_against_anchor(path, tmp_path / "junit.xml")


def test_a_last_line_torn_by_a_crash_is_told_apart_from_corruption(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = write_log(path, finish=False)
    whole = path.read_bytes()
    last = whole.rfind(b"\n", 0, -1) + 1
    for end in range(last + 1, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(JournalCorrupt, match=rf"log\.jsonl:3: the last line is torn after {end - last} byte"):
            read_events(path)
        assert [event.seq for event in read_events(path, unfinished=True)] == [1, 2]
        reading = read_log(path)
        assert (reading.torn_bytes, reading.finished, reading.head) == (end - last, False, log_head(reading))
        assert reading.head != log.head
    path.write_bytes(whole[:last] + b"\0" * 40)  # what some file systems leave after a power loss
    assert read_log(path).torn_bytes == 40


def log_head(reading: LogReading) -> str:
    return reading.events[-1].hash


def test_a_tear_in_the_middle_is_corruption_even_for_an_unfinished_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:50] + b"\n" + lines[2])
    with pytest.raises(JournalCorrupt, match=r"log\.jsonl:2: "):
        read_events(path, unfinished=True)


def test_an_empty_log_is_that_of_an_unfinished_run(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    EventLog.create(path, ManualClock()).close()
    with pytest.raises(JournalCorrupt, match="holds no event"):
        read_events(path)
    assert read_events(path, unfinished=True) == []


def test_after_a_write_that_failed_nothing_more_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    log = EventLog.create(path, ManualClock())
    log.append("run.started", {})
    real = os.write

    def disk_full(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[: len(data) - 60])

    monkeypatch.setattr(event_log.os, "write", disk_full)
    with pytest.raises(JournalCorrupt, match="event 2 could not be written: No space left"):
        log.append("run.step", {})
    monkeypatch.undo()
    with pytest.raises(JournalCorrupt, match="no more events"):
        log.append("run.step", {})
    log.close()
    assert [event.kind for event in read_events(path, unfinished=True)] == ["run.started"]
    assert read_log(path).torn_bytes > 0


def test_events_of_many_threads_form_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = EventLog.create(path, SystemClock())
    threads = [
        threading.Thread(target=lambda n=n: [log.append("load.window", {"n": n, "i": i}) for i in range(20)])
        for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.finish()
    events = read_events(path)
    assert len(events) == 101
    assert {(event.data["n"], event.data["i"]) for event in events[:-1]} == {
        (n, i) for n in range(5) for i in range(20)
    }
    assert all(earlier.elapsed_seconds <= later.elapsed_seconds for earlier, later in itertools.pairwise(events))


SECRETS = {
    "openai": "sk-abcdefghijklmnop1234",
    "aws": "AKIAABCDEFGHIJKLMNOP",
    "github": "ghp_abcdefghijklmnopqrst",
    "bearer": "Bearer abcdef0123456789",
    "pem": "-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----",
    "url": "https://someone:hunter2000@127.0.0.1/x",
    "assigned": "api_key=plainlookingword",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_secret_in_a_value_a_key_or_a_list_is_not_written(tmp_path: Path, secret: str) -> None:
    path = tmp_path / "log.jsonl"
    with EventLog.create(path, ManualClock()) as log:
        log.append("vendor.error", {"message": f"401: {secret} is wrong", "list": [{"deep": (secret,)}], secret: 1})
    written = path.read_text()
    for word in ("abcdef", "ABCDEF", "hunter2000", "MIIabc", "plainlookingword"):
        assert word not in written
    assert "[secret]" in written
    assert len(read_events(path)) == 1


def test_a_password_is_known_by_the_key_it_stands_under(tmp_path: Path) -> None:
    with EventLog.create(tmp_path / "log.jsonl", ManualClock()) as log:
        event = log.append("config.read", {"password": "a b", "api_key": "env:VENDOR_KEY", "token": "", "n": "x"})
    assert event.data == {"password": "[secret]", "api_key": "env:VENDOR_KEY", "token": "", "n": "x"}


def test_hashes_and_ids_are_left_alone(tmp_path: Path) -> None:
    data = {"sha256": hashlib.sha256(b"x").hexdigest(), "id": "numpy.linalg.norm#3", "uuid": "0" * 8 + "-1111"}
    with EventLog.create(tmp_path / "log.jsonl", ManualClock()) as log:
        assert log.append("dump.written", data).data == data


@pytest.mark.parametrize("kind", ["", "Run", "run started", "run..x", "run.", ".run", "run\n", "ghp_abcdefghijklmnop"])
def test_a_kind_is_lower_case_words_joined_by_dots(tmp_path: Path, kind: str) -> None:
    with EventLog.create(tmp_path / "log.jsonl", ManualClock()) as log, pytest.raises(DataInvalid, match="kind"):
        log.append(kind, {})


@pytest.mark.parametrize("value", [b"bytes", "\ud800", object(), {1: "a key that is no text"}])
def test_what_has_no_form_is_refused_and_leaves_the_log_whole(tmp_path: Path, value: object) -> None:
    path = tmp_path / "log.jsonl"
    with EventLog.create(path, ManualClock()) as log:
        log.append("run.started", {})
        with pytest.raises(DataInvalid):
            log.append("run.step", {"value": value})
        log.append("run.step", {"value": "fine"})
    assert len(read_events(path)) == 2


def recipe(language: str) -> str:
    """The recipe of that language in the documentation: the first fenced block after its heading."""
    text = DOCS.read_text(encoding="utf-8")
    return text.split(f"```{language}\n", 1)[1].split("```", 1)[0]


def run_recipe(language: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-"] if language == "python" else ["sh", "-s"]
    return subprocess.run(
        command, input=recipe(language), capture_output=True, text=True, timeout=60, cwd=folder, check=False
    )


@pytest.mark.parametrize("language", ["python", "sh"])
def test_the_recipes_of_the_documentation_verify_a_log_without_this_program(tmp_path: Path, language: str) -> None:
    if language == "sh" and not (shutil.which("sha256sum") and shutil.which("sed")):
        pytest.skip("no sha256sum or sed on this machine")
    path = tmp_path / "journal.jsonl"
    head = write_log(path).head
    done = run_recipe(language, tmp_path)
    assert done.returncode == 0, done.stderr
    assert head in done.stdout
    lines = path.read_text(encoding="utf-8").split("\n")
    for changed in (
        [lines[0].replace("naïve", "naive"), *lines[1:]],
        [lines[0], *lines[2:]],
        [lines[0], lines[1].replace("http_503", "http_200"), *lines[2:]],
    ):
        path.write_text("\n".join(changed), encoding="utf-8")
        assert run_recipe(language, tmp_path).returncode != 0
