"""Files of rows as one collection: looked through once to know what they hold, then read in order.

The first look reads ids and vectors of every row (of text files everything) and no payloads. It finds out what no part
of the files can tell: the type of each vector field, the kind of the ids, and whether an id stands twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import stream_schema
from exitramp.errors import DataInvalid, StoreRejected, UsageError
from exitramp.ports import Origin
from exitramp.ports.tables import Roles, payload_column, plain_values, textual_columns
from exitramp.records import CollectionSpec, DType, Finding, IdKind, Metric, RecordKey, VectorField
from exitramp_adapters.stores._files_formats import Chunk, JsonRows, RowsFile
from exitramp_adapters.stores._files_options import as_typed
from exitramp_adapters.stores._files_store import hashes_of, mark_of, stamp_of
from exitramp_adapters.stores._files_vectors import Look, stream_column

Where = Callable[[int], str]
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,19}")


@dataclass(frozen=True, slots=True)
class Part:
    """One file, and the namespace that all of its rows are in, where the layout says so."""

    file: RowsFile
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A vector field of a table: its column, what it is called in the stream, and what somebody said of it.

    said: its type; metric: None where `metric_said` is asked once it is known that the column holds anything.
    """

    column: str
    name: str
    metric: Metric
    said: DType | None = None
    rounded: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """What the columns of some files are.

    namespaced: whether rows stand in namespaces. nulls_absent: a null means that the record lacks that key. columns:
    what else a chunk is made into before it is read (a layout's own encoding); `reads` which columns that needs.
    row_ids: there is no column of ids, and a row's number is its id. texts_as_ids: texts that are all numbers, or all
    UUIDs, are ids of that kind.
    """

    name: str
    parts: Sequence[Part]
    roles: Roles
    fields: Sequence[Field]
    namespaced: bool = False
    nulls_absent: bool = False
    types: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    prepare: Callable[[Chunk, Where], Chunk] | None = None
    reads: Sequence[str] = ()
    row_ids: bool = False
    texts_as_ids: bool = False
    dropped: Sequence[str] = ()
    index: Mapping[str, Any] = field(default_factory=dict)
    findings: Sequence[Finding] = ()


class TableSnapshot:
    """One state of the files. `require_unchanged` raises once they are others than they were."""

    origin: Origin | None = None

    def __init__(self, table: Table) -> None:
        self._table = table
        self._paths = [part.file.path for part in table.parts]
        self._stamp = stamp_of(self._paths)
        self.mark = mark_of(self._paths)
        look = _Looked(table)
        for part in table.parts:
            look.see(part)
        self._starts = look.starts
        self.rows = look.starts[-1]
        self._hashes = look.hashes()
        fields = look.fields()
        self._fields = fields
        self.spec = CollectionSpec(
            table.name,
            look.id_kind(),
            tuple(found for _, found in fields),
            table.namespaced,
            table.roles.document is not None,
            table.index,
        )
        self.findings = (*table.findings, *look.findings(), *_textual(table))
        random = all(not isinstance(part.file, JsonRows) and part.file.rows is not None for part in table.parts)
        inside = range(0, self.rows, 4096) if random else ()
        self.parts: Sequence[int] = sorted({*self._starts[:-1], *inside})
        self.require_unchanged()

    def hashes(self) -> npt.NDArray[np.int64]:
        return self._hashes

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        for part, chunk, first in self._chunks(start, stop, None):
            yield self._batch(part, chunk, first)

    def keys(self, start: int, stop: int) -> Iterator[list[RecordKey]]:
        for part, chunk, first in self._chunks(start, stop, _wanted(self._table, part=None)):
            ids, spaces = _keys(self._table, part, chunk, first)
            yield [RecordKey(id_, space) for id_, space in zip(ids, spaces, strict=True)]

    def _chunks(self, start: int, stop: int, only: Sequence[str] | None) -> Iterator[tuple[Part, Chunk, int]]:
        """The rows from `start` to `stop`, with the number of each chunk's first row among all files' rows."""
        for number, part in enumerate(self._table.parts):
            base, end = self._starts[number], self._starts[number + 1]
            if end <= start or base >= stop:
                continue
            for chunk in _chunks(self._table, part, skip=max(0, start - base), only=only):
                first = base + chunk.first
                if first >= stop:
                    break
                yield part, _head(chunk, stop - first), first

    def _batch(self, part: Part, chunk: Chunk, first: int) -> pa.RecordBatch:
        table = self._table
        where = _where(part, chunk)
        ids, spaces = _keys(table, part, chunk, first)
        columns: dict[str, pa.Array] = {"id": pa.array(ids, pa.string())}
        if table.namespaced:
            columns["namespace"] = pa.array(spaces, pa.string())
        if table.roles.document is not None:
            columns["document"] = _texts(table.roles.document, chunk, where)
        columns["payload"] = _payloads(table, ids, chunk, where)
        for said, found in self._fields:
            column = chunk.columns.get(said.column)
            column = pa.nulls(chunk.rows) if column is None else column
            columns[found.column] = stream_column(column, found, where, rounded=said.rounded)
        schema = stream_schema(self.spec)
        return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)

    def require_unchanged(self) -> None:
        if stamp_of(self._paths) != self._stamp:
            now = stamp_of(self._paths)
            changed = next(one[0] for one, other in zip(self._stamp, now, strict=True) if one != other)
            raise StoreRejected(f"{changed} was changed while it was read", hint="read it again once it is finished")

    def close(self) -> None:
        for part in self._table.parts:
            part.file.close()


