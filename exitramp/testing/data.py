"""Seeded records that are hard to keep: every payload type, awkward ids and keys, vectors at the edges of their types.

The same arguments give the same records on every machine, so that a child process and its parent, or a test and a
benchmark, can each make them again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_array, stream_schema
from exitramp.ports import SinkLimits
from exitramp.records import CollectionSpec, DType, IdKind, VectorField, VectorKind
from exitramp.testing.hard_values import HARD_IDS, HARD_PAYLOADS, LONGEST, hard_payloads
from exitramp.testing.rows import NUMPY_TYPE, Vector, column_from_values

_WORDS = (
    *("vector", "store", "record", "filter", "metric", "cosine", "index", "shard", "drill", "vendor"),
    *("outage", "report", "token", "größer", "naïve", "検索", "🚀"),
)


def unit_scale(field: VectorField) -> float:
    """A magnitude at which numbers of the field's type are at ease."""
    return 40.0 if field.dtype is DType.INT8 else 1.0


def ordinary_matrix(field: VectorField, rows: int, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    """Vectors [rows, items] as models make them, but of differing norm; int8 and binary spread over their range."""
    if field.dtype is DType.BINARY:
        return rng.integers(0, 256, (rows, field.item_count), dtype=np.uint8)
    matrix = rng.standard_normal((rows, field.item_count), dtype=np.float32)
    matrix *= rng.uniform(0.5, 2.0, (rows, 1)).astype(np.float32) * np.float32(unit_scale(field))
    if field.dtype is DType.INT8:
        matrix = np.clip(np.rint(matrix), -128, 127)
    return matrix.astype(NUMPY_TYPE[field.dtype])


def hard_vectors(field: VectorField, limits: SinkLimits | None, seed: int) -> list[tuple[str, npt.NDArray[np.generic]]]:
    """Named dense vectors at the edges of the field's type; with `limits`, only such as a sink with these keeps."""
    rng = np.random.default_rng(seed)
    plain = ordinary_matrix(field, 12, rng)
    dtype: np.dtype[Any] = plain.dtype
    items = field.item_count
    if dtype.kind != "f":
        edges: Any = np.iinfo(dtype)
        return [("least", np.full(items, edges.min, dtype)), ("greatest", np.full(items, edges.max, dtype))] + [
            ("ordinary", row) for row in plain
        ]
    info: Any = np.finfo(dtype)
    found = [("ordinary", row) for row in plain[:4]]

    def add(name: str, *values: Any, kept: bool = True) -> None:
        if kept:
            row = plain[4 + len(found) % 8].copy()
            row[: min(items, len(values))] = np.array(values[:items]).astype(dtype)
            found.append((name, row))

    def fill(name: str, value: Any, *, kept: bool = True) -> None:
        if kept:
            found.append((name, np.full(items, value, dtype)))

    most = None if limits is None else limits.vector_magnitude
    add("negative zero", -0.0, 0.0, kept=limits is None or limits.negative_zero_vectors)
    add("subnormal", info.smallest_subnormal, -info.smallest_subnormal, kept=limits is None or limits.subnormal_vectors)
    add("smallest normal", info.tiny, -info.tiny)
    add("next to one", np.nextafter(dtype.type(1), dtype.type(2)), np.nextafter(dtype.type(1), dtype.type(0)))
    add("huge", info.max, -info.max, kept=most is None)
    if most is not None and most <= float(info.max):
        add("as large as declared", most, -most)
    fill("zero", 0.0, kept=limits is None or limits.zero_vectors)
    fill("all alike", 0.25)
    finite_only = limits is not None and not limits.nonfinite_vectors
    add("not a number", np.nan, kept=not finite_only)
    add("infinite", np.inf, -np.inf, kept=not finite_only)
    return found


def hard_ids(kind: IdKind, count: int) -> list[str]:
    """`count` different ids of a kind: the hard ones first."""
    hard = HARD_IDS[kind][:count]
    taken = set(hard)
    more = (each for each in (_id(kind, number) for number in range(2 * count + 100)) if each not in taken)
    return [*hard, *(next(more) for _ in range(count - len(hard)))]


def hard_records(
    spec: CollectionSpec,
    count: int,
    seed: int,
    *,
    batch_rows: int = 1000,
    limits: SinkLimits | None = None,
    text_bytes: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """`count` records of `spec` with the hard payloads among ordinary ones, in batches of `batch_rows`.

    Every fourth row has a hard payload, every 2,000th the 100 KB text, or as much of it as `text_bytes` says. Vectors
    are ordinary ones of differing norm; with `limits`, every eleventh is a hard one that a sink with these limits
    keeps. The first dense field has a vector in every row. Columns are made whole: 20,000 x 384 takes about a second.
    """
    for start in range(0, count, batch_rows):
        rows = min(batch_rows, count - start)
        rng = np.random.default_rng([seed, start])
        numbers = range(start, start + rows)
        columns: dict[str, pa.Array] = {
            "id": pa.array([_id(spec.id_kind, number) for number in numbers], pa.string()),
            "namespace": pa.array([(None, "", "tenant-a", "mandant ü")[number % 4] for number in numbers], pa.string()),
            "document": pa.array([_document(number, rng) for number in numbers], pa.string()),
            "payload": pa.array([_payload(number, rng, text_bytes) for number in numbers], pa.string()),
        }
        first_dense = True
        for field in spec.vectors:
            columns[field.column] = _vectors(field, numbers, rng, limits, seed, whole=first_dense)
            first_dense = first_dense and field.kind is not VectorKind.DENSE
        schema = stream_schema(spec)
        yield pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _id(kind: IdKind, number: int) -> str:
    scattered = (number * 0x9E3779B97F4A7C15) % 2**64  # odd multiplier: a bijection of 64-bit numbers
    match kind:
        case IdKind.UINT64:
            return str(scattered)
        case IdKind.INT64:
            return str(scattered - 2**63)
        case IdKind.UUID:
            return str(uuid.UUID(int=scattered << 64 | number, version=4))
        case IdKind.STRING:
            return f"doc-{number:07d}" if number % 50 else f"größe/{number} 'q' 🚀"


def _document(number: int, rng: np.random.Generator) -> str | None:
    if number % 40 == 0:
        return None
    if number % 40 == 1:
        return ""
    return " ".join(_WORDS[place] for place in rng.integers(0, len(_WORDS), 12).tolist()) + f" ({number})"


_HARD_TEXTS = [
    None if payload is None else canonical.dumps(payload) for name, payload in HARD_PAYLOADS.items() if name != LONGEST
]
_HUGE_TEXT = canonical.dumps(HARD_PAYLOADS[LONGEST])


def _payload(number: int, rng: np.random.Generator, text_bytes: int | None) -> str | None:
    if number % 2000 == 17:
        return _HUGE_TEXT if text_bytes is None else canonical.dumps(hard_payloads(text_bytes)[LONGEST])
    if number % 4 == 0:
        return _HARD_TEXTS[number // 4 % len(_HARD_TEXTS)]
    return canonical.dumps(
        {
            "chapter": f"chapter {number % 17}",
            "page": number,
            "score": float(rng.integers(0, 1000)) / 8,
            "public": number % 3 == 0,
            "tags": [_WORDS[number % 7], _WORDS[7 + number % 5]],
            "source": {"file": f"part-{number % 5}.rst", "line": number * 3},
        }
    )


def _vectors(
    field: VectorField,
    numbers: range,
    rng: np.random.Generator,
    limits: SinkLimits | None,
    seed: int,
    *,
    whole: bool,
) -> pa.Array:
    if field.kind is VectorKind.DENSE:
        matrix = ordinary_matrix(field, len(numbers), rng)
        if limits is not None:
            hard = hard_vectors(field, limits, seed)
            for row in range(0, len(numbers), 11):
                matrix[row] = hard[numbers[row] // 11 % len(hard)][1]
        valid = np.array([whole or number % 13 != 5 for number in numbers], dtype=bool)
        return dense_array(matrix, field, valid=valid)
    values: list[Vector | None] = []
    for number in numbers:
        if number % 13 == 6:
            values.append(None)
        elif field.kind is VectorKind.MULTI:
            values.append(ordinary_matrix(field, 1 + number % 3, rng))
        else:
            places = np.unique(rng.integers(0, 2**32, 5, dtype=np.uint32))
            values.append((places, rng.standard_normal(len(places), dtype=np.float32)))
    return column_from_values(values, field)
