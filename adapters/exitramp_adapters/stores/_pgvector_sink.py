"""Writing to PostgreSQL: whole records by binary copy, each call in a transaction of its own."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from exitramp import canonical
from exitramp.arrow import dense_matrix, require_schema
from exitramp.errors import CollectionExists, DataInvalid, StoreRejected, UsageError
from exitramp.payloads import decoded_payloads
from exitramp.ports import Origin, SinkLimits, TransferAccount, difference_of
from exitramp.records import CollectionSpec, DType, RecordKey, VectorKind
from exitramp.urls import Address
from exitramp_adapters.stores import _pgvector_json as json_form
from exitramp_adapters.stores import _pgvector_wire as wire
from exitramp_adapters.stores._pgvector_catalog import Column, find, quoted, quoted_text, read_table
from exitramp_adapters.stores._pgvector_limits import BATCH_ROWS, LIMITS, SPARSE_NUMBERS, type_name
from exitramp_adapters.stores._pgvector_records import Selection, id_parts
from exitramp_adapters.stores._pgvector_session import Server
from exitramp_adapters.stores._pgvector_shape import Held, Shape, shape_of, split_comment
from exitramp_adapters.stores._pgvector_tables import build_indexes, keep_note, make_table, recorded
from exitramp_adapters.stores._pgvector_values import INTEGERS, NO_FIT, NoFit, as_text, own_texts, require_text

_STAGE: Final = "exitramp_stage"
_DELETED_AT_ONCE: Final = 5_000
_JSONB: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class _Out:
    """One column of a batch: framed cells, in the column's own type, or as text that is to be cast to it."""

    column: Column
    cells: list[bytes]
    as_text: bool = False


class PgvectorSink:
    """Each call is committed, and so on the disk, when it returns: had a flush to do it, a connection that was cut and
    made again between two calls would lose the first of them without a word."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._shape: Shape | None = None
        self._told: Mapping[str, Any] = {}
        self._collisions = 0
        self._item_types: dict[str, int] = {}

    def limits(self) -> SinkLimits:
        return LIMITS

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        address = self._server.address
        self._told = recorded(spec, origin)
        with self._server.writing() as session:
            if find(session, address) is None:
                make_table(session, address, spec, origin)
            table = read_table(session, address)
            self._shape = shape = _existing(session, table, address, spec)
            different = difference_of(shape.spec, spec)
            if different:
                raise CollectionExists(f"{address} is there already: {different}", hint="choose another table")
            self._item_types = _item_types(session, shape)
            words, note = split_comment(table.comment)
            if note is not None and note.get("origin") != origin.to_json():
                [filled] = session.execute(f"SELECT EXISTS (SELECT FROM {table.sql})", []).fetchone()
                if not filled:  # what was told of records that are gone explains no others
                    keep_note(session, table.sql, words, note | {"origin": origin.to_json()})

    def upsert(self, batch: pa.RecordBatch) -> None:
        """Replace whole records. A copy straight into the table is twice as fast as one that looks for what is there,
        and is taken back as a whole where an id is."""
        import psycopg

        shape, where = self._described(), str(self._server.address)
        require_schema(batch, shape.spec, where=where)
        if batch.num_rows > BATCH_ROWS:
            raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {BATCH_ROWS}")
        if not batch.num_rows:
            return
        with self._server.writing() as session:
            columns = _columns(session, batch, shape, self._item_types, where=where)
            data = wire.rows([column.cells for column in columns])
            if self._collisions < 2 and not any(column.as_text for column in columns):
                try:
                    with session.transaction():
                        _copy(session, shape.table.sql, columns, data, batch.num_rows, where=where)
                    self._collisions = 0
                    return
                except psycopg.errors.UniqueViolation:
                    self._collisions += 1
            with session.transaction():
                _merge(session, shape, columns, data, batch.num_rows, where=where)

    def delete(self, keys: Sequence[RecordKey]) -> None:
        selection = Selection(self._described())
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            found = selection.where_keys(keys[start : start + _DELETED_AT_ONCE])
            if found is None:
                continue
            with self._server.writing() as session, session.transaction():
                session.execute(f"DELETE FROM {selection.shape.table.sql} WHERE {found[0]}", found[1])

    def flush(self) -> None:
        """Every call was on the disk when it returned."""

    def finish(self, account: TransferAccount) -> None:
        """Build indexes, let columns that count go on behind what was written, and let the planner know the table."""
        shape = self._described()
        with self._server.writing() as session:
            if shape.note is None:
                return  # what indexes somebody's own table has is not ours to say
            shape = replace(shape, table=read_table(session, self._server.address))
            build_indexes(session, shape, self._told)
            for column in shape.table.columns:
                if column.counts_up:
                    _count_on(session, shape, column)
            session.execute(f"ANALYZE {shape.table.sql}", [])

    def close(self) -> None:
        """The store closes its sessions."""

    def _described(self) -> Shape:
        if self._shape is None:
            address = self._server.address
            with self._server.writing() as session:
                self._shape = shape_of(session, read_table(session, address), address)
                self._item_types = _item_types(session, self._shape)
        return self._shape


def _existing(session: Any, table: Any, address: Address, spec: CollectionSpec) -> Shape:
    """The table as a collection; where it does not say its metric, what is to be written does."""
    try:
        return shape_of(session, table, address)
    except DataInvalid:
        if address.option("metric") is not None or not spec.vectors:
            raise
    said = ",".join(
        f"{field.name}:{field.metric.value}" if field.name else field.metric.value for field in spec.vectors
    )
    return shape_of(session, table, replace(address, options=dict(address.options) | {"metric": said}))


def _item_types(session: Any, shape: Shape) -> dict[str, int]:
    """Of each column of arrays of vectors the number of its items' type, which binary arrays name."""
    found = {}
    for held in shape.vectors:
        if held.field.kind is VectorKind.MULTI:
            row = session.execute(
                "SELECT t.typelem::bigint FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
                "WHERE a.attrelid = %s AND a.attname = %s",
                [shape.table.oid, held.column.name],
            ).fetchone()
            found[held.column.name] = int(row[0])
    return found


