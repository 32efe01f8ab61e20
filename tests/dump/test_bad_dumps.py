"""Whatever a dump was made into, every command ends with an error of ours that names a file, or with what is true.

The examples are the same in every run. `EXITRAMP_BAD_DUMPS=20000` makes it a campaign of so many other ones.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exitramp.cli.inspecting import inspect_endpoint, say_inspection
from exitramp.dump.integrity import VerifyReport, verify_dump
from exitramp.dump.reader import DumpSource
from exitramp.dump.writer import DumpSink
from exitramp.errors import CollectionMissing, ExitCode, ExitrampError, IntegrityError, StoreRejected
from exitramp.migration import MoveResult, migrate
from exitramp.ports import Origin, StoreIdentity, TransferAccount, make_cursor
from exitramp.records import Verdict
from exitramp.wrappers import opening
from tests.dump.damage import Choices, bad_file, bad_journal, bad_journal_text, bad_manifest, bad_manifest_text, one_of
from tests.dump.damage_shards import bad_bytes, bad_shard, real_digests

T = TypeVar("T")

CAMPAIGN = int(os.environ.get("EXITRAMP_BAD_DUMPS", "0"))
DAMAGES = (bad_manifest, bad_manifest_text, bad_journal, bad_journal_text, bad_file, bad_bytes, bad_shard)
IDENTITY = StoreIdentity("chroma", "chroma:./db#a", "1", "2", evidence="real")
FILES = ("manifest.json", "journal.jsonl", "shards", "in the dump", "from the dump", "verify")
"""Words of which an error about a dump holds one: a file, what stands beside the name that a manifest has for one, or
the command that tells more."""

examples = settings(
    max_examples=CAMPAIGN // len(DAMAGES) or 35,
    derandomize=not CAMPAIGN,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class _Draws:
    """`Choices` out of one number that hypothesis can make smaller: its decisions as digits, and then chance."""

    def __init__(self, seed: int) -> None:
        self._left = seed

    def below(self, number: int) -> int:
        self._left, drawn = divmod(self._left, number)
        if not self._left:
            self._left = zlib.crc32(b"%d" % drawn) << 16 | drawn
        return drawn


class _AtOnce:
    """In the place of the policy that runs every call on a thread of its own: here nothing hangs."""

    def __init__(self, seconds: float, *, what: str = "") -> None:
        pass

    def run(self, operation: str, call: Callable[[], T]) -> T:
        return call()

    def let_go(self) -> None:
        """There is no thread."""


@pytest.fixture(scope="module", autouse=True)
def _no_threads() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "Deadline", _AtOnce)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, few: dict[str, Any]) -> list[Path]:
    """Whole dumps of a few records, in several shards and row groups."""
    folders = []
    for name, collection in few.items():
        folder = tmp_path_factory.mktemp("whole") / name
        sink = DumpSink(folder, shard_bytes=900, group_bytes=400)
        sink.create(collection.spec, Origin(collection.spec, "1"))
        for number, batch in enumerate(collection.batches(2)):
            sink.upsert(batch)
            sink.note_cursor(0, make_cursor(row=number))
        rows = len(collection.rows)
        sink.finish(TransferAccount(source=IDENTITY, source_count_before=rows, source_count_after=rows))
        sink.close()
        assert verify_dump(folder).verdict is Verdict.PASS
        folders.append(folder)
    return folders


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="exitramp-bad-") as folder:
        yield Path(folder)


def made_bad(how: Callable[[Path, Choices], None], whole: list[Path], room: Path, seed: int) -> Path:
    choices = _Draws(seed)
    shutil.rmtree(room, ignore_errors=True)
    folder = room / "dump"
    shutil.copytree(one_of(choices, whole), folder)
    how(folder, choices)
    return folder


def say_everything(value: Any) -> None:
    """What is printed can be: it is text, it is JSON, and holds nothing that a terminal obeys."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    text.encode("utf-8")
    assert "\\u001b" not in text
    assert len(text) < 50_000


