"""The idempotency journal on disk: what survives a process, and what is named after one died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exitramp.clock import ManualClock
from exitramp.errors import JournalCorrupt, UsageError
from exitramp.orchestration import AnswerNotKept, IdempotencyJournal, StoredAnswer
from exitramp.ports import ChatAnswer
from exitramp.records import Usage

ANSWER = StoredAnswer(
    ChatAnswer("a confidential answer", "stop", "m", Usage(3, 2, cache_read_tokens=1), 4.5), "primary", ("a", "b"), True
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def journal(path: Path, **more: object) -> IdempotencyJournal:
    return IdempotencyJournal(path, clock=ManualClock(), sync=False, **more)  # type: ignore[arg-type]


def claim(journal: IdempotencyJournal, key: str = "key-1", request: str = "r" * 64) -> StoredAnswer | None:
    return journal.claim(key, request, timeout_seconds=0.0)


def test_an_answer_is_given_again_from_memory(path: Path) -> None:
    with journal(path) as first:
        assert claim(first) is None
        first.answered("key-1", ANSWER)
        assert claim(first) is ANSWER


def test_without_a_spool_a_new_process_knows_that_it_was_answered_but_not_what(path: Path) -> None:
    with journal(path) as first:
        claim(first)
        first.answered("key-1", ANSWER)
    with journal(path) as second, pytest.raises(AnswerNotKept, match="spool"):
        claim(second)
    written = path.read_text("utf-8")
    assert "confidential" not in written
    assert "key-1" not in written


def test_with_a_spool_a_new_process_gives_the_same_answer(path: Path, tmp_path: Path) -> None:
    with journal(path, spool=tmp_path / "spool") as first:
        claim(first)
        first.answered("key-1", ANSWER)
    with journal(path, spool=tmp_path / "spool") as second:
        assert claim(second) == ANSWER
        assert claim(second, "key-2") is None
    (spooled,) = (tmp_path / "spool").glob("*.json")
    spooled.write_text(spooled.read_text().replace("confidential", "forged"))
    with journal(path, spool=tmp_path / "spool") as third, pytest.raises(AnswerNotKept):
        claim(third)


def test_a_key_stands_for_one_request_only_over_restarts_too(path: Path) -> None:
    with journal(path) as first:
        claim(first)
        first.failed("key-1", error_class="overloaded")
    with journal(path) as second, pytest.raises(UsageError, match="another request"):
        claim(second, request="s" * 64)


def test_doubts_add_up_over_tries_and_restarts(path: Path) -> None:
    with journal(path) as first:
        claim(first)
        first.doubt("key-1", vendor="a", error_class="timeout")
        first.failed("key-1", error_class="timeout")
        claim(first, "key-2")
        first.doubt("key-2", vendor="a", error_class="timeout")
        first.failed("key-2", error_class="timeout")
    with journal(path) as second:
        assert claim(second) is None
        second.answered("key-1", ANSWER)
        twice, once = second.billing_doubts()
        assert (twice.possibly_billed_twice, once.possibly_billed_twice) == (True, False)
        assert twice.vendors == ("a",)


def test_a_process_that_dies_in_the_middle_leaves_a_doubt(path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from exitramp.orchestration import IdempotencyJournal\n"
        "journal = IdempotencyJournal(Path(sys.argv[1]))\n"
        "journal.claim('key-1', 'r' * 64, timeout_seconds=0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    with path.open("ab") as file:
        file.write(b'{"n":2,"at":"20')  # and half of a line
    with journal(path) as after:
        (doubt,) = after.billing_doubts()
        assert (doubt.doubtful, doubt.vendors, doubt.possibly_billed_twice) == (1, ("unknown",), False)
        assert claim(after) is None
        after.answered("key-1", ANSWER)
        assert after.billing_doubts()[0].possibly_billed_twice
    with journal(path) as again:
        assert len(path.read_bytes().splitlines()) == 3
        assert [doubt.is_answered for doubt in again.billing_doubts()] == [True]


@pytest.mark.parametrize("damage", ["flip", "drop", "swap", "foreign"])
def test_a_damaged_line_is_an_error_that_names_it(path: Path, damage: str) -> None:
    with journal(path) as first:
        for key in ("a", "b", "c"):
            claim(first, key)
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "flip":
        lines[1] = lines[1].replace(b"begin", b"begun")
    elif damage == "drop":
        del lines[1]
    elif damage == "swap":
        lines[0], lines[1] = lines[1], lines[0]
    else:
        lines[1] = b"[]\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalCorrupt, match=r"journal\.jsonl:[12]:"):
        journal(path)


def test_only_its_owner_can_read_it(path: Path, tmp_path: Path) -> None:
    with journal(path, spool=tmp_path / "spool") as first:
        claim(first)
        first.answered("key-1", ANSWER)
    for file in (path, next((tmp_path / "spool").iterdir())):
        assert os.stat(file).st_mode & 0o077 == 0


def test_a_closed_journal_takes_nothing(path: Path) -> None:
    first = journal(path)
    first.close()
    first.close()
    with pytest.raises(UsageError, match="closed"):
        claim(first)
