"""The vector columns of a table that somebody else made: which they are, of how many dimensions, by which metric.

What the catalogue and the address do not say is asked of the rows, or refused with the option that says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from exitramp.errors import DataInvalid, UsageError
from exitramp.records import DType, Metric, VectorField, VectorKind, parse_metric
from exitramp.urls import Address
from exitramp_adapters.stores.pgvector.catalog import Column, Index, Table, quoted

OPERATORS: Final = {
    Metric.EUCLIDEAN: "<->",
    Metric.DOT: "<#>",
    Metric.COSINE: "<=>",
    Metric.MANHATTAN: "<+>",
    Metric.HAMMING: "<~>",
}
CLASSES: Final = {
    Metric.EUCLIDEAN: "l2",
    Metric.DOT: "ip",
    Metric.COSINE: "cosine",
    Metric.MANHATTAN: "l1",
    Metric.HAMMING: "hamming",
}
_METRICS: Final = {word: metric for metric, word in CLASSES.items()}
_CLASS: Final = re.compile(r"(?:vector|halfvec|sparsevec|bit)_([a-z0-9]+)_ops")
_DTYPES: Final = {"vector": DType.FLOAT32, "sparsevec": DType.FLOAT32, "halfvec": DType.FLOAT16, "bit": DType.BINARY}


@dataclass(frozen=True, slots=True)
class Held:
    """A vector field and the column it stands in; `dimensions` also of a sparse one, as its type says."""

    column: Column
    field: VectorField
    dimensions: int | None


def fields_of(session: Any, table: Table, address: Address) -> dict[str, Held]:
    """The vector columns. A bit string is one where an index or the address says so, since it may be mere flags."""
    listed = [name for name in (address.option("vectors") or "").split(",") if name]
    columns = []
    for column in table.columns:
        name = column.type.name
        if name == "bit" and not column.type.is_array:
            told = column.name in listed or _says_name(address, column.name)
            if told or any(True for _ in _metric_words(table, column)):
                columns.append(column)
        elif name in ("vector", "halfvec") or (name == "sparsevec" and not column.type.is_array):
            columns.append(column)
    wanted = [column for column in columns if not listed or column.name in listed]
    only = len(wanted) == 1
    found = {}
    for column in columns:
        read = column in wanted
        metric = _metric(table, column, address, only=only) if read else Metric.EUCLIDEAN
        dimensions = _dimensions(session, table, column, address) if read else 8
        kind = VectorKind.SPARSE if column.type.name == "sparsevec" else VectorKind.DENSE
        kind = VectorKind.MULTI if column.type.is_array else kind
        if column.type.name == "bit" and (dimensions or 0) % 8:
            raise DataInvalid(
                f"{address}: '{column.name}' has {dimensions} bits, and vectors of bits come in eights",
                hint="leave it out: name the others with ?vectors=",
            )
        if read and (metric is Metric.HAMMING) != (column.type.name == "bit"):
            raise UsageError(
                f"{address}: '{column.name}' is a {column.written}, which pgvector does not search by {metric.value}",
                hint="bits are searched by hamming, numbers by any other metric: ?metric=COLUMN:METRIC",
            )
        field = VectorField(
            column.name, kind, _DTYPES[column.type.name], metric, None if kind is VectorKind.SPARSE else dimensions
        )
        found[column.name] = Held(column, field, dimensions)
    return found


def _dimensions(session: Any, table: Table, column: Column, address: Address) -> int | None:
    """By the column's type, else by what stands in it, else by the address."""
    if column.type.modifier > 0:
        return column.type.modifier
    name = quoted(column.name)
    space = quoted(table.extension or "public")
    source, value = f"{table.sql} WHERE {name} IS NOT NULL", name
    if column.type.is_array:
        source, value = f"{table.sql}, unnest({name}) item", "item"
    measured = {
        "bit": f"length({value})",
        # sparsevec has no function that tells them; its text ends with them.
        "sparsevec": f"split_part({value}::text, '/', 2)::int",
    }.get(column.type.name, f"{space}.vector_dims({value})")
    rows = session.execute(
        f"SELECT {measured} dims, count(*) FROM {source} GROUP BY 1 ORDER BY 2 DESC LIMIT 5", []
    ).fetchall()
    if len(rows) == 1:
        return int(rows[0][0])
    if rows and column.type.name != "sparsevec":
        counts = ", ".join(f"{count} of {size}" for size, count in rows)
        raise DataInvalid(
            f"{address}: '{column.name}' holds vectors of different dimensions: {counts}",
            hint="name the columns to be read with ?vectors=, or move the others to a column of their own",
        )
    said = address.option("dimensions")
    if said is not None and said.isdecimal() and int(said):
        return int(said)
    if column.type.name == "sparsevec":
        return None
    raise DataInvalid(
        f"{address}: '{column.name}' is a {column.written} without dimensions, and no row tells them",
        hint="say ?dimensions=NUMBER",
    )


