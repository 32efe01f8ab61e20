"""The columns of a side-car, read and written by groups of rows; see `side_car` for what the file is.

Each row group is read by itself, so that of a file of any size only keys have to be in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exitramp.durable import READ, storage_errors
from exitramp.ports.side_car_rows import GROUP_ROWS, FileRows, Pieces, Rows
from exitramp.ports.side_car_vectors import VECTOR, ColumnMatrix, Matrix, forward

LABEL: Final = "label"
KEYS: Final = ("id", "namespace")
TEXTS: Final = ("document", "payload")
HELD_BYTES: Final = 16 * 2**20
"""Side-cars up to this size are read at once, while the index is hashed; of larger ones documents, payloads and
originals stay in the file until somebody wants them."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What a side-car has of each record. `keys` has the columns `KEYS`, and `LABEL` if there is one; `texts` those of
    `TEXTS`; `originals` are the vectors, where the index does not give them back."""

    keys: pa.Table
    texts: Rows
    originals: Matrix | None = None


def schema_of(names: Sequence[str]) -> pa.Schema:
    """Columns of texts, as every side-car has them."""
    return pa.schema([pa.field(name, pa.string(), nullable=name != "id") for name in names])


def read_columns(side_car: Path) -> Columns:
    """All of its columns, a group of rows at a time: into memory what is small, and the keys in any case."""
    file = _opened(side_car)
    schema, about = file.schema_arrow, file.metadata
    for name in (*KEYS, *TEXTS):
        if schema.get_field_index(name) < 0 or schema.field(name).type != pa.string():
            raise pa.ArrowInvalid(f"no column {name}")
    plain = [name for name in (*KEYS, LABEL) if name in schema.names]
    away = [name for name in (*TEXTS, VECTOR) if name in schema.names]
    places = [spot for spot in range(about.num_columns) if about.schema.column(spot).path.split(".")[0] in away]
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    held = sum(group.column(spot).total_uncompressed_size for group in groups for spot in places) <= HELD_BYTES
    width = schema.field(VECTOR).type.list_size if VECTOR in away else 0
    rows, at = about.num_rows, 0
    flat = np.empty(rows * width if held else 0, np.float32)
    parts, texts = [], []
    for batch in file.iter_batches(GROUP_ROWS, columns=[*plain, *away] if held else plain):
        parts.append(batch.select(plain))
        if not held:
            continue
        texts.append(batch.select(TEXTS))
        if width:
            found = batch.column(VECTOR).flatten().to_numpy(zero_copy_only=False)
            if len(found) != batch.num_rows * width:
                raise pa.ArrowInvalid("a row without a vector")
            flat[at * width : at * width + len(found)] = found
            at += batch.num_rows
            del found
    keys = pa.Table.from_batches(parts, pa.schema([schema.field(name) for name in plain])).combine_chunks()
    if held:
        file.close()
        return Columns(keys, Pieces(schema_of(TEXTS), texts), flat.reshape(rows, width) if width else None)
    return Columns(keys, *_lying(side_car, file))


def lying(side_car: Path) -> tuple[Rows, Matrix | None]:
    """The texts and the originals, if there are any, of a side-car that was just written, without reading them."""
    with storage_errors(side_car, READ):
        return _lying(side_car, _opened(side_car))


def _opened(side_car: Path) -> pq.ParquetFile:
    return pq.ParquetFile(side_car, pre_buffer=False, page_checksum_verification=True)


def _lying(side_car: Path, file: pq.ParquetFile) -> tuple[Rows, Matrix | None]:
    schema, one = file.schema_arrow, threading.Lock()
    texts = FileRows(side_car, file, TEXTS, one)
    if VECTOR not in schema.names:
        return texts, None
    return texts, ColumnMatrix(FileRows(side_car, file, [VECTOR], one), schema.field(VECTOR).type.list_size)


def write_columns(side_car: Path, columns: Columns, metadata: Mapping[bytes, bytes]) -> None:
    """A group of rows at a time, none of which is held any longer."""
    keys, texts, originals = columns.keys, columns.texts.forward(TEXTS), columns.originals
    fields = [*schema_of(KEYS), *schema_of(TEXTS)]
    if LABEL in keys.schema.names:
        fields.append(pa.field(LABEL, pa.uint64()))
    if originals is not None:
        originals = forward(originals)
        # Where nothing may be missing, reading takes half as long.
        whole = pa.list_(pa.field("item", pa.float32(), nullable=False), originals.shape[1])
        fields.append(pa.field(VECTOR, whole, nullable=False))
    schema = pa.schema(fields, metadata)
    names = [name for name in schema.names if name != VECTOR]
    with pq.ParquetWriter(
        side_car,
        schema,
        # Floats neither compress nor repeat, and nobody asks for their greatest: trying took four of the five
        # seconds that 100,000 x 384 needed.
        compression=dict.fromkeys(names, "zstd") | ({} if originals is None else {VECTOR: "none"}),
        use_dictionary=["namespace"],
        write_statistics=names,
        write_page_checksum=True,
    ) as writer:
        for start in range(0, keys.num_rows, GROUP_ROWS):
            some = keys.slice(start, GROUP_ROWS)
            part = texts.take(np.arange(start, start + some.num_rows))
            found = {name: some.column(name) for name in some.schema.names} | dict(
                zip(TEXTS, part.columns, strict=True)
            )
            if originals is not None:
                items = np.ascontiguousarray(originals[start : start + some.num_rows]).reshape(-1)
                found[VECTOR] = pa.FixedSizeListArray.from_arrays(pa.array(items, pa.float32()), type=whole)
            writer.write_table(pa.Table.from_arrays([found[name] for name in schema.names], schema=schema))
