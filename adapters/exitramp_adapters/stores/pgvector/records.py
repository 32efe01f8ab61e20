"""Records out of a table: what is selected of it, in which order, and the batches that its copied rows become."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np
import orjson
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import stream_schema
from exitramp.errors import DataInvalid, UsageError
from exitramp.payloads import payload_array
from exitramp.ports import Cursor, Partition, read_cursor
from exitramp.ports.tables import payload_column
from exitramp.records import IdKind, RecordKey, VectorKind
from exitramp_adapters.stores.pgvector import json_form, wire
from exitramp_adapters.stores.pgvector.catalog import Column, quoted
from exitramp_adapters.stores.pgvector.fields import Held
from exitramp_adapters.stores.pgvector.shape import Shape
from exitramp_adapters.stores.pgvector.values import INTEGERS, TEXTS, asked, decoded

Place = tuple[str | None, ...]
"""Where a record stands: the texts of the columns in whose order a scan goes."""
ALIAS: Final = "held"
"""What the table is called in statements."""
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]*")


class Selection:
    """What is selected of a table, and how the rows become batches. It knows no session."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.order = _order(shape)
        self._asked: list[str] = []
        self._keys = [(column, self._add(_key_text(column))) for column in shape.keys]
        self._document = None if shape.document is None else self._add(quoted(shape.document.name))
        self._payload = None if shape.payload is None else self._add(quoted(shape.payload.name))
        self._extra = None if shape.extra is None else self._add(quoted(shape.extra.name))
        self._values = [
            (column, [self._add(each) for each in asked(quoted(column.name), column.type)]) for column in shape.values
        ]
        self._vectors = [(held, self._add(quoted(held.column.name))) for held in shape.vectors]
        self.sql = f"SELECT {', '.join(self._asked)} FROM {shape.table.sql} {ALIAS}"

    def _add(self, expression: str) -> int:
        self._asked.append(expression)
        return len(self._asked) - 1

    def batch(self, rows: Sequence[bytes | memoryview]) -> tuple[pa.RecordBatch, Place | None]:
        """The records, and where the last of them stands."""
        shape, spec = self.shape, self.shape.spec
        cuts = wire.cut(rows, len(self._asked))
        keys = {column.name: wire.texts(cuts[at]) for column, at in self._keys}
        ids = _ids([keys[column.name] for column in shape.ids])
        extras = {} if self._extra is None else _extras(cuts[self._extra])
        names = ids.to_pylist()
        columns: dict[str, pa.Array] = {"id": ids, "payload": self._payloads(cuts, extras, names)}
        if shape.namespace is not None:
            columns["namespace"] = keys[shape.namespace.name]
        if self._document is not None:
            columns["document"] = _documents(wire.texts(cuts[self._document]), extras)
        for held, at in self._vectors:
            found = wire.vectors(cuts[at], held.field, names)
            columns[held.field.column] = _completed(found, held, extras)
        schema = stream_schema(spec)
        batch = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
        place = tuple(keys[column.name][-1].as_py() for column in self.order) if rows else None
        return batch, place

    def _payloads(
        self, cuts: Sequence[wire.Cut], extras: Mapping[int, Mapping[str, Any]], ids: Sequence[str]
    ) -> pa.Array:
        shape = self.shape
        types = {row: extra["t"] for row, extra in extras.items() if "t" in extra}
        texts: list[bytes | None] | None = None
        binary = False
        if self._payload is not None and shape.payload is not None:
            binary = shape.payload.type.name == "jsonb"
            head = 1 if binary else 0
            texts = [None if cell is None else cell[head:] for cell in cuts[self._payload].cells()]
            if shape.is_plain:
                return json_form.payload_texts(texts, types, ids)
            if binary and not shape.values and shape.extra is None:
                return json_form.object_texts(texts, ids)
        values = {
            column.name: decoded([cuts[at].cells() for at in places], column.type, ids, name=column.name)
            for column, places in self._values
        }
        objects = None
        if texts is not None:
            objects = json_form.values(texts, ids, what=getattr(shape.payload, "name", ""), binary=binary)
        if shape.extra is None:
            return payload_column(ids, values, objects)
        return payload_array(_merged(values, objects, extras, len(ids)))

    def ordered(self, *, backwards: bool = False) -> str:
        """Where there are no NULLs nothing is said of them: an index that puts them elsewhere would not be used."""
        way, nulls = ("DESC", " NULLS LAST") if backwards else ("ASC", " NULLS FIRST")
        return ", ".join(f"{_compared(column)} {way}{'' if column.not_null else nulls}" for column in self.order)

    def span(self, partition: Partition, after: Cursor | None) -> tuple[str, list[str]]:
        """The condition under which a record belongs to what is left of a partition, with its parameters."""
        bounds = json.loads(partition.token) if partition.token else {"above": None, "upto": None}
        above = bounds["above"] if after is None else self._place(after) or bounds["above"]
        conditions: list[str] = []
        words: list[str] = []
        if above is not None:
            condition, more = self._behind(above)
            conditions, words = [f"({condition})"], more
        if bounds["upto"] is not None:
            condition, more = self._behind(bounds["upto"])
            conditions.append(f"({condition}) IS NOT TRUE")
            words += more
        return " AND ".join(conditions) or "true", words

    def _place(self, cursor: Cursor) -> Place | None:
        place = read_cursor(cursor).get("place")
        if place is not None and (not isinstance(place, list) or len(place) != len(self.order)):
            raise UsageError("this cursor is not one of this table's scan", hint="start the scan anew")
        return None if place is None else tuple(place)

    def _behind(self, place: Sequence[str | None]) -> tuple[str, list[str]]:
        """That a record stands behind `place`. The first column is bounded by itself too, for an index to begin at."""
        condition = ""
        words: list[str] = []
        for column, bound in reversed(list(zip(self.order, place, strict=True))):
            name = _compared(column)
            value = f"%s::{_base(column)}"
            if bound is None:
                condition = f"{name} IS NOT NULL" + (f" OR ({name} IS NULL AND ({condition}))" if condition else "")
                continue
            if condition:
                condition = f"{name} >= {value} AND ({name} > {value} OR ({condition}))"
                words = [bound, bound, *words]
            else:
                condition, words = f"{name} > {value}", [bound]
        return condition, words

    def where_keys(self, keys: Sequence[RecordKey]) -> tuple[str, list[Any]] | None:
        """The condition that finds these records; None where none of the keys can be one of this table's."""
        shape = self.shape
        groups: dict[str | None, list[list[str]]] = {}
        for key in dict.fromkeys(keys):
            parts = _parts(key.id, shape)
            known = key.namespace is None if shape.namespace is None else json_form.ZERO not in (key.namespace or "")
            if parts is not None and known:
                groups.setdefault(key.namespace, []).append(parts)
        conditions: list[str] = []
        words: list[Any] = []
        for namespace, ids in groups.items():
            found, more = _among(shape.ids, ids)
            if shape.namespace is not None:
                name = quoted(shape.namespace.name)
                found = (
                    f"{name} IS NULL AND {found}"
                    if namespace is None
                    else f"{_key_text(shape.namespace)} = %s AND {found}"
                )
                words += [] if namespace is None else [namespace]
            conditions.append(f"({found})")
            words += more
        return (" OR ".join(conditions), words) if conditions else None