class _Looked:
    """What the first look through all files finds."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.starts = [0]
        self._looks = [Look(each.column, each.said) for each in table.fields]
        self._hashes: list[npt.NDArray[np.int64]] = []
        self._kinds: set[IdKind] = set()
        self._seen: set[str] = set()

    def see(self, part: Part) -> None:
        rows = 0
        for chunk in _chunks(self._table, part, only=_wanted(self._table, part)):
            where = _where(part, chunk)
            ids, spaces = _keys(self._table, part, chunk, self.starts[-1] + chunk.first)
            self._kinds.add(_id_kind(self._table, chunk, ids))
            keys = (RecordKey(id_, space) for id_, space in zip(ids, spaces, strict=True))
            self._hashes.append(hashes_of(keys, chunk.rows))
            for look in self._looks:
                column = chunk.columns.get(look.name)
                look.see(pa.nulls(chunk.rows) if column is None else column, where)
            self._seen.update(name for name, column in chunk.columns.items() if column.null_count < len(column))
            rows = chunk.first + chunk.rows
        self.starts.append(self.starts[-1] + rows)

    def hashes(self) -> npt.NDArray[np.int64]:
        """Raises `DataInvalid` naming the rows of an id that stands twice."""
        found = np.concatenate([np.zeros(0, np.int64), *self._hashes])
        order = np.argsort(found, kind="stable")
        same = np.flatnonzero(np.diff(found[order]) == 0)
        if len(same):
            self._compare(np.unique(np.concatenate([order[same], order[same + 1]])))
        return found

    def _compare(self, rows: npt.NDArray[np.int64]) -> None:
        """Two keys may have one hash: only those that are the same are doubles."""
        suspects = set(rows[:100_000].tolist())
        first: dict[RecordKey, str] = {}
        for number, part in enumerate(self._table.parts):
            base = self.starts[number]
            for chunk in _chunks(self._table, part, only=_wanted(self._table, part)):
                where = _where(part, chunk)
                ids, spaces = _keys(self._table, part, chunk, base + chunk.first)
                for row in range(chunk.rows):
                    if base + chunk.first + row not in suspects:
                        continue
                    key = RecordKey(ids[row], spaces[row])
                    if key in first:
                        raise DataInvalid(
                            f"the id '{key}' stands twice: {first[key]} and {where(row)}",
                            hint="an id is one record: remove the rows that are not meant, or name another ?id=",
                        )
                    first[key] = where(row)

    def fields(self) -> list[tuple[Field, VectorField]]:
        if not self.starts[-1]:
            name = self._table.parts[0].file.path
            raise DataInvalid(f"{name}: there are no rows, so nothing tells what its vectors are")
        return [
            (each, look.field(each.name, each.metric))
            for each, look in zip(self._table.fields, self._looks, strict=True)
        ]

    def id_kind(self) -> IdKind:
        if self._table.row_ids:
            return IdKind.UINT64
        if self._kinds <= {IdKind.UINT64}:
            return IdKind.UINT64
        if self._kinds <= {IdKind.UINT64, IdKind.INT64}:
            return IdKind.INT64
        return IdKind.UUID if self._kinds == {IdKind.UUID} else IdKind.STRING

    def findings(self) -> Iterator[Finding]:
        for role in ("document", "payload", "namespace"):
            name = getattr(self._table.roles, role)
            is_json = any(isinstance(part.file, JsonRows) for part in self._table.parts)
            if is_json and role != "payload" and name is not None and name not in self._seen:
                raise UsageError(f"no row has '{name}', which {role}= names", hint="is it spelt so?")
        for look in self._looks:
            if look.null:
                text = f"{look.null} of {look.null + look.rows} rows have no vector in '{look.name}'"
                yield _named("source.no_vector", text, look.nulls, look.null)
            if look.nonfinite:
                text = f"{look.nonfinite} rows have NaN or an infinity in the vector '{look.name}'"
                yield _named("source.nonfinite", text, look.nonfinites, look.nonfinite)
        if self._table.roles.unread:
            named = ", ".join(self._table.roles.unread)
            yield Finding("source.unread", f"vector columns that are not read, as ?vectors= names others: {named}")
        if self._table.dropped:
            named = ", ".join(self._table.dropped)
            text = f"columns that a data frame's index left behind, and that are not read: {named}"
            yield Finding("source.index_column", text)


def _named(code: str, text: str, rows: Sequence[str], count: int) -> Finding:
    more = ", …" if count > len(rows) else ""
    return Finding(code, f"{text}: {', '.join(rows)}{more}", count=count)


def _textual(table: Table) -> Iterator[Finding]:
    for part in table.parts[:1]:
        schema = part.file.schema
        names = [] if schema is None else [name for name in table.roles.values if name in schema.names]
        found = [] if schema is None else textual_columns(schema, names)
        if found:
            text = f"columns whose values become text, as no payload has their type: {', '.join(found)}"
            yield Finding("source.textual", text)


def _chunks(table: Table, part: Part, skip: int = 0, only: Sequence[str] | None = None) -> Iterator[Chunk]:
    keys = [name for name in (table.roles.id, table.roles.namespace, table.roles.document) if name]
    keys += [each.column for each in table.fields]
    if only is not None and part.file.schema is not None:
        only = [name for name in only if name in part.file.schema.names]
    for chunk in part.file.chunks(keys, skip, only):
        yield chunk if table.prepare is None else table.prepare(chunk, _where(part, chunk))


def _wanted(table: Table, part: Part | None) -> list[str]:
    """The columns that keys need and, for a look through a file, vectors."""
    names = [name for name in (table.roles.id, table.roles.namespace) if name]
    if part is not None:
        names += [*(each.column for each in table.fields), *table.reads]
    return list(dict.fromkeys(names))


def _head(chunk: Chunk, rows: int) -> Chunk:
    if rows >= chunk.rows:
        return chunk
    objects = None if chunk.objects is None else chunk.objects[:rows]
    columns = {name: column.slice(0, rows) for name, column in chunk.columns.items()}
    return replace(chunk, rows=rows, columns=columns, objects=objects)


def _where(part: Part, chunk: Chunk) -> Where:
    return lambda row: f"{part.file.path.name} row {chunk.first + row + 1}"


def _keys(table: Table, part: Part, chunk: Chunk, first: int) -> tuple[list[str], list[str | None]]:
    where = _where(part, chunk)
    spaces: list[str | None] = [part.namespace] * chunk.rows
    if table.roles.namespace is not None:
        spaces = _texts(table.roles.namespace, chunk, where).to_pylist()
    if table.row_ids:
        return [str(first + row) for row in range(chunk.rows)], spaces
    return id_texts(chunk.columns[table.roles.id], where), spaces


def id_texts(column: pa.Array, where: Where) -> list[str]:
    """Raises `DataInvalid` naming the row without an id, or the type that is none of an id."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return id_texts(column.dictionary_decode(), where)
    if not (_is_text(kind) or pa.types.is_integer(kind) or _is_uuid(kind) or pa.types.is_null(kind)):
        raise DataInvalid(f"{where(0)}: an id is a text or an integer, not a {kind}")
    values = column.to_pylist()
    if column.null_count:
        raise DataInvalid(f"{where(values.index(None))} has no id")
    return values if _is_text(kind) else [str(value) for value in values]