def _copy(session: Any, table: str, columns: Sequence[_Out], data: bytes, rows: int, *, where: str) -> None:
    names = ", ".join(quoted(column.column.name) for column in columns)
    with session.cursor() as cursor:
        statement = f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)"
        with cursor.copy(statement.replace("%%", "%")) as copy:  # alone of all it is sent without parameters
            copy.write(wire.HEAD + data + wire.END)
        _require_all(cursor.rowcount, rows, where=where)


def _require_all(landed: int, rows: int, *, where: str) -> None:
    if landed != rows:
        raise StoreRejected(
            f"{where}: of {rows} records {landed} landed", hint="does a trigger or a rule of the table hold them back?"
        )


def _merge(session: Any, shape: Shape, columns: Sequence[_Out], data: bytes, rows: int, *, where: str) -> None:
    """By way of a table of this session's own, in which what is not in its column's type is text."""
    stage = f"{_STAGE}_{shape.table.oid}"
    types = ", ".join(
        f"{quoted(out.column.name)} {'text' if out.as_text else out.column.written.replace('%', '%%')}"
        for out in columns
    )
    session.execute(f"CREATE TEMP TABLE IF NOT EXISTS {stage} ({types}) ON COMMIT DELETE ROWS", [])
    _copy(session, f"pg_temp.{stage}", columns, data, rows, where=where)
    names = ", ".join(quoted(out.column.name) for out in columns)
    cast = {out.column.name: f"s.{quoted(out.column.name)}{_cast(out)}" for out in columns}
    keys = [column.name for column in shape.keys]
    others = [out.column.name for out in columns if out.column.name not in keys]
    unique = any(
        index.unique
        and index.valid
        and not index.partial
        and set(index.columns) == set(keys)
        and None not in index.columns
        for index in shape.table.indexes
    )
    conflict = ""
    if unique:
        changes = ", ".join(f"{quoted(name)} = EXCLUDED.{quoted(name)}" for name in others)
        action = f"DO UPDATE SET {changes}" if others else "DO NOTHING"
        conflict = f" ON CONFLICT ({', '.join(map(quoted, keys))}) {action}"
    else:
        same = " AND ".join(f"t.{quoted(name)} IS NOT DISTINCT FROM {cast[name]}" for name in keys)
        session.execute(f"DELETE FROM {shape.table.sql} t USING pg_temp.{stage} s WHERE {same}", [])
    cursor = session.execute(
        f"INSERT INTO {shape.table.sql} ({names}) SELECT {', '.join(cast.values())} FROM pg_temp.{stage} s{conflict}",
        [],
    )
    if others:
        _require_all(cursor.rowcount, rows, where=where)


def _cast(out: _Out) -> str:
    """To the type without its length, since a cast to a length cuts off without a word, and an assignment does not."""
    if not out.as_text:
        return ""
    type_ = out.column.type
    return f"::{quoted(type_.schema)}.{quoted(type_.name)}" + ("[]" if type_.is_array else "")


def _columns(
    session: Any, batch: pa.RecordBatch, shape: Shape, item_types: Mapping[str, int], *, where: str
) -> list[_Out]:
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
        columns.append(_Out(shape.payload, wire.framed(texts, head=_JSONB)))
    else:
        columns += _value_columns(session, batch, shape, extras, ids)
    for held in shape.vectors:
        columns.append(_vector_column(batch.column(held.field.column), held, extras, ids, item_types, where=where))
    if shape.extra is not None:
        cells = [orjson.dumps(extra) if extra else None for extra in extras]
        columns.append(_Out(shape.extra, wire.framed(cells, head=_JSONB)))
    return columns


