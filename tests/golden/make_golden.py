"""Makes the golden files of this folder: run once for each format version, kept, and never run over what is there.

    python tests/golden/make_golden.py

Every later version of exitramp must read the dumps and compute the digests that stand here.
"""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import stream_schema
from exitramp.clock import ManualClock
from exitramp.digests import leaf_digests
from exitramp.dump.writer import DumpSink
from exitramp.ports import Origin, StoreIdentity, TransferAccount, make_cursor
from exitramp.records import CollectionSpec, DType, EmbeddingModel, IdKind, Metric, VectorField, VectorKind

HERE = Path(__file__).parent
Row = dict[str, Any]

NAN_WITH_A_PAYLOAD = float(np.array([0x7FC00001], dtype=np.uint32).view(np.float32)[0])
MODEL = EmbeddingModel("example", "example-embed", "sha256:" + "0" * 64, "query: ", "passage: ", "mean", "l2", "512")

DENSE = CollectionSpec(
    "dense with hard payloads",
    IdKind.STRING,
    (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 4, MODEL),),
    has_documents=True,
    index={"hnsw": {"m": 16, "ef_construction": 100}},
)
EVERYTHING = CollectionSpec(
    "every kind of field",
    IdKind.UINT64,
    (
        VectorField("title", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 3),
        VectorField("half.é", VectorKind.DENSE, DType.FLOAT16, Metric.EUCLIDEAN, 3),
        VectorField("double", VectorKind.DENSE, DType.FLOAT64, Metric.EUCLIDEAN, 2),
        VectorField("small", VectorKind.DENSE, DType.INT8, Metric.MANHATTAN, 3),
        VectorField("bits", VectorKind.DENSE, DType.BINARY, Metric.HAMMING, 16),
        VectorField("late", VectorKind.MULTI, DType.FLOAT32, Metric.COSINE, 2),
        VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None),
    ),
    has_namespaces=True,
    has_documents=True,
)
EMPTY = CollectionSpec("no records", IdKind.UUID, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 2),))

HARD_PAYLOADS: list[Any] = [
    {},
    {"null": None, "true": True, "false": False},
    {"int": 1, "float": 1.0, "text": "1", "negative zero": -0.0},
    {"limit": 2**53, "beyond": 2**53 + 1, "far": 2**63, "below": -(2**53) - 1},
    {"small": 1e-5, "plain": 0.0001, "great": 1e16, "almost": 9999999999999998.0, "tenth": 0.1, "least": 5e-324},
    {"nan": float("nan"), "up": float("inf"), "down": float("-inf")},
    {"bytes": b"\x00\xff", "moment": datetime(2026, 1, 2, 3, 4, 5, 678000, UTC), "day": datetime(2026, 1, 2).date()},
    {"nested": {"list": [[], {}, [1, "a", None]], "deep": {"er": {"still": []}}}},
    {"": "empty key", "a.b": 1, "$set": 2, '"': 3, "\\": 4, "\u0001": "\b\f\n\r\t\x1f\x7f/"},
    {"\N{ROCKET}": "\N{ROCKET}", "é": "e\u0301", "\uffff": 1, "\U00010000": 2},
    {"$exitramp:int": "a user's own key", "$exitramp:esc:x": "and another"},
    {"long": "x" * 5000},
]


def dense_rows() -> list[Row]:
    vectors = [
        [1.0, 0.0, 0.0, 0.0],
        [-0.0, 0.0, 1e-45, 1.1754942e-38],
        [3.4028235e38, -3.4028235e38, 0.1, -0.1],
        [NAN_WITH_A_PAYLOAD, float("inf"), float("-inf"), 0.5],
    ]
    ids = ["7", "007", "", " ", "é", "e\u0301", "\N{ROCKET}", "x" * 300, "a/b#c?d", "'\"\\", "\n", "10", "-1"]
    documents = ["", None, "A text.", "Zwei\nZeilen, \N{ROCKET}."]
    return [
        {
            "id": id_,
            "document": documents[number % 4],
            "payload": None if number == 12 else canonical.dumps(HARD_PAYLOADS[number]),
            "vector": None if number == 10 else vectors[number % 4],
        }
        for number, id_ in enumerate(ids)
    ]


