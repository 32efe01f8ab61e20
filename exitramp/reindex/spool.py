"""What a re-embedding has in hand, in one file that survives kill -9: every vector, and every batch that was sent.

A vector is in the file before anything else is told that it is there, and a batch is before it is sent. What a killed
run had sent and not yet received is therefore known, and goes out again just as it was, under the same idempotency key.
No text is kept, but the SHA-256 of each.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.durable import make_folder
from exitramp.errors import JournalCorrupt, StoreRejected, UsageError

HASH_BYTES: Final = 32
_ASKED_AT_ONCE: Final = 500
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS texts(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, how TEXT NOT NULL, vector BLOB);
CREATE TABLE IF NOT EXISTS batches(
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, hashes BLOB NOT NULL, done INTEGER NOT NULL DEFAULT 0,
  requests INTEGER NOT NULL DEFAULT 0, tokens INTEGER NOT NULL DEFAULT 0, estimated INTEGER NOT NULL DEFAULT 0,
  retries INTEGER NOT NULL DEFAULT 0, unsure INTEGER NOT NULL DEFAULT 0, resent INTEGER NOT NULL DEFAULT 0,
  cut INTEGER, model TEXT
);
"""


def text_hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Received:
    """What came of one batch. `refused`: the error class by text hash. `cut` None: nobody knows.

    `unsure` requests may have been billed although no answer came, and were sent again.
    """

    vectors: Mapping[bytes, npt.NDArray[np.float32]]
    refused: Mapping[bytes, str]
    requests: int
    tokens: int
    estimated: bool
    retries: int
    unsure: int
    cut: int | None
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Account:
    """All runs together. `unsure` requests may have been billed twice, `resent` batches were on their way when a run
    was killed; both went out again under their own idempotency key. `cut` None: nobody knows."""

    texts: int
    requests: int
    tokens: int
    estimated: bool
    retries: int
    unsure: int
    resent: int
    cut: int | None
    models: tuple[str, ...]


