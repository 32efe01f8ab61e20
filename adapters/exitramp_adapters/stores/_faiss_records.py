"""The records of a FAISS collection in their order, and what becomes of them when some are written or deleted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_array, dense_matrix, empty_batch, stream_schema
from exitramp.records import RecordKey
from exitramp_adapters.stores._faiss_files import Loaded, table_schema

Place = tuple[bool, str, str]
"""The order of records: those in no namespace first, then by namespace and id, by code points."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded collection with its records in order, and the signature of the files it came from."""

    held: Loaded
    places: list[Place]
    rows: npt.NDArray[np.int64]
    signature: tuple[object, ...]


def place_of(id_: str, namespace: str | None) -> Place:
    return (namespace is not None, namespace or "", id_)


def keys_in(table: pa.Table) -> list[tuple[str, str | None]]:
    return list(zip(table.column("id").to_pylist(), table.column("namespace").to_pylist(), strict=True))


def batch_of(held: Loaded, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """The records in these rows of the files, as a batch of the collection's stream."""
    if not len(rows):
        return empty_batch(held.spec)
    texts = held.table.take(pa.array(rows)).combine_chunks()
    columns = {name: texts.column(name).chunk(0) for name in texts.schema.names}
    [field] = held.spec.vectors
    columns[field.column] = dense_array(held.matrix[rows], field)
    schema = stream_schema(held.spec)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def changed(
    opened: Opened, batches: Sequence[pa.RecordBatch], latest: dict[RecordKey, tuple[int, int] | None]
) -> Loaded:
    """The collection after the latest word on each key; what stays keeps its order, what is new follows."""
    held = opened.held
    stays = np.ones(len(held.matrix), dtype=bool)
    for key in latest:
        wanted = place_of(key.id, key.namespace)
        at = bisect_left(opened.places, wanted)
        if at < len(opened.places) and opened.places[at] == wanted:
            stays[opened.rows[at]] = False
    kept = held.table if stays.all() else held.table.filter(pa.array(stays))
    tables, matrices = [kept], [held.matrix if stays.all() else held.matrix[stays]]
    chosen: dict[int, list[int]] = {}
    for where in latest.values():
        if where is not None:
            chosen.setdefault(where[0], []).append(where[1])
    for number, rows in sorted(chosen.items()):
        taken = batches[number].take(pa.array(sorted(rows), pa.int64()))
        tables.append(_side_car_rows(taken))
        matrices.append(np.asarray(dense_matrix(taken.column("vector")), np.float32))
    matrix = np.concatenate(matrices)
    return replace(held, labels=np.arange(len(matrix)), matrix=matrix, table=pa.concat_tables(tables).combine_chunks())


def _side_car_rows(batch: pa.RecordBatch) -> pa.Table:
    columns = [
        batch.column(name) if name in batch.schema.names else pa.nulls(batch.num_rows, pa.string())
        for name in table_schema().names
    ]
    return pa.Table.from_arrays(columns, schema=table_schema())
