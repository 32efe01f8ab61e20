"""One namespace of a dump in VDF as it is written: the data that vdf-io reads, and the same records beside it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exitramp import canonical
from exitramp.arrow import dense_matrix
from exitramp.durable import make_folder, sync_folder
from exitramp.payloads import decoded_payloads
from exitramp.records import IdKind
from exitramp_adapters.stores.files.matrix import RecordsWriter, ends_of
from exitramp_adapters.stores.files.sink import sync_file
from exitramp_adapters.stores.files.store import Snapshot

GROUP_ROWS: Final = 2048


class PartWriter:
    """The two files of one namespace. Rows are gathered, so that each group of them is a whole one; `threads` write it
    while the next is made."""

    def __init__(
        self,
        folder: Path,
        home: str,
        number: int,
        of: int,
        held: Snapshot,
        columns: Mapping[str, str],
        keys: Mapping[str, pa.DataType],
        names: Mapping[str, str],
        threads: ThreadPoolExecutor,
    ) -> None:
        self._threads = threads
        self._begun: list[Future[None]] = []
        self._spec, self._columns, self._keys, self._names = held.spec, columns, keys, names
        self._path = f"{home}/{number:05d}" if of > 1 else home
        self._data = f"{self._path}/1.parquet"
        self._records = f"exitramp/{home}/{number}.parquet"
        self._folder = folder
        for path in (self._data, self._records):
            make_folder((folder / path).parent)
        self._schema = self._schema_of()
        self._beside = RecordsWriter(folder / self._records, held.spec, held.origin)
        # A float as a double is half zeros, which stand together once its bytes are split: 20,000 x 384 took 0.11 s and
        # 26 MB so, where the writer's own way took 0.30 s and 41 MB.
        vectors = [f"{column}.list.element" for column in columns.values()]
        others = [name for name in self._schema.names if name not in columns.values()]
        self._writer = pq.ParquetWriter(
            folder / self._data,
            self._schema,
            compression="zstd",
            use_dictionary=others,
            write_statistics=others,
            use_byte_stream_split=vectors,
        )
        self._waiting: list[pa.RecordBatch] = []
        self._count = self.rows = 0

    def _schema_of(self) -> pa.Schema:
        spec = self._spec
        ids = {IdKind.UINT64: pa.uint64(), IdKind.INT64: pa.int64()}.get(spec.id_kind, pa.string())
        fields = [pa.field("id", ids)]
        for field in spec.vectors:
            # Doubles also for float32, as vdf-io writes them: what its importers make of float32, Chroma refuses.
            fields.append(pa.field(self._columns[field.column], pa.list_(pa.float64())))
        if spec.has_documents:
            fields.append(pa.field("document", pa.string()))
        fields += [pa.field(self._names[key], _or_text(kind)) for key, kind in self._keys.items()]
        doubled = {field.name for field in fields if sum(other.name == field.name for other in fields) > 1}
        return pa.schema([field for number, field in enumerate(fields) if field.name not in doubled or number < 3])

    def add(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self._count += batch.num_rows
        if self._count >= GROUP_ROWS:
            self._write()

    def _write(self) -> None:
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting).combine_chunks()
        self._waiting, self._count = [], 0
        for at in range(0, table.num_rows, GROUP_ROWS):
            [batch] = table.slice(at, GROUP_ROWS).combine_chunks().to_batches()
            made = self._row_group(batch)
            self._wait()
            write = self._writer.write_batch
            self._begun = [
                self._threads.submit(write, made, GROUP_ROWS),
                self._threads.submit(self._beside.write, batch),
            ]
            self.rows += batch.num_rows

    def _wait(self) -> None:
        """Until both files have the group that they were given last: a file is written to by one thread at a time."""
        begun, self._begun = self._begun, []
        for each in begun:
            each.result()

    def _row_group(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        made: dict[str, pa.Array] = {"id": batch.column("id").cast(self._schema.field("id").type)}
        for field in self._spec.vectors:
            column = batch.column(field.column)
            valid = column.is_valid().to_numpy(zero_copy_only=False)
            ends = np.concatenate([[0], np.cumsum(np.where(valid, field.item_count, 0))]).astype(np.int32)
            flat = pa.array(dense_matrix(column)[valid].reshape(-1).astype(np.float64))
            # A null in the offsets is a null row.
            places = pa.array(ends, pa.int32(), mask=np.concatenate([~valid, [False]]))
            made[self._columns[field.column]] = pa.ListArray.from_arrays(places, flat)
        if self._spec.has_documents:
            made["document"] = batch.column("document")
        payloads = decoded_payloads(batch.column("payload"))
        for key, kind in self._keys.items():
            values = [payload.get(key) if payload else None for payload in payloads]
            if kind == pa.null():
                values = [None if value is None else canonical.dumps(value) for value in values]
            made.setdefault(self._names[key], pa.array(values, _or_text(kind)))
        return pa.RecordBatch.from_arrays([made[name] for name in self._schema.names], schema=self._schema)

    def close(self) -> dict[str, Any]:
        """What the meta file says of the part, which is on the disk then."""
        self._write()
        self._wait()
        self._writer.close()
        self._beside.close()
        paths = [self._folder / path for path in (self._data, self._records)]
        list(self._threads.map(sync_file, paths))
        list(self._threads.map(sync_folder, [path.parent for path in paths]))
        return {
            "path": self._path,
            "data": self._data,
            "records": self._records,
            "rows": self.rows,
            "ends": ends_of(self._folder / self._data),
            "schema": self._schema.to_string(),
        }


def _or_text(kind: pa.DataType) -> pa.DataType:
    return pa.string() if kind == pa.null() else kind
