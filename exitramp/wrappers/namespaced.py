"""Some namespaces of a collection as a source of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import record_keys
from exitramp.codec import DecodingSource, View
from exitramp.errors import UsageError
from exitramp.ports import Cursor, Page, Partition, StoreIdentity, VectorSource
from exitramp.records import Finding, RecordKey
from exitramp.wording import counted

_NAMED = 10
_BATCH_ROWS = 1000

Namespaces = frozenset[str | None]
"""Names of namespaces; None stands for the records that are in none, which is not the same as ""."""


class NamespacedSource(DecodingSource):
    """The records of `namespaces` alone, as they are after decoding, wherever the store keeps their namespaces.

    Every page of `source` is read and the others' records are left out, since a namespace may stand in a record's
    marker; `count` is a scan of its own, and not the store's word. Of a store that reads some namespaces without the
    others (`ReadsNamespaces`), `source` is narrowed already, and `counts` tells what each of its namespaces holds.
    """

    def __init__(
        self,
        source: VectorSource,
        namespaces: Namespaces,
        *,
        verbatim: bool = False,
        views: Sequence[View] = (),
        peeks: bool = True,
        counts: Callable[[], Mapping[str | None, int]] | None = None,
    ) -> None:
        super().__init__(source, verbatim=verbatim, views=views, peeks=peeks)
        self._counts = counts
        self._wanted = namespaces
        self._names = pa.array(sorted(name for name in namespaces if name is not None), pa.string())

    def identity(self) -> StoreIdentity:
        found = super().identity()
        told = f"only the records of {self._shown()} were read"
        return replace(
            found,
            address=f"{found.address} [{self._shown()}]",
            findings=(*found.findings, Finding("source.namespaces", told)),
        )

    def _shown(self) -> str:
        names = [repr(name) for name in self._names.to_pylist()]
        words = [f"namespace {name}" for name in names] + ["no namespace"] * (None in self._wanted)
        return ", ".join(words)

    def count(self) -> int:
        found = self.by_namespace()
        return sum(found[name] for name in self._wanted)

    def by_namespace(self) -> Counter[str | None]:
        """How many records are in each namespace there is: as the store tells, or else by a scan of everything."""
        return count_namespaces(self) if self._counts is None else Counter(self._counts())

    def require_records(self) -> None:
        """Raises `UsageError` where the collection has no namespaces, or no record in one of those that are wanted."""
        if not self.describe().has_namespaces:
            raise UsageError(
                f"{super().identity().address}: the collection has no namespaces", hint="leave out --namespace"
            )
        found = self.by_namespace()
        for name in self._wanted:
            if not found[name]:
                known = [repr(each) if each is not None else "none" for each, _ in found.most_common(_NAMED)]
                more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
                what = "no record is in no namespace" if name is None else f"no record is in the namespace {name!r}"
                raise UsageError(f"{super().identity().address}: {what}", hint=f"there are {', '.join(known)}{more}")

    def whole(self) -> Iterator[Page]:
        """The pages of the whole collection, of every namespace."""
        for partition in self.partitions(1):
            yield from super().scan(partition, batch_rows=_BATCH_ROWS)

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        for page in super().scan(partition, batch_rows=batch_rows, after=after):
            yield replace(page, batch=page.batch.filter(self._inside(page.batch)))

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        found = super().fetch([key for key in keys if key.namespace in self._wanted])
        keep = [row for row, key in enumerate(record_keys(found)) if key.namespace in self._wanted]
        return found.take(pa.array(keep, pa.int64()))

    def _inside(self, batch: pa.RecordBatch) -> pa.Array:
        column = namespace_column(batch)
        inside = pc.is_in(column, value_set=self._names)
        return pc.or_(inside, column.is_null()) if None in self._wanted else inside


def count_namespaces(source: NamespacedSource) -> Counter[str | None]:
    """How many records are in each namespace, by a scan."""
    found: Counter[str | None] = Counter()
    for page in source.whole():
        add_namespaces(found, page.batch)
    return found


def add_namespaces(found: Counter[str | None], batch: pa.RecordBatch) -> None:
    """Count a batch's records by namespace."""
    counts = namespace_column(batch).value_counts()
    found.update(dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)))


def namespace_column(batch: pa.RecordBatch) -> pa.Array:
    """The namespaces of a batch's records; all null where the collection has none."""
    if "namespace" in batch.schema.names:
        return batch.column("namespace")
    return pa.nulls(batch.num_rows, pa.string())


def namespaces_text(found: Counter[str | None]) -> str:
    """`a (12), b (3) and 4 more namespaces`, for people."""
    first = [f"{'(none)' if name is None else repr(name)} ({rows:,})" for name, rows in found.most_common(_NAMED)]
    more = len(found) - len(first)
    return ", ".join(first) + (f" and {counted(more, 'more namespace')}" if more > 0 else "")
