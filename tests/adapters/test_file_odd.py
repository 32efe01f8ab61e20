"""Files as odd users have them: what Arrow or Python would make something else of is kept, or refused by its row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exitramp.errors import DataInvalid
from exitramp.ports import Partition
from exitramp.registry import open_store
from exitramp.testing.rows import Row, rows_from_batch
from exitramp_adapters.stores.files import formats

SAID = "?id=id&metric=euclidean&vectors=v"


def read(path: Path, said: str = SAID) -> list[Row]:
    source = open_store(f"file:{path}{said}").source()
    spec = source.describe()
    pages = source.scan(Partition(0), batch_rows=1000)
    return [row for page in pages for row in rows_from_batch(page.batch, spec)]


def arrow(path: Path, **columns: Any) -> Path:
    rows = len(next(iter(columns.values())))
    matrix = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2 * rows, dtype=np.float32)), 2)
    table = pa.table({"id": [str(row) for row in range(rows)], "v": matrix, **columns})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    return path


def lines(path: Path, *objects: str) -> Path:
    path.write_text("".join(each + "\n" for each in objects))
    return path


def test_a_file_written_twice_into_one_names_both_rows_of_an_id_however_many_there_are(tmp_path: Path) -> None:
    rows = 150_000
    matrix = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * rows, dtype=np.float32)), 1)
    pq.write_table(pa.table({"id": [f"r{row}" for row in range(rows)] * 2, "v": matrix}), tmp_path / "x.parquet")
    with pytest.raises(DataInvalid, match=r"stands twice: x\.parquet row \d+ and x\.parquet row 1[5-9]\d{4}"):
        read(tmp_path / "x.parquet")


def test_text_that_moments_of_a_later_file_become_is_told(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for number, unit in enumerate(("us", "ns")):
        table = pa.table({"id": [str(number)], "v": pa.array([[1.0, 2.0]]), "t": pa.array([1], pa.timestamp(unit))})
        pq.write_table(table, tmp_path / "parts" / f"{number}.parquet")
    source = open_store(f"file:{tmp_path / 'parts'}{SAID}").source()
    source.describe()
    assert [each.code for each in source.identity().findings if ": t" in each.message] == ["source.textual"]


def test_a_key_of_the_payload_does_not_replace_a_column_of_its_name(tmp_path: Path) -> None:
    columns = {"k": pa.array([1, None, None]), "meta": pa.array(['{"j": 2}', '{"k": 2}', "{}"])}
    rows = read(arrow(tmp_path / "x.arrow", **columns), "?id=id&metric=euclidean&payload=meta&nulls=absent")
    assert [row.payload for row in rows] == [{"j": 2, "k": 1}, {"k": 2}, {}]
    clashing = arrow(tmp_path / "y.arrow", k=pa.array([1]), meta=pa.array(['{"k": 2}']))
    with pytest.raises(DataInvalid, match="'0' has the key 'k' in its payload and in a column"):
        read(clashing, "?id=id&metric=euclidean&payload=meta&nulls=absent")


def test_a_value_that_python_would_cut_is_refused_by_file_and_column(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match=r"x\.arrow row 1 or after it: 'd' holds a date64\[ms\] with a time of day"):
        read(arrow(tmp_path / "x.arrow", d=pa.array([86_400_001]).view(pa.date64())))


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()])
def test_integers_that_no_float_holds_are_not_rounded(tmp_path: Path, kind: pa.DataType) -> None:
    path = arrow(tmp_path / "x.arrow", w=pa.array([[1, 2], [2**53 + 1, 1]], pa.list_(kind)))
    with pytest.raises(DataInvalid, match=r"x\.arrow row 2: the vector 'w' holds a number that float64 rounds"):
        read(path, "?id=id&metric=euclidean&vectors=w")


def test_what_stands_behind_a_null_of_a_map_is_not_the_next_rows_vector(tmp_path: Path) -> None:
    whole = pa.MapArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), pa.array([1, 2, 3]), pa.array([0.5, 1.5, 2.5]))
    entries = pa.StructArray.from_arrays(
        [whole.keys, whole.items], fields=[whole.type.key_field, whole.type.item_field]
    )
    holed = pa.MapArray.from_buffers(whole.type, 3, [pa.py_buffer(b"\x05"), whole.buffers()[1]], children=[entries])
    rows = read(arrow(tmp_path / "x.arrow", w=holed), "?id=id&metric=dot&vectors=w")
    found = [[part.tolist() for part in row.vectors["sparse:w"]] if row.vectors else None for row in rows]
    assert found == [[[1], [0.5]], None, [[3], [2.5]]]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "\\ud800", "v": [1, 2]}', "row 1: 'id' holds a lone surrogate"),
        ('{"id": "a", "v": [1, 2], "n": 1e400}', "x.jsonl:1: JSON with a number beyond"),
        ('{"id": "a", "v": [1e400, 2]}', "x.jsonl:1: JSON with a number beyond"),
        ('{"id": "a", "v": [true, 2]}', "row 1: 'v' holds booleans among its numbers"),
        ('{"id": "a", "v": [[1.5, true]]}', "row 1: 'v' holds booleans among its numbers"),
        ('{"id": "a", "v": "[true, 2]"}', "row 1: a vector's text is no JSON array of numbers"),
        ('{"id": "a", "v": "[1e400, 2]"}', "row 1: a vector's text is no JSON array of numbers"),
        ('{"id": "a", "v": {"12": null}}', "row 1: 'v' holds what this column cannot have"),
        ('{"id": "a", "v": {"12": true}}', "row 1: 'v' holds what this column cannot have"),
        ('{"id": "a", "v": {"12": "0.5"}}', "row 1: 'v' holds what this column cannot have"),
        ('{"id": "a", "v": {"12": 9007199254740993}}', "row 1: 'v' holds what this column cannot have"),
        ('{"id": "a", "v": {"12": 1, "012": 2}}', "row 1: 'v' holds what this column cannot have"),
    ],
)
def test_json_that_would_become_something_else_is_refused_by_its_row(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(DataInvalid) as refused:
        read(lines(tmp_path / "x.jsonl", line))
    assert said in refused.value.message


@pytest.mark.parametrize("role", ["document", "namespace"])
def test_a_number_among_texts_does_not_become_text(tmp_path: Path, role: str) -> None:
    path = lines(tmp_path / "x.jsonl", '{"id": 1, "v": [1, 2], "t": "5"}', '{"id": "x", "v": [1, 2], "t": 5}')
    with pytest.raises(DataInvalid, match="row 2: 't' is of another kind than in the rows before"):
        read(path, f"{SAID}&{role}=t")


def test_a_json_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + json.dumps([{"id": 1, "v": [1, 2]}]).encode())
    assert [row.id for row in read(tmp_path / "x.json")] == ["1"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("timestamp", "2020-01-01T00:00:00.123456789"),
        ("timestamp", "2020-01-01 00:00:00.0000001"),
        ("float", "1e400"),
        ("float", "1_000"),
        ("decimal", "1_000"),
    ],
)
def test_a_text_that_its_type_would_change_is_refused(tmp_path: Path, kind: str, text: str) -> None:
    path = lines(tmp_path / "x.jsonl", json.dumps({"id": "a", "v": [1, 2], "t": text}))
    with pytest.raises(DataInvalid, match="row 1, 't': it is not of the type that"):
        read(path, f"{SAID}&types=t:{kind}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('id,v,t\na,"[1,2]","open\nb,"[1,2]",x\n', 2),
        ('id,v,t\na,"[1,2]",x\nb,"[1,2]","cut', 3),
        ('id,v,t\na,"[1,2]",x\nb,"[1,2]","one" two\n', 3),
        ('id,v,t\na,"[1,2]","with \\" in it"\n', 2),
    ],
)
def test_a_quote_out_of_its_place_swallows_no_rows(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataInvalid, match=f"line {line} has a quote out of its place"):
        read(tmp_path / "x.csv")


@pytest.mark.parametrize("size", [7, 11, 16, 1000])
def test_quotes_in_their_place_are_taken_however_a_file_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (tmp_path / "x.csv").write_bytes(
        b'\xef\xbb\xbfid,v,t\r\n"a","[1,2]","say ""hi"""\r\nb,"[1,2]",""\r\nc,"[1,2]",5" pipe\r\n'
    )
    assert [row.payload for row in read(tmp_path / "x.csv")] == [{"t": 'say "hi"'}, {"t": ""}, {"t": '5" pipe'}]
    called = []
    monkeypatch.setattr(formats, "_BLOCK_BYTES", size)
    monkeypatch.setattr(formats.CsvRows, "_require_strict", lambda self: called.append(self))
    (tmp_path / "y.csv").write_bytes(b'id,v,t\r\n"a","[1,2]","say ""hi"""\r\nb,"[1,2]",""\r\nc,"[1,2]",\r\n')
    formats.CsvRows(tmp_path / "y.csv")._require_quotes()
    assert called == []
