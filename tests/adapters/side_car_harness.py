"""A harness of index files with a side-car that says what the index calls each record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exitramp import canonical
from exitramp.records import CollectionSpec, DType, VectorField
from exitramp.testing import Feature, Row, StoreHarness


def numpy_type(field: VectorField) -> Any:
    return np.uint8 if field.dtype is DType.BINARY else np.dtype(field.dtype.value)


class SideCarHarness(StoreHarness):
    lacks = {
        Feature.SERVER_KILL: "files, no server",
        Feature.SERVER_STOP: "files, no server",
    }
    scheme = ""
    suffix = ""
    factory = ""

    def __init__(self, folder: Path, options: str = "") -> None:
        self.folder = folder
        self.options = options

    def raw_write(self, path: Path, field: VectorField, labels: Any, matrix: Any) -> None:
        """An index file with these vectors."""
        raise NotImplementedError

    def raw_vectors(self, path: Path, field: VectorField, labels: Any) -> Any:
        """The vectors that the index has under these labels, and nobody else's."""
        raise NotImplementedError

    def keeps_originals(self, field: VectorField) -> bool:
        return False

    def path(self, collection: str) -> Path:
        return self.folder / f"{hashlib.sha256(collection.encode()).hexdigest()[:16]}.{self.suffix}"

    def side_car(self, collection: str) -> Path:
        return Path(f"{self.path(collection)}.exitramp")

    def address(self, collection: str) -> str:
        return f"{self.scheme}:{self.path(collection)}{self.options}"

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        [field] = spec.vectors
        matrix = np.array([row.vectors[field.column] for row in rows], numpy_type(field))
        matrix = matrix.reshape(len(rows), field.item_count)
        labels = np.arange(len(rows), dtype=np.uint64) * 3 + 100
        order = np.random.default_rng(1).permutation(len(rows))  # the index need not have the side-car's order
        self.raw_write(self.path(collection), field, labels[order], matrix[order])
        columns = {
            "id": pa.array([row.id for row in rows], pa.string()),
            "namespace": pa.array([row.namespace for row in rows], pa.string()),
            "document": pa.array([row.document for row in rows], pa.string()),
            "payload": pa.array([row.payload_text for row in rows], pa.string()),
            "label": pa.array(labels, pa.uint64()),
        }
        if self.keeps_originals(field):
            columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), field.item_count)
        self.write_side_car(collection, pa.table(columns), spec.renamed(collection).to_json())

    def write_side_car(self, collection: str, table: pa.Table, spec: Any) -> None:
        digest = hashlib.sha256(self.path(collection).read_bytes()).hexdigest()
        about = {"format": 1, "index_sha256": digest, "factory": self.factory, "spec": spec, "origin": None}
        text = json.dumps(about).encode()
        metadata = {b"exitramp": text, b"exitramp.sha256": hashlib.sha256(text).hexdigest().encode()}
        pq.write_table(table.replace_schema_metadata(metadata), self.side_car(collection))

    def about(self, collection: str) -> dict[str, Any]:
        return dict(json.loads(pq.read_metadata(self.side_car(collection)).metadata[b"exitramp"]))

    def raw_read(self, collection: str) -> list[Row]:
        table, about = pq.read_table(self.side_car(collection)), self.about(collection)
        assert about["index_sha256"] == hashlib.sha256(self.path(collection).read_bytes()).hexdigest()
        [field] = CollectionSpec.from_json(about["spec"]).vectors
        labels = table.column("label").to_numpy()
        assert len(np.unique(labels)) == len(labels)
        vectors = self.raw_vectors(self.path(collection), field, labels)
        if self.keeps_originals(field):
            originals = [np.array(each, np.float32) for each in table.column("vector").to_pylist()]
            for stored, original in zip(vectors, originals, strict=True):
                wide = original.astype(np.float64)
                with np.errstate(all="ignore"):
                    unit = wide / np.linalg.norm(wide)
                assert not original.any() or np.allclose(stored, unit, atol=1e-6)
            vectors = originals
        texts = table.select(["id", "namespace", "document", "payload"]).to_pylist()
        return [
            Row(
                row["id"],
                row["namespace"],
                row["document"],
                None if row["payload"] is None else canonical.loads(row["payload"]),
                {"vector": vector},
            )
            for row, vector in zip(texts, vectors, strict=True)
        ]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        table = pq.read_table(self.side_car(collection))
        place = table.column("id").to_pylist().index(id_)
        payloads = table.column("payload").to_pylist()
        payloads[place] = canonical.dumps(canonical.loads(payloads[place] or "{}") | {key: value})
        spot = table.schema.get_field_index("payload")
        edited = table.set_column(spot, "payload", pa.array(payloads, pa.string()))
        self.write_side_car(collection, edited, self.about(collection)["spec"])

    def raw_collections(self) -> list[str]:
        found = [pq.read_metadata(path).metadata[b"exitramp"] for path in self.folder.glob(f"*.{self.suffix}.exitramp")]
        return [json.loads(about)["spec"]["name"] for about in found]
