"""Writing shards in a process of its own, so that a second core does it while the first reads the source.

Threads do not help there: the clients of embedded stores hold the interpreter's lock while they read, and digests and
inventories hold it too. The process only computes and writes the shard's file; the journal stays with whoever runs the
dump. On Linux the kernel ends it with its parent, whatever ends that one; elsewhere it is not used.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa

from exitramp import errors
from exitramp.arrow import stream_schema
from exitramp.dump.doubles import Prefixes, prefixes
from exitramp.dump.progress import ShardRecord
from exitramp.dump.steps import OpenShard
from exitramp.errors import ExitrampError, StoreRejected
from exitramp.records import CollectionSpec

_PIPE_BYTES: Final = 2**20


class Scribe:
    """The other process, from the parent's side: one shard at a time, command by command, in order.

    `open`, `digest` and `write_group` do not wait for an answer; what went wrong in them is raised by `seal`. Every
    method raises `StoreRejected` when the process is gone.
    """

    def __init__(self, folder: Path, spec: CollectionSpec) -> None:
        """Start it. `is_ready` says when it has come up, about 0.3 s later."""
        here = str(Path(errors.__file__).parent.parent)
        path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH")) if part)
        # A session of its own: Ctrl-C is for the parent, which then ends it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "exitramp.dump.scribe", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            cwd="/",
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._ready = False
        with suppress(OSError):  # a smaller pipe works as well, in smaller steps
            fcntl.fcntl(self._to, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._tell({"do": "begin", "folder": str(folder.resolve()), "collection": spec.to_json()})

    def is_ready(self) -> bool:
        """Whether it listens by now; asking does not wait."""
        if not self._ready:
            answers = select.poll()  # `select.select` takes no descriptor from 1024 on
            answers.register(self._from, select.POLLIN)
            if answers.poll(0):
                self._hear()
                self._ready = True
        return self._ready

    def open(self, number: int) -> None:
        """Begin the shard with that number."""
        self._tell({"do": "open", "number": number})

    def digest(self, batch: pa.RecordBatch) -> None:
        """Digest and measure the next batch of the row group that is gathering."""
        self._tell({"do": "digest"}, batch.serialize())

    def write_group(self) -> None:
        """Write what was digested since the last call as one row group."""
        self._tell({"do": "write"})

    def seal(self) -> tuple[ShardRecord, Prefixes]:
        """The shard, on the disk under its name as `OpenShard.seal` leaves it, and the prefixes of its id leaves."""
        self._tell({"do": "seal"})
        answer, found = self._hear()
        return ShardRecord.from_json(answer["shard"]), np.frombuffer(found, np.uint64)

    def close(self) -> None:
        """End the process, whatever it is doing; a shard that was not sealed is left unfinished. From any thread.

        It is not asked: one that is stopped, or waits for a dead disk, would not hear. What it holds is nothing but the
        shard that is open, which the next run clears away.
        """
        self._process.kill()
        self._process.wait()

    def _tell(self, command: dict[str, Any], content: pa.Buffer | None = None) -> None:
        try:
            _send(self._to, command, content)
        except (OSError, ValueError) as error:
            raise self._gone() from error

    def _hear(self) -> tuple[dict[str, Any], bytes]:
        try:
            heard = _receive(self._from)
        except (OSError, ValueError) as error:
            raise self._gone() from error
        if heard is None:
            raise self._gone()
        answer, content = heard
        if "error" in answer:
            raise _as_raised(answer)
        return answer, content

    def _gone(self) -> StoreRejected:
        return StoreRejected(
            "the process that writes the dump's shards has ended",
            hint="run the same command again: it goes on behind what stands; was the memory exhausted?",
        )


def _as_raised(answer: dict[str, Any]) -> ExitrampError:
    kind = getattr(errors, answer["error"], None)
    if not (isinstance(kind, type) and issubclass(kind, ExitrampError)):
        return StoreRejected(f"the process that writes the dump's shards failed ({answer['error']})")
    raised: ExitrampError = kind(answer["message"], hint=answer["hint"])
    return raised


def _send(pipe: IO[bytes], head: dict[str, Any], content: Any = None) -> None:
    size = 0 if content is None else memoryview(content).nbytes
    pipe.write(json.dumps(head | {"bytes": size}).encode() + b"\n")
    if size:
        pipe.write(content)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return None
    head: dict[str, Any] = json.loads(line)
    content = pipe.read(head["bytes"])
    return (head, content) if len(content) == head["bytes"] else None


class _Desk:
    """The other process's side: does one command after the other, and nothing more once one has failed."""

    def __init__(self, folder: str, collection: dict[str, Any]) -> None:
        self._folder = Path(folder)
        self._spec = CollectionSpec.from_json(collection)
        self._schema = stream_schema(self._spec)
        self._shard: OpenShard | None = None
        self._batches: list[pa.RecordBatch] = []
        self._found: list[Prefixes] = []
        self._failure: dict[str, Any] | None = None

    def answer(self, command: dict[str, Any], content: bytes) -> tuple[dict[str, Any], Any] | None:
        """Do it; what to send back, if anything."""
        if self._failure is None:
            try:
                return self._do(command["do"], command, content)
            except ExitrampError as error:
                self._failure = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
            except Exception as error:  # noqa: BLE001  (told to the parent, which ends the run with it)
                # Without its message, in which a library may have put a record's values.
                self._failure = {"error": type(error).__name__, "message": "", "hint": None}
        return (self._failure, None) if command["do"] == "seal" else None

    def _do(self, what: str, command: dict[str, Any], content: bytes) -> tuple[dict[str, Any], Any] | None:
        if what == "open":
            self._shard = OpenShard(self._folder, command["number"], self._spec)
            return None
        shard = self._shard
        assert shard is not None
        if what == "digest":
            batch = pa.ipc.read_record_batch(pa.py_buffer(content), self._schema)
            self._batches.append(batch)
            self._found.append(prefixes(shard.digest(batch)))
        elif what == "write":
            batches, self._batches = self._batches, []
            shard.write_group(batches)
        else:
            sealed = shard.seal()
            found, self._found, self._shard = self._found, [], None
            return {"shard": sealed.to_json()}, np.concatenate(found)
        return None


def main(arguments: Sequence[str]) -> None:
    """Serve the parent, whose process id is the only argument, until it lets go of the pipe."""
    _end_with_parent(int(arguments[0]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whatever else may send it here
    commands, answers = sys.stdin.buffer, sys.stdout.buffer
    first = _receive(commands)
    if first is None:
        return
    desk = _Desk(first[0]["folder"], first[0]["collection"])
    _send(answers, {})
    while (heard := _receive(commands)) is not None:
        answer = desk.answer(*heard)
        if answer is not None:
            _send(answers, *answer)


def _end_with_parent(parent: int) -> None:
    """Linux kills this process when its parent ends, so that nothing is written behind a later run's back."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        raise SystemExit


if __name__ == "__main__":
    main(sys.argv[1:])
