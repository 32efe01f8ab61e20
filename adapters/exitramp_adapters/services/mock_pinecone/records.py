"""What the mock of Pinecone holds: indexes and records in one SQLite file, and the rules for what may be written.

The rules are those that Pinecone publishes: ids and namespaces of 1 to 512 ASCII characters, dense values of its
dimension and not all zero, sparse values of at most 1,000 indices, flat metadata of texts, numbers, booleans and lists
of texts, at most 40 KB of it. Numbers of metadata become doubles, and a null in it is left out without a word.
"""

from __future__ import annotations

import math
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

DEFAULT_NAMESPACE: Final = "__default__"
DENSE: Final = "_values"
SPARSE: Final = "_sparse_values"
METRICS: Final = ("cosine", "dotproduct", "euclidean")
MOST_IDS: Final = 1000
_MOST_SPARSE: Final = 1000
_MOST_DIMENSIONS: Final = 20_000
_MOST_TAGS: Final = 20
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,43}[a-z0-9])?")
_TAG_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
_CODES: Final = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 413: 3, 414: 3, 429: 8, 500: 13, 503: 14}


class Refused(Exception):
    """What the mock answers instead of a result; `code` as in gRPC, which the data plane's errors carry."""

    def __init__(self, status: int, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = _CODES.get(status, 2)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Stored:
    """One record as it is kept. `values` is float32 [dimension]; a record of a sparse index has none."""

    id: str
    values: npt.NDArray[np.float32] | None
    sparse: tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]] | None
    metadata: dict[str, Any] | None

    def wire(self, *, values: bool = True, metadata: bool = True) -> dict[str, Any]:
        """As an answer has it: a float32 with its own few digits, which is what the server's type is."""
        told: dict[str, Any] = {"id": self.id, "values": self.values if values and self.values is not None else []}
        if values and self.sparse is not None:
            told["sparseValues"] = {"indices": self.sparse[0], "values": self.sparse[1]}
        if metadata and self.metadata is not None:
            told["metadata"] = self.metadata
        return told


