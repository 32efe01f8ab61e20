"""A process of its own that opens an address, for what only another process can show. It imports no pytest.

    python -m exitramp.testing.child < job.json

The job `scan` resumes one scan after each of several cursors and prints, for each, one line of JSON with the keys
that followed. The job `write` writes batch after batch, prints a line after each flush, and never ends by itself:
its parent kills it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, Any

from exitramp.arrow import record_keys
from exitramp.codec import EncodingSink
from exitramp.ports import Cursor, Origin, Partition
from exitramp.records import CollectionSpec, RecordKey
from exitramp.registry import open_store
from exitramp.testing.data import hard_records

WRITE_SEED = 11


def start(job: dict[str, Any]) -> subprocess.Popen[str]:
    """The child at work on `job`, its answers to be read line by line from `stdout`."""
    child = subprocess.Popen(
        [sys.executable, "-m", "exitramp.testing.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stdin: IO[str] = child.stdin  # type: ignore[assignment]
    stdin.write(json.dumps(job) + "\n")
    stdin.flush()
    return child


def resumed_keys(
    address: str, partition: Partition, cursors: Sequence[Cursor], batch_rows: int, *, timeout_seconds: float = 120.0
) -> list[list[RecordKey]]:
    """For each cursor the keys that a new process finds behind it."""
    job = {
        "do": "scan",
        "address": address,
        "partition": [partition.index, partition.of, partition.token],
        "cursors": list(cursors),
        "batch_rows": batch_rows,
    }
    child = start(job)
    out, err = child.communicate(timeout=timeout_seconds)
    assert child.returncode == 0, f"the new process failed:\n{err[-2000:]}"
    return [[RecordKey(id_, namespace) for id_, namespace in json.loads(line)] for line in out.splitlines()]


def main() -> None:
    job = json.loads(sys.stdin.readline())
    {"scan": _scan, "write": _write}[job["do"]](job)


def _scan(job: dict[str, Any]) -> None:
    store = open_store(job["address"])
    source = store.source()
    index, of, token = job["partition"]
    for cursor in job["cursors"]:
        keys: list[RecordKey] = []
        last = False
        for page in source.scan(Partition(index, of, token), batch_rows=job["batch_rows"], after=Cursor(cursor)):
            keys += record_keys(page.batch)
            last = page.last
        if not last:
            raise SystemExit("a resumed scan ended without a page that says it is the last")
        print(json.dumps([[key.id, key.namespace] for key in keys]), flush=True)
    store.close()


def _write(job: dict[str, Any]) -> None:
    spec = CollectionSpec.from_json(job["spec"])
    store = open_store(job["address"])
    sink = EncodingSink(store.sink())
    sink.create(spec, Origin(spec, job["tool_version"]))
    room = job["text_bytes"]
    batches = hard_records(spec, job["rows"], WRITE_SEED, batch_rows=job["batch_rows"], text_bytes=room)
    for number, batch in enumerate(batches):
        sink.upsert(batch)
        sink.flush()
        print(number, flush=True)
    sys.stdin.readline()  # written to the end before the parent got round to it: wait to be killed


if __name__ == "__main__":
    main()