def every_row() -> list[Row]:
    half = [np.float16(x) for x in (0.5, -0.0, 65504.0, 6e-8, float("inf"), 1.0009765625)]
    return [
        {
            "id": str(2**64 - 1 - number // 3),
            "namespace": [None, "", "tenant é"][number % 3],
            "document": None if number % 2 else f"text {number}",
            "payload": canonical.dumps({"n": number}),
            "vector:title": None if number == 4 else [0.25 * number, -1.5, 3.0],
            "vector:half.é": None if number == 5 else half[number % 3 :][:3],
            "vector:double": None if number == 6 else [5e-324, 0.1 * number],
            "vector:small": None if number == 7 else [-128, 127, number],
            "vector:bits": None if number == 8 else [255, number],
            "multi:late": [None, [], [[1.0, 2.0]], [[0.1, -0.0], [3.0, 4.0]]][number % 4],
            "sparse:words": [
                None,
                {"indices": [], "values": []},
                {"indices": [4294967295, 0, 7], "values": [0.5, -0.0, 1e-45]},
            ][(number // 3) % 3],
        }
        for number in range(9)
    ]


def batch_of(rows: list[Row], spec: CollectionSpec) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=stream_schema(spec))


def write_golden_dump(name: str, spec: CollectionSpec, rows: list[Row]) -> None:
    folder = HERE / name
    if (folder / "manifest.json").exists():
        print(f"{name}: stands already and is left alone")
        return
    sink = DumpSink(folder, clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), shard_bytes=900, group_bytes=400)
    sink.create(spec, Origin(spec, "0.1.0"))
    for begin in range(0, len(rows), 3):
        sink.upsert(batch_of(rows[begin : begin + 3], spec))
        sink.note_cursor(0, make_cursor(row=begin + 3))
    source = StoreIdentity("memory", "memory:#golden", "unknown", "unknown")
    sink.finish(TransferAccount(source_count_before=len(rows), source_count_after=len(rows), source=source))
    print(f"{name}: written")


def digest_case(name: str, spec: CollectionSpec, rows: list[Row]) -> dict[str, Any]:
    """One case of `digest_vectors.json`: what goes in, every leaf, and the digests."""
    leaves = leaf_digests(batch_of(rows, spec), spec)
    return {
        "name": name,
        **exported(batch_of(rows, spec), spec),
        "leaves": [
            {
                "ids": leaves.ids[row].tobytes().hex(),
                "payloads": leaves.payloads[row].tobytes().hex(),
                "vectors": {column: array[row].tobytes().hex() for column, array in leaves.by_column.items()},
            }
            for row in range(len(rows))
        ],
        "digests": leaves.digests().to_json(),
    }


def exported(batch: pa.RecordBatch, spec: CollectionSpec) -> dict[str, Any]:
    """Records as JSON that any language can read: numbers, or `bits:HEX` for those that JSON lacks."""
    rows = [
        {
            "id": row["id"],
            "namespace": row.get("namespace"),
            "document": row.get("document"),
            "payload": row["payload"],
            "vectors": {field.column: _value(row[field.column], field) for field in spec.vectors},
        }
        for row in batch.to_pylist()
    ]
    return {"spec": {"vectors": [field.to_json() for field in spec.vectors]}, "rows": rows}


def _value(value: Any, field: VectorField) -> Any:
    if value is None:
        return None
    if field.kind is VectorKind.SPARSE:
        return {"indices": value["indices"], "values": [_number(x, field) for x in value["values"]]}
    if field.kind is VectorKind.MULTI:
        return [[_number(x, field) for x in vector] for vector in value]
    return [_number(x, field) for x in value]


def _number(value: Any, field: VectorField) -> Any:
    if isinstance(value, int) or np.isfinite(value):
        return value if isinstance(value, int) else float(value)
    code, width = {DType.FLOAT16: ("e", 4), DType.FLOAT32: ("f", 8), DType.FLOAT64: ("d", 16)}[field.dtype]
    return f"bits:{int.from_bytes(struct.pack('<' + code, value), 'little'):0{width}x}"


def main() -> None:
    write_golden_dump("dense-1", DENSE, dense_rows())
    write_golden_dump("everything-1", EVERYTHING, every_row())
    write_golden_dump("empty-1", EMPTY, [])
    path = HERE / "digest_vectors.json"
    if not path.exists():
        bare = CollectionSpec("bare", IdKind.STRING, ())
        cases = [
            digest_case("no records", EMPTY, []),
            digest_case("one id and nothing else", bare, [{"id": "a"}]),
            digest_case("dense with hard payloads", DENSE, dense_rows()),
            digest_case("every kind of field", EVERYTHING, every_row()),
        ]
        content = {"digest": "exitramp-digest-1", "cases": cases}
        path.write_text(json.dumps(content, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
