"""FAISS index files: the suite, seeded and read with faiss and pyarrow alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exitramp import canonical
from exitramp.records import CollectionSpec, Metric
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness
from exitramp.testing.conformance.filters import FilterConformance
from exitramp.testing.conformance.search import SearchConformance
from exitramp.testing.conformance.steps import limits_of, write
from exitramp.testing.conformance.vectors import VectorConformance
from exitramp.testing.conformance.writing import WritingConformance
from exitramp.testing.within import rows_within, spec_within

METRICS = {"dot": faiss.METRIC_INNER_PRODUCT, "cosine": faiss.METRIC_INNER_PRODUCT}
METRICS |= {"euclidean": faiss.METRIC_L2, "manhattan": faiss.METRIC_L1}


class FaissHarness(StoreHarness):
    lacks = {
        Feature.SERVER_KILL: "files, no server",
        Feature.SERVER_STOP: "files, no server",
    }

    def __init__(self, folder: Path, options: str = "") -> None:
        self.folder = folder
        self.options = options

    def path(self, collection: str) -> Path:
        return self.folder / f"{hashlib.sha256(collection.encode()).hexdigest()[:16]}.faiss"

    def side_car(self, collection: str) -> Path:
        return Path(f"{self.path(collection)}.exitramp")

    def address(self, collection: str) -> str:
        return f"faiss:{self.path(collection)}{self.options}"

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        [field] = spec.vectors
        matrix = np.array([row.vectors[field.column] for row in rows], np.float32).reshape(len(rows), field.item_count)
        index = faiss.IndexFlat(field.item_count, METRICS[field.metric.value])
        stored = matrix.copy()
        if field.metric is Metric.COSINE:
            faiss.normalize_L2(stored)
        index.add(stored)
        faiss.write_index(index, str(self.path(collection)))
        columns = {
            "id": pa.array([row.id for row in rows], pa.string()),
            "namespace": pa.array([row.namespace for row in rows], pa.string()),
            "document": pa.array([row.document for row in rows], pa.string()),
            "payload": pa.array([row.payload_text for row in rows], pa.string()),
        }
        if field.metric is Metric.COSINE:
            columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), field.item_count)
        self.write_side_car(collection, pa.table(columns), spec.renamed(collection).to_json())

    def write_side_car(self, collection: str, table: pa.Table, spec: Any) -> None:
        digest = hashlib.sha256(self.path(collection).read_bytes()).hexdigest()
        self.write_about(collection, table, {"index_sha256": digest, "factory": "Flat", "spec": spec, "origin": None})

    def write_about(self, collection: str, table: pa.Table, about: dict[str, Any]) -> None:
        text = json.dumps({"format": 1} | about).encode()
        metadata = {b"exitramp": text, b"exitramp.sha256": hashlib.sha256(text).hexdigest().encode()}
        pq.write_table(table.replace_schema_metadata(metadata), self.side_car(collection))

    def raw_read(self, collection: str) -> list[Row]:
        index = faiss.read_index(str(self.path(collection)))
        table = pq.read_table(self.side_car(collection))
        about = json.loads(table.schema.metadata[b"exitramp"])
        assert about["index_sha256"] == hashlib.sha256(self.path(collection).read_bytes()).hexdigest()
        if isinstance(index, faiss.IndexIVFFlat):
            index.make_direct_map()
        vectors = [index.reconstruct(row) for row in range(index.ntotal)]
        if about["spec"]["vectors"][0]["metric"] == "cosine":
            originals = [np.array(vector, np.float32) for vector in table.column("vector").to_pylist()]
            for stored, original in zip(vectors, originals, strict=True):
                with np.errstate(all="ignore"):
                    unit = original.astype(np.float64) / np.linalg.norm(original.astype(np.float64))
                assert not np.isfinite(unit).all() or np.allclose(stored, unit, atol=1e-6) or not original.any()
            vectors = originals
        return [
            Row(
                row["id"],
                row["namespace"],
                row["document"],
                None if row["payload"] is None else canonical.loads(row["payload"]),
                {"vector": vector},
            )
            for row, vector in zip(
                table.select(["id", "namespace", "document", "payload"]).to_pylist(), vectors, strict=True
            )
        ]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        table = pq.read_table(self.side_car(collection))
        [place] = [place for place, found in enumerate(table.column("id").to_pylist()) if found == id_]
        payloads = table.column("payload").to_pylist()
        payloads[place] = canonical.dumps(canonical.loads(payloads[place] or "{}") | {key: value})
        spot = table.schema.get_field_index("payload")
        edited = table.set_column(spot, "payload", pa.array(payloads, pa.string()))
        self.write_side_car(collection, edited, json.loads(table.schema.metadata[b"exitramp"])["spec"])

    def raw_collections(self) -> list[str]:
        found = [pq.read_metadata(path).metadata[b"exitramp"] for path in self.folder.glob("*.faiss.exitramp")]
        return [json.loads(about)["spec"]["name"] for about in found]


class TestFaiss(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> FaissHarness:
        return FaissHarness(tmp_path)


class TestFaissHnsw(VectorConformance, WritingConformance, SearchConformance, FilterConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> FaissHarness:
        return FaissHarness(tmp_path, "?factory=HNSW16,Flat")


class TestFaissIvf(VectorConformance, WritingConformance, SearchConformance, FilterConformance):
    """With one list, since most tests have fewer records than an index of several lists needs."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> FaissHarness:
        return FaissHarness(tmp_path, "?factory=IVF1,Flat")


def numbers(rows: int = 20, dimensions: int = 8) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(5).standard_normal((rows, dimensions), dtype=np.float32)


def made(
    folder: Path, rows: int = 6, options: str = "", metric: Metric | None = None
) -> tuple[FaissHarness, CollectionSpec, list[Row]]:
    harness = FaissHarness(folder, options)
    limits = limits_of(harness)
    spec = spec_within(limits, "articles")
    if metric is not None:
        spec = replace(spec, vectors=(replace(spec.vectors[0], metric=metric),))
    records = rows_within(spec, limits, rows, 3)
    write(harness, spec, records)
    return harness, spec, records