def _order(shape: Shape) -> tuple[Column, ...]:
    """The columns in whose order a scan goes: those that tell rows apart, without the namespace where ids alone do."""
    if shape.table.tells_apart([column.name for column in shape.ids]):
        return shape.ids
    return shape.keys


def _key_text(column: Column) -> str:
    is_text = column.type.name in TEXTS and column.type.name != "bpchar" and not column.type.is_array
    return quoted(column.name) if is_text else f"{quoted(column.name)}::text"


def key_texts(shape: Shape) -> list[str]:
    """The expressions by which the parts of a record's key are selected as texts."""
    return [_key_text(column) for column in shape.keys]


def key_of(texts: Sequence[str | None], shape: Shape) -> RecordKey:
    """The key whose parts are these texts."""
    namespace = None if shape.namespace is None else texts[0]
    parts = [text or "" for text in texts[len(texts) - len(shape.ids) :]]
    return RecordKey(parts[0] if len(parts) == 1 else _joined(parts), namespace)


def _compared(column: Column) -> str:
    """Of the table: in ORDER BY the bare name would be the selected text. A collation by which two texts that differ
    are equal cannot tell where a scan stands."""
    return f"{ALIAS}.{quoted(column.name)}" + ("" if column.deterministic else ' COLLATE "C"')


