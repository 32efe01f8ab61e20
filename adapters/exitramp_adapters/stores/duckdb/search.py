"""Searching a table: DuckDB compares every vector, unless the address or the search asks for an HNSW index.

Rows of one score are ordered by their key, which keeps DuckDB from using an index unasked. A filtered search compares
all that pass: the index of vss filters what it found, and returns fewer than were asked for. So does one that holds
deleted rows; whatever comes back too short is asked for again without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from exitramp.errors import DataInvalid, UsageError
from exitramp.filters import Filter
from exitramp.ports import DEFAULT_SETTINGS, Hits, IndexCoverage, IndexState, Query, SearchSettings
from exitramp.records import DType, Metric, RecordKey, VectorField, VectorKind
from exitramp_adapters.stores.duckdb.catalog import HNSW_METRICS
from exitramp_adapters.stores.duckdb.file import close_quietly, load_vss, quoted, translated
from exitramp_adapters.stores.duckdb.filters import condition_of
from exitramp_adapters.stores.duckdb.table import Table

if TYPE_CHECKING:
    from exitramp_adapters.stores.duckdb.adapter import DuckStore

_DISTANCES: Final = {
    Metric.COSINE: "array_cosine_distance",
    Metric.EUCLIDEAN: "array_distance",
    Metric.DOT: "array_negative_inner_product",
}


class DuckSearch:
    """Scores are DuckDB's own distances: the smaller, the nearer. Cosine with a zero vector is NaN there, and last."""

    def __init__(self, store: DuckStore) -> None:
        self._store = store

    def index_state(self) -> IndexState:
        self._store.table()
        return IndexState.READY

    def search_options(self) -> Mapping[str, Any]:
        """The extension does not tell with which breadth an index was made; its own is 64."""
        there = bool(self._store.table().hnsw)
        return {"index": self._store.index or "none", "ef_search": None} if there else {}

    def coverage(self) -> IndexCoverage:
        table = self._store.table()
        indexed = compared = 0
        for column, vector in table.roles.vectors.items():
            if vector.kind is VectorKind.SPARSE:
                continue
            [[count]] = self._store.ask(f"SELECT count({quoted(column)}) FROM {table.relation}")
            by_index = self._store.index == "hnsw" and _usable(table, column, vector)
            indexed, compared = indexed + count * by_index, compared + count * (not by_index)
        if indexed:
            return IndexCoverage(indexed, compared, "a filtered search compares all that pass")
        there = " although there is an HNSW index, unless ?index=hnsw asks for it" if table.hnsw else ""
        return IndexCoverage(0, compared, f"DuckDB compares every vector{there}")

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        table, store = self._store.table(), self._store
        vector = table.spec.vector(query.field) if query.field or table.spec.vectors else None
        if vector is None:
            raise UsageError(f"{store.address} has no vector field")
        if k < 1:
            raise UsageError(f"the {k} nearest records cannot be found")
        column = table.column_of(vector)
        index, ef = _asked(settings.options, store.index, str(store.address))
        if index and not _usable(table, column, vector) and "index" not in settings.options:
            index = False  # the address asks for indexes where there are any, and `coverage` tells where
        if index and not _usable(table, column, vector):
            raise UsageError(
                f"{store.address}: '{column}' has no HNSW index under {vector.metric}",
                hint="leave index=hnsw away: every vector is compared then",
            )
        score, values = _score(vector, quoted(column), query)
        rows: list[Any] = []
        cursor = store.cursor()
        with translated(str(store.address)):
            try:
                if index and where is None and not settings.exact:
                    rows = _by_index(cursor, table, column, score, values, k, ef, str(store.address))
                if len(rows) < k:
                    rows = _compared(cursor, table, column, score, values, k, where)
            finally:
                close_quietly(cursor)
        keys = tuple(RecordKey(id_, namespace) for id_, namespace, _ in rows)
        records = store.source().fetch(keys) if with_records else None
        return Hits(keys, tuple(float(far) for _, _, far in rows), records)


def _compared(
    cursor: Any, table: Table, column: str, score: str, values: list[Any], k: int, where: Filter | None
) -> list[Any]:
    conditions, more = f"{quoted(column)} IS NOT NULL", list[Any]()
    if where is not None:
        condition, more = condition_of(where, table)
        conditions += f" AND {condition}"
    found: list[Any] = cursor.execute(
        f"SELECT id, ns, far FROM (SELECT {table.id_text()} AS id, {table.namespace_text()} AS ns, {score} AS far"
        f" FROM {table.relation} WHERE {conditions}) WHERE far IS NOT NULL ORDER BY far, ns NULLS FIRST, id LIMIT {k}",
        [*values, *more],
    ).fetchall()
    return found


