"""Ports around ports: every call of the inner one is handed to a policy to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from exitramp.filters import Filter
from exitramp.ports import (
    DEFAULT_SETTINGS,
    Cursor,
    Hits,
    IndexCoverage,
    IndexState,
    Origin,
    Page,
    Partition,
    Query,
    SearchSettings,
    SinkLimits,
    StoreIdentity,
    TellsCoverage,
    TellsOptions,
    TransferAccount,
    VectorSearch,
    VectorSink,
    VectorSource,
)
from exitramp.records import CollectionSpec, Finding, RecordKey

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")


class Policy(Protocol):
    """Runs one call. It may run it again, later, or not at all; `operation` is the port's method."""

    def run(self, operation: str, call: Callable[[], T]) -> T: ...


class Stacked:
    """Several policies as one, outermost first."""

    def __init__(self, *policies: Policy) -> None:
        self._policies = policies

    def run(self, operation: str, call: Callable[[], T]) -> T:
        for policy in reversed(self._policies):
            call = _bind(policy, operation, call)
        return call()


def _bind(policy: Policy, operation: str, call: Callable[[], T]) -> Callable[[], T]:
    return lambda: policy.run(operation, call)


class SourceAround:
    """`VectorSource` whose calls run under a policy; each page of a scan is one call."""

    def __init__(self, source: VectorSource, policy: Policy) -> None:
        self._source = source
        self._policy = policy

    def identity(self) -> StoreIdentity:
        return self._policy.run("identity", self._source.identity)

    def describe(self) -> CollectionSpec:
        return self._policy.run("describe", self._source.describe)

    def origin(self) -> Origin | None:
        return self._policy.run("origin", self._source.origin)

    def count(self) -> int:
        return self._policy.run("count", self._source.count)

    def partitions(self, wanted: int) -> Sequence[Partition]:
        return self._policy.run("partitions", lambda: self._source.partitions(wanted))

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        """A page that failed and is asked for again is asked for behind the last one that arrived.

        Only the first try goes on with the scan that is under way. One that a deadline has left behind may still be at
        work in it, and may bring a page that nobody waits for any more: going on with that scan would skip the page.
        """
        pages: Iterator[Page] | None = None
        while True:
            under_way = [pages]

            def next_page(
                behind: Cursor | None = after, under_way: list[Iterator[Page] | None] = under_way
            ) -> tuple[Page | None, Iterator[Page]]:
                going = under_way.pop() if under_way else None
                if going is None:
                    going = iter(self._source.scan(partition, batch_rows=batch_rows, after=behind))
                return next(going, None), going

            page, pages = self._policy.run("scan", next_page)
            if page is None:
                return
            after = page.cursor
            yield page
            if page.last:
                return

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        return self._policy.run("fetch", lambda: self._source.fetch(keys))

    def close(self) -> None:
        self._policy.run("close", self._source.close)


class SinkAround:
    """`VectorSink` whose calls run under a policy. By contract, repeating an upsert or a delete changes nothing."""

    def __init__(self, sink: VectorSink, policy: Policy) -> None:
        self._sink = sink
        self._policy = policy

    def limits(self) -> SinkLimits:
        return self._sink.limits()

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        self._policy.run("create", lambda: self._sink.create(spec, origin))

    def upsert(self, batch: pa.RecordBatch) -> None:
        self._policy.run("upsert", lambda: self._sink.upsert(batch))

    def delete(self, keys: Sequence[RecordKey]) -> None:
        self._policy.run("delete", lambda: self._sink.delete(keys))

    def flush(self) -> None:
        self._policy.run("flush", self._sink.flush)

    def finish(self, account: TransferAccount) -> Sequence[Finding] | None:
        return self._policy.run("finish", lambda: self._sink.finish(account))

    def close(self) -> None:
        self._policy.run("close", self._sink.close)


class SearchAround:
    """`VectorSearch` whose calls run under a policy, with `standing` settings where a search says nothing else."""

    def __init__(self, search: VectorSearch, policy: Policy, standing: SearchSettings = DEFAULT_SETTINGS) -> None:
        self._search = search
        self._policy = policy
        self.standing = standing

    def index_state(self) -> IndexState:
        return self._policy.run("index_state", self._search.index_state)

    def coverage(self) -> IndexCoverage:
        """As the store tells it; of one that does not tell, nothing is known."""
        told = self._search
        return self._policy.run("coverage", told.coverage) if isinstance(told, TellsCoverage) else IndexCoverage()

    def search_options(self) -> Mapping[str, Any]:
        """As the store tells them; of one that does not tell, none are known."""
        told = self._search
        return self._policy.run("search_options", told.search_options) if isinstance(told, TellsOptions) else {}

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        asked = settings.over(self.standing)
        return self._policy.run(
            "search",
            lambda: self._search.search(query, k=k, where=where, settings=asked, with_records=with_records),
        )