def _id_kind(table: Table, chunk: Chunk, ids: Sequence[str]) -> IdKind:
    if table.row_ids:
        return IdKind.UINT64
    column = chunk.columns[table.roles.id]
    if pa.types.is_integer(column.type):
        numbers = column.drop_null().to_numpy(zero_copy_only=False)
        return IdKind.INT64 if len(numbers) and numbers.min() < 0 else IdKind.UINT64
    if table.texts_as_ids and all(_UUID.fullmatch(id_) for id_ in ids):
        return IdKind.UUID
    if table.texts_as_ids and all(_NUMBER.fullmatch(id_) and int(id_) < 2**64 for id_ in ids):
        return IdKind.UINT64
    return IdKind.UUID if _is_uuid(column.type) else IdKind.STRING


def _texts(name: str, chunk: Chunk, where: Where) -> pa.Array:
    column = chunk.columns.get(name)
    if column is None:
        return pa.nulls(chunk.rows, pa.string())
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not (_is_text(column.type) or pa.types.is_null(column.type)):
        raise DataInvalid(f"{where(0)}: the column '{name}' holds {column.type} where text is wanted")
    return column.cast(pa.string())


def _payloads(table: Table, ids: Sequence[str], chunk: Chunk, where: Where) -> pa.Array:
    if chunk.objects is not None:
        return payload_column(ids, {}, _json_objects(table, chunk, where))
    values = {
        name: _typed(table, name, plain_values(chunk.columns[name]), where)
        for name in table.roles.values
        if name in chunk.columns
    }
    objects = None
    if table.roles.payload is not None:
        objects = _objects(table.roles.payload, chunk, where)
    if table.nulls_absent and values:
        rows = [
            {name: value for name, value in zip(values, row, strict=True) if value is not None}
            for row in zip(*values.values(), strict=True)
        ]
        if objects is not None:
            rows = [{**row, **(found or {})} for row, found in zip(rows, objects, strict=True)]
        return payload_column(ids, {}, [row or None for row in rows])
    return payload_column(ids, values, objects)


