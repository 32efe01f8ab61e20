"""LanceDB's tables in a folder: `lancedb:./db#table`. What a table of exitramp's looks like stands in `_lancedb_tables`.

Every write to a table makes a new version, and a version never changes. A scan reads the one that was the newest when
it began, whatever is written meanwhile, and so does one that is resumed: its cursor names the version and the number of
rows of it that were read, which in something that does not change is as good as a key. If that version was cleaned away
since, the scan is refused. `?version=7` or `?version=TAG` reads an older one.

Options: `version`; `index=IVF_PQ` (or another type) has `finish` build that index over each vector field, `index=source`
the ones that the source had; for a table that somebody else made `id`, `namespace`, `document`, `payload`, `vectors` (see
`exitramp.ports.tables`) and `metric`, which an index would say. Nothing leaves this machine: `lancedb:s3://…` is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_matrix, empty_batch, record_keys
from exitramp.errors import AddressError, CollectionMissing, DataInvalid, StoreUnavailable, UsageError
from exitramp.filters import Filter, leaves, matches
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
    StoreAdapter,
    StoreIdentity,
    make_cursor,
    read_cursor,
)
from exitramp.ports.places import require_page_rows
from exitramp.ports.tables import OPTIONS, textual_columns
from exitramp.records import CollectionSpec, DType, Finding, IdKind, Metric, RecordKey, VectorField, VectorKind, Verdict
from exitramp.urls import Address, Network
from exitramp_adapters.stores._lancedb_sink import INDEX_TYPES, LanceSink, hashes_of, sql_texts
from exitramp_adapters.stores._lancedb_tables import (
    DISTANCES,
    INDEX_KEY,
    View,
    dense_column,
    id_texts,
    origin_in,
    payload_objects,
    records_of,
    translated,
    values_of,
    view_of,
)

# 20,000 x 384 in 10 ms by batches of 2,000 to 8,000 rows, 15 ms by 500; wide rows fill the memory sooner than that.
_READ_ROWS: Final = 4096
_FETCH_IDS: Final = 1000
_LISTED: Final = 20
_NAMES: Final = re.compile(r"[A-Za-z0-9_.-]+")
_NAME: Final = 249  # with `.lance` behind it a folder's name
# Rows that pass a filter are named in the query up to so many, at 4 us each; beyond, more neighbours are asked for.
_NAMED_ROWS: Final = 2000


class LanceStore:
    """One opened address. A version that was looked at is remembered with what it means, since it does not change."""

    def __init__(self, address: Address) -> None:
        address.only_options("version", "index", "metric", *OPTIONS)
        if "://" in address.location or address.location.startswith("//"):
            raise UsageError(
                f"{address}: only folders of this machine are read and written", hint="lancedb:./FOLDER#TABLE"
            )
        name = address.collection
        if name is not None and (len(name) > _NAME or name.strip(".") == "" or not _NAMES.fullmatch(name)):
            raise AddressError(
                f"{address}: LanceDB has no table of such a name", hint="at most 249 of a-z A-Z 0-9 _ - ."
            )
        self.address = address
        self.path: Path = address.path
        wanted = address.option("version")
        self.pinned: int | str | None = int(wanted) if wanted is not None and wanted.isdecimal() else wanted
        self.index = address.option("index")
        if self.index is not None and self.index not in (*INDEX_TYPES, "source"):
            raise UsageError(f"{address}: index={self.index} is not known", hint=f"source, {', '.join(INDEX_TYPES)}")
        self._database: Any = None
        self._view: View | None = None
        self._closed = False

    def source(self) -> LanceSource:
        return LanceSource(self)

    def sink(self) -> LanceSink:
        return LanceSink(self)

    def search(self) -> LanceSearch:
        return LanceSearch(self)

    def close(self) -> None:
        self._closed, self._database, self._view = True, None, None

    def require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again")

    def require_writable(self) -> None:
        self.require_open()
        if self.pinned is not None:
            raise UsageError(f"{self.address}: an older version is not written to", hint="leave out ?version=")

    @property
    def name(self) -> str:
        return self.address.require_collection()

    def folder(self) -> Path:
        return self.path / f"{self.name}.lance"

    def database(self) -> Any:
        """LanceDB's connection. It would make the folder, so that whoever only reads looks first."""
        self.require_open()
        if self._database is None:
            # Without this the engine tells of every new table, as a warning, on stderr. It reads it when it is loaded.
            os.environ.setdefault("LANCEDB_LOG", "error")
            import lancedb

            with translated(str(self.address)):
                self._database = lancedb.connect(str(self.path.absolute()), read_consistency_interval=timedelta(0))
        return self._database

    def latest(self) -> Any:
        """A handle on the table that follows its newest version. Raises `CollectionMissing`."""
        self.require_open()
        if not self.folder().is_dir():
            raise self._missing()
        try:
            with translated(str(self.address)):
                return self.database().open_table(self.name)
        except CollectionMissing:
            raise self._missing() from None

    def view(self, at: int | str | None = None) -> View:
        """The version `at`, or the pinned or the newest one. Raises as `view_of` does, and `StoreRejected` for one that
        is no longer there."""
        table, wanted = self.latest(), self.pinned if at is None else at
        with translated(str(self.address)):
            if wanted is None:
                wanted = int(table.version)
            if self._view is not None and self._view.version == wanted:
                return self._view
            table.checkout(wanted)
            found = view_of(table, self.address)
            if self._view is None or at is None:
                self._view = found
            return found

    def names(self) -> tuple[str, ...]:
        if not self.path.is_dir():
            return ()
        return tuple(sorted(each.name[:-6] for each in self.path.iterdir() if each.name.endswith(".lance")))

    def _missing(self) -> CollectionMissing:
        names = ", ".join(repr(name) for name in self.names()[:_LISTED]) or "none"
        hint = f"the tables there are: {names}"
        if self.path.name.endswith(".lance"):
            hint = f"the folder is itself a table: write lancedb:{self.path.parent}#{self.path.name[:-6]}"
        return CollectionMissing(f"{self.address}: there is no table '{self.address.collection}'", hint=hint)


