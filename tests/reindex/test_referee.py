"""The mock vendor's own account is the referee: what it answered, it would bill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from exitramp.registry import service_adapter
from tests.reindex.documents import fill, texts_for


def answered(folder: Path) -> Counter[str]:
    """Embedding requests that were answered in full, by the hash of their idempotency key."""
    found: Counter[str] = Counter()
    for file in folder.rglob("account.jsonl"):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if entry["operation"] == "embeddings" and entry["outcome"] == "answered":
                assert entry["request_sha256"], "a request without an idempotency key"
                found[entry["request_sha256"]] += 1
    return found


def run(command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


@pytest.mark.parametrize("seed", [1])
def test_of_what_a_killed_run_had_sent_only_what_was_on_its_way_is_answered_twice_and_that_is_told(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {
        "latency_ms_median": 60,
        "schedule": [
            {"kind": "unavailable", "calls": [3]},
            {"kind": "rate_limit", "calls": [5], "options": {"retry_after_seconds": 0.1}},
            {"kind": "error_500", "calls": [9]},
        ],
    }
    vendor = service_adapter("mock-openai").make(str(tmp_path / "vendor"), seed, options)
    (tmp_path / "vendor").mkdir(exist_ok=True)
    try:
        base = vendor.start().option("base_url")
        model = f"openai:mock-embed?base_url={base}&mock=true&dimensions=64&batch=20"
        source = fill("dump:./src", texts_for(300))
        command = [sys.executable, "-m", "exitramp", "reindex", source, "dump:./new", "--model", model, "--json"]
        for wanted in (2 + seed, 6, 10):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 30
            while process.poll() is None and len(answered(tmp_path / "vendor")) < wanted:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        done = run(command)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)["spent"]
        count = answered(tmp_path / "vendor")
        assert told["texts_embedded"] == 300
        assert len(count) == 15
        twice = sum(times - 1 for times in count.values())
        assert twice <= told["batches_sent_again"] <= 3
        assert told["possibly_billed_twice"] >= twice
    finally:
        vendor.stop()
