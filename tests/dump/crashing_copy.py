"""A copy into a dump that can be killed: run as a program by test_crashes.py, in processes of its own.

crashing_copy.py copy FOLDER          copies, taking up what is there; prints a line a page
crashing_copy.py every-step FOLDER    kills a copy before and after each durable step, and takes it up again
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_array, stream_schema
from exitramp.dump.integrity import verify_dump
from exitramp.dump.writer import DumpSink
from exitramp.ports import Origin, TransferAccount, make_cursor, read_cursor
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind

ROWS, PAGE, PARTITIONS = 240, 10, 2
FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 8)
SPEC = CollectionSpec("c", IdKind.STRING, (FIELD,))


def page(begin: int) -> pa.RecordBatch:
    ids = [f"doc-{number}" for number in range(begin, begin + PAGE)]
    payloads = [canonical.dumps({"n": number}) for number in range(begin, begin + PAGE)]
    vectors = np.random.default_rng(begin).random((PAGE, 8), dtype=np.float32)
    return pa.RecordBatch.from_arrays(
        [pa.array(ids), pa.array(payloads), dense_array(vectors, FIELD)], schema=stream_schema(SPEC)
    )


def copy(folder: Path, tell: Callable[[str], None] = lambda line: None) -> None:
    """What the copy loop does: two partitions, one after the other, each from behind its last acknowledged cursor."""
    sink = DumpSink(folder, shard_bytes=3000, group_bytes=1400)
    sink.create(SPEC, Origin(SPEC, "1"))
    state = sink.resume_state()
    tell(f"resume {state.rows}")
    per_partition = ROWS // PARTITIONS
    for partition in range(PARTITIONS):
        cursor = state.cursors.get(partition)
        row = 0 if cursor is None else read_cursor(cursor)["row"]
        while row < per_partition:
            sink.upsert(page(partition * per_partition + row))
            row += PAGE
            sink.note_cursor(partition, make_cursor(row=row))
            tell(f"page {partition} {row}")
    sink.finish(TransferAccount())


def kill_at(step: int, when: str) -> None:
    """Let this process kill itself before or after its `step`-th call of fsync or rename."""
    calls = 0

    def lethal(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **named)
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    os.fsync = lethal(os.fsync)
    os.rename = lethal(os.rename)


def in_child(run: Callable[[], None]) -> int:
    """Run in a forked child; its exit status as `os.waitpid` gives it."""
    child = os.fork()
    if child == 0:
        try:
            run()
        except BaseException as error:  # noqa: BLE001  (whatever it is, the parent must see that it failed)
            print(json.dumps({"error": repr(error)}), flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def every_step(folder: Path) -> None:
    """Print one line of JSON for each kill: the step, how the child ended, and what taking it up led to."""
    for when in ("before", "after"):
        for step in range(1, 10_000):
            place = folder / f"{when}-{step}"

            def first(place: Path = place, step: int = step, when: str = when) -> None:
                kill_at(step, when)
                copy(place)

            status = in_child(first)
            if os.WIFEXITED(status):
                print(json.dumps({"steps": step - 1, "when": when, "exit": os.WEXITSTATUS(status)}), flush=True)
                break
            finished = (place / "manifest.json").exists()
            again = 0 if finished else in_child(lambda place=place: copy(place))  # type: ignore[misc]
            report = verify_dump(place)
            digests = report.digests.to_json() if report.digests else None
            line = {"step": step, "when": when, "exit": os.waitstatus_to_exitcode(again), "digests": digests}
            print(json.dumps({**line, "findings": len(report.findings)}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "copy":
        copy(Path(sys.argv[2]), lambda line: print(line, flush=True))
    else:
        every_step(Path(sys.argv[2]))
