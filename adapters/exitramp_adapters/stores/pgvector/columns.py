"""A batch of records as columns of a table, in the binary form in which they are copied.

In a table of ours nothing is lost: what a column does not hold exactly stands in the one beside it. In somebody else's
there is no such column, and the record is refused by its id.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from exitramp import canonical
from exitramp.arrow import dense_matrix
from exitramp.errors import DataInvalid
from exitramp.payloads import decoded_payloads
from exitramp.records import DType, VectorKind
from exitramp_adapters.stores.pgvector import json_form, wire
from exitramp_adapters.stores.pgvector.catalog import Column, quoted, quoted_text
from exitramp_adapters.stores.pgvector.fields import Held
from exitramp_adapters.stores.pgvector.limits import KEY_BYTES, SPARSE_NUMBERS, type_name
from exitramp_adapters.stores.pgvector.records import id_parts
from exitramp_adapters.stores.pgvector.session import Server
from exitramp_adapters.stores.pgvector.shape import Shape
from exitramp_adapters.stores.pgvector.values import INTEGERS, NO_FIT, NoFit, as_text, own_texts, require_text

_JSONB: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class Out:
    """One column of a batch: framed cells, in the column's own type, or as text that is to be cast to it."""

    column: Column
    cells: list[bytes]
    as_text: bool = False


def columns_of(
    server: Server, batch: pa.RecordBatch, shape: Shape, item_types: Mapping[str, int], *, where: str
) -> list[Out]:
    ids: list[str] = batch.column("id").to_pylist()
    extras: list[dict[str, Any]] = [{} for _ in ids] if shape.extra is not None else []
    columns = _key_columns(batch, shape, ids)
    if shape.document is not None:
        columns.append(_document_column(batch.column("document"), shape.document, extras, ids))
    if shape.is_plain:
        assert shape.payload is not None
        texts, types = json_form.written(batch.column("payload"))
        for row, known in types.items():
            extras[row]["t"] = known
        columns.append(Out(shape.payload, wire.framed(texts, head=_head(shape.payload))))
    else:
        columns += _value_columns(server, batch, shape, extras, ids)
    for held in shape.vectors:
        columns.append(_vector_column(batch.column(held.field.column), held, extras, ids, item_types, where=where))
    if shape.extra is not None:
        cells = [orjson.dumps(extra) if extra else None for extra in extras]
        columns.append(Out(shape.extra, wire.framed(cells, head=_JSONB)))
    return columns


def _head(column: Column) -> bytes:
    """What stands before a JSON text in binary form: jsonb has a version, json has none."""
    return _JSONB if column.type.name == "jsonb" else b""


def _key_columns(batch: pa.RecordBatch, shape: Shape, ids: Sequence[str]) -> list[Out]:
    columns = []
    if shape.namespace is not None:
        spaces = batch.column("namespace").to_pylist()
        for space, id_ in zip(spaces, ids, strict=True):
            require_text(space or "", f"the namespace {space!r}")
            if len((space or "").encode("utf-8")) + len(id_.encode("utf-8")) > KEY_BYTES:
                raise DataInvalid(
                    f"the id and the namespace of the record '{id_}' take more than {KEY_BYTES:,} bytes together, and "
                    "an index of PostgreSQL's takes no more"
                )
        columns.append(_text_column(shape.namespace, [None if space is None else space.encode() for space in spaces]))
    [first, *others] = shape.ids
    if not others and first.type.name == "text" and not first.type.is_array and not _has_zero(batch.column("id")):
        return [*columns, _text_column(first, batch.column("id").cast(pa.binary()).to_pylist())]
    parts = list(zip(*(id_parts(id_, shape) for id_ in ids), strict=True))
    for column, texts in zip(shape.ids, parts, strict=True):
        encode = _key_encoder(column)
        if encode is None:
            columns.append(_text_column(column, [text.encode("utf-8") for text in texts]))
        else:
            columns.append(Out(column, wire.framed([encode(text) for text in texts])))
    return columns


def _key_encoder(column: Column) -> Callable[[str], bytes] | None:
    if column.type.is_array or column.type.is_domain:
        return None
    if column.type.name in INTEGERS:
        bits = INTEGERS[column.type.name]
        return lambda text: wire.integer_cell(text, bits)
    if column.type.name == "uuid":
        return lambda text: bytes.fromhex(text.replace("-", ""))
    return wire.numeric_cell if column.written == "numeric(20,0)" else None


def _text_column(column: Column, cells: Sequence[bytes | None]) -> Out:
    is_text = column.type.name == "text" and not column.type.is_array and not column.type.is_domain
    return Out(column, wire.framed(cells), as_text=not is_text)


