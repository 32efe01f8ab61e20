"""Rows of a table as batches of a stream, and back: vectors without a copy where Arrow allows it, payloads exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from exitramp import canonical
from exitramp.arrow import dense_array, dense_matrix, stream_schema, vector_type
from exitramp.errors import DataInvalid
from exitramp.payloads import canonical_objects, decoded_payloads, payload_array
from exitramp.ports.tables import joined_payloads, payload_column
from exitramp.records import RecordKey, VectorField, VectorKind
from exitramp_adapters.stores.duckdb.column_types import arrow_array, fits, is_json, selected, values_of
from exitramp_adapters.stores.duckdb.file import quoted
from exitramp_adapters.stores.duckdb.table import HASH, Table

# Within a JSON text a quote that is part of a string is escaped, so that nothing else looks like this.
_TAGGED_INTEGER: Final = r'\{"\$exitramp:int":"(-?[0-9]+)"\}'


def select_list(table: Table) -> str:
    """The columns in the order in which `batch_of` takes them: id, namespace, document, payload, whether that is still
    as it was written, vectors, values."""
    roles = table.roles
    wanted = [table.id_text(), table.namespace_text()]
    wanted += [
        "NULL" if name is None else selected(name, table.types[name]) for name in (roles.document, roles.payload)
    ]
    wanted.append(_untouched(str(roles.payload)) if has_hash(table) else "NULL")
    wanted += [quoted(name) for name in roles.vectors]
    wanted += [selected(name, table.types[name]) for name in roles.values]
    return ", ".join(f"{sql} AS c{number}" for number, sql in enumerate(wanted))


def _untouched(payload: str) -> str:
    return f"{quoted(payload)} IS NULL OR coalesce({quoted(HASH)} = hash({quoted(payload)}), FALSE)"


def has_hash(table: Table) -> bool:
    return table.is_own and HASH in table.types and not table.roles.values


def batch_of(rows: pa.RecordBatch, table: Table) -> pa.RecordBatch:
    """Rows that `select_list` gave, as a batch of the stream. Raises `DataInvalid` naming the row that is not valid."""
    ids, namespaces, documents, payloads, untouched, *others = rows.columns
    if ids.null_count:
        raise DataInvalid(f"{table.spec.name}: {ids.null_count} rows have no id")
    roles = table.roles
    columns = [ids]
    columns += [namespaces] if table.spec.has_namespaces else []
    columns += [documents.cast(pa.string())] if table.spec.has_documents else []
    texts = others[len(roles.vectors) :]
    values = {
        name: values_of(column, table.types[name], name, ids, tags=table.is_own)
        for name, column in zip(roles.values, texts, strict=True)
    }
    if has_hash(table) and pc.all(untouched).as_py() is not False:
        columns.append(payloads)
    else:
        columns.append(_payloads(ids, payloads, values, table))
    columns += [_vectors(column, each, ids) for column, each in zip(others, roles.vectors.values(), strict=False)]
    return pa.RecordBatch.from_arrays(columns, schema=stream_schema(table.spec))


def _payloads(ids: pa.Array, payloads: pa.Array, values: dict[str, list[Any]], table: Table) -> pa.Array:
    roles = table.roles
    if table.is_own:
        return _own_payloads(ids, payloads, values)
    objects = None
    if roles.payload is not None:
        kind = table.types[roles.payload]
        is_text = is_json(kind) or kind.id == "varchar"
        if is_text and not values:
            return _canonical(ids, payloads, tags=False)
        if is_text:
            objects = _parsed(ids, payloads, tags=False)
        else:
            objects = values_of(payloads, kind, roles.payload, ids, tags=False)
    return payload_column(ids.to_pylist(), values, objects).cast(pa.string())


def _own_payloads(ids: pa.Array, payloads: pa.Array, values: dict[str, list[Any]]) -> pa.Array:
    """The canonical texts. What exitramp wrote is one already, but for integers beyond 2^53 and what a column holds."""
    if values:
        return payload_array(joined_payloads(ids.to_pylist(), _parsed(ids, payloads, tags=True), values))
    return _canonical(ids, payloads, tags=True)


def _canonical(ids: pa.Array, payloads: pa.Array, *, tags: bool) -> pa.Array:
    texts = payloads.cast(pa.string())
    return canonical_objects(texts, lambda row: f"the payload of the record '{ids[row]}'", tags=tags)


def _parsed(ids: pa.Array, payloads: pa.Array, *, tags: bool) -> list[Any]:
    return [
        None if text is None else _parse(text, id_, tags)
        for text, id_ in zip(payloads.to_pylist(), ids.to_pylist(), strict=True)
    ]


def _parse(text: str, id_: str, tags: bool) -> Any:
    try:
        return canonical.parse(text, tags=tags)
    except DataInvalid as error:
        raise DataInvalid(f"the payload of the record '{id_}' is {error.message}") from error


def _vectors(column: pa.Array, wanted: VectorField, ids: pa.Array) -> pa.Array:
    try:
        if wanted.kind is VectorKind.DENSE:
            return _dense(column, wanted)
        return _multi(column, wanted) if wanted.kind is VectorKind.MULTI else _sparse(column, wanted)
    except DataInvalid as error:
        raise DataInvalid(f"'{wanted.column}' of the record {_named(column, ids)}: {error.message}") from error


def _named(column: pa.Array, ids: pa.Array) -> str:
    """The first row in which something is wrong."""
    found = column.to_pylist()
    return next((f"'{ids[row]}'" for row, value in enumerate(found) if value is not None and _holes(value)), "?")


def _holes(value: Any) -> bool:
    parts = list(value.values()) if isinstance(value, dict) else value
    return any(part is None or (isinstance(part, list) and _holes(part)) for part in parts)


def _dense(column: pa.Array, wanted: VectorField) -> pa.Array:
    valid = column.is_valid()
    there: npt.NDArray[np.bool_] = np.asarray(valid)
    if pa.types.is_fixed_size_list(column.type):
        return dense_array(dense_matrix(column), wanted, valid=there)
    lengths = pc.list_value_length(column).fill_null(wanted.item_count)
    if not pc.all(pc.equal(lengths, wanted.item_count)).as_py():
        raise DataInvalid("its list has another length than those before")
    flat = column.flatten()
    if flat.null_count:
        raise DataInvalid("a vector holds a null where a number belongs")
    numbers = flat.to_numpy(zero_copy_only=False)
    matrix = np.zeros((len(column), wanted.item_count), numbers.dtype)
    matrix[there] = numbers.reshape(-1, wanted.item_count)
    return dense_array(matrix, wanted, valid=there)


def _multi(column: pa.Array, wanted: VectorField) -> pa.Array:
    inner = column.flatten()
    if inner.null_count:
        raise DataInvalid("a null stands where a vector belongs")
    single = dense_array(dense_matrix(inner), replace(wanted, kind=VectorKind.DENSE))
    return pa.ListArray.from_arrays(_offsets(column), single, type=vector_type(wanted), mask=_mask(column))


def _sparse(column: pa.Array, wanted: VectorField) -> pa.Array:
    parts = []
    lengths: list[pa.Array] = []
    for side, (held, item) in enumerate(zip(column.flatten(), (pa.uint32(), pa.float32()), strict=True)):
        flat = held.flatten()
        lengths.append(held.value_lengths().fill_null(0))
        if flat.null_count:
            raise DataInvalid("a vector holds a null where a number belongs")
        layout = vector_type(wanted).field(side).type
        parts.append(pa.ListArray.from_arrays(_offsets(held), flat.cast(item), type=layout))
    if not lengths[0].equals(lengths[1]):
        raise DataInvalid("a sparse vector has more indices than values, or fewer")
    return pa.StructArray.from_arrays(parts, fields=list(vector_type(wanted)), mask=_mask(column))


def _offsets(column: pa.Array) -> pa.Array:
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), pa.int32())


def _mask(column: pa.Array) -> pa.Array | None:
    return column.is_null() if len(column) else None


def written(batch: pa.RecordBatch, table: Table) -> tuple[pa.Table, str]:
    """The rows of a stream's batch as a table of ours takes them, and the SELECT list that casts them."""
    roles = table.roles
    columns: dict[str, pa.Array] = {roles.id: batch.column("id")}
    if roles.namespace is not None:
        columns[roles.namespace] = batch.column("namespace")
    if roles.document is not None:
        columns[roles.document] = batch.column("document")
    payloads = batch.column("payload")
    if set(roles.values) - table.added:
        payloads = _split(payloads, table, columns)
    columns[str(roles.payload)] = pc.replace_substring_regex(payloads, _TAGGED_INTEGER, r"\1")
    if HASH in table.types:
        # What is not the canonical text for want of a tag is looked into by whoever reads it.
        columns[HASH] = pc.equal(payloads, columns[str(roles.payload)])
    columns |= {name: batch.column(each.column) for name, each in roles.vectors.items()}
    casts = [
        f"CAST({quoted(name)} AS {table.types[name]})" if name == roles.id or name in roles.values else quoted(name)
        for name in columns
    ]
    if HASH in columns:
        casts[list(columns).index(HASH)] = f"CASE WHEN {quoted(HASH)} THEN hash({quoted(str(roles.payload))}) END"
    return pa.table(columns), ", ".join(casts)


def _split(payloads: pa.Array, table: Table, columns: dict[str, pa.Array]) -> pa.Array:
    """Put into `columns` what fits into them; the texts of the rest. A null that is there stays in the text."""
    rows = decoded_payloads(payloads)
    for name in table.roles.values:
        if name in table.added:
            continue
        kind = table.types[name]
        taken: list[Any] = [None] * len(rows)
        for row, held in enumerate(rows):
            if held is not None and held.get(name) is not None and fits(held[name], kind):
                taken[row] = held.pop(name)
        columns[name] = arrow_array(taken, kind)
    return payload_array(rows)


def key_columns(keys: Sequence[RecordKey]) -> tuple[pa.Array, pa.Array]:
    """Ids and namespaces."""
    return pa.array([key.id for key in keys], pa.string()), pa.array([key.namespace for key in keys], pa.string())


def keys_table(ids: pa.Array, namespaces: pa.Array) -> pa.Table:
    """Keys to be joined with, under names that no column of a table has."""
    return pa.table({"exitramp_id": ids, "exitramp_ns": namespaces})
