"""What is special to LanceDB: versions, tables that somebody else made, ids that stand twice, indexes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.arrow import dense_matrix, record_keys
from exitramp.errors import (
    AddressError,
    CollectionExists,
    DataInvalid,
    ExitrampError,
    StoreRejected,
    StoreUnavailable,
    UsageError,
)
from exitramp.filters import And, Eq, Exists, Filter, In, Not, Or, Range, matches
from exitramp.ports import (
    IndexCoverage,
    Origin,
    Partition,
    Query,
    SearchSettings,
    Store,
    TellsCoverage,
    TransferAccount,
)
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey
from exitramp.registry import open_store
from exitramp.testing.rows import batch_from_rows, rows_from_batch
from exitramp.testing.within import rows_within, spec_within
from exitramp_adapters.stores.lancedb.json_form import lance_texts
from exitramp_adapters.stores.lancedb.layout import LIMITS, KnownKeys

ROWS = 300


def numbers(rows: int = ROWS, dimensions: int = 16, seed: int = 5) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((rows, dimensions), dtype=np.float32)


def fixed(matrix: np.ndarray[Any, Any], kind: pa.DataType) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1), kind), matrix.shape[1])


def make(folder: Path, name: str, columns: dict[str, pa.Array], **metadata: str) -> Any:
    """A table as somebody's own program makes one."""
    schema = pa.schema([(name, column.type) for name, column in columns.items()], metadata=metadata or None)
    table = lancedb.connect(str(folder)).create_table(name, schema=schema)
    table.add(pa.table(list(columns.values()), schema=schema))
    return table


def read(address: str, batch_rows: int = 100) -> tuple[CollectionSpec, list[Any]]:
    store = open_store(address)
    source = store.source()
    spec = source.describe()
    rows = [
        row for page in source.scan(Partition(), batch_rows=batch_rows) for row in rows_from_batch(page.batch, spec)
    ]
    store.close()
    return spec, rows


def written(folder: Path, count: int, name: str = "t", options: str = "") -> tuple[str, CollectionSpec, list[Any]]:
    address = f"lancedb:{folder}{options}#{name}"
    spec = spec_within(LIMITS, name)
    rows = rows_within(spec, LIMITS, count, 3)
    store = open_store(address)
    sink = store.sink()
    sink.create(spec, Origin(spec, "1"))
    for start in range(0, count, 100):
        sink.upsert(batch_from_rows(rows[start : start + 100], spec))
        sink.flush()
    sink.finish(TransferAccount())
    store.close()
    return address, spec, rows


def coverage_of(store: Store) -> IndexCoverage:
    search = store.search()
    assert isinstance(search, TellsCoverage)
    return search.coverage()