class Records:
    """The file, behind one lock. What was acknowledged survives kill -9; nothing is promised of a power cut."""

    def __init__(self, folder: Path, *, metadata_bytes: int, freshness_seconds: float) -> None:
        self._metadata_bytes = metadata_bytes
        self._freshness_seconds = freshness_seconds
        self._lock = threading.RLock()
        self._database = sqlite3.connect(folder / "pinecone.sqlite3", check_same_thread=False, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;"
            "CREATE TABLE IF NOT EXISTS indexes (name TEXT PRIMARY KEY, body TEXT NOT NULL);"
            "CREATE TABLE IF NOT EXISTS records (place TEXT, namespace TEXT, id TEXT, dense BLOB, indices BLOB,"
            " weights BLOB, metadata TEXT, written REAL, lsn INTEGER, PRIMARY KEY (place, namespace, id))"
            " WITHOUT ROWID;"
            "CREATE TABLE IF NOT EXISTS log (lsn INTEGER PRIMARY KEY AUTOINCREMENT, written REAL);"
        )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._database.execute(sql, values).fetchall()

    # Indexes

    def indexes(self) -> list[dict[str, Any]]:
        return [orjson.loads(body) for (body,) in self._rows("SELECT body FROM indexes ORDER BY name")]

    def index(self, name: str) -> dict[str, Any]:
        found = self._rows("SELECT body FROM indexes WHERE name = ?", name)
        if not found:
            raise Refused(404, f"Resource {name} not found")
        body: dict[str, Any] = orjson.loads(found[0][0])
        return body

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name = body.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Refused(400, "Name must consist of lower case alphanumeric characters or '-'")
        made = {
            "name": name,
            "schema": {"fields": _fields(body.get("schema"))},
            "deployment": body.get("deployment")
            or {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
            "deletion_protection": body.get("deletion_protection") or "disabled",
            "tags": _tags({}, body.get("tags") or {}) or None,
        }
        with self._writing() as database:
            if database.execute("SELECT 1 FROM indexes WHERE name = ?", (name,)).fetchone():
                raise Refused(409, "Resource  already exists")
            database.execute("INSERT INTO indexes VALUES (?, ?)", (name, orjson.dumps(made).decode()))
        return made

    def configure(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if set(body) - {"tags", "deletion_protection"}:
            raise Refused(501, f"exitramp mock pinecone: configuring {sorted(body)} is not emulated")
        found = self.index(name)
        found["tags"] = _tags(found["tags"] or {}, body.get("tags") or {}) or None
        found["deletion_protection"] = body.get("deletion_protection") or found["deletion_protection"]
        with self._writing() as database:
            database.execute("UPDATE indexes SET body = ? WHERE name = ?", (orjson.dumps(found).decode(), name))
        return found

    def drop(self, name: str) -> None:
        if self.index(name)["deletion_protection"] == "enabled":
            raise Refused(403, "Deletion protection is enabled for this index. Disable it before deleting.")
        with self._writing() as database:
            database.execute("DELETE FROM indexes WHERE name = ?", (name,))
            database.execute("DELETE FROM records WHERE place = ?", (name,))

    # Records

    def upsert(self, name: str, namespace: str, vectors: Any) -> tuple[int, int]:
        """How many were written, and the log's number of the write. All of a request or nothing."""
        fields = self.index(name)["schema"]["fields"]
        if not isinstance(vectors, list) or not 1 <= len(vectors) <= MOST_IDS:
            raise Refused(400, f"Request must contain between 1 and {MOST_IDS} vectors")
        rows = [self._checked(vector, fields) for vector in vectors]
        now = time.time()
        with self._writing() as database:
            lsn = _logged(database, now)
            database.executemany(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(name, namespace, *row, now, lsn) for row in rows],
            )
        return len(rows), lsn

    def _checked(self, vector: Any, fields: Mapping[str, Any]) -> tuple[Any, ...]:
        id_ = checked_id(vector.get("id") if isinstance(vector, dict) else None)
        metadata = _metadata(vector.get("metadata"), self._metadata_bytes)
        values, sparse = vector.get("values") or [], vector.get("sparseValues")
        dense = None
        if DENSE in fields:
            dense = _dense(values, fields[DENSE]["dimension"])
        elif values:
            raise Refused(400, "Cannot upsert dense values into a sparse index")
        if sparse is None:
            if SPARSE in fields and DENSE not in fields:
                raise Refused(400, "Sparse vector must be provided for a sparse index")
            return id_, dense, None, None, metadata
        # Documented: with a dense field under another metric it is taken, and asked for in vain.
        if SPARSE not in fields and fields[DENSE]["metric"] != "dotproduct":
            raise Refused(400, "Index configuration does not support sparse values")
        return id_, dense, *_sparse(sparse), metadata

    def delete(self, name: str, namespace: str, ids: Any, *, everything: bool) -> int:
        """The log's number of the deletion."""
        self.index(name)
        if not everything and (not isinstance(ids, list) or not 1 <= len(ids) <= MOST_IDS):
            raise Refused(400, f"Request must contain between 1 and {MOST_IDS} ids")
        with self._writing() as database:
            lsn = _logged(database, time.time())
            if everything:
                database.execute("DELETE FROM records WHERE place = ? AND namespace = ?", (name, namespace))
            else:
                database.executemany(
                    "DELETE FROM records WHERE place = ? AND namespace = ? AND id = ?",
                    [(name, namespace, checked_id(id_)) for id_ in ids],
                )
        return lsn

    def _seen(self) -> float:
        """What was written later than this nobody sees yet."""
        return time.time() - self._freshness_seconds if self._freshness_seconds else math.inf

    def indexed_lsn(self) -> int:
        """How far the log is visible."""
        [(lsn,)] = self._rows("SELECT coalesce(max(lsn), 0) FROM log WHERE written <= ?", self._seen())
        return int(lsn)

    def listed(self, name: str, namespace: str, prefix: str, behind: str | None, limit: int) -> list[str]:
        """Ids in the order of their bytes, one more than `limit` if there are."""
        self.index(name)
        rows = self._rows(
            "SELECT id FROM records WHERE place = ? AND namespace = ? AND id >= ? AND id < ? AND id > ?"
            " AND written <= ? ORDER BY id LIMIT ?",
            *(name, namespace, prefix, prefix + "\U0010ffff", behind or ""),
            *(self._seen(), limit + 1),
        )
        return [id_ for (id_,) in rows]

    def fetched(self, name: str, namespace: str, ids: Sequence[str]) -> list[Stored]:
        self.index(name)
        marks = ",".join("?" * len(ids))
        return self._stored(f"AND id IN ({marks})", name, namespace, ids)

    def all_of(self, name: str, namespace: str) -> list[Stored]:
        self.index(name)
        return self._stored("", name, namespace, ())

    def _stored(self, condition: str, name: str, namespace: str, ids: Sequence[str]) -> list[Stored]:
        rows = self._rows(
            "SELECT id, dense, indices, weights, metadata FROM records"
            f" WHERE place = ? AND namespace = ? AND written <= ? {condition}",
            *(name, namespace, self._seen(), *ids),
        )
        return [
            Stored(
                id_,
                None if dense is None else np.frombuffer(dense, "<f4"),
                None if indices is None else (np.frombuffer(indices, "<u4"), np.frombuffer(weights, "<f4")),
                None if metadata is None else orjson.loads(metadata),
            )
            for id_, dense, indices, weights, metadata in rows
        ]

    def counts(self, name: str) -> dict[str, int]:
        """Records by namespace."""
        self.index(name)
        sql = "SELECT namespace, count(*) FROM records WHERE place = ? AND written <= ? GROUP BY namespace"
        return dict(self._rows(sql, name, self._seen()))


def checked_id(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 512:
        raise Refused(400, "Vector ID must be between 1 and 512 characters")
    if not value.isascii() or "\x00" in value:
        raise Refused(400, "Vector ID must be ASCII")
    return value


def checked_namespace(value: Any) -> str:
    """The namespace that is meant: requests that name none, or the empty one, mean the default one."""
    if value is None or value in ("", DEFAULT_NAMESPACE):
        return DEFAULT_NAMESPACE
    if not isinstance(value, str) or len(value) > 512 or not value.isascii() or "\x00" in value:
        raise Refused(400, "Namespace must be 1 to 512 ASCII characters")
    return value


def _fields(schema: Any) -> dict[str, Any]:
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if not isinstance(fields, dict) or not fields or set(fields) - {DENSE, SPARSE}:
        raise Refused(501, "exitramp mock pinecone: only indexes of vectors (_values, _sparse_values) are emulated")
    dense = fields.get(DENSE)
    if dense is not None and (dense.get("metric") not in METRICS or not 1 <= dense["dimension"] <= _MOST_DIMENSIONS):
        raise Refused(400, f"Dimension must be between 1 and {_MOST_DIMENSIONS}, and metric one of {METRICS}")
    return dict(fields)


def _tags(there: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, str]:
    """Merged; an empty value takes a tag away."""
    for key, value in given.items():
        if not _TAG_KEY.fullmatch(key) or not isinstance(value, str) or len(value) > 120 or not value.isascii():
            raise Refused(400, f"Invalid tag {key}")
    merged = {key: value for key, value in {**there, **given}.items() if value}
    if len(merged) > _MOST_TAGS:
        raise Refused(400, f"An index has at most {_MOST_TAGS} tags")
    return merged


def _metadata(value: Any, most_bytes: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Refused(400, "Metadata must be an object")
    kept: dict[str, Any] = {}
    for key, item in value.items():
        if key.startswith("$"):
            raise Refused(400, f"Metadata key must not start with '$', got '{key}'")
        if item is None:
            continue
        if isinstance(item, bool | str):
            kept[key] = item
        elif isinstance(item, int | float):
            kept[key] = float(item)
        elif isinstance(item, list) and all(isinstance(each, str) for each in item):
            kept[key] = item
        else:
            raise Refused(400, f"Metadata value must be a string, number, boolean or list of strings for field '{key}'")
    text = orjson.dumps(kept)
    if len(text) > most_bytes:
        raise Refused(
            400, f"Metadata size is {len(text)} bytes, which exceeds the limit of {most_bytes} bytes per vector"
        )
    return text.decode() if kept else None


def _dense(values: Any, dimension: int) -> bytes:
    if len(values) != dimension:
        raise Refused(400, f"Vector dimension {len(values)} does not match the dimension of the index {dimension}")
    with np.errstate(over="ignore"):
        numbers = np.array(values, np.float64).astype("<f4")
    if not np.isfinite(numbers).all():
        raise Refused(400, "Vector values must be finite 32-bit floats")
    if not numbers.any():
        raise Refused(400, "Dense vectors must contain at least one non-zero value.")
    return numbers.tobytes()


def _sparse(sparse: Any) -> tuple[bytes, bytes]:
    indices, values = sparse.get("indices") or [], sparse.get("values") or []
    if not 1 <= len(indices) <= _MOST_SPARSE or len(indices) != len(values):
        raise Refused(400, f"Sparse vectors must have 1 to {_MOST_SPARSE} indices, and as many values")
    if len(set(indices)) != len(indices) or not all(0 <= index < 2**32 for index in indices):
        raise Refused(400, "Sparse indices must be distinct unsigned 32-bit integers")
    numbers = np.array(values, np.float64).astype("<f4")
    if not np.isfinite(numbers).all():
        raise Refused(400, "Sparse values must be finite 32-bit floats")
    return np.array(indices, "<u4").tobytes(), numbers.tobytes()


def _logged(database: sqlite3.Connection, now: float) -> int:
    lsn = database.execute("INSERT INTO log (written) VALUES (?)", (now,)).lastrowid
    return int(lsn or 0)