class LanceSource:
    """Reads one version of a table."""

    def __init__(self, store: LanceStore) -> None:
        self._store = store
        self._single: set[int] = set()  # versions in which no id stands twice

    def identity(self) -> StoreIdentity:
        store = self._store
        store.require_open()
        installed = version("lancedb")
        named = store.address.collection is not None and store.folder().is_dir()
        return StoreIdentity(
            "lancedb",
            str(store.address),
            installed,
            installed,
            can_write=os.access(store.path, os.W_OK) if store.path.exists() else None,
            collections=store.names(),
            findings=tuple(self._findings(store.view())) if named else (),
        )

    def _findings(self, view: View) -> Iterator[Finding]:
        newest = int(self._store.latest().version)
        if view.version != newest:
            yield Finding(
                "source.version", f"version {view.version} of the table is read; the newest is {newest}", detail={}
            )
        if view.roles.unread:
            named = ", ".join(view.roles.unread)
            yield Finding("source.columns_unread", f"columns that are not read, since ?vectors= names others: {named}")
        textual = textual_columns(view.schema, view.roles.values)
        if textual:
            yield Finding("source.columns_as_text", f"columns whose values become text: {', '.join(textual)}")
        doubled = self._doubled(view)
        if doubled:
            told = f"{len(doubled)} ids stand in more than one row of the table, the first of them '{doubled[0]}'"
            yield Finding("source.doubled_ids", told, Verdict.FAIL, tuple(doubled[:_LISTED]), len(doubled))

    def describe(self) -> CollectionSpec:
        return self._store.view().spec

    def origin(self) -> Origin | None:
        return origin_in(self._store.view())

    def count(self) -> int:
        view = self._store.view()
        with translated(str(self._store.address)):
            return int(view.table.count_rows())

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """Ranges of rows of one version, named in each, so that they fit together whatever is written meanwhile."""
        view = self._store.view()
        rows = self.count()
        parts = max(1, min(wanted, rows))
        bounds = [rows * part // parts for part in range(parts)]
        ends: list[int | None] = [*bounds[1:], None]
        return [
            Partition(part, parts, make_cursor(version=view.version, row=start, until=end))
            for part, (start, end) in enumerate(zip(bounds, ends, strict=True))
        ]

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        require_page_rows(batch_rows)
        part = read_cursor(Cursor(partition.token)) if partition.token else {}
        place = part if after is None else read_cursor(after)
        view = self._store.view(place.get("version"))
        self._require_single(view)
        row, until = int(place.get("row", 0)), part.get("until")
        held: pa.RecordBatch | None = None
        for batch in self._batches(view, row, until, batch_rows):
            if held is not None:
                yield Page(held, make_cursor(version=view.version, row=row))
            self._store.require_open()
            held, row = records_of(batch, view, row), row + batch.num_rows
        if held is None:
            held = empty_batch(view.spec)
        yield Page(held, make_cursor(version=view.version, row=row), last=True)

    def _batches(self, view: View, row: int, until: int | None, batch_rows: int) -> Iterator[pa.RecordBatch]:
        if until is not None and until <= row:
            return
        with translated(str(self._store.address)):
            asked = view.table.search().select(view.columns)
            asked = asked.offset(row) if row else asked
            asked = asked.limit(until - row) if until is not None else asked
            reader = asked.to_batches(batch_size=min(batch_rows, _READ_ROWS))
            for batch in reader:
                for start in range(0, batch.num_rows, batch_rows):
                    yield batch.slice(start, batch_rows)

    def _require_single(self, view: View) -> None:
        doubled = self._doubled(view)
        if doubled:
            raise DataInvalid(
                f"{self._store.address}: {len(doubled)} ids stand in more than one row, the first of them '{doubled[0]}'",
                hint="LanceDB's add keeps both: remove one row of each, or name another column: ?id=COLUMN",
            )

    def _doubled(self, view: View) -> list[str]:
        """The ids that more than one row has, by one look at that column: 0.3 us for each row, once for a version."""
        if view.version in self._single:
            return []
        found = [hashes_of(keys) for keys in self._keys(view)]
        hashes = np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)
        twice = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        if not len(twice):
            self._single.add(view.version)
            return []
        seen: set[str] = set()
        doubled: dict[str, None] = {}
        for keys in self._keys(view):
            for place in np.flatnonzero(np.isin(hashes_of(keys), twice)).tolist():
                key = keys[place].as_py()
                if key in seen:
                    doubled[key] = None
                seen.add(key)
        if not doubled:
            self._single.add(view.version)
        return list(doubled)

    def _keys(self, view: View) -> Iterator[pa.Array]:
        """What no two rows may have alike, as texts: the id, with its namespace where there are some."""
        space = None if view.ours else view.roles.namespace
        with translated(str(self._store.address)):
            names = [view.key] if space is None else [view.key, space]
            row = 0
            for batch in view.table.search().select(names).to_batches():
                ids = id_texts(batch.column(view.key), view.schema.field(view.key), row)
                row += batch.num_rows
                if space is not None:
                    pairs = zip(batch.column(space).to_pylist(), ids.to_pylist(), strict=True)
                    ids = pa.array([repr(pair) for pair in pairs], pa.string())
                yield ids

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        view = self._store.view()
        if view.roles.namespace is None:
            keys = [key for key in keys if key.namespace is None]
        wanted = dict.fromkeys(keys)
        ids = _id_literals([key.id for key in wanted], view)
        found = []
        with translated(str(self._store.address)):
            for start in range(0, len(ids), _FETCH_IDS):
                some = ",".join(ids[start : start + _FETCH_IDS])
                asked = view.table.search().where(f"`{view.roles.id}` IN ({some})").select(view.columns)
                found += [records_of(batch, view) for batch in asked.to_batches() if batch.num_rows]
        if not found:
            return empty_batch(view.spec)
        together = pa.Table.from_batches(found).combine_chunks().to_batches()[0]
        named = record_keys(together)
        if len(set(named)) != len(named):
            self._require_single(view)
        return together.filter(pa.array([key in wanted for key in named]))

    def close(self) -> None:
        """Nothing is held here; the store is closed by whoever opened it."""


