"""What no dump holds is refused where it is written, where it is read, and where it is verified."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exitramp.arrow import stream_schema
from exitramp.dump.integrity import verify_dump
from exitramp.dump.limits import MOST_DIMENSIONS, not_objects, require_sound
from exitramp.dump.payload_texts import payload_faults
from exitramp.dump.reader import DumpSource
from exitramp.dump.shape import manifest_schema
from exitramp.dump.shard import ShardReader, ShardWriter
from exitramp.dump.store import ADAPTER
from exitramp.dump.writer import DumpSink
from exitramp.errors import DataInvalid, DumpCorrupt
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, VectorField
from exitramp.urls import Address, Network
from tests.dump.damage import read_manifest, relist
from tests.dump.damage_shards import count_rows

NO_OBJECTS = ["[1]", "5", '"x"', "null", "true", '{"$exitramp:bytes":"AP8="}', '{"$exitramp:int":"9007199254740993"}']
OBJECTS = ["{}", '{"a":1}', '{"$exitramp:esc:int":"5"}', '{"a":{"$exitramp:bytes":"AP8="}}', None]
FAULTY = [*NO_OBJECTS, "", "{", '{"b":1,"a":2}', '{"a":1,"a":1}', '{"a": 1}', '{"a":NaN}', '{"a":"\\u0041"}']


def scan(source: DumpSource) -> list[pa.RecordBatch]:
    [partition] = source.partitions(1)
    return [page.batch for page in source.scan(partition, batch_rows=50)]


def with_shard(folder: Path, change: Callable[[pa.Table], pa.Table], **options: Any) -> str:
    """Change the first shard, make what lists it right again, and return its path."""
    path = str(read_manifest(folder)["shards"][0]["path"])
    pq.write_table(change(pq.read_table(folder / path)), folder / path, **options)
    count_rows(folder)
    relist(folder)
    return path


def replaced(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(name), column)


def with_value(table: pa.Table, name: str, row: int, value: Any) -> pa.Table:
    values = table.column(name).to_pylist()
    values[row] = value
    return replaced(table, name, pa.array(values, table.schema.field(name).type))


def test_objects_are_told_from_what_is_none_by_how_they_begin() -> None:
    assert not_objects(pa.array([*OBJECTS, *NO_OBJECTS])) == list(range(len(OBJECTS), len(OBJECTS) + len(NO_OBJECTS)))
    assert not_objects(pa.array([], pa.string())) == []


@pytest.mark.parametrize("payload", ["[" * 300 + "]" * 300, '{"a":' * 2000 + "1" + "}" * 2000, *FAULTY])
def test_a_faulty_payload_is_found_among_good_ones(payload: str) -> None:
    assert payload_faults(pa.array(["{}", payload, None, '{"a":1}', payload])) == [1, 4]


@pytest.mark.parametrize("payload", NO_OBJECTS)
def test_a_payload_that_is_no_object_is_not_written(tmp_path: Path, plain: Any, payload: str) -> None:
    sink = DumpSink(tmp_path / "dump")
    sink.create(plain.spec, Origin(plain.spec, "1"))
    rows = [*plain.rows[:3], {**plain.rows[3], "payload": payload}]
    with pytest.raises(DataInvalid, match="the payload of record 'doc-00003' is no JSON object") as caught:
        sink.upsert(pa.RecordBatch.from_pylist(rows, schema=stream_schema(plain.spec)))
    assert payload not in str(caught.value).replace("'doc-00003'", "")
    sink.close()


@pytest.mark.parametrize("payload", FAULTY)
def test_a_faulty_payload_in_somebody_elses_shard_is_named_and_never_read(
    plain: Any, write_dump: Any, payload: str
) -> None:
    folder = write_dump(plain)
    path = with_shard(folder, lambda table: with_value(table, "payload", 2, payload))
    [finding] = [each for each in verify_dump(folder).findings if each.code == "dump.payload_not_canonical"]
    assert (finding.detail["file"], finding.ids, finding.count) == (path, ("doc-00002",), 1)
    with pytest.raises(DumpCorrupt, match=f"{path}: the payload of record 'doc-00002'"):
        scan(DumpSource(folder))


def test_payloads_are_looked_at_once_for_all_sources_of_an_opened_dump(plain: Any, write_dump: Any) -> None:
    folder = write_dump(plain)
    opened = ADAPTER.open(Address.parse(f"dump:{folder}"), Network())
    scan(opened.source())
    with_shard(folder, lambda table: with_value(table, "payload", 2, "[1]"))
    assert len(scan(opened.source())) > 1
    with pytest.raises(DumpCorrupt):
        scan(DumpSource(folder))
    assert len(scan(DumpSource(folder, check_shards=False))) > 1


@pytest.mark.parametrize("name", ["id", "namespace", "document", "payload"])
@pytest.mark.parametrize("raw", [b"\xff", b"\xed\xa0\x80", b"ab\xc3"])
def test_text_that_is_no_utf_8_is_refused(wide: Any, write_dump: Any, name: str, raw: bytes) -> None:
    folder = write_dump(wide)

    def change(table: pa.Table) -> pa.Table:
        values = [None if text is None else text.encode() for text in table.column(name).to_pylist()]
        values[1] = raw
        column = pa.array(values, pa.binary())
        return replaced(table, name, pa.Array.from_buffers(pa.string(), len(values), column.buffers()))

    path = with_shard(folder, change)
    assert path in {
        each.detail["file"] for each in verify_dump(folder).findings if each.code == "dump.shard_unreadable"
    }
    with pytest.raises(DumpCorrupt, match=path):
        scan(DumpSource(folder))


def test_a_sparse_vector_with_fewer_values_than_indices_is_refused(wide: Any, write_dump: Any, tmp_path: Path) -> None:
    batch = wide.batch()
    row = next(at for at, value in enumerate(batch.column("sparse:words").to_pylist()) if value and value["indices"])
    rows = list(wide.rows)
    rows[row] = {**rows[row], "sparse:words": {"indices": [1, 2], "values": [0.5]}}
    uneven = pa.RecordBatch.from_pylist(rows, schema=stream_schema(wide.spec))
    with pytest.raises(DataInvalid, match="not as many values as indices"):
        require_sound(uneven, wide.spec)
    folder = write_dump(wide)
    path = with_shard(folder, lambda table: with_value(table, "sparse:words", 1, {"indices": [1, 2], "values": [0.5]}))
    [finding] = [each for each in verify_dump(folder).findings if each.code == "dump.shard_unreadable"]
    assert finding.message.startswith(f"{path}: the sparse vector of record")
    with pytest.raises(DumpCorrupt, match="not as many values"):
        scan(DumpSource(folder))


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"compression": "snappy", "use_dictionary": True},
        {"row_group_size": 1},
        {"data_page_version": "2.0"},
        {"write_page_index": True},
    ],
)
def test_a_shard_that_somebody_else_encoded_is_read_for_what_it_holds(
    wide: Any, write_dump: Any, options: dict[str, Any]
) -> None:
    folder = write_dump(wide)
    before = verify_dump(folder).digests
    path = with_shard(folder, lambda table: table, **options)
    report = verify_dump(folder)
    assert report.digests == before
    assert {each.detail["file"] for each in report.findings} <= {"journal.jsonl"}, path
    assert sum(map(len, scan(DumpSource(folder)))) == len(wide.rows)


def test_more_dimensions_than_the_format_has_are_not_written_and_are_as_many_as_the_schema_says(plain: Any) -> None:
    assert manifest_schema()["$defs"]["vector_field"]["properties"]["dimensions"]["maximum"] == MOST_DIMENSIONS
    [field] = plain.spec.vectors
    vast: VectorField = replace(field, dimensions=MOST_DIMENSIONS + 1)
    spec: CollectionSpec = replace(plain.spec, vectors=(vast,))
    with pytest.raises(DataInvalid, match="of at most 16777216"):
        require_sound(pa.RecordBatch.from_pylist([], schema=stream_schema(spec)), spec)


def test_rows_of_great_length_are_decoded_a_few_at_a_time(plain: Any, tmp_path: Path) -> None:
    [field] = plain.spec.vectors
    spec = replace(plain.spec, vectors=(replace(field, dimensions=2**20),))
    rows = [{"id": str(number), "payload": "{}", "vector": None} for number in range(40)]
    writer = ShardWriter(tmp_path / "shard", spec)
    writer.write_group([pa.RecordBatch.from_pylist(rows, schema=stream_schema(spec))])
    writer.finish()
    with closing(ShardReader(tmp_path / "shard", spec, name="shard")) as reader:
        assert [len(batch) for batch in reader.batches(0)] == [16, 16, 8]
        assert [len(batch) for batch in reader.batches(0, rows=30)] == [16, 16, 8]
        assert [len(batch) for batch in reader.batches(0, rows=15)] == [15, 15, 10]
