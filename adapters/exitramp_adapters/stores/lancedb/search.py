"""Searching a LanceDB table: by the index of a column, or by comparing every vector; under filters too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_matrix, empty_batch
from exitramp.errors import DataInvalid, UsageError
from exitramp.filters import Filter, leaves, matches
from exitramp.ports import DEFAULT_SETTINGS, Hits, IndexCoverage, IndexState, Query, SearchSettings
from exitramp.ports.tables import plain_values
from exitramp.records import DType, Metric, RecordKey, VectorField, VectorKind
from exitramp_adapters.stores.lancedb.engine import translated
from exitramp_adapters.stores.lancedb.json_form import payload_objects
from exitramp_adapters.stores.lancedb.tables import (
    DISTANCES,
    INDEX_KEY,
    View,
    dense_column,
    id_texts,
    records_of,
)

if TYPE_CHECKING:
    from exitramp_adapters.stores.lancedb.adapter import LanceStore

_COMPARED_ROWS: Final = 4096
# Rows that pass a filter are named in the query up to so many, at 4 us each; beyond, more neighbours are asked for.
_NAMED_ROWS: Final = 2000


class LanceSearch:
    """Asks the index of the column, or has LanceDB compare every vector where there is none.

    The payload is JSON, and the part of LanceDB's query language that looks into JSON takes a list for its items, at
    any depth, and knows no floats, so that a filter could be said in it only almost. It is evaluated here, on that one
    column, 2.5 us for each row, once for a version and a filter; the rows that pass are named in the query. Where they
    are many it asks for so many more neighbours that enough of them pass, and again for more where not.

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
            if view.blobs & set(names):
                raise UsageError(f"the blob column '{min(view.blobs & set(names))}' is not filtered by")
            columns = [*names, *([view.roles.payload] if view.roles.payload else [])]
            found = [np.zeros(0, np.uint64)]
            for batch in view.table.search().select(columns).with_row_id(True).to_batches():
                values = [plain_values(batch.column(name)) for name in names]
                rows = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)] if names else None
                if view.roles.payload:
                    objects = payload_objects(batch.column(view.roles.payload), None, tags=view.ours)
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
            # An exact answer that is cut by nothing but a distance that is none (NaN) is the same however often asked.
            if passed.sum() >= k or (exact and (passing is None or ask >= rows)):
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
    for batch in view.table.search().select([column]).with_row_id(True).to_batches(batch_size=_COMPARED_ROWS):
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
