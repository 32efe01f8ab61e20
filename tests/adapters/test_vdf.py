"""Dumps in the format of vdf-io: the suite, seeded and read back with json and pyarrow alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exitramp import canonical
from exitramp.records import CollectionSpec
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness
from exitramp.testing.rows import NUMPY_TYPE

METRICS = {"cosine": "Cosine", "dot": "Dot", "euclidean": "Euclid", "manhattan": "Manhattan"}


class VdfHarness(StoreHarness):
    lacks = {
        Feature.SERVER_KILL: "files, no server",
        Feature.SERVER_STOP: "files, no server",
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "dump"

    def address(self, collection: str) -> str:
        return f"vdf:{self.folder}#{quote(collection, safe='')}"

    def meta(self) -> dict[str, Any]:
        path = self.folder / "VDF_META.json"
        return json.loads(path.read_bytes()) if path.exists() else {"indexes": {}, "exitramp": {}}

    def write_meta(self, meta: Any) -> None:
        (self.folder / "VDF_META.json").write_text(json.dumps(meta))

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        [field] = spec.vectors
        home = hashlib.sha256(collection.encode()).hexdigest()[:12]
        data, records = f"{home}/1.parquet", f"exitramp/{home}/1.parquet"
        for path in (data, records):
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        ids = pa.array([row.id for row in rows], pa.string())
        vectors = [None if not row.vectors else np.asarray(row.vectors[field.column]) for row in rows]
        kind = pa.list_(pa.from_numpy_dtype(NUMPY_TYPE[field.dtype]))
        pq.write_table(pa.table({"id": ids, "vector": pa.array(vectors, kind)}), self.folder / data)
        columns = {
            "id": ids,
            "namespace": pa.array([row.namespace for row in rows], pa.string()),
            "document": pa.array([row.document for row in rows], pa.string()),
            "payload": pa.array([row.payload_text for row in rows], pa.string()),
        }
        told = {"format": 1, "spec": spec.renamed(collection).to_json(), "origin": None}
        metadata = {b"exitramp": json.dumps(told).encode()}
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), self.folder / records)
        content = (self.folder / data).read_bytes()
        ends = hashlib.sha256(content[:65_536] + content[max(0, len(content) - 65_536) :]).hexdigest()
        part = {"namespace": None, "data": data, "records": records, "rows": len(rows)}
        part["ends"] = {"bytes": len(content), "ends_sha256": ends}
        meta = self.meta()
        meta["indexes"][collection] = [
            {"namespace": "", "vector_columns": ["vector"], "data_path": home, "metric": METRICS[field.metric.value]}
        ]
        meta["exitramp"][collection] = told | {"columns": {field.column: "vector"}, "home": home, "parts": [part]}
        self.write_meta(meta)

    def raw_read(self, collection: str) -> list[Row]:
        found: dict[tuple[str, str | None], Row] = {}
        told = self.meta()["exitramp"].get(collection)
        for part in [] if told is None else told["parts"]:
            table, beside = pq.read_table(self.folder / part["data"]), pq.read_table(self.folder / part["records"])
            assert [str(id_) for id_ in table.column("id").to_pylist()] == beside.column("id").to_pylist()
            vectors = self._vectors(table, told["columns"], told["spec"]["vectors"])
            for row, each in zip(beside.to_pylist(), vectors, strict=True):
                found[row["id"], row["namespace"]] = as_row(row, each)
        for folder in self.folder.glob(".exitramp-load-*"):
            if json.loads((folder / "collection.json").read_bytes())["spec"]["name"] != collection:
                continue
            told = told or {}
            for path in sorted(folder.glob("*.arrow")):
                with pa.ipc.open_file(path) as reader:
                    for id_, space in json.loads(reader.schema.metadata[b"gone"]):
                        found.pop((id_, space), None)
                    table = reader.read_all()
                columns = {name: name for name in table.schema.names if name.startswith("vector")}
                for row, each in zip(table.to_pylist(), self._vectors(table, columns), strict=True):
                    found[row["id"], row["namespace"]] = as_row(row, each)
        if told is None:
            raise LookupError(collection)
        return list(found.values())

    def _vectors(self, table: pa.Table, columns: dict[str, str], fields: Any = ()) -> list[dict[str, Any]]:
        """VDF has doubles; they must be the numbers of the field's own type, to the last."""
        found: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
        types = {f"vector:{field['name']}" if field["name"] else "vector": field["dtype"] for field in fields}
        for name, column in columns.items():
            kind = types.get(name, table.schema.field(column).type.value_type.to_pandas_dtype())
            for row, value in enumerate(table.column(column).to_pylist()):
                if value is not None:
                    found[row][name] = np.array(value).astype(kind)
                    assert np.array_equal(found[row][name].astype(float), np.array(value), equal_nan=True)
        return found

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        for part in self.meta()["exitramp"][collection]["parts"]:
            path = self.folder / part["records"]
            table, metadata = pq.read_table(path), pq.read_metadata(path).metadata
            payloads = table.column("payload").to_pylist()
            for place, found in enumerate(table.column("id").to_pylist()):
                if found == id_:
                    payloads[place] = canonical.dumps(canonical.loads(payloads[place] or "{}") | {key: value})
            spot = table.schema.get_field_index("payload")
            edited = table.set_column(spot, "payload", pa.array(payloads, pa.string()))
            told = {b"exitramp": metadata[b"exitramp"]}
            pq.write_table(edited.replace_schema_metadata(told), path)

    def raw_collections(self) -> list[str]:
        return list(self.meta()["indexes"])


def as_row(row: dict[str, Any], vectors: dict[str, Any]) -> Row:
    payload = None if row["payload"] is None else canonical.loads(row["payload"])
    return Row(row["id"], row["namespace"], row["document"], payload, vectors)


class TestVdf(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> VdfHarness:
        return VdfHarness(tmp_path)
