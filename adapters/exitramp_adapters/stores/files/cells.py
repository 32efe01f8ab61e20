"""What the columns of files are, and the values of a chunk as a stream has them: keys, documents and payloads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import pyarrow as pa

from exitramp import canonical
from exitramp.errors import DataInvalid
from exitramp.payloads import canonical_objects
from exitramp.ports.tables import Roles, payload_column, plain_values
from exitramp.records import DType, Finding, IdKind, Metric
from exitramp_adapters.stores.files.chunks import Chunk, RowsFile
from exitramp_adapters.stores.files.options import as_typed

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

    said: its type, where that is not left to what it holds; rounded: whether numbers may be rounded to it.
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


def chunks_of(table: Table, part: Part, skip: int = 0, only: Sequence[str] | None = None) -> Iterator[Chunk]:
    keys = [name for name in (table.roles.id, table.roles.namespace, table.roles.document) if name]
    keys += [each.column for each in table.fields]
    if only is not None and part.file.schema is not None:
        only = [name for name in only if name in part.file.schema.names]
    for chunk in part.file.chunks(keys, skip, only):
        yield chunk if table.prepare is None else table.prepare(chunk, where_in(part, chunk))


def wanted_columns(table: Table, part: Part | None) -> list[str]:
    """The columns that keys need and, for a look through a file, vectors."""
    names = [name for name in (table.roles.id, table.roles.namespace) if name]
    if part is not None:
        names += [*(each.column for each in table.fields), *table.reads]
    return list(dict.fromkeys(names))


def head_of(chunk: Chunk, rows: int) -> Chunk:
    if rows >= chunk.rows:
        return chunk
    objects = None if chunk.objects is None else chunk.objects[:rows]
    columns = {name: column.slice(0, rows) for name, column in chunk.columns.items()}
    return replace(chunk, rows=rows, columns=columns, objects=objects)


def where_in(part: Part, chunk: Chunk) -> Where:
    return lambda row: f"{part.file.path.name} row {chunk.first + row + 1}"


def keys_in(table: Table, part: Part, chunk: Chunk, first: int) -> tuple[list[str], list[str | None]]:
    where = where_in(part, chunk)
    spaces: list[str | None] = [part.namespace] * chunk.rows
    if table.roles.namespace is not None:
        spaces = texts_in(table.roles.namespace, chunk, where).to_pylist()
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


def id_kind_in(table: Table, chunk: Chunk, ids: Sequence[str]) -> IdKind:
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


def texts_in(name: str, chunk: Chunk, where: Where) -> pa.Array:
    column = chunk.columns.get(name)
    if column is None:
        return pa.nulls(chunk.rows, pa.string())
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not (_is_text(column.type) or pa.types.is_null(column.type)):
        raise DataInvalid(f"{where(0)}: the column '{name}' holds {column.type} where text is wanted")
    return column.cast(pa.string())


def payloads_in(table: Table, ids: Sequence[str], chunk: Chunk, where: Where) -> pa.Array:
    if chunk.objects is not None:
        return payload_column(ids, {}, _json_objects(table, chunk, where))
    values = {
        name: _typed(table, name, _plain(name, chunk, where), where)
        for name in table.roles.values
        if name in chunk.columns
    }
    objects = None
    if table.roles.payload is not None:
        if not values and (texts := _json_texts(table.roles.payload, chunk)) is not None:
            return canonical_objects(texts, lambda row: f"{where(row)}: '{table.roles.payload}'", tags=False)
        objects = _objects(table.roles.payload, chunk, where)
    if table.nulls_absent and values:
        rows = [
            {name: value for name, value in zip(values, row, strict=True) if value is not None}
            for row in zip(*values.values(), strict=True)
        ]
        if objects is not None:
            # Each by itself: a key of the payload that a column has as well, and has a value in, is refused.
            merged = [
                payload_column([id_], {name: [value] for name, value in row.items()}, [found])
                for id_, row, found in zip(ids, rows, objects, strict=True)
            ]
            return pa.concat_arrays(merged)
        return payload_column(ids, {}, [row or None for row in rows])
    return payload_column(ids, values, objects)


def _plain(name: str, chunk: Chunk, where: Where) -> list[Any]:
    try:
        return plain_values(chunk.columns[name])
    except DataInvalid as error:
        raise DataInvalid(f"{where(0)} or after it: '{name}' holds {error.message}", hint=error.hint) from error


def _typed(table: Table, name: str, values: list[Any], where: Where) -> list[Any]:
    read = table.types.get(name)
    return values if read is None else as_typed(values, read, lambda row: f"{where(row)}, '{name}'")


def _json_texts(name: str, chunk: Chunk) -> pa.Array | None:
    """The column of this name where it is one of texts."""
    column = chunk.columns.get(name)
    if column is not None and (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        column = column.cast(pa.string())
    return column.cast(pa.string()) if column is not None and _is_text(column.type) else None


def _objects(name: str, chunk: Chunk, where: Where) -> list[Any]:
    """What a column of JSON texts, or of structs, holds for each row."""
    if name not in chunk.columns:
        return [None] * chunk.rows
    texts = _json_texts(name, chunk)
    if texts is None:
        return _plain(name, chunk, where)
    found: list[Any] = []
    for row, text in enumerate(texts.to_pylist()):
        try:
            found.append(None if text is None else canonical.parse(text, tags=False))
        except DataInvalid as error:
            raise DataInvalid(f"{where(row)}: '{name}': {error.message}") from error
    return found


def _cell(where: Where, row: int, name: str, _: int) -> str:
    return f"{where(row)}, '{name}'"


def _json_objects(table: Table, chunk: Chunk, where: Where) -> list[Any]:
    assert chunk.objects is not None
    found: list[Any] = []
    for row, rest in enumerate(chunk.objects):
        inner = rest.pop(table.roles.payload, None) if table.roles.payload is not None else None
        for name in table.roles.unread:
            rest.pop(name, None)
        for name, read in table.types.items():
            if isinstance(rest.get(name), str):
                [rest[name]] = as_typed([rest[name]], read, partial(_cell, where, row, name))
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
