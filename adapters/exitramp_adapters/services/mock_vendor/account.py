"""A mock vendor's own account: one line for every request it took, in a file that outlives the process.

A drill reconciles against it: a request that the client calls lost must be missing here or stand here as hung, cut or
abandoned; one that was answered twice stands here twice. A line is written before the last byte of its answer, so what
a client has received is in the account. No text of a prompt or an answer is in it, and of a key its SHA-256 only.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

OUTCOMES: Final = ("answered", "failed", "hung", "cut", "abandoned")


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one request.

    number: 1, 2, 3, … in the order of the lines; goes on after a restart.
    call: the vendor's number of the call since its process started; the order of arrival.
    at: when, RFC 3339 in UTC.
    request_sha256: of the Idempotency-Key header; None without one.
    outcome: `answered` (handed to the socket complete), `failed` (an error answer), `hung` (no answer was or will be
        sent), `cut` (an answer that breaks off or is no answer), `abandoned` (the client hung up before the answer).
    kind: the fault or the error behind it; `none` for an ordinary answer.
    status: the HTTP status, or None where none was sent.
    operation: what was asked for: chat, embeddings, rerank or models.
    """

    number: int
    call: int
    at: str
    request_sha256: str | None
    outcome: str
    kind: str
    status: int | None
    stream: bool
    prompt_tokens: int
    gen_tokens: int
    operation: str = "chat"


class Account:
    """Appends entries to `path` and counts them. An existing file is read first and continued."""

    def __init__(self, path: Path) -> None:
        self._entries: list[Entry] = []
        self._counts: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        kept = 0
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break  # the last line of a killed process: its answer was not sent whole either
                self._count(Entry(**json.loads(line)))
                kept += len(line)
        # One unbuffered write a line, so that it survives a SIGKILL. No fsync: a mock need not outlive the machine.
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._descriptor, kept)

    def add(self, **values: Any) -> Entry:
        """Write one entry; its number is given here."""
        entry = Entry(number=len(self._entries) + 1, **values)
        os.write(self._descriptor, json.dumps(asdict(entry), separators=(",", ":")).encode() + b"\n")
        self._count(entry)
        return entry

    def _count(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._counts["requests"] += 1
        self._counts[entry.outcome] += 1
        if entry.outcome in ("failed", "cut"):
            self._counts[f"{entry.outcome}.{entry.kind}"] += 1
        self._counts["prompt_tokens"] += entry.prompt_tokens
        self._counts["gen_tokens"] += entry.gen_tokens
        if entry.outcome == "answered" and entry.request_sha256 is not None:
            self._answered[entry.request_sha256] += 1

    def counters(self) -> Mapping[str, int]:
        """Requests by outcome, failed and cut ones also by kind, tokens, and distinct requests answered (twice)."""
        counts = {name: self._counts[name] for name in ("requests", *OUTCOMES, "prompt_tokens", "gen_tokens")}
        counts |= {name: count for name, count in sorted(self._counts.items()) if "." in name}
        counts["answered_distinct"] = len(self._answered)
        counts["answered_twice"] = sum(count > 1 for count in self._answered.values())
        return counts

    def after(self, number: int, limit: int = 1000) -> list[dict[str, Any]]:
        """At most `limit` entries that follow entry `number`."""
        return [asdict(entry) for entry in self._entries[number : number + limit]]
