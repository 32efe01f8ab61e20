"""Rows in the order of their keys where a table does not hold them so, in little memory.

DuckDB's own sort was tried: of rows with vectors it holds more than it may, and ends with an error (100,000 x 1,536 did
under a limit of 512 MB, whatever the threads). So rows are read once as they stand and put into files by ranges of
their keys, each of which is then sorted by itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exitramp import durable

PART_BYTES: Final = 32 * 2**20
MOST_PARTS: Final = 200
"""Of a table larger than that many parts of the usual size, parts are larger: each is a file held open."""
SPACED, NAMESPACE, ID, PART = "has_ns", "ns_key", "id_key", "part"
"""Columns that rows have beside their own, at the end: whether a row is in a namespace, its keys, and its part."""


def in_order(rows: Iterable[pa.RecordBatch], parts: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows by part and key, without those columns, at most `batch_rows` at once."""
    if parts == 1:
        held = [batch.drop_columns([PART]) for batch in rows]
        yield from _sorted(pa.Table.from_batches(held) if held else None, batch_rows)
        return
    with tempfile.TemporaryDirectory(prefix="exitramp-duckdb-") as folder:
        written = _spooled(rows, parts, Path(folder))
        for path in written:
            if path is None:
                continue
            yield from _sorted(_read(path), batch_rows)


def _spooled(rows: Iterable[pa.RecordBatch], parts: int, folder: Path) -> list[Path | None]:
    """A file for each part that has rows. Raises what `durable.path_error` says of a disk that is full."""
    paths: list[Path | None] = [None] * parts
    writers: dict[int, Any] = {}
    with durable.storage_errors(folder), ExitStack() as stack:
        for batch in rows:
            numbers = batch.column(PART).to_numpy()
            order = np.argsort(numbers, kind="stable")
            taken = batch.drop_columns([PART]).take(pa.array(order))
            found, starts = np.unique(numbers[order], return_index=True)
            ends = [*starts[1:].tolist(), len(order)]
            for part, start, end in zip(found.tolist(), starts.tolist(), ends, strict=True):
                if part not in writers:
                    paths[part] = folder / f"{part}.arrow"
                    file = stack.enter_context(pa.OSFile(str(paths[part]), "wb"))
                    writers[part] = stack.enter_context(pa.ipc.new_stream(file, taken.schema))
                writers[part].write_batch(taken.slice(start, end - start))
    return paths


def _read(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
    path.unlink()
    return table


def _sorted(table: pa.Table | None, batch_rows: int) -> Iterator[pa.RecordBatch]:
    if table is None or not table.num_rows:
        return
    table = table.combine_chunks()
    order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in (SPACED, NAMESPACE, ID)])
    table = table.drop_columns([SPACED, NAMESPACE, ID])
    for start in range(0, len(order), batch_rows):
        yield from table.take(order.slice(start, batch_rows)).combine_chunks().to_batches()