def _by_index(
    cursor: Any, table: Table, column: str, score: str, values: list[Any], k: int, ef: int | None, where: str
) -> list[Any]:
    load_vss(cursor, where)
    cursor.execute("RESET hnsw_ef_search" if ef is None else f"SET hnsw_ef_search = {ef}")
    found: list[Any] = cursor.execute(
        f"SELECT {table.id_text()} AS id, {table.namespace_text()} AS ns, {score} AS far FROM {table.relation}"
        f" ORDER BY {score} LIMIT {k}",
        [*values, *values],
    ).fetchall()
    return [row for row in found if row[2] is not None]


def _usable(table: Table, column: str, vector: VectorField) -> bool:
    word = table.hnsw.get(column, {}).get("metric")
    return HNSW_METRICS.get(str(word)) is vector.metric and vector.dtype is DType.FLOAT32


def _asked(options: Mapping[str, Any], standing: str | None, where: str) -> tuple[bool, int | None]:
    for name in options:
        if name not in ("index", "ef_search"):
            raise UsageError(f"{where}: a search has no option {name!r}", hint="its options are: ef_search, index")
    index, ef = options.get("index", standing or "none"), options.get("ef_search")
    if index not in ("hnsw", "none"):
        raise UsageError(f"{where}: index is hnsw or none, not {index!r}")
    if ef is not None and (isinstance(ef, bool) or not isinstance(ef, int) or ef < 1):
        raise UsageError(f"{where}: ef_search is a number of at least 1")
    if ef is not None and index == "none":
        raise UsageError(f"{where}: ef_search is for an index, and every vector is compared", hint="add index:hnsw")
    return index == "hnsw", ef


def _score(vector: VectorField, column: str, query: Query) -> tuple[str, list[Any]]:
    """How far the column's vectors are from the query's: SQL, and the values of its question marks."""
    given = {VectorKind.DENSE: query.dense, VectorKind.MULTI: query.multi, VectorKind.SPARSE: query.sparse}
    if [kind for kind, value in given.items() if value is not None] != [vector.kind]:
        raise UsageError(f"'{vector.column}' is searched with one {vector.kind.value} vector")
    if vector.kind is VectorKind.SPARSE:
        indices, weights = query.sparse or ((), ())
        products = "lambda x: x[2]::DOUBLE * coalesce(MAP(?::UINTEGER[], ?::DOUBLE[])[x[1]], 0)"
        pairs = f"list_zip({column}.indices, {column}.values)"
        named = [int(each) for each in indices]
        if len(set(named)) != len(named):
            raise UsageError(f"a query of '{vector.column}' names an index twice")
        weighed = [float(each) for each in weights]
        return f"-coalesce(list_sum(list_transform({pairs}, {products})), 0)", [named, weighed]
    asked = np.asarray(query.dense if vector.kind is VectorKind.DENSE else query.multi)
    many = np.atleast_2d(asked)
    if asked.ndim != (1 if vector.kind is VectorKind.DENSE else 2) or many.shape[1] != vector.item_count:
        raise DataInvalid(f"a query of the shape {asked.shape} for {vector.item_count} numbers in '{vector.column}'")
    if not len(many):
        raise UsageError(f"a query of '{vector.column}' holds no vector")
    if many.dtype.kind == "f" and np.isnan(many).any():
        raise UsageError("a query that holds NaN is near to nothing")
    # DuckDB's arithmetic is that of the type: small integers are compared as doubles.
    number = "FLOAT" if vector.dtype is DType.FLOAT32 else "DOUBLE"
    if vector.dtype is DType.BINARY:
        number = "UTINYINT"
    held, values = f"{number}[{vector.item_count}]", many.tolist()
    if vector.kind is VectorKind.DENSE:
        same = vector.dtype in (DType.FLOAT32, DType.FLOAT64, DType.BINARY)
        return _pair(vector, column if same else f"CAST({column} AS {held})", f"CAST(? AS {held})", number), values
    best = _pair(vector, f"CAST(d AS {held})", "q", number)
    nearest = f"list_min(list_transform({column}, lambda d: {best}))"
    asked_for = f"CAST(? AS {held}[])"
    total = f"list_sum(list_transform({asked_for}, lambda q: {nearest}))"
    return f"CASE WHEN len({column}) > 0 THEN {total} END", [values]


def _pair(vector: VectorField, one: str, other: str, number: str) -> str:
    """The distance of two arrays."""
    pairs = f"list_zip(CAST({one} AS {number}[]), CAST({other} AS {number}[]))"
    match vector.metric:
        case Metric.MANHATTAN:
            return f"list_sum(list_transform({pairs}, lambda x: abs(x[1]::DOUBLE - x[2]::DOUBLE)))"
        case Metric.HAMMING if vector.dtype is DType.BINARY:
            return f"list_sum(list_transform({pairs}, lambda x: bit_count(xor(x[1], x[2]))))"
        case Metric.HAMMING:
            return f"list_sum(list_transform({pairs}, lambda x: (x[1] <> x[2])::INTEGER))"
    if vector.dtype is DType.BINARY:
        raise UsageError(f"'{vector.column}' holds packed bits, which have no {vector.metric} distance")
    return f"{_DISTANCES[vector.metric]}({one}, {other})"