def _base(column: Column) -> str:
    """The column's type without its length: a bound that is cast to a length might be cut off."""
    return f"{quoted(column.type.schema)}.{quoted(column.type.name)}" + ("[]" if column.type.is_array else "")


def _parts(id_: str, shape: Shape) -> list[str] | None:
    """The texts of the columns of an id; None where it cannot be one of this table's."""
    parts = [id_]
    if len(shape.ids) > 1:
        try:
            parts = orjson.loads(id_)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(parts, list) or len(parts) != len(shape.ids) or not all(type(part) is str for part in parts):
            return None
        if _joined(parts) != id_:
            return None
    fits = all(fits_key(part, column, shape.spec.id_kind) for part, column in zip(parts, shape.ids, strict=True))
    return parts if fits else None


def fits_key(text: str, column: Column, kind: IdKind) -> bool:
    """Whether a column can hold just this text of an id."""
    name = column.type.name
    if json_form.ZERO in text:
        return False
    if name in INTEGERS:
        half = 2 ** (INTEGERS[name] - 1)
        return _INTEGER.fullmatch(text) is not None and len(text) <= 20 and -half <= int(text) < half
    if name == "uuid":
        try:
            return str(UUID(text)) == text
        except ValueError:
            return False
    if kind is IdKind.UINT64:
        return _INTEGER.fullmatch(text) is not None and len(text) <= 20 and 0 <= int(text) < 2**64
    return True


def _among(columns: Sequence[Column], ids: Sequence[Sequence[str]]) -> tuple[str, list[Any]]:
    """That the columns are among these. Types of which not every text is a value are compared as text."""

    def side(column: Column) -> tuple[str, str]:
        known = column.type.name in TEXTS or column.type.name in INTEGERS or column.type.name == "uuid"
        if (known or column.type.name == "numeric") and not column.type.is_array and column.type.name != "bpchar":
            return quoted(column.name), _base(column)
        return f"{quoted(column.name)}::text", "text"

    if len(columns) == 1:
        name, type_ = side(columns[0])
        return f"{name} = ANY(%s::text[]::{type_}[])", [[parts[0] for parts in ids]]
    sides = [side(column) for column in columns]
    names = ", ".join(name for name, _ in sides)
    lists = ", ".join("%s::text[]" for _ in sides)
    casts = ", ".join(f"k{number}::{type_}" for number, (_, type_) in enumerate(sides))
    aliases = ", ".join(f"k{number}" for number in range(len(sides)))
    words = [[parts[number] for parts in ids] for number in range(len(sides))]
    return f"({names}) IN (SELECT {casts} FROM unnest({lists}) AS wanted({aliases}))", words


def _ids(parts: Sequence[pa.Array]) -> pa.Array:
    if len(parts) == 1:
        return parts[0]
    return pa.array([_joined(row) for row in zip(*(part.to_pylist() for part in parts), strict=True)], pa.string())


def _joined(parts: Sequence[str]) -> str:
    return orjson.dumps(list(parts)).decode("utf-8")