def _metric_words(table: Table, column: Column) -> Iterable[tuple[str, Index]]:
    """What the operator classes of the column's indexes say. Of an expression only a cast is the column itself:
    an index on `binary_quantize(…)` says nothing of the vectors' own metric."""
    name = re.escape('"' + column.name.replace('"', '""') + '"')
    plain = re.escape(column.name)
    cast = re.compile(rf"\(?\(*(?:{name}|{plain})\)*::(?:\S+\.)?(?:vector|halfvec|bit)\(\d+\)\)?")
    for index in table.indexes:
        for part, text, class_ in zip(index.columns, index.parts, index.classes, strict=True):
            found = _CLASS.fullmatch(class_)
            if found and (part == column.name or (part is None and cast.fullmatch(text))):
                yield found[1], index


def _metric(table: Table, column: Column, address: Address, *, only: bool) -> Metric:
    said = said_metric(address, column.name, only=only)
    words = {word: index.name for word, index in _metric_words(table, column)}
    if said is None and not words:
        raise DataInvalid(
            f"{address}: nothing says by which metric '{column.name}' is searched: it has no vector index",
            hint=f"say it: ?metric={'' if only else column.name + ':'}cosine (or dot, euclidean, manhattan, hamming)",
        )
    if said is not None:
        if words and CLASSES[said] not in words and (only or _says_name(address, column.name)):
            listed = ", ".join(f"{index} ({word})" for word, index in words.items())
            raise UsageError(f"{address}: metric={said.value}: its indexes are for another one: {listed}")
        if not words or CLASSES[said] in words:
            return said
    if len(words) > 1:
        listed = ", ".join(f"{index} ({word})" for word, index in words.items())
        raise DataInvalid(
            f"{address}: '{column.name}' has indexes for several metrics: {listed}",
            hint=f"say which is meant: ?metric={'' if only else column.name + ':'}cosine",
        )
    [(word, index)] = words.items()
    if word not in _METRICS:
        raise DataInvalid(
            f"{address}: the index {index!r} on '{column.name}' is for a metric that exitramp does not have: {word}",
            hint=f"leave the column out with ?vectors=, or say another metric: ?metric={column.name}:hamming",
        )
    return _METRICS[word]


def said_metric(address: Address, name: str, *, only: bool) -> Metric | None:
    """What `?metric=` says of a field: by its name, or, without a name, of the only one or of all that say nothing."""
    text = address.option("metric")
    if text is None:
        return None
    plain = None
    for part in text.split(","):
        called, separator, metric = part.rpartition(":")
        if separator and called == name:
            return parse_metric(metric, where="option 'metric'")
        if not separator:
            plain = parse_metric(metric, where="option 'metric'")
    return plain if only or name != "" else None


def _says_name(address: Address, name: str) -> bool:
    return any(part.rpartition(":")[0] == name for part in (address.option("metric") or "").split(","))
