"""sqlite-vec: the suite, on files that only SQLite and its extension have written and read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import sqlite_vec

from exitramp import canonical
from exitramp.records import CollectionSpec, DType, Metric
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness
from exitramp_adapters.stores.sqlite_vec.database import sdk

METRICS = {Metric.COSINE: "cosine", Metric.EUCLIDEAN: "l2", Metric.MANHATTAN: "l1"}
TYPES = {DType.FLOAT32: ("float", "?"), DType.INT8: ("int8", "vec_int8(?)"), DType.BINARY: ("bit", "vec_bit(?)")}
NUMBERS = {DType.FLOAT32: "<f4", DType.INT8: "i1", DType.BINARY: "u1"}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def turned(raw: bytes) -> bytes:
    """Packed bits with the first one where sqlite-vec has it, the lowest of a byte; or back."""
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in raw)


@contextmanager
def opened_file(path: Path) -> Iterator[Any]:
    connection = sdk().connect(str(path), isolation_level=None)
    connection.enable_load_extension(True)
    sqlite_vec.load(connection)
    try:
        yield connection
    finally:
        connection.close()


class SqliteVecHarness(StoreHarness):
    lacks = {
        Feature.SERVER_KILL: "a file, no server; the writer itself is killed instead",
        Feature.SERVER_STOP: "a file, no server",
    }

    def __init__(self, folder: Path) -> None:
        self.path = folder / "x.db"

    def address(self, collection: str) -> str:
        return f"sqlite-vec:{self.path}#{quote(collection, safe='')}"

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        with opened_file(self.path) as connection:
            connection.execute("BEGIN")
            name = quoted(collection)
            connection.execute(
                f"CREATE TABLE {name} (rowid INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, namespace TEXT,"
                " document TEXT, payload TEXT)"
            )
            connection.execute(
                f"CREATE TABLE {quoted(collection + '_unranked')} (field TEXT, record INTEGER, vector BLOB)"
            )
            connection.execute("CREATE TABLE IF NOT EXISTS exitramp_collections (name TEXT PRIMARY KEY, about TEXT)")
            tables = {}
            for field in spec.vectors:
                tables[field.column] = f"{collection}_vec" + (f"_{field.name}" if field.name else "")
                kind, _ = TYPES[field.dtype]
                metric = f" distance_metric={METRICS[field.metric]}" if field.metric in METRICS else ""
                connection.execute(
                    f"CREATE VIRTUAL TABLE {quoted(tables[field.column])} USING"
                    f" vec0(embedding {kind}[{field.dimensions}]{metric})"
                )
            about = {"format": 1, "spec": spec.to_json(), "tables": tables, "origin": None}
            connection.execute("INSERT INTO exitramp_collections VALUES (?, ?)", (collection, json.dumps(about)))
            for rowid, row in enumerate(rows, start=1):
                values = (rowid, row.id, row.namespace, row.document, row.payload_text)
                connection.execute(f"INSERT INTO {name} VALUES (?, ?, ?, ?, ?)", values)
                for field in spec.vectors:
                    if field.column in row.vectors:
                        raw = np.asarray(row.vectors[field.column]).tobytes()
                        raw = turned(raw) if field.dtype is DType.BINARY else raw
                        mark = TYPES[field.dtype][1]
                        sql = f"INSERT INTO {quoted(tables[field.column])}(rowid, embedding) VALUES (?, {mark})"
                        connection.execute(sql, (rowid, raw))
            connection.execute("COMMIT")

    def raw_read(self, collection: str) -> list[Row]:
        with opened_file(self.path) as connection:
            about = json.loads(
                connection.execute("SELECT about FROM exitramp_collections WHERE name = ?", (collection,)).fetchone()[0]
            )
            spec = CollectionSpec.from_json(about["spec"])
            vectors: dict[int, dict[str, Any]] = {}
            for field in spec.vectors:
                found = connection.execute(
                    f"SELECT rowid, embedding FROM {quoted(about['tables'][field.column])} UNION ALL"
                    f" SELECT record, vector FROM {quoted(collection + '_unranked')} WHERE field = ?",
                    (field.name,),
                ).fetchall()
                for rowid, raw in found:
                    raw = turned(raw) if field.dtype is DType.BINARY else raw
                    assert field.column not in vectors.get(rowid, {})
                    vectors.setdefault(rowid, {})[field.column] = np.frombuffer(raw, NUMBERS[field.dtype])
            rows = connection.execute(f"SELECT rowid, id, namespace, document, payload FROM {quoted(collection)}")
            return [
                Row(id_, space, document, None if text is None else canonical.loads(text), vectors.get(rowid, {}))
                for rowid, id_, space, document, text in rows
            ]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        with opened_file(self.path) as connection:
            changed = connection.execute(
                f"UPDATE {quoted(collection)} SET payload = json_set(payload, ?, ?) WHERE id = ?",
                (f'$."{key}"', value, id_),
            )
            assert changed.rowcount == 1

    def raw_collections(self) -> list[str]:
        if not self.path.exists():
            return []
        with opened_file(self.path) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = {name for (name,) in rows}
        return [name.removesuffix("_unranked") for name in names if name.endswith("_unranked")]


class TestSqliteVec(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> SqliteVecHarness:
        return SqliteVecHarness(tmp_path)