class Spool:
    """One file, written by one process; a second one is refused with `UsageError`. Used from any thread."""

    def __init__(self, path: Path | None, identity: Mapping[str, Any]) -> None:
        """`path` None: a temporary one that is gone when it is closed. Raises `UsageError` for one that belongs to
        another re-embedding."""
        self.path = path
        self._lock = threading.RLock()
        if path is not None:
            make_folder(path.parent)
        with self._errors():
            self._base = sqlite3.connect(
                "" if path is None else path, timeout=0, isolation_level=None, check_same_thread=False
            )
            try:
                self._open(identity)
            except BaseException:
                self._base.close()
                raise

    def _open(self, identity: Mapping[str, Any]) -> None:
        run = self._base.execute
        run("PRAGMA locking_mode=EXCLUSIVE")
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        run("BEGIN EXCLUSIVE")
        for statement in _SCHEMA.split(";\n"):
            run(statement)
        said = json.dumps(dict(identity), sort_keys=True)
        found = run("SELECT value FROM meta WHERE name = 'identity'").fetchone()
        if found is None:
            run("INSERT INTO meta VALUES ('identity', ?)", (said,))
        run("COMMIT")
        if found is not None and found[0] != said:
            before = json.loads(found[0])
            differing = sorted(name for name in {*before, *identity} if before.get(name) != identity.get(name))
            raise UsageError(
                f"{self.path} belongs to another re-embedding: {', '.join(differing)} differ",
                hint="give another --state folder, or remove this one to begin anew",
            )

    # ------------------------------------------------------------------ texts

    def known(self, hashes: Sequence[bytes]) -> dict[bytes, str]:
        """How each of these texts came to its vector (`embedded`, `reused`), or `refused:CLASS`; none for others."""
        found: dict[bytes, str] = {}
        with self._errors():
            for part in _parts(hashes):
                marks = ",".join("?" * len(part))
                found.update(self._base.execute(f"SELECT hash, how FROM texts WHERE hash IN ({marks})", part))
        return found

    def vectors(self, hashes: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        """The vectors of those of these texts that have one."""
        found: dict[bytes, npt.NDArray[np.float32]] = {}
        with self._errors():
            for part in _parts(hashes):
                marks = ",".join("?" * len(part))
                asked = f"SELECT hash, vector FROM texts WHERE vector IS NOT NULL AND hash IN ({marks})"
                for digest, vector in self._base.execute(asked, part):
                    found[digest] = np.frombuffer(vector, "<f4")
        return found

    def note(self, hashes: Sequence[bytes]) -> list[bytes]:
        """Those of these texts that were not noted before; they are from now on."""
        with self._transaction():
            return [
                each
                for each in dict.fromkeys(hashes)
                if self._base.execute("INSERT OR IGNORE INTO texts(hash, how) VALUES (?, 'wanted')", (each,)).rowcount
            ]

    def reuse(self, vectors: Mapping[bytes, npt.NDArray[np.float32]]) -> None:
        """Keep vectors that the target has already."""
        with self._transaction():
            self._put(vectors, "reused")

    def forget_reused(self) -> None:
        """What was taken from the target is asked of it anew by each run: it may have been written to since. And which
        texts there are is counted anew."""
        with self._transaction():
            self._base.execute("DELETE FROM texts WHERE how IN ('reused', 'wanted')")

    def count(self, how: str) -> int:
        with self._errors():
            return int(self._base.execute("SELECT count(*) FROM texts WHERE how LIKE ?", (how + "%",)).fetchone()[0])

    # ------------------------------------------------------------------ batches

    def sending(self, key: str, hashes: Sequence[bytes]) -> None:
        """Returns when it is on the disk that this batch is about to be sent. One that an earlier run sent is counted
        as sent again."""
        with self._transaction():
            self._base.execute(
                "INSERT INTO batches(key, hashes) VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET resent = resent + 1",
                (key, b"".join(hashes)),
            )

    def received(self, key: str, what: Received) -> None:
        """Returns when everything that came of this batch is on the disk."""
        with self._transaction():
            self._put(what.vectors, "embedded")
            for digest, kind in what.refused.items():
                self._base.execute(
                    "INSERT INTO texts(hash, how) VALUES (?, ?) ON CONFLICT(hash) DO UPDATE SET how = excluded.how",
                    (digest, f"refused:{kind}"),
                )
            self._base.execute(
                "UPDATE batches SET done = 1, requests = ?, tokens = ?, estimated = ?, retries = ?, unsure = ?, "
                "cut = ?, model = ? WHERE key = ?",
                (what.requests, what.tokens, what.estimated, what.retries, what.unsure, what.cut,
                 json.dumps(what.models), key),
            )  # fmt: skip

    def unfinished(self) -> list[tuple[str, list[bytes]]]:
        """Batches that an earlier run sent and did not receive: their keys and texts, in order."""
        with self._errors():
            rows = self._base.execute("SELECT key, hashes FROM batches WHERE done = 0 ORDER BY id").fetchall()
        return [
            (key, [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]) for key, joined in rows
        ]

    def drop(self, key: str) -> None:
        """Forget a batch that cannot be sent again as it was, since a text of it is gone."""
        with self._transaction():
            self._base.execute("UPDATE batches SET done = 1, unsure = unsure + 1 WHERE key = ?", (key,))

    def forget_refusals(self) -> None:
        """What was refused is asked again by each run: a limit may have been raised, or a text shortened."""
        with self._transaction():
            self._base.execute("DELETE FROM texts WHERE how LIKE 'refused:%'")

    def account(self) -> Account:
        with self._errors():
            sums = self._base.execute(
                "SELECT coalesce(sum(requests),0), coalesce(sum(tokens),0), coalesce(max(estimated),0), "
                "coalesce(sum(retries),0), coalesce(sum(unsure),0), coalesce(sum(resent),0), "
                "coalesce(sum(cut),0), coalesce(sum(done AND requests > 0 AND cut IS NULL),0) FROM batches"
            ).fetchone()
            told = [row[0] for row in self._base.execute("SELECT DISTINCT model FROM batches WHERE model IS NOT NULL")]
        requests, tokens, estimated, retries, unsure, resent, cut, uncounted = sums
        models = tuple(sorted({name for text in told for name in json.loads(text)}))
        texts = self.count("embedded")
        return Account(
            texts, requests, tokens, bool(estimated), retries, unsure, resent, None if uncounted else cut, models
        )

    # ------------------------------------------------------------------ closing

    def close(self) -> None:
        with self._lock:
            self._base.close()

    def remove(self) -> None:
        """Close it, and leave nothing behind."""
        self.close()
        if self.path is not None:
            for ending in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    def _put(self, vectors: Mapping[bytes, npt.NDArray[np.float32]], how: str) -> None:
        self._base.executemany(
            "INSERT INTO texts(hash, how, vector) VALUES (?, ?, ?) "
            "ON CONFLICT(hash) DO UPDATE SET how = excluded.how, vector = excluded.vector",
            ((digest, how, np.ascontiguousarray(vector, "<f4").tobytes()) for digest, vector in vectors.items()),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.OperationalError as error:
                if "locked" in str(error):
                    raise UsageError(
                        f"{self.path}: another process is writing to it", hint="wait until it has ended"
                    ) from None
                raise StoreRejected(
                    f"{self.path}: {error}", hint="make room on that disk, or name another folder with --state"
                ) from error
            except sqlite3.DatabaseError as error:
                raise JournalCorrupt(f"{self.path}: is damaged, or no spool of a re-embedding ({error})") from error


def _parts(hashes: Sequence[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(hashes), _ASKED_AT_ONCE):
        yield list(hashes[start : start + _ASKED_AT_ONCE])
