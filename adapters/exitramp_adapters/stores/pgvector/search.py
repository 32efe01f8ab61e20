"""Nearest records by SQL: ORDER BY a distance, LIMIT k, with the settings of that one transaction."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from exitramp.errors import UsageError
from exitramp.filters import Filter
from exitramp.ports import IndexCoverage, IndexState, Query, SearchSettings
from exitramp.records import DType, RecordKey, VectorField, VectorKind
from exitramp_adapters.stores.pgvector import filters
from exitramp_adapters.stores.pgvector.catalog import quoted, versions
from exitramp_adapters.stores.pgvector.fields import OPERATORS, Held
from exitramp_adapters.stores.pgvector.filters import Sql, joined
from exitramp_adapters.stores.pgvector.limits import operator_class
from exitramp_adapters.stores.pgvector.records import ALIAS, key_of, key_texts
from exitramp_adapters.stores.pgvector.shape import EXTRA, Shape

_EF_SEARCH: Final = 40
_MOST_EF: Final = 1_000
_ITERATIVE_SINCE: Final = (0, 8)
_SCANS: Final = ("off", "relaxed_order", "strict_order")
_METHODS: Final = ("hnsw", "ivfflat")


def nearest(
    session: Any, shape: Shape, query: Query, *, k: int, where: Filter | None, settings: SearchSettings
) -> tuple[tuple[RecordKey, ...], tuple[float, ...]]:
    """Keys and distances in pgvector's own units: for dot the negative product, for cosine 1 - cosine.

    An index may stop short of k: at ef_search, at its lists, or where a filter leaves little of what it found. Then
    every record is looked at, so that fewer than k come back only where there are fewer.
    """
    held = shape.held(query.field)
    asked = _options(settings.options)
    if k < 1:
        raise UsageError(f"{k} neighbours cannot be looked for: at least 1")
    distance = _distance(held, query, shape)
    condition = filters.TRUE if where is None else filters.where(where, shape)
    _require_all_searchable(session, shape, held)
    newer = tuple(int(part) for part in versions(session)[1].split(".")[:2]) >= _ITERATIVE_SINCE
    tuned = _tuned(asked, k=k, filtered=where is not None, newer=newer)
    found = _run(session, shape, held, distance, condition, k=k, tuned=tuned, exact=settings.exact)
    if len(found) < k and not settings.exact:
        found = _run(session, shape, held, distance, condition, k=k, tuned={}, exact=True)
    # relaxed_order gives them nearly in order; NaN (cosine to a vector of zeros) is no distance and stands last.
    found.sort(key=lambda hit: (math.isnan(hit[1]), hit[1]))
    return tuple(key for key, _ in found), tuple(score for _, score in found)


def _run(
    session: Any,
    shape: Shape,
    held: Held,
    distance: Sql,
    condition: Sql,
    *,
    k: int,
    tuned: Mapping[str, str],
    exact: bool,
) -> list[tuple[RecordKey, float]]:
    name = f"{ALIAS}.{quoted(held.column.name)}"
    statement = joined(
        *("SELECT ", ", ".join(key_texts(shape)), ", ", distance, f" AS distance FROM {shape.table.sql} {ALIAS} "),
        *(f"WHERE {name} IS NOT NULL AND ", condition, " ORDER BY ", distance, f" LIMIT {int(k)}"),
    )
    with session.transaction():
        if exact:
            session.execute("SET LOCAL enable_indexscan = off", [])
        for setting, value in tuned.items():
            session.execute("SELECT set_config(%s, %s, true)", [setting, value])
        rows = session.execute(statement.text, statement.words).fetchall()
    return [(key_of(row[:-1], shape), math.nan if row[-1] is None else float(row[-1])) for row in rows]


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    known = {"ef_search": (1, _MOST_EF), "probes": (1, 32_768), "max_scan_tuples": (1, 2**31 - 1)}
    for name, value in given.items():
        if name == "iterative_scan":
            if value not in _SCANS:
                raise UsageError(f"iterative_scan is one of {', '.join(_SCANS)}")
        elif name not in known:
            listed = ", ".join(sorted([*known, "iterative_scan"]))
            raise UsageError(f"pgvector has no search option {name!r}", hint=f"its options are: {listed}")
        else:
            least, most = known[name]
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise UsageError(f"{name} is a whole number from {least} to {most}")
    return dict(given)


def _tuned(asked: Mapping[str, Any], *, k: int, filtered: bool, newer: bool) -> dict[str, str]:
    """What is set for the one search: what was asked for, and enough for k where nothing was."""
    ef = asked.get("ef_search", min(max(_EF_SEARCH, k), _MOST_EF))
    tuned = {"hnsw.ef_search": str(ef)}
    if "probes" in asked:
        tuned["ivfflat.probes"] = str(asked["probes"])
    # strict_order drops what comes out of order: under a filter on 2,000 records it found 0.93, and this 0.97.
    scan = asked.get("iterative_scan", "relaxed_order" if filtered or k > ef else None)
    if scan is not None and newer:
        tuned["hnsw.iterative_scan"] = scan
        tuned["ivfflat.iterative_scan"] = "relaxed_order" if scan == "strict_order" else scan
    if "max_scan_tuples" in asked and newer:
        tuned["hnsw.max_scan_tuples"] = str(asked["max_scan_tuples"])
    if not newer and ("iterative_scan" in asked or "max_scan_tuples" in asked):
        raise UsageError("iterative_scan needs pgvector 0.8 or later")
    return tuned


def _distance(held: Held, query: Query, shape: Shape) -> Sql:
    """The distance of a record to what is asked for. Raises `UsageError` where they do not go together."""
    field = held.field
    given = {"dense": query.dense, "multi": query.multi, "sparse": query.sparse}
    kinds = [kind for kind, value in given.items() if value is not None]
    if kinds != [field.kind.value]:
        raise UsageError(f"'{field.column}' is asked with one {field.kind.value} vector, not with {kinds or 'none'}")
    if (field.dtype is DType.BINARY) != (field.metric.value == "hamming"):
        raise UsageError(f"pgvector compares {field.dtype.value} vectors by no metric called {field.metric.value}")
    space = quoted(shape.table.extension or "public")
    operator = f"OPERATOR({space}.{OPERATORS[field.metric]})"
    name = f"{ALIAS}.{quoted(held.column.name)}"
    if query.sparse is not None:
        return Sql(f"({name} {operator} %s::{space}.sparsevec)", (_sparse_text(query.sparse, held),))
    if query.multi is not None:
        return _multi(name, operator, query.multi, field, space)
    return Sql(f"({name} {operator} %s::{_type(field, space)})", (_text(query.dense, field),))


def _type(field: VectorField, space: str) -> str:
    if field.dtype is DType.BINARY:
        return f"bit({field.dimensions})"
    return f"{space}.{'halfvec' if field.dtype is DType.FLOAT16 else 'vector'}({field.dimensions})"


def _text(vector: Any, field: VectorField) -> str:
    if vector.shape != (field.item_count,):
        raise UsageError(f"'{field.column}' has {field.dimensions} dimensions, the query {vector.shape}")
    if field.dtype is DType.BINARY:
        return "".join(map(str, np.unpackbits(vector.astype(np.uint8)).tolist()))
    numbers = vector.astype(np.float16 if field.dtype is DType.FLOAT16 else np.float32).astype(np.float64)
    if not np.isfinite(numbers).all():
        raise UsageError("a query has finite numbers only")
    return "[" + ",".join(map(repr, numbers.tolist())) + "]"


def _multi(name: str, operator: str, vectors: Any, field: VectorField, space: str) -> Sql:
    """The sum, over the query's vectors, of the least distance to one of the record's (MaxSim turned round)."""
    if vectors.ndim != 2 or not len(vectors):
        raise UsageError(f"'{field.column}' is asked with at least one vector")
    texts = [_text(vector, field) for vector in vectors]
    asked = f"unnest(%s::text[]::{_type(field, space)}[]) WITH ORDINALITY q(v, n)"
    least = f"SELECT min(d.v {operator} q.v) AS near FROM {asked}, unnest({name}) d(v) GROUP BY q.n"
    return Sql(f"(SELECT sum(near) FROM ({least}) each)", (texts,))


def _sparse_text(sparse: tuple[Any, Any], held: Held) -> str:
    """pgvector counts from 1 in texts. A zero counts for nothing, and a vector has none."""
    indices, numbers = sparse
    dimensions = held.dimensions or 0
    if len(indices) != len(set(indices.tolist())) or not np.isfinite(numbers).all():
        raise UsageError("a sparse query has each index once, and finite numbers only")
    parts = [(int(index), float(number)) for index, number in zip(indices, numbers, strict=True) if number]
    if any(index >= dimensions for index, _ in parts):
        raise UsageError(f"'{held.field.column}' has {dimensions} dimensions, and the query an index beyond them")
    return "{" + ",".join(f"{index + 1}:{number!r}" for index, number in sorted(parts)) + f"}}/{dimensions}"


def _require_all_searchable(session: Any, shape: Shape, held: Held) -> None:
    """A sparse vector that its column has no room for would be passed over without a word."""
    if held.field.kind is not VectorKind.SPARSE or shape.extra is None:
        return
    beside = f"jsonb_exists({quoted(EXTRA)} -> 's', %s)"
    [there] = session.execute(
        f"SELECT EXISTS (SELECT FROM {shape.table.sql} WHERE {quoted(EXTRA)} IS NOT NULL AND {beside})",
        [held.column.name],
    ).fetchone()
    if there:
        raise UsageError(
            f"'{held.field.column}' holds vectors that a sparsevec has no room for (an index beyond its "
            f"{held.dimensions:,} dimensions or twice, or a zero), and pgvector would pass over them"
        )


def state(session: Any, shape: Shape) -> IndexState:
    """An index that is not valid is being built, or was left so; without any, every answer is exact."""
    names = {held.column.name for held in shape.vectors}
    if all(index.valid for index in shape.table.indexes if names & set(index.columns)):
        return IndexState.READY
    [building] = session.execute(
        "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE relid = %s)", [shape.table.oid]
    ).fetchone()
    return IndexState.BUILDING if building else IndexState.UNKNOWN


def coverage(session: Any, shape: Shape) -> IndexCoverage:
    """By the server's own plan for a search with its defaults: of a table that is small it looks at every record,
    index or not."""
    indexed = compared = 0
    notes = []
    for held in shape.vectors:
        field = held.field
        if field.kind is VectorKind.SPARSE:
            continue
        name = quoted(held.column.name)
        [rows] = session.execute(f"SELECT count(*) FROM {shape.table.sql} WHERE {name} IS NOT NULL", []).fetchone()
        index = None if field.kind is VectorKind.MULTI else _index_used(session, shape, held)
        indexed += rows if index else 0
        compared += 0 if index else rows
        if not index:
            notes.append(_why_compared(shape, held))
    return IndexCoverage(indexed, compared, "; ".join(dict.fromkeys(note for note in notes if note)))


def _why_compared(shape: Shape, held: Held) -> str:
    field = held.field
    if any(each.columns == (held.column.name,) and each.method in _METHODS for each in shape.table.indexes):
        return (
            f"the server's planner finds it cheaper to compare every vector of '{field.column}' than to use its index"
        )
    if field.kind is VectorKind.DENSE and operator_class(field, method="hnsw") is None:
        return f"pgvector has no index for {field.dimensions} dimensions of {field.dtype.value} ('{field.column}')"
    return f"'{field.column}' has no index"


def _index_used(session: Any, shape: Shape, held: Held) -> bool:
    field = held.field
    if operator_class(field, method="hnsw") is None:
        return False
    zeros = np.zeros(field.item_count, np.uint8 if field.dtype is DType.BINARY else np.float32)
    distance = _distance(held, Query(field.name, dense=zeros + 1), shape)
    name = f"{ALIAS}.{quoted(held.column.name)}"
    statement = joined(
        f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {shape.table.sql} {ALIAS} WHERE {name} IS NOT NULL ORDER BY ",
        distance,
        " LIMIT 10",
    )
    [plan] = session.execute(statement.text, statement.words).fetchone()
    text = plan if isinstance(plan, str) else json.dumps(plan)
    names = {index.name for index in shape.table.indexes if index.method in _METHODS}
    return any(json.dumps(name) in text for name in names)
