"""A complete read or a bulk load of one store in a process of its own, and the most memory that it took.

    python -m benchmarks.stores_memory_run read ADDRESS ROWS
    python -m benchmarks.stores_memory_run load ADDRESS ROWS        (`fill`: all but `finish`)
    python -m benchmarks.stores_memory_run bare:KIND:read PATH ROWS

Rows come a batch at a time and are made on the fly, and of those that are read nothing is kept, so that what grows is
of the store's adapter, of its engine where that is in this process, or of the codec. Prints JSON as `memory_run`
does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa

from benchmarks import corpus
from benchmarks.bare_streams import ENGINES
from benchmarks.memory_run import Watch
from benchmarks.test_stores import SPEC, batches

BATCH_ROWS = 2_000
FLUSH_ROWS = 10_000
"""A copy flushes at least this often; a store that asks for more rows between two flushes gets them."""


def streamed(rows: int) -> Iterator[pa.RecordBatch]:
    for block in corpus.blocks(rows, BATCH_ROWS):
        yield from batches(block)


def read(address: str, rows: int) -> int:
    from exitramp.parity.alignment import read_all
    from exitramp.wrappers import open_endpoint

    with open_endpoint(address) as endpoint:
        return sum(batch.num_rows for batch in read_all(endpoint.source(), batch_rows=1000))


def load(address: str, rows: int, *, finish: bool = True) -> int:
    from exitramp.ports import Origin, TransferAccount
    from exitramp.wrappers import open_endpoint

    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(SPEC, Origin(SPEC, "benchmark"))
        flush_rows = max(FLUSH_ROWS, sink.limits().flush_rows)
        unflushed = 0
        for batch in streamed(rows):
            sink.upsert(batch)
            unflushed += batch.num_rows
            if unflushed >= flush_rows:
                sink.flush()
                unflushed = 0
        sink.flush()
        if finish:
            sink.finish(TransferAccount())
    return rows


OPERATIONS = {"read": read, "load": load, "fill": partial(load, finish=False)}


def bare_load(kind: str, folder: str, rows: int) -> int:
    ENGINES[kind](Path(folder)).load(corpus.blocks(rows, BATCH_ROWS), rows)
    return rows


def bare_read(kind: str, folder: str, rows: int) -> int:
    return ENGINES[kind](Path(folder)).read()


def main() -> None:
    name, place, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
    watch = Watch()
    if name.startswith("bare:"):
        _, kind, name = name.split(":")
        done = {"read": bare_read, "load": bare_load}[name](kind, place, rows)
    else:
        done = OPERATIONS[name](place, rows)
    print(json.dumps({"rows": done, **watch.megabytes()}))


if __name__ == "__main__":
    main()
