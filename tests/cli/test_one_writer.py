"""Of two copies that make one target at the same instant one ends at once, and the other's is whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from exitramp.errors import PathUnusable, UsageError
from exitramp.records import Metric
from exitramp.transfer.one_writer import only_writer
from exitramp.urls import Address
from tests.cli.conftest import Cli
from tests.drill import small_stacks
from tests.drill.small_stacks import fill

SPEC = replace(small_stacks.SPEC, vectors=(replace(small_stacks.FIELD, metric=Metric.EUCLIDEAN),))
HOLDING = """
import sys, time
from exitramp.records import Metric
from exitramp.transfer.one_writer import only_writer
from exitramp.urls import Address
with only_writer(Address.parse(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(name="locks", autouse=True)
def _locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.mark.parametrize("command", ["copy", "restore", "sync"])
def test_a_second_run_into_the_same_collection_ends_before_it_writes(cli: Cli, name: str, command: str) -> None:
    source, target = fill(f"memory:{name}#articles", spec=SPEC), "sqlite-vec:./x.db#articles"
    if command == "restore":
        cli("dump", source, "out", code=0)
    if command == "sync":
        cli("copy", fill(f"memory:{name}-less#articles", rows=20, spec=SPEC), target, code=0)
    said = "out" if command == "restore" else source
    with only_writer(Address.parse(f"sqlite-vec:{os.getcwd()}/../{Path.cwd().name}/x.db#articles")):
        ended = cli(command, said, target, code=2)
        assert "another run of exitramp is writing there" in ended.err
        assert Path("x.db").exists() == (command == "sync")
    cli(command, said, target, code=0)
    cli("compare", source, target, "--no-neighbours", code=0)


def test_other_collections_are_written_to_meanwhile(cli: Cli, name: str) -> None:
    source = fill(f"memory:{name}#articles", spec=SPEC)
    with only_writer(Address.parse("chroma:./db#others")):
        cli("copy", source, "chroma:./db#articles", code=0)


def test_what_was_killed_holds_nothing(tmp_path: Path, locks: Path) -> None:
    target = Address.parse(f"sqlite-vec:{tmp_path}/x.db#articles")
    with subprocess.Popen([sys.executable, "-c", HOLDING, target.text], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another run"), only_writer(target):
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
    with only_writer(target):
        pass
    assert [*locks.rglob("*.lock")] == []


def test_a_folder_that_somebody_else_put_there_is_refused(locks: Path) -> None:
    (locks / f"exitramp-{os.geteuid()}").symlink_to(locks)
    with pytest.raises(PathUnusable, match="not this user's own"), only_writer(Address.parse("chroma:./db#a")):
        pass


def test_of_two_copies_at_the_same_instant_one_is_whole(cli: Cli, name: str, tmp_path: Path) -> None:
    """From two folders, of two sources of one size: neither place nor count tells the one of the other."""
    target = f"sqlite-vec:{tmp_path}/x.db#articles"
    sources = [f"chroma:{tmp_path}/{each}#articles" for each in ("one", "other")]
    for number, source in enumerate(sources):
        cli("copy", fill(f"memory:{name}-{number}#articles", rows=300, spec=SPEC), source, code=0)
    running = []
    for number, source in enumerate(sources):
        folder = tmp_path / f"cwd-{number}"
        folder.mkdir()
        words = [sys.executable, "-m", "exitramp", "copy", source, target]
        running.append(subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    said = [each.communicate(timeout=120)[1] for each in running]
    codes = [each.returncode for each in running]
    # The one that came wholly after the other finds the very same records there.
    assert sorted(codes) in ([0, 2], [0, 0]), said
    cli("compare", sources[codes.index(0)], target, "--no-neighbours", code=0)