def _id_literals(ids: Sequence[str], view: View) -> list[str]:
    """The ids as SQL; one that the column cannot hold is in no record."""
    unique = list(dict.fromkeys(ids))
    kind = view.schema.field(view.roles.id).type
    if pa.types.is_integer(kind):
        return [text for text in unique if text.removeprefix("-").isascii() and text.removeprefix("-").isdecimal()]
    if isinstance(kind, pa.UuidType):
        return [f"X'{text.replace('-', '')}'" for text in unique]
    return [sql_texts([text]) for text in unique]


class LanceSearch:
    """Asks the index of the column, or has LanceDB compare every vector where there is none.

    The payload is JSON, and the part of LanceDB's query language that looks into it takes a list's item for the list
    and knows no float (0.5 < 1 held for neither), so that no filter could be said in it exactly. It is evaluated here on
    the one column, 2.5 us for each row once for a version and a filter, and the rows that pass are named in the query.
    Where they are many the query asks for so many more neighbours that enough of them pass, and again for more if not.

    The binding sends every query as float32, which the engine refuses for int8: those are compared here, every one.
    """

    def __init__(self, store: LanceStore) -> None:
        self._store = store
        self._passed: dict[tuple[int, str], npt.NDArray[np.uint64]] = {}

    def index_state(self) -> IndexState:
        self._store.view()
        return IndexState.READY  # an index is there whole or not at all, and what it lacks is compared

    def search_options(self) -> Mapping[str, Any]:
        return {"nprobes": 20, "refine_factor": None, "ef": None}

    def coverage(self) -> IndexCoverage:
        view = self._store.view()
        indexed = {index["columns"][0]: index for index in view.spec.index[INDEX_KEY]["indices"] if index["distance"]}
        covered = compared = 0
        with translated(str(self._store.address)):
            for column in view.roles.vectors:
                there = int(view.table.count_rows(f"`{column}` IS NOT NULL"))
                left = min(there, indexed[column]["unindexed"]) if column in indexed else there
                covered, compared = covered + there - left, compared + left
        return IndexCoverage(covered, compared, "" if covered else "it has no index")

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        view = self._store.view()
        column, field, wanted = _wanted(query, view, k)
        options = _search_options(settings.options)
        with translated(str(self._store.address)):
            passing = None if where is None else self._passing(view, where)
            rows = len(passing) if passing is not None else int(view.table.count_rows())
            if not rows:
                return Hits((), (), empty_batch(view.spec) if with_records else None)
            k = min(k, rows)
            if field.dtype is DType.INT8:
                found, scores = _compared(view, column, field, wanted, k, passing)
            else:
                ask = _Asking(view, column, field, wanted, options)
                found, scores = ask.nearest(k, passing, exact=settings.exact)
            return self._hits(view, found, scores, with_records=with_records)

    def _passing(self, view: View, where: Filter) -> npt.NDArray[np.uint64]:
        """The row ids of the records that pass, sorted."""
        what = view.version, repr(where)  # equal filters may differ: 1 is True to Python, and not to a filter
        known = self._passed.get(what)
        if known is None:
            asked = {leaf.field[0] for leaf in leaves(where)}
            names = [name for name in view.roles.values if name in asked]
            columns = [*names, *([view.roles.payload] if view.roles.payload else [])]
            found = [np.zeros(0, np.uint64)]
            for batch in view.table.search().select(columns).with_row_id(True).to_batches():
                values = [values_of(batch.column(name)) for name in names]
                rows = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)] if names else None
                if view.roles.payload:
                    objects = payload_objects(batch.column(view.roles.payload), None)
                    both = zip(rows or [{}] * len(objects), objects, strict=True)
                    payloads = [{**row, **(held or {})} if row or held is not None else None for row, held in both]
                else:
                    payloads = list(rows or [{}] * batch.num_rows)
                passed = np.array([matches(where, payload) for payload in payloads], np.bool_)
                found.append(batch.column("_rowid").to_numpy()[passed])
            known = np.sort(np.concatenate(found))
            if len(self._passed) >= 4:
                self._passed.clear()
            self._passed[what] = known
        return known

    def _hits(
        self, view: View, found: npt.NDArray[np.uint64], scores: npt.NDArray[np.float64], *, with_records: bool
    ) -> Hits:
        if not len(found):
            return Hits((), (), empty_batch(view.spec) if with_records else None)
        bare = [name for name in (view.roles.id, view.roles.namespace) if name is not None]
        taken = view.table.take_row_ids(found.tolist()).select(view.columns if with_records else bare).with_row_id()
        rows: pa.RecordBatch = taken.to_arrow().combine_chunks().to_batches()[0]
        places = {row: place for place, row in enumerate(rows.column("_rowid").to_pylist())}
        rows = rows.take(pa.array([places[row] for row in found.tolist()]))
        ids = id_texts(rows.column(view.roles.id), view.schema.field(view.roles.id)).to_pylist()
        space = view.roles.namespace
        spaces = rows.column(space).to_pylist() if space is not None else [None] * len(ids)
        keys = tuple(RecordKey(id_, name) for id_, name in zip(ids, spaces, strict=True))
        return Hits(keys, tuple(float(score) for score in scores), records_of(rows, view) if with_records else None)