@pytest.mark.timeout(200 + CAMPAIGN)
@pytest.mark.parametrize("how", DAMAGES, ids=lambda how: how.__name__)
@examples
@given(seed=st.integers(0, 10**30))
def test_verify_finds_it_or_there_is_nothing_to_find(
    how: Callable[[Path, Choices], None], whole: list[Path], room: Path, seed: int
) -> None:
    folder = made_bad(how, whole, room, seed)
    try:
        report = verify_dump(folder)
    except CollectionMissing:
        assert not (folder / "journal.jsonl").exists()
        return
    # Ids are named as they are; what escapes them for a terminal is the command line.
    say_everything([replace(finding, ids=()).to_json() for finding in report.findings])
    damaged = [finding for finding in report.findings if finding.verdict is Verdict.FAIL]
    assert all(finding.message.startswith(finding.detail["file"]) for finding in damaged)
    assert bool(damaged) is (report.verdict is Verdict.FAIL) is (report.exit_code is ExitCode.INTEGRITY)
    if report.verdict is Verdict.PASS:
        assert report.digests is not None
        assert report.digests.to_json() == real_digests(folder)
        assert DumpSource(folder).manifest().digests == report.digests


def ours(run: Callable[[], T]) -> T | None:
    """What `run` returns; None where it ends with an error that is documented and names what it is about."""
    try:
        return run()
    except ExitrampError as error:
        caught = error
    if caught.exit_code is not ExitCode.USAGE:
        assert isinstance(caught, IntegrityError | StoreRejected), caught
        assert any(name in str(caught) for name in FILES), caught
    return None


@pytest.mark.timeout(200 + CAMPAIGN)
@pytest.mark.parametrize("how", DAMAGES, ids=lambda how: how.__name__)
@examples
@given(seed=st.integers(0, 10**30))
def test_a_restore_ends_with_an_error_of_ours_or_with_what_the_shards_hold(
    how: Callable[[Path, Choices], None], whole: list[Path], room: Path, seed: int
) -> None:
    folder = made_bad(how, whole, room, seed)
    # A store by another name each time: a memory store lives as long as the process.
    target = f"memory:{room.name}-{how.__name__}-{seed}#x"

    def restore() -> MoveResult:
        with opening.open_endpoint(f"dump:{folder}") as one, opening.open_endpoint(target) as other:
            return migrate(one, other)

    result = ours(restore)
    if result is not None and result.verdict is Verdict.PASS:
        assert result.target_digests is not None
        assert result.target_digests.to_json() == real_digests(folder)


@pytest.mark.timeout(200 + CAMPAIGN)
@pytest.mark.parametrize("how", DAMAGES, ids=lambda how: how.__name__)
@examples
@given(seed=st.integers(0, 10**30))
def test_inspect_ends_with_an_error_of_ours_or_with_what_the_shards_hold(
    how: Callable[[Path, Choices], None], whole: list[Path], room: Path, seed: int
) -> None:
    folder = made_bad(how, whole, room, seed)

    def inspect() -> dict[str, Any]:
        with opening.open_endpoint(f"dump:{folder}") as endpoint:
            return inspect_endpoint(endpoint, progress=lambda rows: None)

    found = ours(inspect)
    if found is not None:
        assert found["digests"] == real_digests(folder)
        with redirect_stdout(io.StringIO()):
            say_inspection(found)


@pytest.mark.timeout(200 + CAMPAIGN)
@pytest.mark.parametrize("how", [bad_journal, bad_file], ids=lambda how: how.__name__)
@examples
@given(seed=st.integers(0, 10**30))
def test_a_dump_that_is_taken_up_ends_with_an_error_of_ours_or_whole(
    how: Callable[[Path, Choices], None], whole: list[Path], room: Path, seed: int, few: dict[str, Any]
) -> None:
    folder = made_bad(how, whole[:1], room, seed)
    for name in ("manifest.json", "manifest.json.sha256"):
        if os.path.lexists(folder / name) and not (folder / name).is_dir():
            (folder / name).unlink()
    collection = few["plain"]
    sink = DumpSink(folder, shard_bytes=900, group_bytes=400)

    def take_up() -> VerifyReport:
        sink.create(collection.spec, Origin(collection.spec, "1"))
        for begin in range(sink.resume_state().rows, len(collection.rows), 2):
            sink.upsert(collection.batch().slice(begin, 2))
            sink.note_cursor(0, make_cursor(row=begin))
        sink.finish(TransferAccount())
        return verify_dump(folder)

    try:
        report = ours(take_up)
    finally:
        sink.close()
    if report is not None and report.verdict is Verdict.PASS:
        assert report.digests is not None
        assert report.digests.to_json() == real_digests(folder)
