"""Two collections side by side, record by record, in flat memory: both are split by a hash of the key into files on
disk, and each pair of files is small enough to be joined at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import record_keys, stream_schema, usual_row_bytes
from exitramp.errors import DataInvalid, StoreProtocolError
from exitramp.ports import VectorSource
from exitramp.records import CollectionSpec, RecordKey

BUCKET_BYTES = 8 * 2**20
"""Aimed-at size of one bucket of one side. Two of them and their aligned copies are in memory at once: from 20,000 to
200,000 rows of 384 numbers that grew by 1 MB, where buckets of 16 MiB grew by 46."""
BUCKETS_MAX = 512


@dataclass(frozen=True, slots=True)
class Aligned:
    """One bucket. `a` and `b` hold the records that both sides have, row for row.

    `missing` are keys only in A, `extra` only in B; `duplicate_*` are keys that stand more than once on a side (the
    first of them is the one compared).
    """

    a: pa.RecordBatch
    b: pa.RecordBatch
    missing: list[RecordKey]
    extra: list[RecordKey]
    duplicate_a: list[RecordKey]
    duplicate_b: list[RecordKey]


def aligned(
    a: VectorSource,
    b: VectorSource,
    *,
    spec_a: CollectionSpec,
    spec_b: CollectionSpec,
    batch_rows: int,
    folder: Path | None = None,
    seen: Callable[[str, pa.RecordBatch], None] = lambda side, batch: None,
) -> Iterator[Aligned]:
    """Yield every bucket of the join; reads each side once. Temporary files go into `folder` and are removed.

    `seen` is called with "a" or "b" and every batch as it is read.
    """
    rows = max(a.count(), b.count(), 1)
    row_bytes = max(usual_row_bytes(spec_a), usual_row_bytes(spec_b))
    buckets = int(min(BUCKETS_MAX, max(1, -(-rows * row_bytes // BUCKET_BYTES))))
    with tempfile.TemporaryDirectory(prefix="exitramp-compare-", dir=folder) as temporary:
        root = Path(temporary)
        _spill(a, spec_a, root / "a", buckets, batch_rows, lambda batch: seen("a", batch))
        _spill(b, spec_b, root / "b", buckets, batch_rows, lambda batch: seen("b", batch))
        for bucket in range(buckets):
            yield _join(_load(root / "a", bucket, spec_a), _load(root / "b", bucket, spec_b))


def _bucket_of(keys: list[RecordKey], buckets: int) -> npt.NDArray[np.int64]:
    # Python's own text hash is salted per process but the same within it, which is all that is needed here.
    return np.fromiter((hash((key.namespace, key.id)) % buckets for key in keys), np.int64, len(keys))


def _spill(
    source: VectorSource,
    spec: CollectionSpec,
    folder: Path,
    buckets: int,
    batch_rows: int,
    seen: Callable[[pa.RecordBatch], None],
) -> None:
    folder.mkdir()
    schema = stream_schema(spec)
    with ExitStack() as stack:
        writers: dict[int, Any] = {}
        for batch in read_all(source, batch_rows=batch_rows):
            seen(batch)
            number = _bucket_of(record_keys(batch), buckets)
            # Brought into the buckets' order once and then cut: gathering each bucket's rows by itself costs half more.
            order = np.argsort(number, kind="stable")
            ordered = batch if buckets == 1 else batch.take(pa.array(order))
            found, starts = np.unique(number[order], return_index=True)
            for bucket, start, end in zip(found.tolist(), starts, [*starts[1:], len(order)], strict=True):
                if bucket not in writers:
                    file = stack.enter_context(pa.OSFile(str(folder / f"{bucket}.arrow"), "wb"))
                    writers[bucket] = stack.enter_context(pa.ipc.new_stream(file, schema))
                writers[bucket].write_batch(ordered.slice(int(start), int(end - start)))


def read_all(source: VectorSource, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Every batch of a source. Raises `StoreProtocolError` when a scan stops without saying that it is at its end."""
    for partition in source.partitions(1):
        last = False
        for page in source.scan(partition, batch_rows=batch_rows):
            last = page.last
            if page.batch.num_rows:
                yield page.batch
        if not last:
            raise StoreProtocolError("the scan stopped without its end signal; the records read are not all of them")


def _load(folder: Path, bucket: int, spec: CollectionSpec) -> pa.RecordBatch:
    path = folder / f"{bucket}.arrow"
    schema = stream_schema(spec)
    if not path.exists():
        return pa.RecordBatch.from_pylist([], schema=schema)
    with pa.OSFile(str(path), "rb") as file:
        found = pa.ipc.open_stream(file).read_all().combine_chunks().to_batches()
    path.unlink()
    if len(found) > 1:  # Arrow joins texts only up to 2 GiB a column
        raise DataInvalid(f"{len(found)} pieces of one bucket: its documents or payloads are over 2 GiB together")
    return found[0] if found else pa.RecordBatch.from_pylist([], schema=schema)


def _join(a: pa.RecordBatch, b: pa.RecordBatch) -> Aligned:
    rows_a, duplicate_a = _first_rows(a)
    rows_b, duplicate_b = _first_rows(b)
    both = [key for key in rows_a if key in rows_b]
    return Aligned(
        a=a.take(pa.array([rows_a[key] for key in both], pa.int64())),
        b=b.take(pa.array([rows_b[key] for key in both], pa.int64())),
        missing=[key for key in rows_a if key not in rows_b],
        extra=[key for key in rows_b if key not in rows_a],
        duplicate_a=duplicate_a,
        duplicate_b=duplicate_b,
    )


def _first_rows(batch: pa.RecordBatch) -> tuple[dict[RecordKey, int], list[RecordKey]]:
    rows: dict[RecordKey, int] = {}
    duplicates: list[RecordKey] = []
    for row, key in enumerate(record_keys(batch)):
        if rows.setdefault(key, row) != row:
            duplicates.append(key)
    return rows, duplicates
