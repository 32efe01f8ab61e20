"""LanceDB: the conformance suite, seeded and read back through the raw SDK, and what is special to its tables."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest

os.environ.setdefault("LANCEDB_LOG", "error")
import lancedb

from exitramp import canonical
from exitramp.arrow import vector_type
from exitramp.records import CollectionSpec, VectorKind
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness
from exitramp.testing.conformance.filters import FilterConformance
from exitramp.testing.conformance.search import SearchConformance
from exitramp.testing.conformance.vectors import VectorConformance
from exitramp.testing.conformance.writing import WritingConformance
from exitramp.testing.rows import column_from_values, values_from_column


class LanceHarness(StoreHarness):
    lacks = {
        Feature.SERVER_KILL: "it is no server; the writer itself is killed instead",
        Feature.SERVER_STOP: "it is no server",
    }

    def __init__(self, folder: Path, options: str = "") -> None:
        self.folder = folder
        self.options = options

    def address(self, collection: str) -> str:
        return f"lancedb:{self.folder}{self.options}#{quote(collection, safe='')}"

    def database(self) -> Any:
        return lancedb.connect(str(self.folder))

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        told = {"exitramp:layout": "1", "exitramp:id_kind": spec.id_kind.value}
        fields = [pa.field("id", pa.string(), False, told), pa.field("key", pa.string(), False)]
        fields += [
            pa.field("namespace", pa.string()),
            pa.field("document", pa.string()),
            pa.field("payload", pa.json_()),
        ]
        keys = [f"/{r.id}" if r.namespace is None else f"{len(r.namespace)}:{r.namespace}/{r.id}" for r in rows]
        columns: list[pa.Array] = [
            pa.array([row.id for row in rows], pa.string()),
            pa.array(keys, pa.string()),
            pa.array([row.namespace for row in rows], pa.string()),
            pa.array([row.document for row in rows], pa.string()),
            pa.array([None if row.payload is None else json.dumps(row.payload) for row in rows], pa.json_()),
        ]
        for vector in spec.vectors:
            about = {"exitramp:field": json.dumps({"name": vector.name, "metric": vector.metric.value})}
            fields.append(pa.field(vector.name or "vector", vector_type(vector), True, about))
            columns.append(column_from_values([row.vectors.get(vector.column) for row in rows], vector))
        table = self.database().create_table(collection, schema=pa.schema(fields))
        if rows:
            table.add(pa.table(columns, schema=pa.schema(fields)))

    def raw_read(self, collection: str) -> list[Row]:
        table = self.database().open_table(collection).search().to_arrow().combine_chunks()
        if not len(table):
            return []
        [batch] = table.to_batches()
        vectors: list[dict[str, Any]] = [{} for _ in range(len(table))]
        for field in self._fields(table.schema):
            name = next(n for n in table.schema.names if _about(table.schema, n).get("name") == field.name)
            for row, value in enumerate(values_from_column(batch.column(name), field)):
                if value is not None:
                    vectors[row][field.column] = value
        plain = table.select([name for name in table.schema.names if not _about(table.schema, name)]).to_pylist()
        return [
            Row(
                row["id"],
                row.get("namespace"),
                row.get("document"),
                None if row["payload"] is None else canonical.loads(row["payload"]),
                vectors[place],
            )
            for place, row in enumerate(plain)
        ]

    def _fields(self, schema: pa.Schema) -> list[Any]:
        from exitramp.records import DType, Metric, VectorField

        dtypes = {"float": "float32", "halffloat": "float16", "double": "float64", "int8": "int8", "uint8": "binary"}
        found = []
        for part in schema:
            about = _about(schema, part.name)
            if not about:
                continue
            multi = pa.types.is_list(part.type)
            dense = part.type.value_type if multi else part.type
            dtype = DType(dtypes[str(dense.value_type)])
            size = dense.list_size * (8 if dtype is DType.BINARY else 1)
            kind = VectorKind.MULTI if multi else VectorKind.DENSE
            found.append(VectorField(about["name"], kind, dtype, Metric(about["metric"]), size))
        return found

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        table = self.database().open_table(collection)
        quoted = id_.replace("'", "''")
        found = table.search().where(f"id = '{quoted}'").to_arrow()
        payload = found.column("payload").to_pylist()[0]
        edited = json.dumps(json.loads(payload or "{}") | {key: value})
        spot = found.schema.get_field_index("payload")
        found = found.set_column(spot, found.schema.field(spot), pa.array([edited], pa.json_()))
        table.delete(f"id = '{quoted}'")
        table.add(found)

    def raw_collections(self) -> list[str]:
        return list(self.database().list_tables(limit=1000).tables) if self.folder.is_dir() else []


def _about(schema: pa.Schema, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((schema.field(name).metadata or {}).get(b"exitramp:field", b"{}"))
    return found


class TestLance(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> LanceHarness:
        return LanceHarness(tmp_path / "db")


class TestLanceIvfFlat(VectorConformance, WritingConformance, SearchConformance, FilterConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> LanceHarness:
        return LanceHarness(tmp_path / "db", "?index=IVF_FLAT")


class TestLanceHnsw(SearchConformance, FilterConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> LanceHarness:
        return LanceHarness(tmp_path / "db", "?index=IVF_HNSW_FLAT")
