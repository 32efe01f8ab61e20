"""`dump:` as a kind of store, found by its entry point."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.arrow import stream_schema
from exitramp.dump.store import ADAPTER
from exitramp.dump.writer import DumpSink
from exitramp.errors import AddressError, CollectionMissing, DataInvalid, DumpCorrupt, RoleUnsupported, UsageError
from exitramp.ports import Origin, Store, TransferAccount, make_cursor
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store, store_adapter
from exitramp.urls import Address, Network


def opened(text: str) -> Any:
    return ADAPTER.open(Address.parse(text), Network())


def test_the_registry_finds_it_under_its_scheme(tmp_path: Path, plain: Any) -> None:
    assert store_adapter("dump") is ADAPTER
    store = open_store(f"dump:{tmp_path}/d")
    assert isinstance(store, Store)
    sink = store.sink()
    sink.create(plain.spec, Origin(plain.spec, "1"))
    sink.upsert(plain.batch())
    sink.flush()
    sink.finish(TransferAccount())
    assert store.source().count() == 120
    store.close()
    store.close()


def test_a_dump_cannot_be_searched(tmp_path: Path) -> None:
    with pytest.raises(RoleUnsupported, match="no index"):
        opened(f"dump:{tmp_path}").search()


def test_an_address_may_name_the_collection_that_is_there_and_no_other(plain: Any, write_dump: Any) -> None:
    folder = write_dump(plain)
    assert opened(f"dump:{folder}#articles").source().count() == 120
    with pytest.raises(AddressError, match="'articles', not 'others'"):
        opened(f"dump:{folder}#others").source()


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AddressError, match="no option 'chekc'"):
        opened(f"dump:{tmp_path}?chekc=no")
    with pytest.raises(AddressError, match="yes or no"):
        opened(f"dump:{tmp_path}?check=maybe")


def test_checking_of_shards_can_be_left_to_somebody_else(plain: Any, write_dump: Any) -> None:
    folder = write_dump(plain)
    shard = sorted((folder / "shards").iterdir())[0]
    content = bytearray(shard.read_bytes())
    at = content.rindex(b"parquet-cpp")  # in the footer: the name of the writer
    content[at] ^= 1
    shard.write_bytes(content)
    unchecked, checked = opened(f"dump:{folder}?check=no").source(), opened(f"dump:{folder}").source()
    assert sum(len(page.batch) for page in unchecked.scan(unchecked.partitions(1)[0], batch_rows=50)) == 120
    with pytest.raises(DumpCorrupt):
        list(checked.scan(checked.partitions(1)[0], batch_rows=50))


def test_a_missing_dump_is_named(tmp_path: Path) -> None:
    with pytest.raises(CollectionMissing, match="no folder"):
        opened(f"dump:{tmp_path}/nowhere").source()


def test_pages_of_no_rows_are_refused(plain: Any, write_dump: Any) -> None:
    source = opened(f"dump:{write_dump(plain)}").source()
    with pytest.raises(UsageError, match="0 rows"):
        next(source.scan(source.partitions(1)[0], batch_rows=0))


def unsound(spec: CollectionSpec) -> list[tuple[str, pa.RecordBatch]]:
    schema = stream_schema(spec)
    vector = schema.field("vector").type
    hole = pa.FixedSizeListArray.from_arrays(pa.array([1, None, 3, 4], pa.float32()), 4)
    good = pa.array([[1.0, 2.0, 3.0, 4.0]], vector)
    invalid = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], "i4")), pa.py_buffer(b"\xff\xfe")]
    )
    return [
        ("row 0 of a batch has no id", batch([pa.array([None], pa.string()), pa.array(["{}"]), good], schema)),
        (
            "'doc-1' has a missing number",
            batch([pa.array(["doc-1"]), pa.array(["{}"]), hole.cast(vector, safe=False)], schema),
        ),
        ("not valid Arrow data", batch([pa.array(["doc-1"]), invalid, good], schema)),
    ]


def batch(arrays: list[pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_a_record_that_breaks_a_rule_is_refused_and_named(tmp_path: Path, plain: Any, case: int) -> None:
    message, records = unsound(plain.spec)[case]
    sink = DumpSink(tmp_path / "d")
    sink.create(plain.spec, Origin(plain.spec, "1"))
    with pytest.raises(DataInvalid, match=message):
        sink.upsert(records)
    sink.close()


def test_a_payload_that_is_no_json_ends_the_dump_naming_its_record(tmp_path: Path, plain: Any) -> None:
    sink = DumpSink(tmp_path / "d")
    sink.create(plain.spec, Origin(plain.spec, "1"))
    rows = [{"id": "doc-1", "payload": "{secret", "vector": None}]
    sink.upsert(pa.RecordBatch.from_pylist(rows, schema=stream_schema(plain.spec)))
    with pytest.raises(DataInvalid, match="'doc-1' is no JSON") as caught:
        sink.flush()
    assert "secret" not in str(caught.value)
    sink.close()


MEASURED = """
import resource, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
import test_store
test_store.write_many(Path(sys.argv[1]), int(sys.argv[2]))
from exitramp.dump.integrity import verify_dump
assert verify_dump(Path(sys.argv[1])).verdict == "pass"
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_many(folder: Path, rows: int) -> None:
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 256)
    spec = CollectionSpec("many", IdKind.STRING, (field,))
    schema = stream_schema(spec)
    sink = DumpSink(folder, shard_bytes=8 * 2**20, group_bytes=2 * 2**20)
    sink.create(spec, Origin(spec, "1"))
    rng = np.random.default_rng(1)
    for begin in range(0, rows, 500):
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(rng.random(500 * 256, dtype=np.float32)), type=schema.field("vector").type
        )
        ids = pa.array([str(number) for number in range(begin, begin + 500)])
        payloads = pa.array([canonical.dumps({"n": number}) for number in range(begin, begin + 500)])
        sink.upsert(pa.RecordBatch.from_arrays([ids, payloads, vectors], schema=schema))
        sink.note_cursor(0, make_cursor(row=begin))
    sink.finish(TransferAccount())


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is counted in other units elsewhere")
def test_memory_does_not_grow_with_the_collection(tmp_path: Path) -> None:
    peaks = []
    for rows in (10_000, 60_000):  # 10 and 60 MB
        command = [sys.executable, "-c", MEASURED, str(tmp_path / str(rows)), str(rows), str(Path(__file__).parent)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 25, f"{peaks} MB"