def _wanted(query: Query, view: View, k: int) -> tuple[str, VectorField, npt.NDArray[Any]]:
    """The column that is asked, its field, and the query's numbers."""
    if k < 1:
        raise UsageError(f"the {k} nearest records cannot be found")
    field = view.spec.vector(query.field)
    wanted = query.dense if field.kind is VectorKind.DENSE else query.multi
    if wanted is None or query.sparse is not None or (query.dense is None) == (query.multi is None):
        raise UsageError(f"the field '{field.column}' is searched with one {field.kind.value} vector")
    if wanted.shape[-1] != field.item_count:
        raise DataInvalid(f"a query of {wanted.shape[-1]} numbers for '{field.column}' of {field.item_count}")
    if field.kind is VectorKind.MULTI and (
        field.metric is not Metric.COSINE or field.dtype in (DType.INT8, DType.BINARY)
    ):
        raise UsageError(f"LanceDB searches lists of vectors by cosine of floats only, and '{field.column}' is not so")
    column = next(name for name, each in view.roles.vectors.items() if each == field)
    return column, field, np.asarray(wanted)


def _search_options(options: Mapping[str, Any]) -> dict[str, int]:
    found = {}
    for name, value in options.items():
        if name not in ("nprobes", "refine_factor", "ef"):
            raise UsageError(f"lancedb: has no search option '{name}'", hint="it has nprobes, refine_factor and ef")
        if type(value) is not int or value < 1:
            raise UsageError(f"lancedb: the search option {name} is a number of at least 1")
        found[name] = value
    return found