def _typed(table: Table, name: str, values: list[Any], where: Where) -> list[Any]:
    read = table.types.get(name)
    return values if read is None else as_typed(values, read, lambda row: f"{where(row)}, '{name}'")


def _objects(name: str, chunk: Chunk, where: Where) -> list[Any]:
    """What a column of JSON texts, or of structs, holds for each row."""
    column = chunk.columns.get(name)
    if column is None:
        return [None] * chunk.rows
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        column = column.cast(pa.string())
    if not _is_text(column.type):
        return plain_values(column)
    found: list[Any] = []
    for row, text in enumerate(column.to_pylist()):
        try:
            found.append(None if text is None else canonical.parse(text))
        except DataInvalid as error:
            raise DataInvalid(f"{where(row)}: '{name}': {error.message}") from error
    return found


def _json_objects(table: Table, chunk: Chunk, where: Where) -> list[Any]:
    assert chunk.objects is not None
    found: list[Any] = []
    for row, rest in enumerate(chunk.objects):
        inner = rest.pop(table.roles.payload, None) if table.roles.payload is not None else None
        for name in table.roles.unread:
            rest.pop(name, None)
        for name, read in table.types.items():
            if isinstance(rest.get(name), str):
                [rest[name]] = as_typed([rest[name]], read, lambda _, row=row, name=name: f"{where(row)}, '{name}'")
        if table.nulls_absent:
            rest = {name: value for name, value in rest.items() if value is not None}
        both = inner.keys() & rest.keys() if isinstance(inner, dict) else set()
        if inner is not None and not isinstance(inner, dict):
            raise DataInvalid(f"{where(row)}: '{table.roles.payload}' is no object")
        if both:
            raise DataInvalid(f"{where(row)}: the key '{min(both)}' stands in the line and in its payload")
        found.append(None if inner is None and not rest else {**rest, **(inner or {})})
    return found


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_uuid(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType) and getattr(kind, "extension_name", "") == "arrow.uuid"
