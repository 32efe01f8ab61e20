"""HDF5 files: the suite, seeded and read back with h5py alone, and files as ann-benchmarks writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.records import CollectionSpec, DType
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness
from exitramp.testing.rows import NUMPY_TYPE

DISTANCES = {"cosine": "angular", "euclidean": "euclidean", "hamming": "hamming"}


class Hdf5Harness(StoreHarness):
    lacks = {
        Feature.SERVER_KILL: "files, no server",
        Feature.SERVER_STOP: "files, no server",
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, collection: str) -> Path:
        return self.folder / f"{hashlib.sha256(collection.encode()).hexdigest()[:16]}.hdf5"

    def address(self, collection: str) -> str:
        return f"hdf5:{self.path(collection)}"

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        [field] = spec.vectors
        bits = field.dtype is DType.BINARY
        vectors = [np.asarray(row.vectors[field.column]) for row in rows]
        matrix = np.array(vectors, NUMPY_TYPE[field.dtype]).reshape(len(rows), field.item_count)
        with h5py.File(self.path(collection), "w") as file:
            file.attrs.update(type="dense", distance=DISTANCES[field.metric.value], dimension=field.dimensions)
            file.attrs["point_type"] = "bit" if bits else "float"
            file["train"] = np.unpackbits(matrix, axis=1).astype(bool) if bits else matrix
            group = file.create_group("exitramp")
            told = {"format": 1, "spec": spec.renamed(collection).to_json(), "origin": None}
            group["about"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
            for name, texts in {
                "id": [row.id for row in rows],
                "namespace": [row.namespace for row in rows],
                "document": [row.document for row in rows],
                "payload": [row.payload_text for row in rows],
            }.items():
                write_texts(group, name, texts)

    def raw_read(self, collection: str) -> list[Row]:
        """The file alone where the load was finished; before that, what waits beside it as well."""
        found: dict[tuple[str, str | None], Row] = {}
        if self.path(collection).exists():
            with h5py.File(self.path(collection)) as file:
                matrix = file["train"][:]
                if file.attrs["point_type"] == "bit":
                    matrix = np.packbits(matrix, axis=1)
                columns = {
                    name: texts_of(file["exitramp"], name) for name in ("id", "namespace", "document", "payload")
                }
            for number, vector in enumerate(matrix):
                row = {name: texts[number] for name, texts in columns.items()}
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
        with h5py.File(self.path(collection), "r+") as file:
            group = file["exitramp"]
            payloads = texts_of(group, "payload")
            place = texts_of(group, "id").index(id_)
            payloads[place] = canonical.dumps(canonical.loads(payloads[place] or "{}") | {key: value})
            for part in ("bytes", "ends", "absent"):
                del group[f"payload.{part}"]
            write_texts(group, "payload", payloads)

    def raw_collections(self) -> list[str]:
        found = []
        for path in self.folder.glob("*.hdf5"):
            with h5py.File(path) as file:
                found.append(json.loads(bytes(file["exitramp/about"][:]))["spec"]["name"])
        return found


def write_texts(group: Any, name: str, texts: Sequence[str | None]) -> None:
    parts = [(text or "").encode() for text in texts]
    group[f"{name}.bytes"] = np.frombuffer(b"".join(parts), np.uint8)
    group[f"{name}.ends"] = np.cumsum([len(part) for part in parts], dtype=np.int64)
    group[f"{name}.absent"] = np.array([text is None for text in texts], bool)


def texts_of(group: Any, name: str) -> list[str | None]:
    content, ends = bytes(group[f"{name}.bytes"][:]), group[f"{name}.ends"][:].tolist()
    texts = [content[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
    return [None if gone else text for gone, text in zip(group[f"{name}.absent"][:], texts, strict=True)]


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


class TestHdf5(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Hdf5Harness:
        return Hdf5Harness(tmp_path)
