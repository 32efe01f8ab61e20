"""Side-cars too large for memory, and what is not flushed yet: read where they lie, with the same guarantees."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exitramp.errors import IntegrityError, StoreRejected
from exitramp.filters import Eq
from exitramp.ports import Origin, Partition, Query, SearchSettings, TransferAccount, gathered, side_car_columns
from exitramp.ports.set_aside import set_aside
from exitramp.ports.side_car import side_car_path
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing import Row, batch_from_rows, rows_from_batch

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 4)
SPEC = CollectionSpec("x", IdKind.STRING, (FIELD,), has_documents=True)
ADDRESSES = ("faiss:{}/x", "usearch:{}/x?connectivity=4&expansion_add=8", "hnswlib:{}/x?M=4&ef_construction=8")
ROWS = 9_000  # three groups
MIB = 2**20


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_car_columns, "HELD_BYTES", 0)
    monkeypatch.setattr(gathered, "_HELD_BYTES", 0)


def row_of(number: int, state: int = 0) -> Row:
    vector = np.array([number + 1, state + 1, 2, 3], np.float32)
    return Row(f"r{number:05d}", None, f"text {number} {state}", {"n": number, "state": state}, {"vector": vector})


def loaded(address: str, order_of: str) -> dict[str, Row]:
    """In two flushes, of which the second deletes some of the first, and replaces some unless all is to stay in the
    order of the keys: what should be there then."""
    order = np.random.default_rng(1).permutation(ROWS) if order_of == "none" else np.arange(ROWS)
    there = {row.id: row for row in map(row_of, order.tolist())}
    rows = list(there.values())
    sink = open_store(address).sink()
    sink.create(SPEC, Origin(SPEC, "test"))
    for start in range(0, ROWS, 1500):
        sink.upsert(batch_from_rows(rows[start : start + 1500], SPEC))
        if start == 4500:
            sink.flush()
    changed = [row_of(number, 1) for number in range(0, ROWS, 100)] if order_of != "keys" else []
    if changed:
        sink.upsert(batch_from_rows(changed, SPEC))
    sink.delete([RecordKey(row_of(number).id) for number in range(50, ROWS, 100)])
    sink.finish(TransferAccount())
    there |= {row.id: row for row in changed}
    for number in range(50, ROWS, 100):
        del there[row_of(number).id]
    return there


def told(row: Row) -> Any:
    return row.id, row.document, row.payload, np.asarray(row.vectors["vector"]).tolist()


def read(source: Any, partition: Partition | None = None, after: Any = None) -> list[Any]:
    pages = source.scan(partition or Partition(), batch_rows=1000, after=after)
    return [told(row) for page in pages for row in rows_from_batch(page.batch, SPEC)]


@pytest.mark.parametrize("order_of", ["keys", "keys but for some", "none"])
@pytest.mark.parametrize("form", ADDRESSES)
def test_what_stays_in_the_file_is_read_as_what_is_in_memory(tmp_path: Path, form: str, order_of: str) -> None:
    address = form.format(tmp_path)
    there = loaded(address, order_of)
    wanted = [told(there[id_]) for id_ in sorted(there)]
    source = open_store(address).source()
    assert read(source) == wanted
    assert [row for part in source.partitions(4) for row in read(source, part)] == wanted
    keys = [RecordKey(id_) for id_ in ("r08999", "r00000", "r04444", "r00050")]
    assert sorted(map(told, rows_from_batch(source.fetch(keys), SPEC))) == sorted(
        told(there[key.id]) for key in keys[:3]
    )
    found = (
        open_store(address)
        .search()
        .search(
            Query(dense=np.asarray(there["r00700"].vectors["vector"])),
            k=3,
            where=Eq(("n",), 700),
            settings=SearchSettings(exact=True),
            with_records=True,
        )
    )
    assert found.records is not None
    assert list(map(told, rows_from_batch(found.records, SPEC))) == [told(there["r00700"])]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "x.exitramp"]


@pytest.mark.parametrize("order_of", ["keys", "keys but for some", "none"])
@pytest.mark.parametrize("form", ADDRESSES)
def test_a_scan_sees_the_files_that_were_there_when_it_began(tmp_path: Path, form: str, order_of: str) -> None:
    address = form.format(tmp_path)
    there = loaded(address, order_of)
    wanted = [told(there[id_]) for id_ in sorted(there)]
    pages = open_store(address).source().scan(Partition(), batch_rows=1000)
    first = next(pages)
    sink = open_store(address).sink()
    sink.upsert(batch_from_rows([row_of(number, 2) for number in range(0, ROWS, 3)], SPEC))
    sink.flush()
    rest = [told(row) for page in pages for row in rows_from_batch(page.batch, SPEC)]
    assert [*map(told, rows_from_batch(first.batch, SPEC)), *rest] == wanted
    after = there | {row_of(number).id: row_of(number, 2) for number in range(0, ROWS, 3)}
    resumed = read(open_store(address).source(), after=first.cursor)
    assert resumed == [told(after[id_]) for id_ in sorted(after) if id_ > wanted[999][0]]


def test_a_damaged_page_is_found_before_anything_is_made_of_it(tmp_path: Path) -> None:
    address = ADDRESSES[0].format(tmp_path)
    loaded(address, "keys")
    path = side_car_path(tmp_path / "x")
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        last = file.metadata.row_group(file.metadata.num_row_groups - 1)
        column = last.column(names.index("payload"))
        place = column.data_page_offset + column.total_compressed_size // 2
    whole = bytearray(path.read_bytes())
    whole[place] ^= 1
    path.write_bytes(whole)
    pages = open_store(address).source().scan(Partition(), batch_rows=1000)
    assert next(pages).batch.num_rows == 1000
    with pytest.raises(IntegrityError, match="damaged"):
        list(pages)
    sink = open_store(address).sink()
    sink.upsert(batch_from_rows([row_of(1, 5)], SPEC))
    with pytest.raises(IntegrityError, match="damaged"):
        sink.flush()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["x", "x.exitramp"]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("form", ADDRESSES)
def test_a_side_car_of_one_group_is_read_all_the_same(tmp_path: Path, form: str) -> None:
    """As others may write it."""
    address = form.format(tmp_path)
    there = loaded(address, "keys")
    path = side_car_path(tmp_path / "x")
    about = {key: value for key, value in pq.read_metadata(path).metadata.items() if key.startswith(b"exitramp")}
    pq.write_table(pq.read_table(path).replace_schema_metadata(about), path)
    assert pq.read_metadata(path).num_row_groups == 1
    store = open_store(address)
    assert read(store.source()) == [told(there[id_]) for id_ in sorted(there)]
    sink = store.sink()
    sink.upsert(batch_from_rows([row_of(1, 5)], SPEC))
    sink.flush()
    there["r00001"] = row_of(1, 5)
    assert read(store.source()) == [told(there[id_]) for id_ in sorted(there)]


@pytest.mark.parametrize("form", ADDRESSES)
def test_a_sink_holds_keys_alone_between_two_flushes(tmp_path: Path, form: str) -> None:
    sink: Any = open_store(form.format(tmp_path)).sink()
    sink.create(SPEC, Origin(SPEC, "test"))
    most = 0
    for start in range(0, 3 * ROWS, 1500):
        rows = [replace(row_of(number), document="x" * 10_000) for number in range(start, start + 1500)]
        batch = batch_from_rows(rows, SPEC)
        del rows
        sink.upsert(batch)
        del batch
        if start == ROWS:
            sink.flush()
        most = max(most, pa.total_allocated_bytes())
    sink.flush()
    assert most < 64 * MIB < 3 * ROWS * 10_000
    assert pa.total_allocated_bytes() < 16 * MIB
    held = sink._collection().held
    assert not isinstance(held.matrix, np.ndarray)
    assert held.content.index is None
    assert held.texts.take(np.array([3 * ROWS - 1])).column("payload").to_pylist() == [
        json.dumps({"n": 3 * ROWS - 1, "state": 0}, separators=(",", ":"))
    ]


def test_a_flush_onto_files_that_were_replaced_reads_none_of_them(tmp_path: Path) -> None:
    spec = replace(SPEC, vectors=(replace(FIELD, metric=Metric.EUCLIDEAN),))  # so that the index alone has the vectors
    address = ADDRESSES[0].format(tmp_path)
    sink: Any = open_store(address).sink()
    sink.create(spec, Origin(spec, "test"))
    sink.upsert(batch_from_rows([row_of(1, 7)], SPEC))
    sink.flush()
    assert sink._collection().held.matrix[:10].tolist() == [[2, 8, 2, 3]]
    other = open_store(address).sink()
    other.delete([RecordKey("r00001")])
    other.flush()
    with pytest.raises(StoreRejected, match="somebody else"):
        sink._collection().held.matrix[:10]
    sink.upsert(batch_from_rows([row_of(3, 7)], SPEC))
    with pytest.raises(StoreRejected, match="somebody else"):
        sink.flush()


def test_what_is_set_aside_has_no_name_and_is_not_in_memory(tmp_path: Path) -> None:
    batch = pa.record_batch({"text": pa.array(["x" * 1000] * 10_000)})
    before = pa.total_allocated_bytes()
    found = set_aside([batch.slice(5, 3), batch], tmp_path)
    assert (found[0].equals(batch.slice(5, 3)), found[1].equals(batch)) == (True, True)
    assert not list(tmp_path.iterdir())
    assert pa.total_allocated_bytes() - before < MIB


def test_a_disk_that_is_full_before_the_flush_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = open_store(ADDRESSES[0].format(tmp_path)).sink()
    sink.create(SPEC, Origin(SPEC, "test"))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(StoreRejected, match=r"(?s)No space left.*make room"):
        sink.upsert(batch_from_rows([row_of(1)], SPEC))
    monkeypatch.undo()
    sink.flush()
    assert open_store(ADDRESSES[0].format(tmp_path)).source().count() == 1
