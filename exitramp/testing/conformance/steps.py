"""The steps that every test is made of: open, write, read, with the port's own rules checked on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from exitramp import __version__
from exitramp.arrow import record_keys, stream_schema
from exitramp.codec import DecodingSource, EncodingSink
from exitramp.errors import ExitrampError
from exitramp.ports import Cursor, Origin, Page, Partition, SinkLimits, Store, TransferAccount, VectorSink, VectorSource
from exitramp.records import CollectionSpec, Finding, RecordKey
from exitramp.testing.conformance.harness import StoreHarness
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp.testing.within import name_within

NAME = "articles"
"""What most tests call their collection; `spec_within` spells it as the store's rule takes it."""


@contextmanager
def opened(harness: StoreHarness, collection: str | None = None) -> Iterator[Store]:
    """The store at the harness's address, closed afterwards; without a name, at that of most tests' collection."""
    store = harness.open(plain_name(harness) if collection is None else collection)
    try:
        yield store
    finally:
        store.close()


def limits_of(harness: StoreHarness) -> SinkLimits:
    """What the sink declares; it must say so without any collection being there, and whatever name was given."""
    with opened(harness, NAME) as store:
        return store.sink().limits()


def plain_name(harness: StoreHarness) -> str:
    """`NAME` as the store takes it, asked once: opening a store may take long."""
    if harness.plain_name is None:
        harness.plain_name = name_within(NAME, limits_of(harness).names)
    return harness.plain_name


def origin_of(spec: CollectionSpec) -> Origin:
    return Origin(spec, __version__)


@contextmanager
def writing(harness: StoreHarness, spec: CollectionSpec, *, encoded: bool = True) -> Iterator[VectorSink]:
    """A sink with the collection `spec` created; flushed and finished afterwards unless the body raised."""
    with opened(harness, spec.name) as store:
        sink: VectorSink = store.sink()
        if encoded:
            sink = EncodingSink(sink)
        sink.create(spec, origin_of(spec))
        yield sink
        sink.flush()
        sink.finish(TransferAccount())


def write(harness: StoreHarness, spec: CollectionSpec, rows: Sequence[Row], *, encoded: bool = True) -> None:
    """Create the collection or accept the one that is there, write the rows, flush and finish."""
    with writing(harness, spec, encoded=encoded) as sink:
        upsert_rows(sink, spec, rows)


def upsert_rows(sink: VectorSink, spec: CollectionSpec, rows: Sequence[Row]) -> None:
    """Rows in batches of at most what the sink takes at once."""
    most = sink.limits().batch_rows
    for start in range(0, len(rows), most):
        sink.upsert(batch_from_rows(rows[start : start + most], spec))


def write_batches(harness: StoreHarness, spec: CollectionSpec, batches: Iterable[pa.RecordBatch]) -> None:
    with writing(harness, spec) as sink:
        for batch in batches:
            sink.upsert(batch)


def decoding_source(store: Store) -> DecodingSource:
    """The source as everybody above the codec sees it."""
    return DecodingSource(store.source(), verbatim=store.sink().limits().verbatim)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a scan of all partitions gave."""

    spec: CollectionSpec
    rows: list[Row]
    findings: list[Finding]

    def by_key(self) -> dict[RecordKey, Row]:
        return {row.key: row for row in self.rows}

    def by_id(self) -> dict[str, Row]:
        return {row.id: row for row in self.rows}


def read(
    harness: StoreHarness, collection: str | None = None, *, encoded: bool = True, batch_rows: int = 500
) -> Reading:
    """Everything, through the decoding source unless `encoded` is false."""
    with opened(harness, collection) as store:
        source: VectorSource = store.source()
        decoding = decoding_source(store) if encoded else None
        source = decoding or source
        spec = source.describe()
        rows = []
        for partition in source.partitions(1):
            for page in pages(source, partition, batch_rows):
                rows += rows_from_batch(page.batch, spec)
        return Reading(spec, rows, decoding.findings() if decoding else [])


def pages(source: VectorSource, partition: Partition, batch_rows: int, after: Cursor | None = None) -> list[Page]:
    """All pages of one scan, each held against the contract: its schema, its size, one `last` at the very end."""
    schema = stream_schema(source.describe())
    found: list[Page] = []
    for page in source.scan(partition, batch_rows=batch_rows, after=after):
        assert not (found and found[-1].last), "a page followed the one that said it was the last"
        assert page.batch.schema.equals(schema), f"a page has the columns {page.batch.schema}, not the spec's {schema}"
        page.batch.validate(full=True)
        assert page.batch.num_rows <= batch_rows, f"a page holds {page.batch.num_rows} rows of at most {batch_rows}"
        assert isinstance(page.cursor, str), "a cursor is text"
        assert page.cursor, "a cursor is not empty"
        found.append(page)
    assert found, "the scan yielded no page at all: even an empty collection has one, which is the last"
    assert found[-1].last, "the scan ended without a page that says it is the last"
    return found


def keys_of(found: Iterable[Page]) -> list[RecordKey]:
    return [key for page in found for key in record_keys(page.batch)]


def refusal(action: Callable[[], object]) -> ExitrampError | None:
    """What `action()` raised, if it was an error of exitramp's own; anything else fails the test by itself."""
    try:
        action()
    except ExitrampError as error:
        return error
    return None