class _Asking:
    """One question to LanceDB's engine, asked for more neighbours until enough of them pass."""

    def __init__(
        self, view: View, column: str, field: VectorField, wanted: npt.NDArray[Any], options: Mapping[str, int]
    ) -> None:
        self._view, self._column, self._field, self._options = view, column, field, options
        self._wanted = wanted if field.dtype is DType.BINARY else wanted.astype(np.float32)

    def nearest(
        self, k: int, passing: npt.NDArray[np.uint64] | None, *, exact: bool
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64]]:
        if passing is not None and len(passing) <= _NAMED_ROWS:
            # So few are all compared: an index would have to look through as many of its parts to find them.
            return self._ask(k, exact=True, among=passing)
        rows = int(self._view.table.count_rows())
        ask = k if passing is None else min(rows, 2 * k * rows // len(passing) + 16)
        while True:
            found, scores = self._ask(ask, exact=exact)
            passed = np.ones(len(found), np.bool_) if passing is None else np.isin(found, passing)
            if passed.sum() >= k or (exact and ask >= rows):
                return found[passed][:k], scores[passed][:k]
            # An index that gives fewer than it was asked for has looked through what it would: every one is compared.
            exact = exact or len(found) < ask or ask >= rows
            ask = min(rows, ask if passing is None else 4 * ask)

    def _ask(
        self, k: int, *, exact: bool, among: npt.NDArray[np.uint64] | None = None
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64]]:
        asked = self._view.table.search(self._wanted, vector_column_name=self._column)
        asked = asked.distance_type(DISTANCES[self._field.metric]).with_row_id(True).select(["_distance"]).limit(k)
        if among is not None:
            asked = asked.where(f"_rowid IN ({','.join(map(str, among.tolist()))})", prefilter=True)
        if exact:
            asked = asked.bypass_vector_index()
        for name, value in self._options.items():
            if name == "nprobes":  # the least; LanceDB goes on to others where those hold too few
                asked = asked.minimum_nprobes(value).maximum_nprobes(0)
            else:
                asked = getattr(asked, name)(value)
        table = asked.to_arrow()
        return table.column("_rowid").to_numpy(), table.column("_distance").to_numpy().astype(np.float64)


def _compared(
    view: View,
    column: str,
    field: VectorField,
    wanted: npt.NDArray[Any],
    k: int,
    passing: npt.NDArray[np.uint64] | None,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64]]:
    """The nearest of all int8 vectors, nearest first, by distances that rise as LanceDB's do."""
    found, scores = np.zeros(0, np.uint64), np.zeros(0)
    one = wanted.astype(np.float64)
    for batch in view.table.search().select([column]).with_row_id(True).to_batches(batch_size=_READ_ROWS):
        there = batch.column(column).is_valid().to_numpy(zero_copy_only=False)
        rows = batch.column("_rowid").to_numpy()
        if passing is not None:
            there = there & np.isin(rows, passing)
        many = dense_matrix(dense_column(batch.column(column), field)).astype(np.float64)[there]
        dots = many @ one
        if field.metric is Metric.DOT:
            far = 1 - dots
        elif field.metric is Metric.EUCLIDEAN:
            far = ((many - one) ** 2).sum(axis=1)
        else:
            norms = np.linalg.norm(many, axis=1) * np.linalg.norm(one)
            far = 1 - np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
        found, scores = np.concatenate([found, rows[there]]), np.concatenate([scores, far])
        order = np.argsort(scores, kind="stable")[:k]
        found, scores = found[order], scores[order]
    return found, scores


def _open(address: Address, network: Network) -> LanceStore:
    return LanceStore(address)


ADAPTER: Final = StoreAdapter(
    scheme="lancedb",
    summary="LanceDB tables in a folder of this machine, any version of them",
    address_form="lancedb:FOLDER#TABLE",
    open=_open,
    extra="lancedb",
    requires=("lancedb",),
    vector_kinds=(VectorKind.DENSE.value, VectorKind.MULTI.value),
)
