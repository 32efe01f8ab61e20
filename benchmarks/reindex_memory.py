"""Peak memory of `exitramp reindex`, which must not grow with the number of documents.

    python -m benchmarks.reindex_memory [FOLDER [DOCUMENTS …]]

Each run is a process of its own over a dump of so many documents, all different, into another dump by `wordllama:`;
what is printed is the kernel's own account of the process (its greatest resident set).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from exitramp import __version__
from exitramp.arrow import dense_array, stream_schema
from exitramp.ports import Origin, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.urls import path_address
from exitramp.wrappers import open_endpoint

_ROWS, _DIMENSIONS = 1000, 64
_WORDS = (
    "record",
    "index",
    "query",
    "vector",
    "store",
    "embed",
    "model",
    "vendor",
    "answer",
    "search",
    "list",
    "sort",
    "file",
    "write",
    "read",
    "error",
)
_SPEC = CollectionSpec(
    "documents",
    IdKind.STRING,
    (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, _DIMENSIONS),),
    has_documents=True,
)


def fill(folder: Path, documents: int) -> None:
    """A dump of so many documents of about 300 characters."""
    with open_endpoint(path_address("dump", folder)) as target:
        sink = target.sink()
        sink.create(_SPEC, Origin(_SPEC, __version__))
        for batch in _batches(documents):
            sink.upsert(batch)
        sink.flush()
        sink.finish(TransferAccount(rows_read=documents, rows_written=documents))


def _batches(documents: int) -> Iterator[pa.RecordBatch]:
    rng = np.random.default_rng(0)
    schema = stream_schema(_SPEC)
    for start in range(0, documents, _ROWS):
        rows = range(start, min(start + _ROWS, documents))
        drawn = rng.integers(0, len(_WORDS), (len(rows), 45))
        columns = {
            "id": pa.array([f"d{row:07d}" for row in rows]),
            "document": pa.array([f"{row} " + " ".join(_WORDS[each] for each in line)
                                  for row, line in zip(rows, drawn, strict=True)]),
            "payload": pa.array(["{}"] * len(rows)),
            "vector": dense_array(rng.standard_normal((len(rows), _DIMENSIONS), np.float32), _SPEC.vectors[0]),
        }  # fmt: skip
        yield pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def measure(folder: Path, documents: int) -> tuple[float, float]:
    """Peak resident memory in MiB and seconds of one `exitramp reindex`."""
    source, target = folder / f"source-{documents}", folder / f"target-{documents}"
    fill(source, documents)
    command = [
        sys.executable, "-m", "exitramp", "reindex", path_address("dump", source), path_address("dump", target),
        "--model", "wordllama:", "--json",
    ]  # fmt: skip
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"reindex of {documents} documents ended with {process.returncode}")
    return used.ru_maxrss / 1024, time.monotonic() - began


def main(folder: Path, sizes: list[int]) -> None:
    print("| documents | peak memory, MiB | seconds |\n|---|---|---|")
    for documents in sizes:
        peak, seconds = measure(folder, documents)
        print(f"| {documents:,} | {peak:.0f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    sizes = [int(each) for each in given[1:]] or [5_000, 50_000]
    if given:
        main(Path(given[0]), sizes)
    else:
        with tempfile.TemporaryDirectory(prefix="exitramp-reindex-") as temporary:
            main(Path(temporary), sizes)
