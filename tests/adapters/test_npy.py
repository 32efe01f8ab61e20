"""Matrices of numpy: the suite, seeded and read back with numpy and pyarrow alone, and matrices that others wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exitramp import canonical
from exitramp.records import CollectionSpec
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness
from exitramp.testing.rows import NUMPY_TYPE


class NpyHarness(StoreHarness):
    lacks = {
        Feature.SERVER_KILL: "files, no server",
        Feature.SERVER_STOP: "files, no server",
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, collection: str) -> Path:
        return self.folder / f"{hashlib.sha256(collection.encode()).hexdigest()[:16]}.npy"

    def side_car(self, collection: str) -> Path:
        return Path(f"{self.path(collection)}.parquet")

    def address(self, collection: str) -> str:
        return f"npy:{self.path(collection)}"

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        [field] = spec.vectors
        vectors = [np.asarray(row.vectors[field.column]) for row in rows]
        matrix = np.array(vectors, NUMPY_TYPE[field.dtype]).reshape(len(rows), field.item_count)
        np.save(self.path(collection), matrix)
        columns = {
            "id": pa.array([row.id for row in rows], pa.string()),
            "namespace": pa.array([row.namespace for row in rows], pa.string()),
            "document": pa.array([row.document for row in rows], pa.string()),
            "payload": pa.array([row.payload_text for row in rows], pa.string()),
        }
        self.write_side_car(collection, pa.table(columns), spec.renamed(collection).to_json())

    def write_side_car(self, collection: str, table: pa.Table, spec: Any) -> None:
        content = self.path(collection).read_bytes()
        ends = hashlib.sha256(content[:65_536] + content[max(0, len(content) - 65_536) :]).hexdigest()
        about = {"bytes": len(content), "ends_sha256": ends}
        told = json.dumps({"format": 1, "spec": spec, "origin": None, "matrix": about})
        pq.write_table(table.replace_schema_metadata({b"exitramp": told.encode()}), self.side_car(collection))

    def raw_read(self, collection: str) -> list[Row]:
        """The two files alone where the load was finished; before that, what waits beside them as well."""
        found: dict[tuple[str, str | None], Row] = {}
        if self.path(collection).exists():
            matrix, table = np.load(self.path(collection)), pq.read_table(self.side_car(collection))
            assert len(matrix) == table.num_rows
            for row, vector in zip(table.to_pylist(), matrix, strict=True):
                found[row["id"], row["namespace"]] = as_row(row, {"vector": vector})
        for path in sorted(Path(f"{self.path(collection)}.exitramp-load").glob("*.arrow")):
            with pa.ipc.open_file(path) as reader:
                for id_, space in json.loads(reader.schema.metadata[b"gone"]):
                    found.pop((id_, space), None)
                table = reader.read_all()
            for number, row in enumerate(table.to_pylist()):
                vector = waiting_vector(path, table, number)
                found[row["id"], row["namespace"]] = as_row(row, {"vector": vector})
        return list(found.values())

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        table = pq.read_table(self.side_car(collection))
        [place] = [place for place, found in enumerate(table.column("id").to_pylist()) if found == id_]
        payloads = table.column("payload").to_pylist()
        payloads[place] = canonical.dumps(canonical.loads(payloads[place] or "{}") | {key: value})
        spot = table.schema.get_field_index("payload")
        edited = table.set_column(spot, "payload", pa.array(payloads, pa.string()))
        self.write_side_car(
            collection, edited, json.loads(pq.read_metadata(self.side_car(collection)).metadata[b"exitramp"])["spec"]
        )

    def raw_collections(self) -> list[str]:
        found = [pq.read_metadata(path).metadata[b"exitramp"] for path in self.folder.glob("*.npy.parquet")]
        return [json.loads(about)["spec"]["name"] for about in found]


def waiting_vector(segment: Path, table: pa.Table, number: int) -> Any:
    """A row's vector, in the segment or in the file that the vectors of all segments stand in."""
    if "vector" in table.schema.names:
        column = table.column("vector")
        return np.array(column[number].as_py(), column.type.value_type.to_pandas_dtype())
    told = json.loads((segment.parent / "collection.json").read_bytes())
    [field] = CollectionSpec.from_json(told["spec"]).vectors
    content = (segment.parent / "matrix").read_bytes()[told["begin"] :]
    matrix = np.frombuffer(content, NUMPY_TYPE[field.dtype]).reshape(-1, field.item_count)
    return matrix[int(table.schema.metadata[b"first"]) + number]


def as_row(row: dict[str, Any], vectors: dict[str, Any]) -> Row:
    payload = None if row["payload"] is None else canonical.loads(row["payload"])
    return Row(row["id"], row["namespace"], row["document"], payload, vectors)


class TestNpy(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> NpyHarness:
        return NpyHarness(tmp_path)
