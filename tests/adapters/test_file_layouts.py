"""Parquet in the layouts of Pinecone, Qdrant and Weaviate.

The files of Qdrant were written by its own tool (`fixtures/exitramp_fixtures/exports`). Those of Pinecone and Weaviate
are made here from the published descriptions: no export of a real one was to be had.
"""

from __future__ import annotations

import json
import uuid
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import exitramp_fixtures
from exitramp.errors import CollectionMissing, DataInvalid, UsageError
from exitramp.ports import Partition
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey
from exitramp.registry import open_store
from exitramp.testing.rows import Row, rows_from_batch

EXPORTS = Path(str(files(exitramp_fixtures))) / "exports"
SPARSE = pa.struct([("indices", pa.list_(pa.uint32())), ("values", pa.list_(pa.float32()))])


def read(address: str) -> tuple[CollectionSpec, list[Row], list[str]]:
    store = open_store(f"file:{address}")
    source = store.source()
    spec = source.describe()
    pages = list(source.scan(Partition(), batch_rows=50))
    rows = [row for page in pages for row in rows_from_batch(page.batch, spec)]
    assert source.count() == len(rows)
    return spec, rows, [finding.code for finding in source.identity().findings]


def matrix(rows: int, dimensions: int = 4) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(rows).standard_normal((rows, dimensions), dtype=np.float32)


def test_an_export_by_qdrants_own_tool_is_read_whole() -> None:
    spec, rows, findings = read(f"{EXPORTS}/qdrant/plain.parquet")
    [field] = spec.vectors
    assert (spec.name, spec.id_kind) == ("articles", IdKind.UINT64)
    assert (field.name, field.dtype, field.metric, field.dimensions) == ("", DType.FLOAT32, Metric.DOT, 16)
    assert [row.id for row in rows] == [str(3 * number) for number in range(120)]
    wanted = np.random.default_rng(7).standard_normal((120, 16)).astype(np.float32)
    assert np.array([row.vectors["vector"] for row in rows]).tobytes() == wanted.tobytes()
    assert rows[0].payload == {}
    assert rows[3].payload == {"title": "größer 3", "year": 1993, "tags": ["a", None], "n": {"x": 0.1 * 3}}
    assert findings == ["source.layout"]
    assert spec.index["params"]["vectors"]["distance"] == "Dot"


def test_named_multi_and_sparse_vectors_of_qdrant_are_fields_of_their_kinds() -> None:
    spec, rows, _ = read(f"{EXPORTS}/qdrant/named.parquet")
    assert spec.id_kind is IdKind.UUID
    assert [(field.column, field.metric, field.dimensions) for field in spec.vectors] == [
        ("vector:body", Metric.COSINE, 16),
        ("multi:late", Metric.MANHATTAN, 4),
        ("sparse:words", Metric.DOT, None),
    ]
    assert len(rows) == 120
    assert sum("sparse:words" in row.vectors for row in rows) == 90
    assert sum("multi:late" in row.vectors for row in rows) == 103
    table = pq.read_table(EXPORTS / "qdrant" / "named.parquet")
    for row, raw in zip(rows, table.to_pylist(), strict=True):
        assert np.asarray(row.vectors["vector:body"]).tolist() == raw["vector_body"]
        late = row.vectors.get("multi:late")
        assert (None if late is None else np.asarray(late).tolist()) == raw["vector_late"]
        words = row.vectors.get("sparse:words")
        assert (None if words is None else [part.tolist() for part in words]) == (
            None if raw["vector_words"] is None else [raw["vector_words"]["indices"], raw["vector_words"]["values"]]
        )


def test_the_columns_are_read_as_they_are_where_the_address_says_plain() -> None:
    spec, rows, findings = read(f"{EXPORTS}/qdrant/plain.parquet?layout=plain&id=id&vectors=vector&metric=cosine")
    assert (spec.name, spec.vectors[0].metric) == ("plain", Metric.COSINE)
    assert rows[0].payload == {"payload": "{}"}
    assert findings == []


