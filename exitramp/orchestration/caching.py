"""Answers that are given again: to the same request, or to one that means the same as far as an embedder can tell.

What must be equal stands in the key: tenant, use case, all messages and settings, and which model and store would be
asked, so that no switch is answered from before it. Only answers that ended by themselves are kept.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exitramp.clock import Clock
from exitramp.errors import PathUnusable
from exitramp.orchestration.idempotency import StoredAnswer
from exitramp.orchestration.stack_file import SemanticCacheSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

KEPT_REASONS: Final = frozenset({"stop", "tool_calls", "end_turn", "stop_sequence", "tool_use"})


def cache_key(*parts: object) -> str:
    """SHA-256 of what must be the same."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return asdict(value)


class ExactCache:
    """Answers by key in SQLite, the eldest leaving first. Thread-safe; several processes may share a file."""

    def __init__(self, path: Path | None, *, ttl_seconds: float, entries: int, clock: Clock) -> None:
        self._ttl = ttl_seconds
        self._entries = entries
        self._clock = clock
        self._lock = threading.Lock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None, timeout=5.0)
            if path is not None:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=OFF")  # what a power cut takes is asked again
                path.chmod(0o600)
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, at REAL NOT NULL, answer TEXT NOT NULL)"
            )
        except sqlite3.Error as error:
            raise PathUnusable(f"{path}: is no cache of answers ({error})", hint="name another file") from error

    def get(self, key: str) -> StoredAnswer | None:
        with self._lock:
            row = self._db.execute("SELECT at, answer FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None or row[0] + self._ttl <= self._clock.now().timestamp():
            return None
        return StoredAnswer.from_json(json.loads(row[1]))

    def put(self, key: str, stored: StoredAnswer) -> None:
        row = (key, self._clock.now().timestamp(), json.dumps(stored.to_json()))
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", row)
            (count,) = self._db.execute("SELECT COUNT(*) FROM answers").fetchone()
            if count > self._entries:
                self._db.execute(
                    "DELETE FROM answers WHERE key IN (SELECT key FROM answers ORDER BY at, rowid LIMIT ?)",
                    (count - self._entries,),
                )

    def close(self) -> None:
        with self._lock:
            self._db.close()


@dataclass(slots=True)
class _Meant:
    group: str
    vector: npt.NDArray[np.float32]
    at: float
    stored: StoredAnswer


class SemanticCache:
    """Answers to questions that are alike: the cosine of their vectors reaches the threshold of their embedder.

    Questions are compared within a group alone: all that is not the question is the same there. In memory, the eldest
    leaving first. Vectors are of length one, see `unit`.
    """

    def __init__(self, spec: SemanticCacheSpec, clock: Clock) -> None:
        self._threshold = spec.threshold
        self._ttl = spec.ttl_seconds
        self._entries = spec.entries
        self._clock = clock
        self._lock = threading.Lock()
        self._meant: OrderedDict[int, _Meant] = OrderedDict()
        self._next = 0

    def get(self, group: str, vector: npt.NDArray[np.float32]) -> StoredAnswer | None:
        """The answer to the likest question of the group, if it is like enough."""
        import numpy as np

        since = self._clock.now().timestamp() - self._ttl
        with self._lock:
            near = [each for each in self._meant.values() if each.group == group and each.at > since]
        if not near:
            return None
        likeness = np.stack([each.vector for each in near]) @ vector
        best = int(np.argmax(likeness))
        return near[best].stored if float(likeness[best]) >= self._threshold else None

    def put(self, group: str, vector: npt.NDArray[np.float32], stored: StoredAnswer) -> None:
        with self._lock:
            self._meant[self._next] = _Meant(group, vector, self._clock.now().timestamp(), stored)
            self._next += 1
            while len(self._meant) > self._entries:
                self._meant.popitem(last=False)

    def close(self) -> None:
        with self._lock:
            self._meant.clear()


def unit(vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Of length one; what has no direction is like nothing."""
    import numpy as np

    norm = float(np.linalg.norm(vector))
    return vector / np.float32(norm) if norm > 0 else np.zeros_like(vector)