def id_parts(id_: str, shape: Shape) -> list[str]:
    """The texts of the columns of an id to be written. Raises `DataInvalid` naming it."""
    parts = _parts(id_, shape)
    if parts is None:
        types = ", ".join(f"{column.name} {column.written}" for column in shape.ids)
        raise DataInvalid(f"the id {id_!r} is none that the column can hold as it is written: {types}")
    return parts


def _extras(column: wire.Cut) -> dict[int, Mapping[str, Any]]:
    """By row what stands in our own column beside the others."""
    found: dict[int, Mapping[str, Any]] = {}
    for row in np.flatnonzero(column.lengths > 0).tolist():
        start, length = int(column.starts[row]), int(column.lengths[row])
        value = json.loads(column.data[start + 1 : start + length])
        if isinstance(value, dict):
            found[row] = value
    return found


def _documents(texts: pa.Array, extras: Mapping[int, Mapping[str, Any]]) -> pa.Array:
    changed = {row: extra["d"] for row, extra in extras.items() if "d" in extra}
    if not changed:
        return texts
    documents = texts.to_pylist()
    for row, text in changed.items():
        original = canonical.loads(text)
        if documents[row] == original.replace(json_form.ZERO, json_form.STAND_IN):
            documents[row] = original
    return pa.array(documents, pa.string())


def _completed(found: pa.Array, held: Held, extras: Mapping[int, Mapping[str, Any]]) -> pa.Array:
    """With the sparse vectors that the column had no room for."""
    field = held.field
    if field.kind is not VectorKind.SPARSE:
        return found
    kept = {
        row: extra["s"][held.column.name] for row, extra in extras.items() if held.column.name in extra.get("s", ())
    }
    kept = {row: value for row, value in kept.items() if not found[row].is_valid}
    if not kept:
        return found
    pairs = []
    for row, value in enumerate(found.to_pylist()):
        if row in kept:
            indices = np.frombuffer(base64.b64decode(kept[row]["i"]), "<u4")
            pairs.append((indices, np.frombuffer(base64.b64decode(kept[row]["v"]), "<f4")))
        else:
            empty: dict[str, list[Any]] = {"indices": [], "values": []}
            one = value or empty
            pairs.append((np.array(one["indices"], np.uint32), np.array(one["values"], np.float32)))
    valid = found.is_valid().to_numpy(zero_copy_only=False) | np.isin(np.arange(len(found)), list(kept))
    return wire.sparse_array(
        np.concatenate([pair[0] for pair in pairs]).astype(np.uint32),
        np.concatenate([pair[1] for pair in pairs]).astype(np.float32),
        np.array([len(pair[0]) for pair in pairs], np.int64),
        valid,
        field,
    )


def _merged(
    values: Mapping[str, Sequence[Any]],
    objects: Sequence[Any] | None,
    extras: Mapping[int, Mapping[str, Any]],
    rows: int,
) -> list[dict[str, Any] | None]:
    """Payloads of a table of ours with typed columns: those that a record does not have are named beside them, and what
    no column holds exactly stands there as well."""
    names = list(values)
    columns = zip(*values.values(), strict=True) if values else ((),) * rows
    found: list[dict[str, Any] | None] = []
    for row, cells in enumerate(columns):
        payload = dict(zip(names, cells, strict=True))
        extra = extras.get(row, {})
        inner = objects[row] if objects is not None else None
        if isinstance(inner, dict):
            payload |= json_form.join(inner, extra.get("t"))
        for name in extra.get("missing", ()):
            if payload.get(name) is None:  # one that somebody has filled since is there
                payload.pop(name, None)
        more = json_form.join(extra.get("more", {}), extra.get("mt"))
        payload |= {name: value for name, value in more.items() if payload.get(name) is None}
        # Where no column could hold a payload there is none, as in the table that it was made after.
        is_none = "none" in extra if names or objects is not None else "empty" not in extra
        found.append(None if is_none and not payload else payload)
    return found