def _has_zero(texts: pa.Array) -> bool:
    """Whether one of them has the character zero: 0.05 us for 400 bytes, where asking for it as a pattern takes 0.4."""
    _, bounds, data = texts.buffers()
    if data is None or not len(texts):
        return False
    first, last = np.frombuffer(bounds, np.int32, len(texts) + 1, 4 * texts.offset)[[0, -1]].tolist()
    return bytes(memoryview(data)[first:last]).find(b"\x00") >= 0


def _document_column(texts: pa.Array, column: Column, extras: Sequence[dict[str, Any]], ids: Sequence[str]) -> Out:
    cells: list[bytes | None] = texts.cast(pa.binary()).to_pylist()
    if _has_zero(texts):
        odd = pc.fill_null(pc.match_substring(texts, json_form.ZERO), False)
        for row in np.flatnonzero(odd.to_numpy(zero_copy_only=False)).tolist():
            text = (cells[row] or b"").decode("utf-8")
            if not extras:
                require_text(text, f"the document of the record '{ids[row]}'")
            extras[row]["d"] = canonical.dumps(text)
            cells[row] = text.replace(json_form.ZERO, json_form.STAND_IN).encode("utf-8")
    return _text_column(column, cells)


def _value_columns(
    server: Server, batch: pa.RecordBatch, shape: Shape, extras: Sequence[dict[str, Any]], ids: Sequence[str]
) -> list[Out]:
    """Payloads over typed columns. What a column does not hold exactly, a key that has none, and a key that is missing
    stand in our own column; in somebody else's table there is no such place, and the record is refused by its id."""
    payloads: list[Any] = decoded_payloads(batch.column("payload"))
    cells: dict[str, list[bytes | None]] = {column.name: [] for column in shape.values if not column.generated}
    rest: list[dict[str, Any] | None] = []
    known = {column.name for column in shape.values}
    strange = {column.name: _strange(server, column, payloads) for column in shape.values}
    for row, payload in enumerate(payloads):
        held = payload or {}
        more: dict[str, Any] = {}
        missing = []
        for column in shape.values:
            if column.name not in held:
                missing.append(column.name)
                text: str | NoFit | None = None
            else:
                value = held[column.name]
                text = as_text(value, column.type)
                if strange[column.name] and not strange[column.name].isdisjoint(own_texts(value, column.type)):
                    text = NO_FIT
            if isinstance(text, NoFit):
                more[column.name] = held[column.name]
                text = None
            if column.name in cells:
                cells[column.name].append(None if text is None else text.encode("utf-8"))
        others = {key: value for key, value in held.items() if key not in known}
        if shape.payload is None:
            more |= others
            rest.append(None)
        else:
            rest.append(None if payload is None else others)
        if extras:
            _note_rest(extras[row], more, missing, absent=payload is None and bool(known))
            if payload == {} and not known and shape.payload is None:
                extras[row]["empty"] = True
        elif more or missing:
            raise _no_room(shape, ids[row], more, missing)
    columns = [Out(shape.table.column(name), wire.framed(found), as_text=True) for name, found in cells.items()]
    if shape.payload is not None:
        columns.append(Out(shape.payload, wire.framed(_payload_cells(rest, shape, extras, ids)), as_text=True))
    return columns


def _strange(server: Server, column: Column, payloads: Sequence[Any]) -> set[str]:
    """Those texts of a column that PostgreSQL does not read, or of which it would make another one: of an interval
    `1 day 2 hours` becomes `1 day 02:00:00`."""
    import psycopg

    texts = {text for payload in payloads if payload for text in own_texts(payload.get(column.name), column.type)}
    if not texts:
        return texts
    type_ = f"{quoted(column.type.schema)}.{quoted(column.type.name)}"
    valid = f"pg_input_is_valid(x, {quoted_text(type_)})"
    statement = "SELECT x FROM unnest(%s::text[]) x WHERE CASE WHEN {} THEN (x::{})::text <> x ELSE true END"
    with server.writing() as session:
        try:
            with session.transaction():
                rows = session.execute(statement.format(valid, type_), [sorted(texts)]).fetchall()
        except psycopg.errors.UndefinedFunction:  # a server before 16 does not tell, but by its error
            try:
                with session.transaction():
                    rows = session.execute(statement.format("true", type_), [sorted(texts)]).fetchall()
            except psycopg.DataError:
                return texts
    return {row[0] for row in rows}


def _note_rest(extra: dict[str, Any], more: Mapping[str, Any], missing: Sequence[str], *, absent: bool) -> None:
    if more:
        natural, types = json_form.split(more)
        extra["more"] = orjson.Fragment(json_form.json_text(natural))
        if types is not None:
            extra["mt"] = types
    if missing:
        extra["missing"] = list(missing)
    if absent:
        extra["none"] = True


