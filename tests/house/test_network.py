"""With the network cut to loopback everything works, and nothing has tried to reach further.

`EXITRAMP_ALL_DRILLS=1` runs the main drill in this way too, which takes two minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.house.offline import __file__ as OFFLINE

SEED = """
import sys
from exitramp.codec import EncodingSink
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing import hard_records

field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.EUCLIDEAN, 16)
spec = CollectionSpec("articles", IdKind.STRING, (field,), has_documents=True)
store = open_store(sys.argv[1])
sink = EncodingSink(store.sink())
sink.create(spec, Origin(spec, "test"))
for batch in hard_records(spec, 200, seed=5):
    sink.upsert(batch)
sink.flush()
store.close()
"""
# An address of RFC 5737 that no machine has, and a name of RFC 2606 that nobody can register.
REACH_OUT = {
    "by address": "import socket; socket.create_connection(('192.0.2.1', 9), timeout=2)",
    "by name": "import socket; socket.create_connection(('vendor.invalid', 9), timeout=2)",
    "by a packet": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))",
    "by listening to everybody": "import socket; socket.socket().bind(('0.0.0.0', 0))",
}
# The resolver inside libc asks without Python being asked, as a native engine would.
REACH_OUT_NATIVELY = """
import ctypes
libc = ctypes.CDLL(None)
address = ctypes.create_string_buffer(bytes([2, 0, 0, 9, 192, 0, 2, 1]) + bytes(8))
raise SystemExit(libc.connect(libc.socket(2, 1, 0), address, 16) == 0)
"""


@dataclass(frozen=True, slots=True)
class Account:
    """What a command did without a network."""

    code: int
    out: str
    err: str
    namespace: bool
    packets_without_route: int | None
    attempts: list[dict[str, Any]]

    def assert_stayed_here(self) -> None:
        assert not self.attempts, f"tried to reach {self.attempts[:5]}"
        assert not self.packets_without_route, f"native code sent {self.packets_without_route} packets elsewhere"


def offline(folder: Path, *command: str, timeout_seconds: float = 120.0) -> Account:
    """Run the command of this environment's interpreter in `folder`."""
    account = folder / "account.json"
    done = subprocess.run(
        [sys.executable, OFFLINE, str(account), sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    assert account.exists(), done.stderr
    return Account(done.returncode, done.stdout, done.stderr, **json.loads(account.read_text(encoding="utf-8")))


@pytest.mark.parametrize("way", REACH_OUT)
def test_an_attempt_to_reach_further_is_stopped_and_seen(tmp_path: Path, way: str) -> None:
    """Otherwise the other tests of this file would show nothing."""
    found = offline(tmp_path, "-c", REACH_OUT[way])
    assert found.code != 0
    assert found.attempts


def test_native_code_that_reaches_further_is_seen_by_the_kernel(tmp_path: Path) -> None:
    found = offline(tmp_path, "-c", REACH_OUT_NATIVELY)
    if not found.namespace:
        pytest.skip("this machine permits no network namespace: only what Python itself asks for is seen")
    assert found.code == 0, "the connection was made"
    assert not found.attempts
    assert found.packets_without_route


def test_a_collection_is_moved_from_store_to_store_without_a_network(tmp_path: Path) -> None:
    for command in (
        ("-c", SEED, "chroma:./db#articles"),
        ("stores",),
        ("inspect", "chroma:./db#articles"),
        ("dump", "chroma:./db#articles", "./articles-dump"),
        ("verify", "./articles-dump"),
        ("restore", "./articles-dump", "qdrant:./new#articles"),
        ("copy", "qdrant:./new#articles", "faiss:./articles.faiss"),
    ):
        found = offline(tmp_path, *(command if command[0] == "-c" else ("-m", "exitramp", *command)))
        assert found.code == 0, f"{command}: {found.out}{found.err}"
        found.assert_stayed_here()


def test_a_packaged_drill_on_real_input_ends_as_it_announces_without_a_network(tmp_path: Path) -> None:
    found = offline(tmp_path, "-m", "exitramp", "drill", "run", "silent_loss", "--out", "run", "--json")
    assert found.code == 1, found.out + found.err
    assert json.loads(found.out)["verdict"] == "fail"
    found.assert_stayed_here()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(not os.environ.get("EXITRAMP_ALL_DRILLS"), reason="minutes long: set EXITRAMP_ALL_DRILLS=1")
@pytest.mark.parametrize(("name", "code"), [("vendor_outage", 0), ("five_questions", 3), ("wrong_metric", 1)])
def test_the_other_drills_end_as_they_announce_without_a_network(tmp_path: Path, name: str, code: int) -> None:
    found = offline(tmp_path, "-m", "exitramp", "drill", "run", name, "--out", "run", timeout_seconds=380.0)
    assert found.code == code, found.out + found.err
    found.assert_stayed_here()
