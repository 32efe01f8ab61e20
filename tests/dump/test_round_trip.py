"""What goes into a dump comes out of it, and the manifest tells the truth about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.arrow import require_schema, stream_schema
from exitramp.digests import digest_batch
from exitramp.dump.integrity import verify_dump
from exitramp.dump.manifest import read_manifest
from exitramp.dump.reader import DumpSource
from exitramp.dump.writer import DumpSink
from exitramp.errors import CollectionMissing, UsageError
from exitramp.ports import Cursor, Origin, StoreIdentity, TransferAccount, make_cursor, read_cursor
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind, Verdict
from exitramp.tally import CollectionTally


def whole(source: DumpSource, *, batch_rows: int = 7, parts: int = 1) -> pa.RecordBatch:
    pages = [
        page.batch for partition in source.partitions(parts) for page in source.scan(partition, batch_rows=batch_rows)
    ]
    return pa.concat_batches(pages)


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_every_kind_of_record_comes_back_bit_for_bit(collection: Any, write_dump: Any, batch_rows: int) -> None:
    source = DumpSource(write_dump(collection))
    found = whole(source, batch_rows=batch_rows)
    require_schema(found, collection.spec, where="dump")
    assert found.schema.names == stream_schema(collection.spec).names
    assert found.column("id").to_pylist() == collection.batch().column("id").to_pylist()
    assert digest_batch(found, collection.spec) == digest_batch(collection.batch(), collection.spec)
    assert source.describe() == collection.spec
    assert source.count() == len(collection.rows)


def test_the_manifest_holds_digests_inventory_and_facts_of_the_whole(collection: Any, write_dump: Any) -> None:
    manifest = read_manifest(write_dump(collection))
    tally = CollectionTally(collection.spec)
    tally.add(collection.batch())
    assert manifest.digests == digest_batch(collection.batch(), collection.spec)
    assert manifest.inventory == tally.inventory()
    assert manifest.vector_facts == tally.vector_facts()
    assert len(manifest.shards) > 3
    assert sum(entry.rows or 0 for entry in manifest.shards) == manifest.rows == len(collection.rows)


def test_what_the_account_says_stands_in_the_manifest(plain: Any, write_dump: Any) -> None:
    account = TransferAccount(
        source_count_before=120,
        source_count_after=120,
        started_at="2026-01-02T03:04:05.000Z",
        ended_at="2026-01-02T03:04:06.000Z",
        source=StoreIdentity("chroma", "chroma+http://user:pass@127.0.0.1:1#a", "1.0", "1.5"),
    )
    manifest = read_manifest(write_dump(plain, account=account))
    assert manifest.consistency.state == "unchanged"
    assert (manifest.started_at, manifest.ended_at) == (account.started_at, account.ended_at)
    assert manifest.source is not None
    assert "pass" not in manifest.source.address


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [
        (120, 120, "unchanged"),
        (120, 121, "changed"),
        (121, 121, "changed"),
        (None, 120, "unknown"),
        (1, None, "unknown"),
    ],
)
def test_consistency_is_judged_by_the_counts(
    plain: Any, write_dump: Any, before: int | None, after: int | None, state: str
) -> None:
    account = TransferAccount(source_count_before=before, source_count_after=after)
    assert read_manifest(write_dump(plain, account=account)).consistency.state == state


def test_the_stores_own_configuration_is_kept_with_secrets_masked(tmp_path: Path, plain: Any, write_dump: Any) -> None:
    index = {"m": 16, "auth": {"header": "Bearer abcdefghijklmnop"}, "hosts": ["http://me:secretword@127.0.0.1"]}
    spec = CollectionSpec("articles", IdKind.STRING, plain.spec.vectors, index=index)
    folder = write_dump(type(plain)(spec, plain.rows))
    kept = read_manifest(folder).collection.index
    assert kept["m"] == 16
    everything = b"".join(path.read_bytes() for path in (folder / "manifest.json", folder / "journal.jsonl"))
    assert b"abcdefghijklmnop" not in everything
    assert b"secretword" not in everything


def test_a_scan_resumes_after_any_cursor_without_loss_or_repeat(collection: Any, write_dump: Any) -> None:
    folder = write_dump(collection)
    [partition] = DumpSource(folder).partitions(1)
    pages = list(DumpSource(folder).scan(partition, batch_rows=7))
    rows_so_far = 0
    for page in pages:
        rows_so_far += len(page.batch)
        rest = list(DumpSource(folder).scan(partition, batch_rows=11, after=page.cursor))
        assert sum(len(other.batch) for other in rest) == len(collection.rows) - rows_so_far
        assert [other.last for other in rest] == [False] * (len(rest) - 1) + [True]
        ids = [id_ for other in rest for id_ in other.batch.column("id").to_pylist()]
        assert ids == [row["id"] for row in collection.rows][rows_so_far:]


@pytest.mark.parametrize("wanted", [1, 2, 3, 1000])
def test_partitions_are_disjoint_and_together_everything(plain: Any, write_dump: Any, wanted: int) -> None:
    source = DumpSource(write_dump(plain))
    partitions = source.partitions(wanted)
    assert len(partitions) <= wanted
    assert [(part.index, part.of) for part in partitions] == [(at, len(partitions)) for at in range(len(partitions))]
    found = whole(source, parts=wanted).column("id").to_pylist()
    assert sorted(found) == [row["id"] for row in plain.rows]


def test_records_are_fetched_by_id_and_namespace(wide: Any, write_dump: Any) -> None:
    source = DumpSource(write_dump(wide))
    chosen = [row for number, row in enumerate(wide.rows) if number % 9 == 0]
    keys = [RecordKey(row["id"], row["namespace"]) for row in chosen]
    absent = [RecordKey("0", "no such tenant"), RecordKey("nobody", None)]
    found = source.fetch([*keys, *absent, keys[0]])
    expected = pa.RecordBatch.from_pylist(chosen, schema=stream_schema(wide.spec))
    assert digest_batch(found, wide.spec) == digest_batch(expected, wide.spec)
    assert len(source.fetch([])) == 0


def test_an_empty_collection_is_a_dump_too(tmp_path: Path, plain: Any, write_dump: Any) -> None:
    folder = write_dump(type(plain)(plain.spec, []))
    source = DumpSource(folder)
    [partition] = source.partitions(4)
    [page] = source.scan(partition, batch_rows=10)
    assert page.last
    assert len(page.batch) == 0
    [again] = source.scan(partition, batch_rows=10, after=page.cursor)
    assert again.last
    assert verify_dump(folder).verdict is Verdict.PASS


def test_cursors_and_partitions_of_another_dump_are_refused(tmp_path: Path, plain: Any, write_dump: Any) -> None:
    first = DumpSource(write_dump(plain))
    second = DumpSource(write_dump(type(plain)(plain.spec, plain.rows[:60]), tmp_path / "other"))
    [partition], [foreign] = first.partitions(1), second.partitions(1)
    cursor = next(second.scan(foreign, batch_rows=5)).cursor
    with pytest.raises(UsageError, match="another dump"):
        next(first.scan(foreign, batch_rows=5))
    with pytest.raises(UsageError, match="another dump"):
        next(first.scan(partition, batch_rows=5, after=cursor))
    with pytest.raises(UsageError, match="no cursor"):
        next(first.scan(partition, batch_rows=5, after=Cursor("{}")))


@pytest.mark.parametrize(
    "change",
    [{"row": 10**6}, {"row": 0}, {"row": "1"}, {"group": 99}, {"group": -1}, {"id": "doc-00001"}, {"shard": "x"}],
)
def test_a_cursor_that_points_nowhere_is_refused(plain: Any, write_dump: Any, change: dict[str, Any]) -> None:
    source = DumpSource(write_dump(plain))
    [partition] = source.partitions(1)
    place = read_cursor(next(source.scan(partition, batch_rows=5)).cursor)
    assert list(source.scan(partition, batch_rows=5, after=make_cursor(**place)))
    with pytest.raises(UsageError, match="this cursor"):
        list(source.scan(partition, batch_rows=5, after=make_cursor(**{**place, **change})))


def test_a_folder_without_a_manifest_is_no_dump(tmp_path: Path, plain: Any) -> None:
    with pytest.raises(CollectionMissing, match="no dump"):
        DumpSource(tmp_path)
    sink = DumpSink(tmp_path / "begun")
    sink.create(plain.spec, Origin(plain.spec, "1"))
    sink.close()
    with pytest.raises(CollectionMissing, match="unfinished"):
        DumpSource(tmp_path / "begun")


def test_shards_are_plain_parquet_of_the_promised_form(wide: Any, write_dump: Any) -> None:
    folder = write_dump(wide)
    [first, *_] = sorted((folder / "shards").iterdir())
    metadata = pq.ParquetFile(first).metadata
    assert metadata.num_row_groups > 1
    columns = {
        metadata.row_group(0).column(at).path_in_schema: metadata.row_group(0).column(at)
        for at in range(metadata.num_columns)
    }
    for name, column in columns.items():
        is_text = name in {"id", "namespace", "document", "payload"}
        assert column.compression == ("ZSTD" if is_text else "UNCOMPRESSED"), name
        assert column.has_dictionary_page == (name == "namespace"), name
        assert column.is_stats_set == (name in {"id", "namespace"}), name


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_anything_that_can_be_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(list(VectorKind)))
    dtype = DType.FLOAT32 if kind is VectorKind.SPARSE else data.draw(st.sampled_from(list(DType)))
    dimensions = None if kind is VectorKind.SPARSE else 8 * data.draw(st.integers(1, 3))
    vector = VectorField(data.draw(st.text(max_size=5)), kind, dtype, Metric.DOT, dimensions)
    spec = CollectionSpec("c", IdKind.STRING, (vector,), data.draw(st.booleans()), data.draw(st.booleans()))
    ids = data.draw(st.lists(st.text(max_size=8), unique=True, max_size=12))
    rows = [data.draw(drawn_row(id_, spec)) for id_ in ids]
    batch = pa.RecordBatch.from_pylist(rows, schema=stream_schema(spec))
    folder = tmp_path_factory.mktemp("dump")
    sink = DumpSink(folder, shard_bytes=data.draw(st.integers(1, 2000)), group_bytes=data.draw(st.integers(1, 1000)))
    sink.create(spec, Origin(spec, "1"))
    step = data.draw(st.integers(1, 5))
    for begin in range(0, len(batch), step):
        sink.upsert(batch.slice(begin, step))
        if data.draw(st.booleans()):
            sink.note_cursor(0, make_cursor(row=begin))
        if data.draw(st.booleans()):
            sink.flush()
    sink.finish(TransferAccount())
    source = DumpSource(folder)
    found = whole(source, batch_rows=data.draw(st.integers(1, 6)), parts=data.draw(st.integers(1, 4)))
    assert digest_batch(found, spec) == digest_batch(batch, spec)
    assert found.column("id").to_pylist() == ids
    assert verify_dump(folder).verdict is Verdict.PASS


@st.composite
def drawn_row(draw: st.DrawFn, id_: str, spec: CollectionSpec) -> dict[str, Any]:
    text = st.none() | st.text(max_size=6)
    payload = st.none() | st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.floats(), max_size=2).map(
        canonical.dumps
    )
    row: dict[str, Any] = {"id": id_, "payload": draw(payload)}
    row["namespace"], row["document"] = draw(text), draw(text)
    [vector] = spec.vectors
    row[vector.column] = draw(st.none() | drawn_vector(vector))
    return row


def drawn_vector(vector: VectorField) -> st.SearchStrategy[Any]:
    if vector.kind is VectorKind.SPARSE:
        pairs = st.dictionaries(st.integers(0, 2**32 - 1), st.floats(width=32), max_size=4)
        return pairs.map(lambda found: {"indices": list(found), "values": list(found.values())})
    number: st.SearchStrategy[Any] = {
        DType.FLOAT32: st.floats(width=32),
        DType.FLOAT16: st.floats(width=16).map(np.float16),
        DType.FLOAT64: st.floats(),
        DType.INT8: st.integers(-128, 127),
        DType.BINARY: st.integers(0, 255),
    }[vector.dtype]
    dense = st.lists(number, min_size=vector.item_count, max_size=vector.item_count)
    return dense if vector.kind is VectorKind.DENSE else st.lists(dense, max_size=3)


def test_the_manifest_is_json_that_people_can_read(plain: Any, write_dump: Any) -> None:
    text = (write_dump(plain) / "manifest.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "format": "exitramp-dump",\n  "format_version": 1,\n')
    assert list(json.loads(text))[-1] == "encryption"