FOREIGN: dict[str, tuple[pa.Array, Any]] = {
    "text": (pa.array(["a", None]), "a"),
    "large": (pa.array(["a", None], pa.large_string()), "a"),
    "bytes": (pa.array([b"\x00\xff", None]), b"\x00\xff"),
    "flag": (pa.array([True, None]), True),
    "tiny": (pa.array([-128, None], pa.int8()), -128),
    "huge": (pa.array([2**64 - 1, None], pa.uint64()), 2**64 - 1),
    "half": (pa.array([np.float16(1.5), None], pa.float16()), 1.5),
    "single": (pa.array([0.1, None], pa.float32()), float(np.float32(0.1))),
    "double": (pa.array([float("-inf"), None]), float("-inf")),
    "moment": (pa.array([datetime(2024, 2, 29, 1, 2, 3, 4), None]), datetime(2024, 2, 29, 1, 2, 3, 4)),
    "zoned": (
        pa.array([datetime(2024, 2, 29, 12, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
        datetime(2024, 2, 29, 12, tzinfo=UTC),
    ),
    "nanos": (pa.array([1, None], pa.timestamp("ns")), "1970-01-01T00:00:00.000000001"),
    "day": (pa.array([date(2024, 2, 29), None]), date(2024, 2, 29)),
    "hour": (pa.array([time(1, 2, 3), None], pa.time64("us")), time(1, 2, 3)),
    "span": (pa.array([90, None], pa.duration("s")), "90 s"),
    "price": (pa.array([Decimal("1.10"), None], pa.decimal128(9, 2)), Decimal("1.10")),
    "wide": (pa.array([Decimal("1.10"), None], pa.decimal256(50, 2)), Decimal("1.10")),
    "inside": (pa.array([{"a": 1, "b": {"c": [b"x"]}}, None]), {"a": 1, "b": {"c": [b"x"]}}),
    "tags": (pa.array([["x", None], None]), ["x", None]),
    "nothing in it": (pa.array([[], None], pa.list_(pa.int64())), []),
    "parts": (pa.array([[{"a": 1}, None], None]), [{"a": 1}, None]),
    "pairs": (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), {"k": 1}),
    "word": (pa.array(["x", None]).dictionary_encode(), "x"),
    "void": (pa.nulls(2), None),
    "json": (pa.array(['{"b":1.0,"a":[1]}', None], pa.json_()), {"a": [1], "b": 1.0}),
    "uuid": (pa.array([UUID(int=5).bytes, None], pa.uuid()), UUID(int=5)),
    "pair of ints": (pa.array([[1, 2], None], pa.list_(pa.int32(), 2)), [1, 2]),
}


def test_every_type_of_a_foreign_table_becomes_an_exact_value_of_the_payload(tmp_path: Path) -> None:
    columns = {"k": pa.array([7, -8]), **{name: column for name, (column, _) in FOREIGN.items()}}
    make(tmp_path, "own", columns)
    spec, rows = read(f"lancedb:{tmp_path}?id=k#own")
    assert (spec.id_kind, spec.vectors) == (IdKind.INT64, ())
    assert [row.id for row in rows] == ["7", "-8"]
    wanted = {name: value for name, (_, value) in FOREIGN.items()}
    assert rows[0].payload_text == canonical.dumps(wanted)
    assert rows[1].payload_text == canonical.dumps(dict.fromkeys(FOREIGN))
    [finding] = open_store(f"lancedb:{tmp_path}?id=k#own").source().identity().findings
    assert finding.code == "source.columns_as_text"
    assert "nanos" in finding.message


def test_vector_columns_of_every_type_are_fields_and_come_back_bit_for_bit(tmp_path: Path) -> None:
    kinds = {"f4": pa.float32(), "f2": pa.float16(), "f8": pa.float64(), "i1": pa.int8(), "u1": pa.uint8()}
    matrices = {name: (numbers() * 20).clip(-100, 100).astype(name) for name in kinds}
    inner = fixed(matrices["f4"], pa.float32())
    late = pa.ListArray.from_arrays(pa.array([0, 2, 2, *range(3, ROWS + 1)], pa.int32()), inner)
    columns = {"id": pa.array([f"r{row}" for row in range(ROWS)])}
    columns |= {name: fixed(matrix, kinds[name]) for name, matrix in matrices.items()}
    columns["late"] = pa.concat_arrays([late, pa.nulls(ROWS - len(late), late.type)])
    make(tmp_path, "own", columns)
    address = f"lancedb:{tmp_path}?id=id&metric=cosine,f8:dot#own"
    store = open_store(address)
    spec = store.source().describe()
    assert {field.column: (field.dtype, field.metric, field.dimensions) for field in spec.vectors} == {
        "vector:f4": (DType.FLOAT32, Metric.COSINE, 16),
        "vector:f2": (DType.FLOAT16, Metric.COSINE, 16),
        "vector:f8": (DType.FLOAT64, Metric.DOT, 16),
        "vector:i1": (DType.INT8, Metric.COSINE, 16),
        "vector:u1": (DType.BINARY, Metric.HAMMING, 128),
        "multi:late": (DType.FLOAT32, Metric.COSINE, 16),
    }
    batches = [page.batch for page in store.source().scan(Partition(), batch_rows=64)]
    for name, matrix in matrices.items():
        found = np.concatenate([dense_matrix(batch.column(f"vector:{name}")) for batch in batches])
        assert found.tobytes() == matrix.tobytes()
    lists = [value for batch in batches for value in batch.column("multi:late").to_pylist()]
    assert lists == columns["late"].to_pylist()
    for name, matrix in matrices.items():
        hits = store.search().search(Query(name, dense=matrix[17]), k=3)
        if name != "f8":  # by dot a longer vector is nearer than the same one
            assert hits.keys[0] == RecordKey("r17")
    store.close()


def test_a_metric_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    table = make(
        tmp_path, "own", {"id": pa.array([str(n) for n in range(ROWS)]), "emb": fixed(numbers(), pa.float32())}
    )
    with pytest.raises(UsageError, match="by which metric 'emb'") as caught:
        open_store(f"lancedb:{tmp_path}?id=id#own").source().describe()
    assert "?metric=" in (caught.value.hint or "")
    table.create_index("emb", config=lancedb.index.IvfPq(distance_type="dot", num_partitions=2))
    spec, rows = read(f"lancedb:{tmp_path}?id=id&vectors=emb#own")
    [field] = spec.vectors
    assert (field.name, field.metric) == ("", Metric.DOT)
    [index] = spec.index["lancedb"]["indices"]
    assert (index["type"], index["distance"], index["columns"]) == ("IVF_PQ", "dot", ["emb"])
    assert np.array([row.vectors["vector"] for row in rows]).tobytes() == numbers().tobytes(), "quantised vectors"


def test_a_table_without_a_key_asks_which_column_is_the_id_and_takes_a_primary_key(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("k", pa.int64(), False), ("x", pa.string())])
    table = lancedb.connect(str(tmp_path)).create_table("own", schema=schema)
    table.add(pa.table({"k": [1, 2], "x": ["a", "b"]}, schema=schema))
    with pytest.raises(UsageError, match="no primary key") as caught:
        open_store(f"lancedb:{tmp_path}#own").source().describe()
    assert "?id=COLUMN" in (caught.value.hint or "")
    table.set_unenforced_primary_key("k")
    _, rows = read(f"lancedb:{tmp_path}#own")
    assert [(row.id, row.payload) for row in rows] == [("1", {"x": "a"}), ("2", {"x": "b"})]


def test_documents_payloads_and_namespaces_of_a_foreign_table_are_those_that_are_named(tmp_path: Path) -> None:
    columns = {
        "k": pa.array(["a", "a", "b"]),
        "tenant": pa.array(["one", None, "one"]),
        "text": pa.array(["first", None, ""]),
        "meta": pa.array(['{"z": 1, "a": 1e-6}', None, "{}"]),
        "v": fixed(numbers(3), pa.float32()),
    }
    make(tmp_path, "own", columns)
    address = f"lancedb:{tmp_path}?id=k&namespace=tenant&document=text&payload=meta&metric=euclidean#own"
    _, rows = read(address)
    assert [(row.key, row.document, row.payload_text) for row in rows] == [
        (RecordKey("a", "one"), "first", '{"a":1e-06,"z":1}'),
        (RecordKey("a"), None, None),
        (RecordKey("b", "one"), "", "{}"),
    ]
    store = open_store(address)
    assert record_keys(store.source().fetch([RecordKey("a", "one"), RecordKey("b")])) == [RecordKey("a", "one")]
    hits = store.search().search(Query("v", dense=numbers(3)[1]), k=1, with_records=True)
    assert hits.keys == (RecordKey("a"),)
    assert hits.records is not None
    store.close()


def test_ids_that_stand_twice_are_named_before_anything_is_read(tmp_path: Path) -> None:
    make(tmp_path, "own", {"id": pa.array(["a", "b", "a", "c", "c"]), "x": pa.array(range(5))})
    store = open_store(f"lancedb:{tmp_path}?id=id#own")
    [finding] = store.source().identity().findings
    assert (finding.code, finding.ids, finding.count) == ("source.doubled_ids", ("a", "c"), 2)
    with pytest.raises(DataInvalid, match="2 ids stand in more than one row"):
        next(iter(store.source().scan(Partition(), batch_rows=10)))
    with pytest.raises(DataInvalid, match="'a'"):
        store.source().fetch([RecordKey("a")])
    assert store.source().fetch([RecordKey("b")]).num_rows == 1
    store.close()


@pytest.mark.parametrize("ids", [["a", "b", "c", "d"], ["d", "b", "a", "c"], ["é", "z", "𝒳", "\uffee"], []])
def test_ids_that_stand_once_are_read_in_whatever_order(tmp_path: Path, ids: list[str]) -> None:
    make(tmp_path, "own", {"id": pa.array(ids, pa.string()), "x": pa.array(range(len(ids)), pa.int64())})
    _, rows = read(f"lancedb:{tmp_path}?id=id#own")
    assert [row.key.id for row in rows] == ids


@pytest.mark.parametrize("ids", [["a", "b", "c", "c"], ["a", "b", "c", "b"], ["c", "b", "a", "c"]])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_an_id_that_stands_twice_is_found_over_the_bounds_of_batches(tmp_path: Path, ids: list[str], rows: int) -> None:
    table = make(tmp_path, "own", {"id": pa.array(ids[:rows])})
    for start in range(rows, len(ids), rows):
        table.add(pa.table({"id": pa.array(ids[start : start + rows])}))
    store = open_store(f"lancedb:{tmp_path}?id=id#own")
    [finding] = store.source().identity().findings
    assert finding.ids == tuple(each for place, each in enumerate(ids) if each in ids[:place])
    store.close()


def test_four_heaps_at_most_are_asked_for_unless_the_user_has_said_so() -> None:
    code = (
        "import ctypes; asked = []\n"
        "class Library:\n    def __init__(self, name): self.mallopt = lambda *told: asked.append(told)\n"
        "ctypes.CDLL = Library\n"
        "from exitramp_adapters.stores.lancedb.engine import load\nload(); print(asked)"
    )
    for told, wanted in (({}, "[(-8, 4)]" if sys.platform == "linux" else "[]"), ({"MALLOC_ARENA_MAX": "2"}, "[]")):
        plain = {key: value for key, value in os.environ.items() if key not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")}
        done = subprocess.run(
            [sys.executable, "-c", code], env=plain | told, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == wanted


def test_ids_of_a_foreign_table_may_be_integers_and_uuids(tmp_path: Path) -> None:
    ids = [UUID(int=number) for number in (0, 5, 2**127)]
    make(tmp_path, "own", {"u": pa.array([each.bytes for each in ids], pa.uuid()), "n": pa.array([0, -3, 2**62])})
    for column, kind, wanted in (
        ("u", IdKind.UUID, [str(each) for each in ids]),
        ("n", IdKind.INT64, ["0", "-3", str(2**62)]),
    ):
        store = open_store(f"lancedb:{tmp_path}?id={column}#own")
        assert store.source().describe().id_kind is kind
        absent = ["7", "x", "007", "00", str(2**64), wanted[0] + "0", str(ids[1]).upper().replace("-", "")]
        found = store.source().fetch([RecordKey(each) for each in [*wanted[1:], *absent]])
        assert {key.id for key in record_keys(found)} == set(wanted[1:])
        store.close()
    make(tmp_path, "bad", {"id": pa.array(["a", None])})
    with pytest.raises(DataInvalid, match="row 1 of the table has no id"):
        read(f"lancedb:{tmp_path}?id=id#bad")


FILTERS: list[Filter] = [
    Eq(("n",), 7),
    Eq(("n",), True),
    Eq(("flag",), True),
    Eq(("flag",), 1),
    Eq(("name",), "it's 3"),
    Range(("n",), gte=10, lt=200),
    Range(("f",), gt=0.5),
    In(("tags",), ("even", "x")),
    Eq(("inside", "a"), 2),
    Not(Eq(("maybe",), "here")),
    Exists(("maybe",)),
    Exists(("nobody",)),
    And((Range(("n",), lt=100), Or((Eq(("tags",), "odd"), Eq(("maybe",), "here"))))),
]


@pytest.mark.parametrize("indexed", [False, True])
def test_filters_on_typed_columns_leave_what_the_reference_leaves(tmp_path: Path, indexed: bool) -> None:
    rows = 5000  # more than are named in a query, and fewer, pass
    places = np.arange(rows)
    columns = {
        "id": pa.array([str(n) for n in places]),
        "n": pa.array(places),
        "flag": pa.array(places % 3 == 0),
        "name": pa.array([f"it's {n}" for n in places]),
        "f": pa.array(places / 1000, pa.float32()),
        "tags": pa.array([["even" if n % 2 == 0 else "odd", None] for n in places]),
        "inside": pa.array([{"a": int(n % 5)} for n in places]),
        "maybe": pa.array([None if n % 4 else "here" for n in places]),
        "v": fixed(numbers(rows), pa.float32()),
    }
    table = make(tmp_path, "own", columns)
    if indexed:
        table.create_index("v", config=lancedb.index.IvfFlat(distance_type="l2", num_partitions=16))
    address = f"lancedb:{tmp_path}?id=id&metric=euclidean#own"
    _, found = read(address, 1000)
    payloads = {row.id: row.payload for row in found}
    query = numbers(1, seed=9)[0]
    nearest = np.argsort(((numbers(rows) - query) ** 2).sum(axis=1))
    store = open_store(address)
    for where in FILTERS:
        wanted = [str(n) for n in nearest if matches(where, payloads[str(n)])][:10]
        exact = store.search().search(Query("v", dense=query), k=10, where=where, settings=SearchSettings(exact=True))
        assert [key.id for key in exact.keys] == wanted, where
        usual = store.search().search(Query("v", dense=query), k=10, where=where)
        assert len(usual.keys) == len(wanted), f"{where}: the index cut it short"
        assert all(matches(where, payloads[key.id]) for key in usual.keys)
    store.close()


def test_a_scan_that_is_resumed_reads_the_version_that_it_began_with(tmp_path: Path) -> None:
    address, _, _ = written(tmp_path, 250)
    first = open_store(address)
    pages = list(first.source().scan(Partition(), batch_rows=40))
    table = lancedb.connect(str(tmp_path)).open_table("t")
    table.delete("json_get_int(payload, 'number') < 200")
    table.optimize()
    again = open_store(address)
    for done, page in enumerate(pages, start=1):
        rest = again.source().scan(Partition(), batch_rows=70, after=page.cursor)
        found = [key for later in rest for key in record_keys(later.batch)]
        assert found == [key for later in pages[done:] for key in record_keys(later.batch)]
    assert again.source().count() == 50
    assert len(read(address)[1]) == 50


@pytest.mark.filterwarnings("ignore:optimize:UserWarning")
def test_a_scan_whose_version_was_cleaned_away_is_refused(tmp_path: Path) -> None:
    address, _, _ = written(tmp_path, 250)
    store = open_store(address)
    page = next(iter(store.source().scan(Partition(), batch_rows=40)))
    table = lancedb.connect(str(tmp_path)).open_table("t")
    table.delete("id IS NULL")
    table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
    other = open_store(address)
    with pytest.raises(StoreRejected, match="no longer exists") as caught:
        list(other.source().scan(Partition(), batch_rows=40, after=page.cursor))
    assert "cleaned away" in (caught.value.hint or "")
    assert len(list(other.source().scan(Partition(), batch_rows=1000))) == 1


def test_an_older_version_and_a_tag_are_read_and_not_written(tmp_path: Path) -> None:
    address, spec, rows = written(tmp_path, 250)
    table = lancedb.connect(str(tmp_path)).open_table("t")
    old = table.version
    table.tags.create("before", old)
    table.delete("json_get_int(payload, 'number') < 200")
    for option in (str(old), "before"):
        pinned = address.replace("#", f"?version={option}#")
        found_spec, found = read(pinned)
        assert len(found) == 250
        assert found_spec.index["lancedb"]["version"] == old
        store = open_store(pinned)
        [finding] = store.source().identity().findings
        assert finding.code == "source.version"
        assert f"version {old}" in finding.message
        assert store.source().count() == 250
        assert len(store.search().search(Query(dense=rows[0].vectors["vector"]), k=250).keys) == 250
        with pytest.raises(UsageError, match="not written to"):
            store.sink().create(spec, Origin(spec, "1"))
        store.close()
    assert len(read(address)[1]) == 50
    with pytest.raises(StoreRejected, match="no longer exists"):
        read(address.replace("#", "?version=99#"))


def test_an_index_is_built_as_asked_and_as_the_source_had_it(tmp_path: Path) -> None:
    address, spec, rows = written(tmp_path, ROWS, options="?index=IVF_HNSW_SQ")
    told = open_store(address).source().describe()
    [index] = told.index["lancedb"]["indices"]
    assert (index["type"], index["distance"], index["unindexed"]) == ("IVF_HNSW_SQ", "cosine", 0)
    store = open_store(f"lancedb:{tmp_path}?index=source#again")
    sink = store.sink()
    changed = {
        "lancedb": {**told.index["lancedb"], "indices": [index | {"details": {"hnsw": {"max_connections": 12}}}]}
    }
    sink.create(CollectionSpec("again", spec.id_kind, spec.vectors, True, True, changed), Origin(spec, "1"))
    sink.upsert(batch_from_rows(rows, spec))
    sink.finish(TransferAccount())
    [made] = store.source().describe().index["lancedb"]["indices"]
    assert (made["type"], made["distance"]) == ("IVF_HNSW_SQ", "cosine")
    assert made["details"]["hnsw"]["max_connections"] == 12
    coverage = coverage_of(store)
    assert (coverage.indexed, coverage.compared) == (ROWS, 0)
    for options in ({"nprobes": 3}, {"ef": 40}, {"refine_factor": 4}):
        asked = SearchSettings(options=options)
        assert store.search().search(Query(dense=rows[5].vectors["vector"]), k=3, settings=asked).keys[0] == rows[5].key
    with pytest.raises(UsageError, match="at least 1"):
        store.search().search(Query(dense=rows[5].vectors["vector"]), k=3, settings=SearchSettings(options={"ef": 0}))
    sink.upsert(batch_from_rows([rows[1]], spec))
    sink.flush()
    coverage = coverage_of(store)
    assert (coverage.indexed, coverage.compared) == (ROWS - 1, 1)
    store.close()
    assert [
        row.vectors["vector"].tobytes() for row in sorted(read(f"lancedb:{tmp_path}#again")[1], key=lambda r: r.id)
    ] == [np.asarray(row.vectors["vector"]).tobytes() for row in sorted(rows, key=lambda r: r.id)]


def test_an_unknown_index_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="index=IVF_MAGIC"):
        open_store(f"lancedb:{tmp_path}?index=IVF_MAGIC#t")
    spec = spec_within(LIMITS, "t")
    rows = rows_within(spec, LIMITS, 5, 3)
    store = open_store(f"lancedb:{tmp_path}?index=source#t")
    told = {"lancedb": {"indices": [{"type": "IVF_MAGIC", "distance": "l2", "columns": ["vector"]}]}}
    sink = store.sink()
    sink.create(CollectionSpec("t", spec.id_kind, spec.vectors, True, True, told), Origin(spec, "1"))
    sink.upsert(batch_from_rows(rows, spec))
    with pytest.raises(StoreRejected, match="IVF_MAGIC"):
        sink.finish(TransferAccount())
    store.close()


def test_small_fragments_are_put_together_at_the_end(tmp_path: Path) -> None:
    address = f"lancedb:{tmp_path}#t"
    spec = spec_within(LIMITS, "t")
    rows = rows_within(spec, LIMITS, 100, 3)
    store = open_store(address)
    sink = store.sink()
    sink.create(spec, Origin(spec, "1"))
    for start in range(0, 100, 5):
        sink.upsert(batch_from_rows(rows[start : start + 5], spec))
        sink.flush()
    table = lancedb.connect(str(tmp_path)).open_table("t")
    assert table.stats()["fragment_stats"]["num_fragments"] == 20
    sink.finish(TransferAccount())
    table.checkout_latest()
    assert table.stats()["fragment_stats"]["num_fragments"] == 1
    sink.upsert(batch_from_rows(rows[:3], spec))
    sink.flush()
    assert store.source().count() == 100
    store.close()


def test_another_writers_records_are_seen_before_the_next_are_added(tmp_path: Path) -> None:
    address, spec, rows = written(tmp_path, 20)
    one, two = open_store(address), open_store(address)
    more = rows_within(spec, LIMITS, 40, 3)[20:]
    first, second = one.sink(), two.sink()
    first.upsert(batch_from_rows(more[:10], spec))
    first.flush()
    second.upsert(batch_from_rows(more, spec))
    second.flush()
    first.upsert(batch_from_rows(more, spec))
    first.flush()
    one.close()
    two.close()
    assert sorted(row.id for row in read(address)[1]) == sorted(row.id for row in [*rows, *more])


def test_a_flush_that_failed_writes_everything_when_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, spec, _ = written(tmp_path, 20)
    more = rows_within(spec, LIMITS, 40, 3)
    store = open_store(address)
    sink = store.sink()
    sink.upsert(batch_from_rows(more, spec))
    add = lancedb.table.LanceTable.add

    def conflicting(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(lancedb.table.LanceTable, "add", add)
        raise RuntimeError("lance error: Retryable commit conflict for version 7")

    monkeypatch.setattr(lancedb.table.LanceTable, "add", conflicting)
    with pytest.raises(StoreUnavailable, match="at the same time"):
        sink.flush()
    sink.flush()
    store.close()
    assert sorted(row.id for row in read(address)[1]) == sorted(row.id for row in more)


def test_a_column_that_an_application_added_is_a_key_of_the_payload(tmp_path: Path) -> None:
    address, _, rows = written(tmp_path, 5)
    lancedb.connect(str(tmp_path)).open_table("t").add_columns({"rating": "5"})
    _, found = read(address)
    assert {row.id: row.payload for row in found} == {row.id: {**row.payload, "rating": 5} for row in rows}


def test_words_on_a_table_are_carried_over_and_what_lancedb_acts_upon_is_recorded_only(tmp_path: Path) -> None:
    functions = '[{"name":"openai","model":{},"source_column":"text","vector_column":"v"}]'
    make(tmp_path, "own", {"id": pa.array(["a"])}, team="search", owner="größer").to_arrow()
    schema = pa.schema([("id", pa.string())], metadata={"team": "search", "embedding_functions": functions})
    lancedb.connect(str(tmp_path)).create_table("embedding", schema=schema)
    told = open_store(f"lancedb:{tmp_path}?id=id#own").source().describe().index["lancedb"]
    assert told["metadata"] == {"team": "search", "owner": "größer"}
    told = open_store(f"lancedb:{tmp_path}?id=id#embedding").source().describe().index["lancedb"]
    assert (told["metadata"], told["embedding_functions"]) == ({"team": "search"}, functions)
    spec = replace(spec_within(LIMITS, "made"), index={"lancedb": told})
    store = open_store(f"lancedb:{tmp_path}#made")
    store.sink().create(spec, Origin(spec, "1"))
    made = store.source().describe().index["lancedb"]
    assert made["metadata"] == {"team": "search"}
    assert "embedding_functions" not in made
    store.close()


def test_what_somebody_else_made_is_not_written_to(tmp_path: Path) -> None:
    make(tmp_path, "own", {"id": pa.array(["a"])})
    store = open_store(f"lancedb:{tmp_path}?id=id#own")
    spec = spec_within(LIMITS, "own")
    with pytest.raises(CollectionExists, match="exitramp did not make"):
        store.sink().create(spec, Origin(spec, "1"))
    with pytest.raises(CollectionExists, match="exitramp did not make"):
        store.sink().delete([RecordKey("a")])
    store.close()


def test_the_payload_is_json_that_the_store_itself_can_query(tmp_path: Path) -> None:
    written(tmp_path, 30)
    table = lancedb.connect(str(tmp_path)).open_table("t")
    assert table.count_rows("json_get_int(payload, 'number') < 10") == 10
    assert table.count_rows("json_get_string(payload, 'a_string') = 'text'") == 30


def test_floats_of_all_sizes_come_back_in_their_canonical_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    values = np.frombuffer(rng.bytes(8 * 20_000), np.float64)
    floats = [*values[np.isfinite(values)].tolist(), *(10.0 ** rng.uniform(-12, 20, 20_000)).tolist()]
    floats += [sign * digit * 10.0**power for sign in (1, -1) for digit in (1, 1.5, 9.99) for power in range(-20, 25)]
    texts = [canonical.dumps({"a": floats[start : start + 20]}) for start in range(0, len(floats), 20)]
    texts += [
        canonical.dumps({"t": text}) for text in ("1e-5,", "0.00001", "e-1]", "\x00\x1f\u2028", "a" * 20, "1" * 20)
    ]
    table = make(tmp_path, "own", {"p": pa.array(texts, pa.json_())})
    for batch in table.search().to_batches(batch_size=500):
        held = batch.column("p").storage.cast(pa.string())
        names = pa.array(["x"] * len(held))
        found = lance_texts(held, names, tags=True).to_pylist()
        assert found == texts[: len(found)]
        cut = lance_texts(held[3:], names[3:], tags=True).to_pylist()
        assert cut == texts[3 : len(found)]
        texts = texts[len(found) :]
    assert not texts


@pytest.mark.parametrize(
    "text", ['{"a":9007199254740993}', '{"a":[2e-5,18446744073709551615]}', '{"b":1,"a":2}', '{"a":1e-9}']
)
def test_json_that_an_application_wrote_becomes_canonical(tmp_path: Path, text: str) -> None:
    address, _, _ = written(tmp_path, 1)
    table = lancedb.connect(str(tmp_path)).open_table("t")
    found = table.search().to_arrow()
    spot = found.schema.get_field_index("payload")
    table.delete("true")
    table.add(found.set_column(spot, found.schema.field(spot), pa.array([text], pa.json_())))
    [row] = read(address)[1]
    store = open_store(address)
    [page] = store.source().scan(Partition(), batch_rows=5)
    [held] = page.batch.column("payload").to_pylist()
    assert held == canonical.dumps(canonical.parse(text)) == row.payload_text
    store.close()


def test_a_vector_with_nan_is_refused_and_nothing_of_it_written(tmp_path: Path) -> None:
    address, spec, rows = written(tmp_path, 5)
    bad = numbers(1)[0]
    bad[3] = np.nan
    for id_ in (rows[0].id, "new"):
        store = open_store(address)
        sink = store.sink()
        with pytest.raises(ExitrampError, match="NaN"):
            sink.upsert(batch_from_rows([replace(rows[0], id=id_, vectors={"vector": bad})], spec))
            sink.flush()
        store.close()
    assert len(read(address)[1]) == 5


KILLED = """
import sys
from exitramp.ports import Origin
from exitramp.registry import open_store
from exitramp.testing.rows import batch_from_rows
from exitramp.testing.within import rows_within, spec_within
store = open_store(sys.argv[1])
sink = store.sink()
spec = spec_within(sink.limits(), "t")
rows = rows_within(spec, sink.limits(), 4000, 3)
sink.create(spec, Origin(spec, "1"))
while True:
    for start in range(0, 4000, 50):
        sink.upsert(batch_from_rows(rows[start : start + 50], spec))
        sink.flush()
        print(start, flush=True)
"""


@pytest.mark.parametrize("after", [3, 90])
def test_a_load_that_was_killed_is_completed_by_the_next(tmp_path: Path, after: int) -> None:
    """Killed while records are added (3) and while they are replaced (90): none is lost, none is there twice."""
    address = f"lancedb:{tmp_path}/db#t"
    child = subprocess.Popen([sys.executable, "-c", KILLED, address], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    heard = [child.stdout.readline() for _ in range(after)]
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    child.stdout.close()
    assert all(heard), "the writer failed"
    spec = spec_within(LIMITS, "t")
    rows = rows_within(spec, LIMITS, 4000, 3)
    there = {row.id for row in read(address, 1000)[1]}
    assert {row.id for row in rows[: 50 * min(after, 80)]} <= there
    store = open_store(address)
    sink = store.sink()
    sink.create(spec, Origin(spec, "1"))
    sink.upsert(batch_from_rows(rows, spec))
    sink.flush()
    store.close()
    found = {row.id: row for row in read(address, 1000)[1]}
    assert len(found) == 4000
    assert all(found[row.id].payload_text == row.payload_text for row in rows)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may look into, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


LOOKING = """
import os, sys
import numpy as np
from exitramp.filters import Eq
from exitramp.ports import Partition, Query
from exitramp.registry import open_store

def look():
    store = open_store(sys.argv[1])
    source, search = store.source(), store.search()
    can_write = source.identity().can_write
    source.describe(), source.origin(), source.partitions(3), search.coverage()
    assert sum(page.batch.num_rows for page in source.scan(Partition(), batch_rows=50)) == source.count() == 200
    search.search(Query(dense=np.ones(16, np.float32)), k=3, where=Eq(("number",), 5), with_records=True)
    store.close()
    return can_write

look()  # as whoever may load Python's own modules
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
assert look() is False
"""


def test_reading_changes_no_file_and_works_where_nothing_can_be_written(open_folder: Path) -> None:
    folder = open_folder / "db"
    address, _, _ = written(folder, 200, options="?index=IVF_FLAT")

    def snapshot() -> dict[str, tuple[str, int]]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}

    before = snapshot()
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        subprocess.run([sys.executable, "-c", LOOKING, address], check=True)
        assert snapshot() == before
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_looking_makes_no_folder_and_names_what_is_there(tmp_path: Path) -> None:
    store = open_store(f"lancedb:{tmp_path}/none#t")
    assert store.source().identity().collections == ()
    with pytest.raises(ExitrampError, match="there is no table 't'"):
        store.source().count()
    assert not (tmp_path / "none").exists()
    written(tmp_path / "db", 3, "first")
    with pytest.raises(ExitrampError) as caught:
        open_store(f"lancedb:{tmp_path}/db#t").source().count()
    assert "'first'" in (caught.value.hint or "")
    with pytest.raises(ExitrampError) as caught:
        open_store(f"lancedb:{tmp_path}/db/first.lance#t").source().count()
    assert "itself a table" in (caught.value.hint or "")


@pytest.mark.parametrize("address", ["lancedb:s3://bucket/db#t", "lancedb://host/db#t", "lancedb:db://cloud#t"])
def test_what_is_not_on_this_machine_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="only folders of this machine"):
        open_store(address)


@pytest.mark.parametrize("name", ["a b", "..", "a%2Fb", "n" * 250])
def test_a_name_that_lancedb_has_not_is_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(AddressError, match="no table of such a name"):
        open_store(f"lancedb:{tmp_path}#{name}")


def test_keys_that_are_there_are_never_missed() -> None:
    rng = np.random.default_rng(1)
    hashes = rng.integers(-(2**63), 2**63 - 1, 5000)
    known = KnownKeys()
    done = 0
    while done < len(hashes):
        more = int(rng.integers(1, 400))
        known.add(hashes[done : done + more])
        done += more
        assert known.has(hashes[:done]).all()
        assert not known.has(hashes[done:]).any()


def test_importing_the_adapter_loads_no_sdk() -> None:
    code = "import sys, exitramp_adapters.stores.lancedb.adapter\nassert not {'lancedb', 'lance'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
