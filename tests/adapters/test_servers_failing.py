"""A command whose server stops, dies or hangs up in the middle of a call ends with exit code 5, in time, and says why.

Which call it is does not matter, so each kind is tried at a few; `exitramp.testing.conformance.failures` goes through
all of them within one process. Here it is the process that must end, whatever threads it has left behind.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from exitramp.codec import EncodingSink
from exitramp.errors import ExitCode
from exitramp.faults import Fault
from exitramp.ports import Origin, Service
from exitramp.registry import open_store, service_adapter
from exitramp.testing.rows import batch_from_rows
from exitramp.testing.within import rows_within, spec_within
from exitramp.urls import Address
from tests.adapters.relay import relayed

ROWS = 600
TIMEOUT_SECONDS = 3
# A call is tried twice with a wait in between; the rest is for the interpreter on a machine shared with others.
IN_TIME_SECONDS = 40


@dataclass(frozen=True)
class Served:
    """A server with the collection `articles`, and a dump of it. `calls` are parts of its paths, by what they do."""

    service: Service
    address: Address
    dump: Path
    calls: dict[str, str]


CALLS = {
    "chroma-run": {"the second page": "/get", "the first upsert": "/add"},
    "qdrant-shim": {"the second page": "/points/scroll", "the first upsert": "/points?wait=true"},
}


@pytest.fixture(scope="module", params=CALLS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    service = service_adapter(request.param).make(str(folder), 0, {})
    address = service.start()
    store = open_store(f"{address}#articles")
    sink = EncodingSink(store.sink())
    spec = spec_within(sink.limits(), "articles")
    sink.create(spec, Origin(spec, "0"))
    sink.upsert(batch_from_rows(rows_within(spec, sink.limits(), ROWS, 1), spec))
    sink.flush()
    store.close()
    code, said, _ = exitramp("dump", f"{address}#articles", "dump", folder=folder, timeout_seconds=60)
    assert code == ExitCode.PASS, said
    yield Served(service, address, folder / "dump", CALLS[request.param])
    service.stop()


def exitramp(*arguments: str, folder: Path, timeout_seconds: int = TIMEOUT_SECONDS) -> tuple[int, str, float]:
    """Exit code, what went to stderr, and the seconds that it took."""
    began = time.monotonic()
    options = ("--timeout", str(timeout_seconds), "--retries", "1")
    command = [sys.executable, "-m", "exitramp", *arguments, *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr, time.monotonic() - began


@pytest.mark.parametrize("fault", ["sigstop", "sigkill", "hangs up"])
@pytest.mark.parametrize(("call", "time_of_it"), [("the second page", 2), ("the first upsert", 1)])
def test_a_command_ends_in_time_with_exit_code_5(
    served: Served, call: str, time_of_it: int, fault: str, tmp_path: Path
) -> None:
    seen = 0

    def goes_on(request: str) -> bool:
        nonlocal seen
        seen += served.calls[call] in request
        if fault == "hangs up":
            return seen < time_of_it
        if seen == time_of_it and served.calls[call] in request:
            served.service.inject(Fault(fault))
        return True

    with relayed(served.address.port or 0, goes_on) as relay:
        through = f"{served.address.scheme}://127.0.0.1:{relay.port}"
        new = f"{through}#{fault.replace(' ', '-')}"
        arguments = ("inspect", f"{through}#articles") if "page" in call else ("restore", str(served.dump), new)
        try:
            code, said, seconds = exitramp(*arguments, folder=tmp_path)
        finally:
            served.service.inject(Fault("none"))
    assert seen >= time_of_it, f"the command never came to {call}: {relay.requests}"
    assert (code, "Traceback" in said) == (ExitCode.REMOTE, False), said[-2000:]
    assert ("did not answer" if fault == "sigstop" else "cannot be reached") in said, said[-2000:]
    assert seconds < IN_TIME_SECONDS, f"it took {seconds:.0f} s"