def _key_columns(batch: pa.RecordBatch, shape: Shape, ids: Sequence[str]) -> list[_Out]:
    columns = []
    if shape.namespace is not None:
        spaces = batch.column("namespace").to_pylist()
        for space in spaces:
            require_text(space or "", f"the namespace {space!r}")
        columns.append(_text_column(shape.namespace, [None if space is None else space.encode() for space in spaces]))
    parts = list(zip(*(id_parts(id_, shape) for id_ in ids), strict=True))
    for column, texts in zip(shape.ids, parts, strict=True):
        encode = _key_encoder(column)
        if encode is None:
            columns.append(_text_column(column, [text.encode("utf-8") for text in texts]))
        else:
            columns.append(_Out(column, wire.framed([encode(text) for text in texts])))
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


def _text_column(column: Column, cells: Sequence[bytes | None]) -> _Out:
    is_text = column.type.name == "text" and not column.type.is_array and not column.type.is_domain
    return _Out(column, wire.framed(cells), as_text=not is_text)


def _document_column(texts: pa.Array, column: Column, extras: Sequence[dict[str, Any]], ids: Sequence[str]) -> _Out:
    cells: list[bytes | None] = texts.cast(pa.binary()).to_pylist()
    odd = pc.fill_null(pc.match_substring(texts, json_form.ZERO), False)
    if odd.true_count:
        for row in np.flatnonzero(odd.to_numpy(zero_copy_only=False)).tolist():
            text = (cells[row] or b"").decode("utf-8")
            if not extras:
                require_text(text, f"the document of the record '{ids[row]}'")
            extras[row]["d"] = canonical.dumps(text)
            cells[row] = text.replace(json_form.ZERO, json_form.STAND_IN).encode("utf-8")
    return _text_column(column, cells)


def _value_columns(
    session: Any, batch: pa.RecordBatch, shape: Shape, extras: Sequence[dict[str, Any]], ids: Sequence[str]
) -> list[_Out]:
    """Payloads over typed columns. What a column does not hold exactly, a key that has none, and a key that is missing
    stand in our own column; in somebody else's table there is no such place, and the record is refused by its id."""
    payloads: list[Any] = decoded_payloads(batch.column("payload"))
    cells: dict[str, list[bytes | None]] = {column.name: [] for column in shape.values if not column.generated}
    rest: list[dict[str, Any] | None] = []
    known = {column.name for column in shape.values}
    strange = {column.name: _strange(session, column, payloads) for column in shape.values}
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
        elif more or missing:
            raise _no_room(shape, ids[row], more, missing)
    columns = [_Out(shape.table.column(name), wire.framed(found), as_text=True) for name, found in cells.items()]
    if shape.payload is not None:
        columns.append(_Out(shape.payload, wire.framed(_payload_cells(rest, shape, extras, ids)), as_text=True))
    return columns


def _strange(session: Any, column: Column, payloads: Sequence[Any]) -> set[str]:
    """Those texts of a column that PostgreSQL does not read, or of which it would make another one: of an interval
    `1 day 2 hours` becomes `1 day 02:00:00`."""
    import psycopg

    texts = {text for payload in payloads if payload for text in own_texts(payload.get(column.name), column.type)}
    if not texts:
        return texts
    type_ = f"{quoted(column.type.schema)}.{quoted(column.type.name)}"
    valid = f"pg_input_is_valid(x, {quoted_text(type_)})"
    statement = "SELECT x FROM unnest(%s::text[]) x WHERE CASE WHEN {} THEN (x::{})::text <> x ELSE true END"
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
) -> _Out:
    field = held.field
    if field.kind is VectorKind.SPARSE:
        return _Out(held.column, _sparse_cells(column, held, extras, ids))
    if field.dtype is not DType.BINARY:
        numbers = column.values if field.kind is VectorKind.MULTI else column
        _require_finite(numbers, column, held, ids, where=where)
    if field.kind is VectorKind.MULTI:
        return _Out(held.column, wire.framed_multi(column, field, item_types[held.column.name]))
    return _Out(held.column, wire.framed_dense(column, field))


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


def _count_on(session: Any, shape: Shape, column: Column) -> None:
    """An application that leaves the id to the table must not be given one that is there."""
    name = quoted(column.name)
    highest = f"greatest((SELECT max({name}) FROM {shape.table.sql}), 1)"
    session.execute(
        f"SELECT setval(pg_get_serial_sequence(%s, %s)::regclass, {highest})",
        [shape.table.sql.replace("%%", "%"), column.name],
    )
