"""Plain files as a source: written with pyarrow, csv and json alone, and read to the last bit and value."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.arrow import dense_matrix, record_keys
from exitramp.errors import DataInvalid, ExitrampError, RoleUnsupported, StoreRejected, UsageError
from exitramp.filters import Eq, Range
from exitramp.ports import Cursor, Page, Partition, Query, VectorSource
from exitramp.ports.tables import plain_values
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorKind
from exitramp.registry import open_store, store_adapter
from exitramp.testing.reference import score
from exitramp.testing.rows import Row, rows_from_batch

ROWS = 700
SAID = "?id=url&vectors=emb&document=body&metric=cosine"


def vectors(rows: int = ROWS, dimensions: int = 8) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(5).standard_normal((rows, dimensions), dtype=np.float32)


def records() -> list[dict[str, Any]]:
    matrix = vectors()
    return [
        {
            "url": f"u/{row}",
            "emb": matrix[row].tolist(),
            "body": None if row % 9 == 0 else f"größer {row}\n",
            "year": row,
        }
        for row in range(ROWS)
    ]


def as_parquet(path: Path, found: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(found), path, row_group_size=150)


def as_arrow(path: Path, found: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(found)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=130)


def as_stream(path: Path, found: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(found)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=130)


def as_lines(path: Path, found: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(each) + "\n" for each in found))


def as_array(path: Path, found: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(found))


def as_csv(path: Path, found: list[dict[str, Any]]) -> None:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(found[0])
        writer.writerows(
            [json.dumps(value) if isinstance(value, list) else value for value in each.values()] for each in found
        )


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    ".parquet": as_parquet,
    ".arrow": as_arrow,
    ".arrows": as_stream,
    ".jsonl": as_lines,
    ".json": as_array,
    ".csv": as_csv,
    ".tsv": as_csv,
}


def source_of(address: str) -> VectorSource:
    return open_store(f"file:{address}").source()


def read(source: VectorSource, batch_rows: int = 100, after: Cursor | None = None) -> list[Page]:
    found = list(source.scan(Partition(), batch_rows=batch_rows, after=after))
    assert [page.last for page in found] == [False] * (len(found) - 1) + [True]
    return found


def rows_of(address: str) -> tuple[CollectionSpec, list[Row]]:
    source = source_of(address)
    spec = source.describe()
    rows = [row for page in read(source) for row in rows_from_batch(page.batch, spec)]
    assert source.count() == len(rows)
    return spec, rows


def keys_of(pages: list[Page]) -> list[RecordKey]:
    return [key for page in pages for key in record_keys(page.batch)]


def refused(address: str, kind: type[ExitrampError] = DataInvalid) -> str:
    with pytest.raises(kind) as caught:
        rows_of(address)
    return f"{caught.value.message}\n{caught.value.hint}"


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_kind_of_file_gives_the_same_records(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"articles{suffix}"
    WRITERS[suffix](path, records())
    types = "&types=year:int" if suffix in {".csv", ".tsv"} else ""
    spec, rows = rows_of(f"{path}{SAID}{types}")
    [field] = spec.vectors
    assert (field.name, field.dtype, field.metric, field.dimensions) == ("", DType.FLOAT32, Metric.COSINE, 8)
    assert (spec.name, spec.id_kind, spec.has_documents) == ("articles", IdKind.STRING, True)
    assert [row.id for row in rows] == [each["url"] for each in records()]
    assert [row.document for row in rows] == [each["body"] for each in records()]
    assert [row.payload for row in rows] == [{"year": each["year"]} for each in records()]
    assert np.array([row.vectors["vector"] for row in rows]).tobytes() == vectors().tobytes()


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_scan_resumes_after_every_cursor_in_a_store_opened_anew(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"articles{suffix}"
    WRITERS[suffix](path, records())
    whole = read(source_of(f"{path}{SAID}"), 90)
    for done, page in enumerate(whole, start=1):
        rest = read(source_of(f"{path}{SAID}"), 64, page.cursor)
        assert keys_of(rest) == keys_of(whole[done:])


@pytest.mark.parametrize("suffix", WRITERS)
def test_partitions_are_disjoint_and_together_everything(suffix: str, tmp_path: Path) -> None:
    found = records()
    for part in range(3):
        WRITERS[suffix](tmp_path / f"part-{part}{suffix}", found[part * 200 : part * 200 + 200])
    source = source_of(f"{tmp_path}{SAID}")
    parts = source.partitions(3)
    assert len(parts) == 3
    keys = [key for part in parts for page in source.scan(part, batch_rows=70) for key in record_keys(page.batch)]
    assert [key.id for key in keys] == [each["url"] for each in found[:600]]


@pytest.mark.parametrize("suffix", WRITERS)
def test_records_are_fetched_by_id_and_absent_ones_left_out(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"articles{suffix}"
    WRITERS[suffix](path, records())
    source = source_of(f"{path}{SAID}")
    wanted = [
        RecordKey("u/699"),
        RecordKey("u/3"),
        RecordKey("u/3"),
        RecordKey("nobody"),
        RecordKey("u/4", "elsewhere"),
    ]
    batch = source.fetch(wanted)
    assert sorted(key.id for key in record_keys(batch)) == ["u/3", "u/699"]
    matrix = dense_matrix(batch.column("vector"))
    at = [key.id for key in record_keys(batch)].index("u/699")
    assert matrix[at].tobytes() == vectors()[699].tobytes()
    assert source.fetch([]).num_rows == 0


def test_a_folder_and_a_pattern_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    found = records()
    as_parquet(tmp_path / "b.parquet", found[100:])
    as_parquet(tmp_path / "a.parquet", found[:100])
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "notes.txt").touch()
    for address in (f"{tmp_path}{SAID}", f"{tmp_path}/*.parquet{SAID}"):
        _, rows = rows_of(address)
        assert [row.id for row in rows] == [each["url"] for each in found]
    as_lines(tmp_path / "c.jsonl", found)
    assert "several kinds" in refused(f"{tmp_path}{SAID}", UsageError)


def test_files_whose_columns_differ_keep_what_each_has(tmp_path: Path) -> None:
    as_parquet(tmp_path / "a.parquet", [{"id": 1, "v": [1.0, 2.0], "price": 1}])
    as_parquet(tmp_path / "b.parquet", [{"id": 2, "v": [3.0, 4.0], "price": 1.5, "new": "x"}])
    _, rows = rows_of(f"{tmp_path}?id=id&vectors=v&metric=dot")
    assert [row.payload for row in rows] == [{"price": 1}, {"price": 1.5, "new": "x"}]
    assert [type(row.payload["price"]) for row in rows if row.payload] == [int, float]


def test_doubles_are_float32_only_where_all_of_them_are(tmp_path: Path) -> None:
    matrix = vectors(300).astype(np.float64)
    table = pa.table({"id": range(300), "v": matrix.tolist()})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    spec, _ = rows_of(f"{tmp_path}/a.parquet?id=id&vectors=v&metric=dot")
    assert spec.vectors[0].dtype is DType.FLOAT32
    matrix[299, 7] = 0.1  # in the last row of the last group
    pq.write_table(pa.table({"id": range(300), "v": matrix.tolist()}), tmp_path / "b.parquet", row_group_size=100)
    spec, rows = rows_of(f"{tmp_path}/b.parquet?id=id&vectors=v&metric=dot")
    assert spec.vectors[0].dtype is DType.FLOAT64
    assert np.array([row.vectors["vector"] for row in rows]).tobytes() == matrix.tobytes()
    spec, rows = rows_of(f"{tmp_path}/b.parquet?id=id&vectors=v&metric=dot&dtype=float32")
    assert rows[299].vectors["vector"][7] == np.float32(0.1)  # somebody said that it may be rounded


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (pa.list_(pa.float32(), 8), DType.FLOAT32),
        (pa.list_(pa.float32()), DType.FLOAT32),
        (pa.large_list(pa.float64()), DType.FLOAT32),
        (pa.list_(pa.float16(), 8), DType.FLOAT16),
        (pa.list_(pa.int8(), 8), DType.INT8),
        (pa.list_(pa.int32(), 8), DType.FLOAT32),
        (pa.list_(pa.uint8()), DType.FLOAT32),
        (pa.list_(pa.int64()), DType.FLOAT32),
    ],
    ids=str,
)
def test_every_form_of_list_is_a_vector_of_its_own_type(kind: pa.DataType, dtype: DType, tmp_path: Path) -> None:
    matrix = np.arange(24).reshape(3, 8)
    column = pa.array(matrix.tolist(), pa.list_(pa.int64())).cast(kind) if kind.value_type != pa.float16() else None
    if column is None:
        column = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1).astype(np.float16)), 8)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["a", "b", "c"], "v": column}), path)
    spec, rows = rows_of(f"{path}?id=id&vectors=v&metric=dot")
    assert (spec.vectors[0].dtype, spec.vectors[0].dimensions) == (dtype, 8)
    assert np.array([row.vectors["vector"] for row in rows]).astype(int).tolist() == matrix.tolist()


def test_bits_are_bits_where_the_address_says_so(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (3, 16)).astype(bool)
    packed = np.packbits(bits, axis=1)
    table = pa.table(
        {"id": ["a", "b", "c"], "v": bits.tolist(), "w": packed.tolist(), "x": [row.tobytes() for row in packed]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    for column in ("v", "w", "x"):
        spec, rows = rows_of(f"{tmp_path}/a.parquet?id=id&vectors={column}&metric=hamming&dtype=binary")
        assert (spec.vectors[0].dtype, spec.vectors[0].dimensions) == (DType.BINARY, 16)
        assert np.array([row.vectors["vector"] for row in rows]).tobytes() == packed.tobytes()
    assert "dtype=" in refused(f"{tmp_path}/a.parquet?id=id&vectors=x&metric=hamming")


def test_several_dense_multi_and_sparse_columns_are_fields_by_their_names(tmp_path: Path) -> None:
    sparse = pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))])
    table = pa.table(
        {
            "id": [1, 2],
            "body": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
            "title": pa.array([[5.0], None], pa.list_(pa.float32(), 1)),
            "late": pa.array([[[1.0], [2.0]], []], pa.list_(pa.list_(pa.float32()))),
            "words": pa.array([{"indices": [7, 3], "values": [0.5, 0.25]}, None], sparse),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    said = "metric=cosine,title:dot,words:dot,late:dot"
    spec, rows = rows_of(f"{tmp_path}/a.parquet?id=id&vectors=body,title,late,words&{said}")
    assert [(field.column, field.metric, field.dimensions) for field in spec.vectors] == [
        ("vector:body", Metric.COSINE, 2),
        ("vector:title", Metric.DOT, 1),
        ("sparse:words", Metric.DOT, None),
        ("multi:late", Metric.DOT, 1),
    ]
    assert "vector:title" not in rows[1].vectors
    assert "sparse:words" not in rows[1].vectors
    assert [part.tolist() for part in rows[0].vectors["sparse:words"]] == [[7, 3], [0.5, 0.25]]
    assert rows[0].vectors["multi:late"].tolist() == [[1.0], [2.0]]  # type: ignore[union-attr]
    spec, _ = rows_of(f"{tmp_path}/a.parquet?id=id&vectors=body&metric=dot")
    [field] = spec.vectors
    assert (field.name, field.kind) == ("", VectorKind.DENSE)


def test_sparse_vectors_of_json_are_read_in_both_forms(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "v": [1, 2], "s": {"indices": [5], "values": [0.5]}},
        {"id": "b", "v": [1, 2], "s": {"12": 0.25, "3": 1}},
        {"id": "c", "v": [1, 2]},
    ]
    as_lines(tmp_path / "a.jsonl", lines)
    spec, rows = rows_of(f"{tmp_path}/a.jsonl?id=id&vectors=v,s&metric=dot")
    assert {field.column for field in spec.vectors} == {"vector:v", "sparse:s"}
    assert [part.tolist() for part in rows[1].vectors["sparse:s"]] == [[12, 3], [0.25, 1.0]]
    assert "sparse:s" not in rows[2].vectors


_TYPES = st.recursive(
    st.sampled_from([pa.int64(), pa.uint64(), pa.string(), pa.bool_(), pa.float64(), pa.binary(), pa.date32()]),
    lambda inner: st.one_of(inner.map(pa.list_), inner.map(lambda kind: pa.struct([("x", kind), ("y", pa.int8())]))),
    max_leaves=4,
)


@given(kind=_TYPES, data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_column_of_any_type_is_its_values_in_the_payload(
    kind: pa.DataType, data: st.DataObject, tmp_path: Path
) -> None:
    values = data.draw(st.lists(_values(kind), min_size=1, max_size=5))
    column = pa.array(values, kind)
    table = pa.table({"id": range(len(values)), "value": column, "v": [[1.0]] * len(values)})
    pq.write_table(table, tmp_path / "a.parquet")
    _, rows = rows_of(f"{tmp_path}/a.parquet?id=id&vectors=v&metric=dot")
    wanted = [canonical.dumps({"value": value}) for value in plain_values(column)]
    assert [row.payload_text for row in rows] == wanted


def _values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_list(kind):
        return st.none() | st.lists(_values(kind.value_type), max_size=3)
    if pa.types.is_struct(kind):
        parts = {kind.field(number).name: _values(kind.field(number).type) for number in range(kind.num_fields)}
        return st.none() | st.fixed_dictionaries(parts)
    plain: dict[str, st.SearchStrategy[Any]] = {
        "int64": st.integers(-(2**63), 2**63 - 1),
        "uint64": st.integers(0, 2**64 - 1),
        "int8": st.integers(-128, 127),
        "string": st.text(max_size=3),
        "bool": st.booleans(),
        "double": st.floats(),
        "binary": st.binary(max_size=3),
        "date32[day]": st.dates(),
    }
    return st.none() | plain[str(kind)]


def test_typed_columns_become_their_exact_values(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["a"],
            "v": [[1.0]],
            "price": pa.array([Decimal("1.10")], pa.decimal128(9, 2)),
            "when": pa.array([datetime(2024, 1, 2, 3, 4, 5, 6, UTC)], pa.timestamp("us", "UTC")),
            "fine": pa.array([1], pa.timestamp("ns")),
            "blob": [b"\x00\xff"],
            "kind": pa.array(["x"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    address = f"{tmp_path}/a.parquet?id=id&vectors=v&metric=dot"
    _, [row] = rows_of(address)
    assert row.payload == {
        "price": Decimal("1.10"),
        "when": datetime(2024, 1, 2, 3, 4, 5, 6, UTC),
        "fine": "1970-01-01T00:00:00.000000001",
        "blob": b"\x00\xff",
        "kind": "x",
    }
    [finding] = source_of(address).identity().findings
    assert finding.code == "source.textual"
    assert "fine" in finding.message


def test_a_column_of_json_is_the_payload_where_the_address_says_so(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "v": [[1.0], [2.0]], "meta": ['{"n": 1.0, "big": 18446744073709551617}', None]})
    pq.write_table(table, tmp_path / "a.parquet")
    _, rows = rows_of(f"{tmp_path}/a.parquet?id=id&vectors=v&payload=meta&metric=dot")
    assert [row.payload for row in rows] == [{"n": 1.0, "big": 2**64 + 1}, None]


def test_cells_of_csv_are_the_text_that_stands_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,v,code,note,empty\n1,"[1, 2]",007,"a ""quoted"", one",""\n2,"[3.5, 4]",1e3,,\n')
    _, rows = rows_of(f"{path}?id=id&vectors=v&metric=dot")
    assert rows[0].payload == {"code": "007", "note": 'a "quoted", one', "empty": ""}
    assert rows[1].payload == {"code": "1e3", "note": None, "empty": None}
    _, rows = rows_of(f"{path}?id=id&vectors=v&metric=dot&types=code:float&nulls=absent")
    assert [row.payload for row in rows] == [{"code": 7.0, "note": 'a "quoted", one', "empty": ""}, {"code": 1000.0}]


def test_a_line_of_csv_that_is_too_short_is_named_and_its_values_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,v,secret\n1,"[1]",x\n2,"[1]"\n')
    said = refused(f"{path}?id=id&vectors=v&metric=dot")
    assert "line 3 has 2 cells where the first has 3" in said
    path.write_text('id,v,code\n1,"[1]",hidden-value\n')
    said = refused(f"{path}?id=id&vectors=v&metric=dot&types=code:int")
    assert "a.csv row 1, 'code'" in said
    assert "hidden-value" not in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "b", "v": [1, 2], "v": [1, 2]}', "stands twice"),
        ('{"id": "b", "v": [1, 2]', "a.jsonl:2"),
        ("[1]", "a JSON object is wanted"),
        ('{"v": [1, 2]}', "a.jsonl row 2 has no id"),
        ('{"id": "b", "v": [1, null]}', "a.jsonl row 2: a vector has a missing number"),
        ('{"id": "b", "v": [1, 2, 3]}', "2 in a.jsonl row 1, 3 in a.jsonl row 2"),
        ('{"id": "b", "v": "no vector"}', "row 2"),
        ('{"id": "a", "v": [1, 2]}', "the id 'a' stands twice: a.jsonl row 1 and a.jsonl row 2"),
        ('{"id": "b", "v": [1, 2], "x": "\\ud800"}', "surrogate"),
        ('{"id": true, "v": [1, 2]}', "row 2: 'id'"),
    ],
)
def test_a_line_that_is_no_record_is_named(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a", "v": [1, 2]}\n' + line + "\n")
    assert said in refused(f"{tmp_path}/a.jsonl?id=id&vectors=v&metric=dot")


def test_values_of_json_come_as_they_are(tmp_path: Path) -> None:
    payload = (
        '{"big": 18446744073709551617, "one": 1, "float": 1.0, "minus": -0.0, "deep": {"a": [null, true]}, "nan": NaN}'
    )
    (tmp_path / "a.jsonl").write_text(f'{{"id": 7, "v": [1, 2.5], {payload[1:]}\n\n{{"id": 8, "v": [1, 2]}}\n')
    spec, rows = rows_of(f"{tmp_path}/a.jsonl?id=id&vectors=v&metric=dot")
    assert spec.id_kind is IdKind.UINT64
    text = '{"big":{"$exitramp:int":"18446744073709551617"},"deep":{"a":[null,true]},"float":1.0,"minus":-0.0,'
    assert rows[0].payload_text == text + '"nan":{"$exitramp:float":"NaN"},"one":1}'
    assert rows[1].payload is None


def test_a_key_of_json_that_no_row_has_is_named(tmp_path: Path) -> None:
    lines = [{"id": str(row), "v": [1.0]} for row in range(200)]
    lines[150]["late"] = "text"
    as_lines(tmp_path / "a.jsonl", lines)
    _, rows = rows_of(f"{tmp_path}/a.jsonl?id=id&vectors=v&document=late&metric=dot")
    assert rows[150].document == "text"
    assert "'laet'" in refused(f"{tmp_path}/a.jsonl?id=id&vectors=v&document=laet&metric=dot", UsageError)
    assert "no row has a vector in 'w'" in refused(f"{tmp_path}/a.jsonl?id=id&vectors=w&metric=dot")


def test_what_nothing_says_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    as_parquet(path, records())
    assert "?id=COLUMN" in refused(str(path) + "?vectors=emb&metric=dot", UsageError)
    assert "?vectors=COLUMN; there are url, emb" in refused(str(path) + "?id=url&metric=dot", UsageError)
    assert "?metric=" in refused(str(path) + "?id=url&vectors=emb", UsageError)
    assert "the metric 'cosinus'" in refused(str(path) + "?id=url&vectors=emb&metric=cosinus")
    assert "there is no such column" in refused(str(path) + "?id=uri&vectors=emb&metric=dot", UsageError)
    assert "a column of int64 holds no vectors" in refused(str(path) + "?id=url&vectors=year&metric=dot", UsageError)
    assert "has no option 'metrik'" in refused(str(path) + "?id=url&metrik=dot", UsageError)
    assert "there is no file" in refused(f"{tmp_path}/none.parquet", UsageError)
    (tmp_path / "a.txt").touch()
    assert "known are" in refused(f"{tmp_path}/a.txt", UsageError)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"id": "b", "v": [1.0]}, "2 in a.parquet row 1, 1 in a.parquet row 2"),
        ({"id": None, "v": [1.0, 2.0]}, "a.parquet row 2 has no id"),
        ({"id": "b", "v": [1.0, None]}, "a.parquet row 2: a vector has a missing number"),
        ({"id": "a", "v": [1.0, 2.0]}, "a.parquet row 1 and a.parquet row 2"),
        ({"id": "b", "v": []}, "0 in a.parquet row 2"),
    ],
)
def test_a_row_that_is_no_record_is_named(second: dict[str, Any], said: str, tmp_path: Path) -> None:
    as_parquet(tmp_path / "a.parquet", [{"id": "a", "v": [1.0, 2.0]}, second])
    assert said in refused(f"{tmp_path}/a.parquet?id=id&vectors=v&metric=dot")


def test_an_id_that_stands_twice_is_found_across_files_and_apart_in_namespaces(tmp_path: Path) -> None:
    as_parquet(tmp_path / "a.parquet", [{"id": "a", "ns": "x", "v": [1.0]}])
    as_parquet(tmp_path / "b.parquet", [{"id": "a", "ns": "y", "v": [1.0]}])
    assert "a.parquet row 1 and b.parquet row 1" in refused(f"{tmp_path}?id=id&vectors=v&metric=dot")
    _, rows = rows_of(f"{tmp_path}?id=id&vectors=v&namespace=ns&metric=dot")
    assert [row.key for row in rows] == [RecordKey("a", "x"), RecordKey("a", "y")]


def test_missing_vectors_and_odd_numbers_are_findings_that_name_rows(tmp_path: Path) -> None:
    found = [{"id": str(row), "v": [1.0, float(row)]} for row in range(12)]
    found[3]["v"] = None
    found[5]["v"] = [float("nan"), 1.0]
    found[11]["v"] = [1.0, float("-inf")]
    as_parquet(tmp_path / "a.parquet", found)
    address = f"{tmp_path}/a.parquet?id=id&vectors=v&metric=dot"
    told = {each.code: each for each in source_of(address).identity().findings}
    assert (told["source.no_vector"].count, "a.parquet row 4" in told["source.no_vector"].message) == (1, True)
    assert told["source.nonfinite"].count == 2
    assert told["source.nonfinite"].message.endswith("a.parquet row 6, a.parquet row 12")
    _, rows = rows_of(address)
    assert rows[3].vectors == {}
    assert np.isnan(rows[5].vectors["vector"][0])


def test_a_file_that_changes_under_a_scan_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    as_parquet(path, records())
    source = source_of(f"{path}{SAID}")
    scan = source.scan(Partition(), batch_rows=100)
    first = next(scan)
    as_parquet(path, records()[:650])
    with pytest.raises(StoreRejected, match="was changed while it was read"):
        list(scan)
    with pytest.raises(StoreRejected, match="is not what it was"):
        list(source.scan(Partition(), batch_rows=100, after=first.cursor))
    assert source.count() == 650


def test_files_are_only_read_and_say_what_to_write_to(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    as_parquet(path, records())
    before = path.read_bytes(), path.stat().st_mtime_ns, sorted(tmp_path.iterdir())
    with _opened(f"file:{path}{SAID}") as store:
        read(store.source())
        store.search().search(Query(dense=vectors()[0]), k=3)
        with pytest.raises(RoleUnsupported) as caught:
            store.sink()
    assert "dump:" in str(caught.value.hint)
    assert (path.read_bytes(), path.stat().st_mtime_ns, sorted(tmp_path.iterdir())) == before
    assert "sink" not in store_adapter("file").roles


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "manhattan"])
def test_a_search_compares_every_vector_by_the_metric_that_was_said(metric: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    as_parquet(path, records())
    store = open_store(f"file:{path}?id=url&vectors=emb&metric={metric}")
    search = store.search()
    [field] = store.source().describe().vectors
    for query in vectors(40)[30:]:
        far = [(score(field, query, vector), row) for row, vector in enumerate(vectors())]
        sign = -1 if metric in {"cosine", "dot"} else 1
        truth = [f"u/{row}" for _, row in sorted(far, key=lambda pair: (sign * pair[0], pair[1]))[:10]]
        assert [key.id for key in search.search(Query(dense=query), k=10).keys] == truth
    told = search.coverage()
    assert (told.indexed, told.compared, told.is_exact) == (0, ROWS, True)


def test_a_filter_leaves_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    as_lines(path, records())
    search = open_store(f"file:{path}{SAID}").search()
    hits = search.search(Query(dense=vectors()[3]), k=50, where=Range(("year",), gte=10, lt=20), with_records=True)
    assert {key.id for key in hits.keys} == {f"u/{row}" for row in range(10, 20)}
    assert hits.records is not None
    assert hits.records.num_rows == 10
    assert search.search(Query(dense=vectors()[3]), k=5, where=Eq(("year",), "10")).keys == ()
    with pytest.raises(UsageError):
        search.search(Query(dense=vectors()[3]), k=0)
    with pytest.raises(UsageError):
        search.search(Query(dense=vectors(1, 3)[0]), k=1)


class _opened:
    """A store that is closed behind the block."""

    def __init__(self, address: str) -> None:
        self._store = open_store(address)

    def __enter__(self) -> Any:
        return self._store

    def __exit__(self, *exc: object) -> None:
        self._store.close()