def _no_room(shape: Shape, id_: str, more: Mapping[str, Any], missing: Sequence[str]) -> DataInvalid:
    table = f"{shape.table.schema}.{shape.table.name}"
    if more:
        key = next(iter(more))
        kind = canonical.type_name(more[key])
        what = (
            f"its column of that name does not hold this {kind} exactly"
            if key in shape.table.index
            else "it has no such column"
        )
        return DataInvalid(
            f"the record '{id_}' has the key '{key}', for which somebody else's table {table} has no room: {what}",
            hint="copy into a table that is not there yet",
        )
    return DataInvalid(
        f"the record '{id_}' lacks the key '{missing[0]}', which in somebody else's table {table} could not be told "
        "from one that is null",
        hint="copy into a table that is not there yet",
    )


def _payload_cells(
    rest: Sequence[dict[str, Any] | None], shape: Shape, extras: Sequence[dict[str, Any]], ids: Sequence[str]
) -> list[bytes | None]:
    cells: list[bytes | None] = []
    for row, payload in enumerate(rest):
        if payload is None:
            cells.append(None)
            continue
        if extras:
            natural, types = json_form.split(payload)
            extras[row] |= {} if types is None else {"t": types}
            text: str | None = json_form.json_text(natural)
        else:
            text = json_form.alone(payload)
        if text is None:
            raise DataInvalid(
                f"the record '{ids[row]}' has a value in its payload that JSON has no type for, and "
                f"{shape.table.schema}.{shape.table.name}, a table of somebody else's, has no other place for it",
                hint="copy into a table that is not there yet",
            )
        cells.append(text.encode("utf-8"))
    return cells


def _vector_column(
    column: pa.Array,
    held: Held,
    extras: Sequence[dict[str, Any]],
    ids: Sequence[str],
    item_types: Mapping[str, int],
    *,
    where: str,
) -> Out:
    field = held.field
    if field.kind is VectorKind.SPARSE:
        return Out(held.column, _sparse_cells(column, held, extras, ids))
    if field.dtype is not DType.BINARY:
        numbers = column.values if field.kind is VectorKind.MULTI else column
        _require_finite(numbers, column, held, ids, where=where)
    if field.kind is VectorKind.MULTI:
        return Out(held.column, wire.framed_multi(column, field, item_types[held.column.name]))
    return Out(held.column, wire.framed_dense(column, field))


def _require_finite(numbers: pa.Array, column: pa.Array, held: Held, ids: Sequence[str], *, where: str) -> None:
    matrix = dense_matrix(numbers)
    with np.errstate(all="ignore"):
        if np.isfinite(matrix.sum(dtype=np.float64)):
            return  # one look at all of them, since a NaN or an infinity stays in the sum
    wrong = ~np.isfinite(matrix).all(axis=1)
    if held.field.kind is VectorKind.MULTI:
        bounds = column.offsets.to_numpy()
        rows = [row for row in range(len(column)) if bool(wrong[bounds[row] : bounds[row + 1]].any())]
    else:
        rows = np.flatnonzero(wrong & column.is_valid().to_numpy(zero_copy_only=False)).tolist()
    if rows:
        raise DataInvalid(
            f"{where}: the record '{ids[rows[0]]}' has a number in '{held.field.column}' that is not finite, and a "
            f"{type_name(held.field)} holds none"
        )


def _sparse_cells(column: pa.Array, held: Held, extras: Sequence[dict[str, Any]], ids: Sequence[str]) -> list[bytes]:
    """sparsevec holds rising indices below its dimensions and no zeros; any other vector stands in our own column."""
    most = held.dimensions or 0
    cells: list[bytes | None] = []
    indices, numbers = column.field("indices"), column.field("values")
    starts = indices.offsets.to_numpy()
    flat = indices.values.to_numpy(zero_copy_only=False).astype(np.uint32, copy=False)
    values = numbers.values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    for row, there in enumerate(column.is_valid().to_pylist()):
        if not there:
            cells.append(None)
            continue
        places, held_numbers = flat[starts[row] : starts[row + 1]], values[starts[row] : starts[row + 1]]
        order = np.argsort(places, kind="stable")
        rising, sorted_numbers = places[order], held_numbers[order]
        steady = bool((np.diff(rising.astype(np.int64)) > 0).all()) and len(rising) <= SPARSE_NUMBERS
        below = not len(rising) or int(rising[-1]) < most
        if steady and below and bool(np.isfinite(sorted_numbers).all()) and bool((sorted_numbers != 0).all()):
            cells.append(wire.sparse_cell(rising, sorted_numbers, most))
            continue
        if not extras:
            raise DataInvalid(
                f"the record '{ids[row]}' has a sparse vector in '{held.field.column}' that {held.column.written} does "
                "not hold: an index beyond its dimensions or twice, or a zero"
            )
        kept = {"i": places.astype("<u4").tobytes(), "v": held_numbers.astype("<f4").tobytes()}
        texts = {side: base64.b64encode(data).decode("ascii") for side, data in kept.items()}
        extras[row].setdefault("s", {})[held.column.name] = texts
        cells.append(None)
    return wire.framed(cells)