def pinecone(folder: Path, space: str | None, start: int, rows: int, *, metadata: Any = None) -> None:
    place = folder if space is None else folder / space
    place.mkdir(parents=True, exist_ok=True)
    texts = [json.dumps({"n": number, "tags": ["a"]}) if number % 3 else None for number in range(start, start + rows)]
    sparse = [{"indices": [number, 4_000_000_000], "values": [0.5, 1.5]} for number in range(start, start + rows)]
    columns = {
        "id": [f"r{number}" for number in range(start, start + rows)],
        "values": pa.array(matrix(rows).tolist(), pa.list_(pa.float32())),
        "sparse_values": pa.array(sparse, SPARSE),
        "metadata": texts if metadata is None else metadata,
    }
    pq.write_table(pa.table(columns), place / f"{start}.parquet")


def test_folders_of_pinecone_are_namespaces(tmp_path: Path) -> None:
    pinecone(tmp_path / "x", "tenant-a", 0, 60)
    pinecone(tmp_path / "x", "tenant-a", 60, 40)
    pinecone(tmp_path / "x", "__default__", 0, 20)
    (tmp_path / "x" / "tenant-a" / ".log").touch()
    spec, rows, findings = read(f"{tmp_path}/x?metric=dot")
    assert (spec.has_namespaces, spec.id_kind, spec.name) == (True, IdKind.STRING, "x")
    assert [(field.column, field.metric) for field in spec.vectors] == [
        ("vector", Metric.DOT),
        ("sparse:sparse", Metric.DOT),
    ]
    found = {row.key: row for row in rows}
    assert len(found) == 120
    assert found[RecordKey("r1", None)].payload == {"n": 1, "tags": ["a"]}
    assert found[RecordKey("r3", "tenant-a")].payload is None
    assert [part.tolist() for part in found[RecordKey("r99", "tenant-a")].vectors["sparse:sparse"]] == [
        [99, 4_000_000_000],
        [0.5, 1.5],
    ]
    assert findings == ["source.layout"]


def test_one_file_of_pinecone_is_in_no_namespace_and_its_metric_must_be_said(tmp_path: Path) -> None:
    pinecone(tmp_path, None, 0, 20)
    spec, rows, _ = read(f"{tmp_path}/0.parquet?metric=cosine")
    assert (spec.has_namespaces, len(rows)) == (False, 20)
    with pytest.raises(UsageError, match="by which metric"):
        read(f"{tmp_path}/0.parquet")
    with pytest.raises(UsageError, match="says itself which column is the id"):
        read(f"{tmp_path}/0.parquet?metric=cosine&layout=pinecone&id=id")


def test_metadata_of_pinecone_that_is_no_json_is_named(tmp_path: Path) -> None:
    pinecone(tmp_path, None, 0, 2, metadata=["{}", "{secret"])
    with pytest.raises(DataInvalid) as caught:
        read(f"{tmp_path}/0.parquet?metric=cosine")
    assert "0.parquet row 2: 'metadata'" in caught.value.message
    assert "secret" not in caught.value.message


def weaviate(path: Path, rows: int, *, collection: str = "Article", tenant: str | None = None, **columns: Any) -> None:
    vectors = matrix(rows)
    named = [
        json.dumps({"title": [float(str(np.float32(number))) for number in vectors[row, :2]]}).encode()
        if row % 2
        else None
        for row in range(rows)
    ]
    multi = [json.dumps({"late": [[0.1, 1e-7]] * (row % 3)}).encode() for row in range(rows)]
    table = pa.table(
        {
            "id": [str(uuid.UUID(int=number + 1)) for number in range(rows)],
            "creation_time": pa.array([1_700_000_000_000 + number for number in range(rows)]),
            "update_time": pa.array([1_700_000_000_001 + number for number in range(rows)]),
            "vector": [None if row == 3 else vectors[row].astype("<f4").tobytes() for row in range(rows)],
            "named_vectors": pa.array(named, pa.binary()),
            "multi_vectors": pa.array(multi, pa.binary()),
            "properties": [json.dumps({"title": f"größer {row}"}).encode() for row in range(rows)],
        }
        | columns
    )
    told = {"collection": collection} | ({} if tenant is None else {"tenant": tenant})
    pq.write_table(table.replace_schema_metadata(told), path)


