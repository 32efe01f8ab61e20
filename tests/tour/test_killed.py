"""Killed in the middle, of a load and of a scan: an error with words, and the same command once more completes.

A server is killed with SIGKILL under a command that uses it; of what has no server, the command itself is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from exitramp.faults import Fault
from exitramp.registry import service_adapter
from tests.tour import matrix
from tests.tour.places import FILES, FOLDERS, SERVERS, SINGLE, Place, command

ROWS = 12_000
WAIT_SECONDS = 60.0
SLOW_TO_START = {"milvus+http"}
BEHIND_SERVERS = [kind for kind in SERVERS if kind not in SLOW_TO_START]
EMBEDDED = [kind for kind in (*FOLDERS, *FILES, *SINGLE) if kind != "dump"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not os.environ.get("EXITRAMP_CAMPAIGNS"), reason="a campaign of minutes: make campaigns"),
]


@pytest.fixture(name="dump", scope="module")
def _dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "dump"
    matrix.seed(f"dump:{folder}", ROWS)
    return folder


@pytest.fixture(name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    for each in (folder, *folder.parents[:3]):
        each.chmod(each.stat().st_mode | 0o011)  # a PostgreSQL that must not run as root has to get through
    return folder


def started(folder: Path, *words: object) -> subprocess.Popen[str]:
    call = [sys.executable, "-m", "exitramp", *(str(word) for word in words), "--retries", "0", "--timeout", "10"]
    return subprocess.Popen(call, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def when(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Return as soon as it holds; a command that ended before says what it said."""
    until = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert process.poll() is None, f"it ended with {process.returncode}: {process.communicate()}"
        assert time.monotonic() < until, "it never came so far"
        time.sleep(0.002)


def acknowledged(folder: Path) -> bool:
    """Whether a load is in the middle: something was acknowledged, and the place of the rest is kept."""
    return any(b'"reached"' in path.read_bytes() for path in (folder / ".exitramp").glob("transfer-*.jsonl"))


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=WAIT_SECONDS)
    assert "Traceback" not in out + err
    return process.returncode, out + err


@pytest.mark.parametrize("kind", BEHIND_SERVERS)
def test_a_server_killed_in_a_load_and_in_a_scan(kind: str, folder: Path, dump: Path) -> None:
    service = service_adapter(SERVERS[kind]).make(str(folder / "server"), 0, {})
    try:
        place = Place(kind, service.start().with_collection(None).text)
        there = place.address("articles")

        loading = started(folder, "restore", dump, there)
        when(lambda: acknowledged(folder), loading)
        service.inject(Fault("sigkill"))
        code, said = ended(loading)
        assert code == 5, said
        assert "error:" in said
        service.inject(Fault("restart"))
        again = started(folder, "restore", dump, there)
        code, said = ended(again)
        assert code == 0, said
        assert "went on where an earlier run had stopped" in said

        scanning = started(folder, "dump", there, folder / "out")
        when(lambda: (folder / "out" / "journal.jsonl").exists(), scanning)
        service.inject(Fault("sigkill"))
        code, said = ended(scanning)
        assert code == 5, said
        service.inject(Fault("restart"))
        code, said = ended(started(folder, "dump", there, folder / "out"))
        assert code == 0, said
        _same(dump, folder / "out")
    finally:
        service.stop()


@pytest.mark.parametrize("kind", EMBEDDED)
def test_a_command_killed_in_a_load_and_in_a_scan(kind: str, folder: Path, dump: Path) -> None:
    home = folder / "store"
    home.mkdir()
    place = Place(kind, str(home)) if kind in SINGLE else Place(kind, f"{kind}:{home / FILES.get(kind, 'db')}")
    there = place.address("articles")

    loading = started(folder, "restore", dump, there)
    begun = (lambda: acknowledged(folder)) if kind not in SINGLE and kind != "vdf" else (lambda: any(home.iterdir()))
    when(begun, loading)
    loading.send_signal(signal.SIGKILL)
    loading.communicate()
    code, said = ended(started(folder, "restore", dump, there))
    assert code == 0, said

    scanning = started(folder, "dump", there, folder / "out")
    when(lambda: (folder / "out" / "journal.jsonl").exists(), scanning)
    scanning.send_signal(signal.SIGKILL)
    scanning.communicate()
    code, said = ended(started(folder, "dump", there, folder / "out"))
    assert code == 0, said
    _same(dump, folder / "out")


def _same(one: Path, other: Path) -> None:
    found = [command("verify", folder).told["digests"] for folder in (one, other)]
    for digest in ("rows", "ids", "payloads"):
        assert found[0][digest] == found[1][digest]
    [vectors] = [digests["vectors"].values() for digests in found[:1]]
    assert list(vectors) == list(found[1]["vectors"].values())
