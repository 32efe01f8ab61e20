"""Where the traces of an application go: a JSONL file, or Parquet files that are whole before they have a name."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Final, Protocol

from exitramp.durable import sync_folder
from exitramp.orchestration.trace import TraceWriter, read_traces, write_parquet
from exitramp.ports import ChatAnswer, ChatMessage
from exitramp.records import TraceRecord

UNDER_WAY: Final = "under-way.jsonl"
_PART_RECORDS: Final = 10_000


class TraceFile(Protocol):
    def append(self, record: TraceRecord) -> None: ...

    def close(self) -> None: ...


class ParquetTraces:
    """A folder of `traces-TIME-….parquet` and of `under-way.jsonl` with what is not in one of them yet.

    A record is in the JSONL file before anybody is told of its answer, so a kill -9 loses none; the next one to open
    the folder makes a part of what is left there. A part that was written when the JSONL file was not yet gone is
    written again under its name, never beside it.
    """

    def __init__(self, folder: Path, *, part_records: int = _PART_RECORDS) -> None:
        self._folder = folder
        self._part_records = part_records
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._pending = folder / UNDER_WAY
        self._writer: TraceWriter | None = TraceWriter(self._pending)
        self._count = sum(1 for _ in read_traces(self._pending))
        with self._lock:
            if self._count:
                self._finish_part(goes_on=True)

    def append(self, record: TraceRecord) -> None:
        with self._lock:
            assert self._writer is not None, "the traces are closed"
            self._writer.append(record)
            self._count += 1
            if self._count >= self._part_records:
                self._finish_part(goes_on=True)

    def close(self) -> None:
        with self._lock:
            if self._writer is not None:
                self._finish_part(goes_on=False)

    def _finish_part(self, *, goes_on: bool) -> None:
        assert self._writer is not None
        self._writer.close()
        records = list(read_traces(self._pending))
        if records:
            part = self._folder / self._next_name(records)
            write_parquet(records, part)
            with part.open("rb") as file:
                os.fsync(file.fileno())  # before the lines go that it was made of
            sync_folder(self._folder)
        self._pending.unlink()
        self._count = 0
        self._writer = TraceWriter(self._pending) if goes_on else None

    def _next_name(self, records: list[TraceRecord]) -> str:
        """After its first record, so that writing the same part twice writes one file."""
        first = records[0]
        key = hashlib.sha256(f"{first.request_id}:{first.attempt}".encode()).hexdigest()
        return f"traces-{first.ts.strftime('%Y%m%dT%H%M%S%f')}-{key[:8]}.parquet"


class PromptLog:
    """Messages and answers beside the traces, for whoever asked for them; one unbuffered write a line, mode 0600."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()

    def append(self, request_id: str, messages: tuple[ChatMessage, ...], answer: ChatAnswer | None) -> None:
        body = {
            "request_id": request_id,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "answer": None if answer is None else answer.text,
        }
        line = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._descriptor is not None:
                os.write(self._descriptor, line)

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def open_traces(path: Path, form: str) -> TraceFile:
    return TraceWriter(path) if form == "jsonl" else ParquetTraces(path)
