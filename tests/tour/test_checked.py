"""`exitramp stores check`, whole and by the command line, against the mocks: it takes minutes, see `make campaigns`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exitramp.registry import open_store, service_adapter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not os.environ.get("EXITRAMP_CAMPAIGNS"), reason="a campaign of minutes: make campaigns"),
]


@pytest.mark.parametrize(
    ("service", "told", "options", "scratch"),
    [
        ("mock-weaviate", {}, "", "Scratch_check"),
        ("mock-pinecone", {"latency_ms": 0, "rates": False}, "?cloud=aws&region=us-east-1", "scratch-check"),
    ],
)
def test_a_mock_passes_the_whole_check_which_leaves_nothing_and_lifts_no_label(
    tmp_path: Path, service: str, told: dict[str, Any], options: str, scratch: str
) -> None:
    mock = service_adapter(service).make(str(tmp_path / "mock"), 0, told)
    address = f"{mock.start()}{options}"
    try:
        checked = _run(tmp_path, "stores", "check", address, "--scratch", scratch, "--json")
        failed = [each for each in checked["tests"] if each["outcome"] == "failed"]
        assert not failed
        assert checked["passed"] > 70
        assert checked["tested_against"] == "wire mocked"
        assert json.loads((tmp_path / checked["evidence"]).read_text())["tested_against"] == "wire mocked"
        rows = {row["scheme"]: row for row in _run(tmp_path, "stores", "--json")["stores"]}
        row = rows[checked["adapter"]]
        assert (row["evidence"], row["checked"]["tested_against"]) == ("wire mocked", "wire mocked")
        store = open_store(f"{address}#{scratch}")
        assert store.source().identity().collections == ()
        store.close()
    finally:
        mock.stop()


def _run(folder: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "exitramp", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800, check=False)
    assert done.stdout, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found
