"""DuckDB files: the suite, seeded and read with duckdb alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.records import CollectionSpec, DType, IdKind, VectorField, VectorKind
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness
from exitramp.testing.conformance.filters import FilterConformance
from exitramp.testing.conformance.search import SearchConformance
from exitramp.testing.conformance.writing import WritingConformance
from exitramp.testing.rows import NUMPY_TYPE, column_from_values

NUMBERS = {DType.FLOAT32: "FLOAT", DType.FLOAT64: "DOUBLE", DType.INT8: "TINYINT", DType.BINARY: "UTINYINT"}
IDS = {IdKind.STRING: "VARCHAR", IdKind.INT64: "BIGINT", IdKind.UINT64: "UBIGINT", IdKind.UUID: "UUID"}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def relation(collection: str) -> str:
    schema, dot, table = collection.partition(".")
    return f"{quoted(schema)}.{quoted(table)}" if dot else quoted(collection)


class DuckHarness(StoreHarness):
    lacks = {
        Feature.SERVER_KILL: "a file, no server",
        Feature.SERVER_STOP: "a file, no server",
    }

    def __init__(self, folder: Path, options: str = "") -> None:
        self.path = folder / "store.duckdb"
        self.options = options

    def address(self, collection: str) -> str:
        from exitramp.urls import Address

        options = dict(pair.split("=") for pair in self.options.split("&") if pair)
        return Address("duckdb", str(self.path), collection, options).text

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        columns: dict[str, pa.Array] = {"id": pa.array([row.id for row in rows], pa.string())}
        columns["namespace"] = pa.array([row.namespace for row in rows], pa.string())
        columns["document"] = pa.array([row.document for row in rows], pa.string())
        columns["payload"] = pa.array([row.payload_text for row in rows], pa.string())
        types = {"id": IDS[spec.id_kind], "namespace": "VARCHAR", "document": "VARCHAR", "payload": "JSON"}
        note: dict[str, Any] = {"format": 1, "id": "id", "id_kind": spec.id_kind.value, "vectors": {}, "values": []}
        note |= {name: name for name in ("namespace", "document", "payload")}
        for field in spec.vectors:
            name = field.name or "vector"
            columns[name] = column_from_values([row.vectors.get(field.column) for row in rows], field)
            types[name] = f"{NUMBERS[field.dtype]}[{field.item_count}]"
            note["vectors"][name] = field.to_json()
        with duckdb.connect(str(self.path)) as connection:
            schema, dot, _ = collection.partition(".")
            if dot:
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
            made = ", ".join(f"{quoted(name)} {kind}" for name, kind in types.items())
            connection.execute(f"CREATE TABLE {relation(collection)} ({made})")
            connection.register("seeded", pa.table(columns))
            connection.execute(f"INSERT INTO {relation(collection)} SELECT * FROM seeded")
            text = ("exitramp: " + json.dumps(note)).replace("'", "''")
            connection.execute(f"COMMENT ON TABLE {relation(collection)} IS '{text}'")

    def raw_read(self, collection: str) -> list[Row]:
        with duckdb.connect(str(self.path), read_only=True) as connection:
            found = connection.execute(f"SELECT * FROM {relation(collection)}").to_arrow_table().to_pylist()
            remark = connection.execute(
                "SELECT comment FROM duckdb_tables() WHERE table_name = ?", [collection.rpartition(".")[2]]
            ).fetchone()
        fields = {
            column: VectorField.from_json(told)
            for column, told in json.loads(remark[0].split("exitramp: ")[-1])["vectors"].items()
        }
        return [
            Row(
                str(row["id"]),
                row.get("namespace"),
                row.get("document"),
                None if row["payload"] is None else canonical.parse(row["payload"]),
                {field.column: _vector(row[name], field) for name, field in fields.items() if row[name] is not None},
            )
            for row in found
        ]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        with duckdb.connect(str(self.path)) as connection:
            connection.execute(
                f"UPDATE {relation(collection)} SET payload = json_merge_patch(payload, ?) WHERE id::VARCHAR = ?",
                [json.dumps({key: value}), id_],
            )

    def raw_collections(self) -> list[str]:
        if not self.path.exists():
            return []
        with duckdb.connect(str(self.path), read_only=True) as connection:
            found = connection.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
        return [name if schema == "main" else f"{schema}.{name}" for schema, name in found]


def _vector(value: Any, field: VectorField) -> Any:
    if field.kind is VectorKind.SPARSE:
        return np.array(value["indices"], np.uint32), np.array(value["values"], np.float32)
    return np.array(value, NUMPY_TYPE[field.dtype]).reshape(
        (-1,) * (field.kind is VectorKind.MULTI) + (field.item_count,)
    )


class TestDuckdb(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> DuckHarness:
        return DuckHarness(tmp_path)


class TestDuckdbHnsw(WritingConformance, SearchConformance, FilterConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> DuckHarness:
        return DuckHarness(tmp_path, "index=hnsw")