def test_a_collection_of_weaviate_is_read_with_its_named_and_multi_vectors(tmp_path: Path) -> None:
    weaviate(tmp_path / "Article_a_0000.parquet", 20)
    spec, rows, findings = read(f"{tmp_path}/Article_a_0000.parquet?metric=cosine,late:dot")
    assert (spec.name, spec.id_kind, spec.has_namespaces) == ("Article", IdKind.UUID, False)
    assert [(field.column, field.dtype, field.metric, field.dimensions) for field in spec.vectors] == [
        ("vector", DType.FLOAT32, Metric.COSINE, 4),
        ("vector:title", DType.FLOAT32, Metric.COSINE, 2),
        ("multi:late", DType.FLOAT32, Metric.DOT, 2),
    ]
    assert np.asarray(rows[2].vectors["vector"]).tobytes() == matrix(20)[2].tobytes()
    assert "vector" not in rows[3].vectors
    assert np.asarray(rows[1].vectors["vector:title"]).tobytes() == matrix(20)[1, :2].tobytes()
    assert np.asarray(rows[2].vectors["multi:late"]).tobytes() == np.float32([[0.1, 1e-7]] * 2).tobytes()
    assert rows[0].payload == {
        "title": "größer 0",
        "_creationTimeUnix": 1_700_000_000_000,
        "_lastUpdateTimeUnix": 1_700_000_000_001,
    }
    assert findings[0] == "source.layout"
    _, rows, _ = read(f"{tmp_path}/Article_a_0000.parquet?metric=cosine&times=no")
    assert rows[0].payload == {"title": "größer 0"}


def test_tenants_of_weaviate_are_namespaces_and_collections_are_told_apart(tmp_path: Path) -> None:
    weaviate(tmp_path / "Article_a_0000.parquet", 5, tenant="a")
    weaviate(tmp_path / "Article_b_0000.parquet", 5, tenant="b")
    weaviate(tmp_path / "Other_x_0000.parquet", 7, collection="Other")
    spec, rows, _ = read(f"{tmp_path}?metric=cosine#Article")
    assert (spec.has_namespaces, len(rows)) == (True, 10)
    assert {row.namespace for row in rows} == {"a", "b"}
    assert len(read(f"{tmp_path}?metric=cosine#Other")[1]) == 7
    with pytest.raises(UsageError, match="Article, Other"):
        read(f"{tmp_path}?metric=cosine")
    with pytest.raises(CollectionMissing):
        read(f"{tmp_path}?metric=cosine#None")


def test_a_vector_of_weaviate_that_ends_in_the_middle_of_a_number_is_named(tmp_path: Path) -> None:
    weaviate(tmp_path / "a.parquet", 2, vector=[b"\x00" * 16, b"\x00" * 15])
    with pytest.raises(DataInvalid, match=r"a\.parquet row 2: 15 bytes"):
        read(f"{tmp_path}/a.parquet?metric=cosine")


def test_a_layout_that_the_files_do_not_have_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "v": [[1.0]]}), tmp_path / "a.parquet")
    for layout in ("qdrant", "weaviate"):
        with pytest.raises(UsageError, match=f"which the layout '{layout}' has"):
            read(f"{tmp_path}/a.parquet?layout={layout}&metric=dot")
    with pytest.raises(UsageError, match="known are plain, pinecone"):
        read(f"{tmp_path}/a.parquet?layout=pincone")
