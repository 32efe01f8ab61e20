"""Dumps that vdf-io itself made (`fixtures/exitramp_fixtures/vdf`), and what may be wrong with one."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import exitramp_fixtures
from exitramp.errors import (
    AddressError,
    CollectionExists,
    CollectionMissing,
    DataInvalid,
    IntegrityError,
    StoreRejected,
    UsageError,
)
from exitramp.ports import Origin, Partition, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, Verdict
from exitramp.registry import open_store
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch

DUMPS = Path(str(files(exitramp_fixtures))) / "vdf"


def read(address: str) -> tuple[CollectionSpec, list[Row], dict[str, Any]]:
    store = open_store(f"vdf:{address}")
    source = store.source()
    spec = source.describe()
    pages = list(source.scan(Partition(), batch_rows=70))
    rows = [row for page in pages for row in rows_from_batch(page.batch, spec)]
    assert source.count() == len(rows)
    findings = {finding.code: finding for finding in source.identity().findings}
    store.close()
    return spec, rows, findings


def originals(name: str) -> bytes:
    return np.load(DUMPS / name / "originals.npy").tobytes()


def vectors_of(rows: list[Row]) -> bytes:
    return np.array([row.vectors["vector"] for row in rows]).tobytes()


def test_a_dump_of_chroma_has_its_floats_documents_and_metric_back() -> None:
    spec, rows, findings = read(f"{DUMPS}/chroma")
    [field] = spec.vectors
    assert pq.read_schema(DUMPS / "chroma/articles/1.parquet").field("vector").type.value_type == "double"
    assert (spec.name, spec.id_kind, spec.has_documents) == ("articles", IdKind.STRING, True)
    assert (field.name, field.dtype, field.metric, field.dimensions) == ("", DType.FLOAT32, Metric.DOT, 16)
    assert field.model.name == "none/made-by-hand"
    assert vectors_of(rows) == originals("chroma")
    assert rows[0].document == "Document 0: a text about topic 0."
    assert rows[0].payload == {"title": "Artikel 0 größer", "year": 1990, "score": 0.0, "public": True, "lang": "de"}
    assert rows[1].payload == {"title": "Artikel 1 größer", "year": 1991, "score": 0.125, "public": False}
    assert findings == {}


def test_a_dump_of_qdrant_has_its_integer_ids_and_lists_back() -> None:
    spec, rows, _ = read(f"{DUMPS}/qdrant#points")
    assert (spec.id_kind, spec.vectors[0].metric, spec.vectors[0].dtype) == (
        IdKind.UINT64,
        Metric.EUCLIDEAN,
        DType.FLOAT32,
    )
    assert [row.id for row in rows] == [str(1000 + number) for number in range(200)]
    assert vectors_of(rows) == originals("qdrant")
    assert rows[2].payload is not None
    assert rows[2].payload["tags"] == ["a", "b"]
    assert spec.index["vdf"]["exported_from"] == "qdrant"


def test_a_data_frames_index_is_not_read_and_a_doubtful_metric_is_told() -> None:
    names = [pq.read_schema(path).names for path in sorted((DUMPS / "lancedb/articles").glob("*.parquet"))]
    assert ["__index_level_0__" in each for each in names] == [False, True, True]
    spec, rows, findings = read(f"{DUMPS}/lancedb")
    assert len(rows) == 300
    assert vectors_of(rows) == originals("lancedb")
    assert {key for row in rows for key in row.payload or {}} == {"text", "year", "lang"}
    assert "__index_level_0__" in findings["source.index_column"].message
    assert spec.vectors[0].metric is Metric.COSINE
    assert "where it did not know it" in findings["source.metric"].message
    spec, rows, findings = read(f"{DUMPS}/lancedb?metric=euclidean&nulls=keep&document=text")
    assert (spec.vectors[0].metric, spec.has_documents) == (Metric.EUCLIDEAN, True)
    assert "source.metric" not in findings
    assert rows[1].payload == {"year": 1991, "lang": None}


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    shutil.copytree(DUMPS / "chroma", tmp_path / "dump")
    return tmp_path / "dump"


def edit(dump: Path, change: Any) -> None:
    path = dump / "VDF_META.json"
    meta = json.loads(path.read_bytes())
    change(meta)
    path.write_text(json.dumps(meta))


def about(meta: Any) -> Any:
    return meta["indexes"]["articles"][0]


def test_a_dump_that_was_cut_short_leaves_nothing_that_passes(dump: Path) -> None:
    edit(dump, lambda meta: about(meta).update(total_vector_count=1000))
    _, rows, findings = read(str(dump))
    assert len(rows) == 250
    found = findings["source.incomplete"]
    assert (found.verdict, found.count) == (Verdict.INCONCLUSIVE, 750)


@pytest.mark.parametrize("metric", ["Jaccard", None, "cosine"])
def test_a_metric_that_is_not_known_is_named_unless_the_address_says_another(metric: Any, dump: Path) -> None:
    edit(dump, lambda meta: about(meta).update(metric=metric))
    with pytest.raises(DataInvalid, match=str(metric)) as caught:
        read(str(dump))
    assert "?metric=" in str(caught.value.hint)
    assert read(f"{dump}?metric=dot")[0].vectors[0].metric is Metric.DOT


def test_namespaces_are_namespaces_and_several_indexes_are_told_apart(dump: Path) -> None:
    shutil.copytree(DUMPS / "lancedb/articles", dump / "articles_tenant")

    def change(meta: Any) -> None:
        meta["indexes"]["articles"].append(about(meta) | {"namespace": "tenant", "data_path": "articles_tenant"})
        meta["indexes"]["other"] = [about(meta)]

    edit(dump, change)
    with pytest.raises(AddressError, match="articles, other"):
        read(str(dump))
    spec, rows, _ = read(f"{dump}#articles")
    assert spec.has_namespaces
    assert len(rows) == 550
    assert {row.namespace for row in rows} == {None, "tenant"}
    assert {row.key for row in rows} >= {RecordKey("doc-0000", None), RecordKey("row/2000", "tenant")}
    assert len(read(f"{dump}#other")[1]) == 250
    with pytest.raises(CollectionMissing, match="'none'") as caught:
        read(f"{dump}#none")
    assert "articles, other" in str(caught.value.hint)


def test_a_path_that_leaves_the_dump_is_refused(dump: Path) -> None:
    for path in ("../..", "/etc", "articles/../../x"):
        edit(dump, lambda meta, path=path: about(meta).update(data_path=path))
        with pytest.raises(IntegrityError, match="outside of the dump"):
            read(str(dump))


@pytest.mark.parametrize("text", ["{", "[]", '{"indexes": []}', "{}"])
def test_a_meta_file_that_says_nothing_is_named(text: str, dump: Path) -> None:
    (dump / "VDF_META.json").write_text(text)
    with pytest.raises(DataInvalid, match=r"VDF_META\.json"):
        read(str(dump))


def test_a_folder_without_a_meta_file_is_no_dump(tmp_path: Path) -> None:
    with pytest.raises(CollectionMissing, match=r"there is no VDF_META\.json"):
        read(str(tmp_path))


def test_an_index_of_somebody_else_is_not_written_to_but_another_one_beside_it_is(dump: Path) -> None:
    spec, rows, _ = read(str(dump))
    before = (dump / "articles/1.parquet").read_bytes()
    store = open_store(f"vdf:{dump}#articles")
    with pytest.raises(CollectionExists, match="that exitramp did not write"):
        store.sink().create(spec, Origin(spec, "0"))
    store.close()
    write(f"{dump}#more", spec, rows)
    assert sorted(json.loads((dump / "VDF_META.json").read_bytes())["indexes"]) == ["articles", "more"]
    found = read(f"{dump}#more")
    assert (vectors_of(found[1]), found[1]) == (originals("chroma"), found[1])
    assert read(f"{dump}#articles")[1][0].payload == rows[0].payload
    assert (dump / "articles/1.parquet").read_bytes() == before


def write(address: str, spec: CollectionSpec, rows: list[Row]) -> None:
    store = open_store(f"vdf:{address}")
    sink = store.sink()
    sink.create(spec, Origin(spec, "0"))
    sink.upsert(batch_from_rows(rows, spec))
    sink.flush()
    sink.finish(TransferAccount())
    store.close()


def test_what_other_readers_see_has_typed_columns_and_a_folder_for_each_namespace(tmp_path: Path) -> None:
    """vdf-io 0.1.248 imported such a dump into Chroma and LanceDB; this holds the shape that it took."""
    spec, rows, _ = read(f"{DUMPS}/chroma")
    payloads = [
        {**(row.payload or {}), "id": "mine", "mixed": 1 if number % 2 else "x"} for number, row in enumerate(rows)
    ]
    spec = CollectionSpec("big", spec.id_kind, spec.vectors, True, True)
    made = [
        Row(row.id, (None, "a/b")[number % 2], row.document, payload, row.vectors)
        for number, (row, payload) in enumerate(zip(rows, payloads, strict=True))
    ]
    write(f"{tmp_path}/out", spec, made)
    meta = json.loads((tmp_path / "out/VDF_META.json").read_bytes())
    told = {each["namespace"]: each for each in meta["indexes"]["big"]}
    assert told.keys() == {"", "a/b"}
    assert {each["metric"] for each in told.values()} == {"Dot"}
    assert [each["exported_vector_count"] for each in told.values()] == [125, 125]
    table = pq.read_table(tmp_path / "out" / told[""]["data_path"])
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds == {
        "id": "string",
        "vector": "list<element: double>",
        "document": "string",
        "lang": "string",
        "metadata_id": "string",
        "mixed": "string",
        "public": "bool",
        "score": "double",
        "title": "string",
        "year": "int64",
    }
    assert table.column("mixed").to_pylist()[:1] == ['"x"']
    found = {row.key: row for row in read(f"{tmp_path}/out")[1]}
    assert {key: row.payload_text for key, row in found.items()} == {row.key: row.payload_text for row in made}


def test_a_data_file_that_was_changed_since_is_found_out(tmp_path: Path) -> None:
    spec, rows, _ = read(f"{DUMPS}/chroma")
    write(f"{tmp_path}/out", spec, rows)
    data = tmp_path / "out/articles/1.parquet"
    pq.write_table(pq.read_table(data), data)
    with pytest.raises(IntegrityError, match="was changed since exitramp wrote it") as caught:
        read(f"{tmp_path}/out")
    assert "'exitramp'" in str(caught.value.hint)
    edit(tmp_path / "out", lambda meta: meta.pop("exitramp"))
    assert vectors_of(read(f"{tmp_path}/out")[1]) == originals("chroma")


def test_a_second_process_does_not_write_meanwhile(tmp_path: Path) -> None:
    spec, _, _ = read(f"{DUMPS}/chroma")
    one, other = (open_store(f"vdf:{tmp_path}/out#articles") for _ in range(2))
    one.sink().create(spec, Origin(spec, "0"))
    with pytest.raises(StoreRejected, match="another process is writing there"):
        other.sink().create(spec, Origin(spec, "0"))
    one.close()
    other.sink().create(spec, Origin(spec, "0"))
    other.close()


def test_a_query_option_that_says_nothing_of_a_dump_is_refused() -> None:
    with pytest.raises(UsageError, match="has no option 'layout'"):
        read(f"{DUMPS}/chroma?layout=plain")


def test_a_folder_of_several_indexes_tells_their_names_without_one_being_named(tmp_path: Path) -> None:
    folder = shutil.copytree(DUMPS / "chroma", tmp_path / "dump")
    meta = json.loads((folder / "VDF_META.json").read_text())
    [[name, told]] = meta["indexes"].items()
    (folder / "VDF_META.json").write_text(json.dumps(meta | {"indexes": {name: told, "other": told}}))
    store = open_store(f"vdf:{folder}")
    assert store.source().identity().collections == ("articles", "other")
    with pytest.raises(AddressError, match="holds several indexes: articles, other"):
        store.source().describe()
    store.close()
