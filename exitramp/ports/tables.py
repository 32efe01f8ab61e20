"""Rows of a table with typed columns as records: which column is what, and what becomes of the others.

For stores that hold a collection as a table somebody may have made by hand. One column is the id; the vector columns
are the vector fields; every other column is a key of the payload under its own name, its value exactly what the column
holds. Nothing is guessed from a name: that a text column is the document, or a JSON column the payload itself instead
of one key in it, is said in the address.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from exitramp import canonical
from exitramp.errors import DataInvalid, UsageError
from exitramp.payloads import payload_array
from exitramp.records import VectorField
from exitramp.urls import Address

OPTIONS: Final = ("id", "namespace", "document", "payload", "vectors")
"""The options of an address by which a user says what the columns of a table of his own are."""


@dataclass(frozen=True, slots=True)
class Roles:
    """What each column of a table is.

    payload: a column of JSON objects whose keys are the payload's own. values: columns each of which is one key.
    vectors: the vector fields by the names of their columns. unread: columns that are left out, because the address
    names others with `vectors`.
    """

    id: str
    namespace: str | None = None
    document: str | None = None
    payload: str | None = None
    vectors: Mapping[str, VectorField] = field(default_factory=dict, hash=False)
    values: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def roles_in(
    address: Address, names: Sequence[str], *, key: Sequence[str], vectors: Mapping[str, VectorField]
) -> Roles:
    """What the columns `names` of a table are, by what the address says of them and what the store does.

    `key` is the primary key; `vectors` are the columns that hold vectors, with the fields as they are called if the
    address says nothing else. The option `vectors` names those to be read. Raises `UsageError` naming the columns there
    are, where the address names one that is not there, names one twice, or where nothing tells which column is the id.
    """
    chosen = {role: address.option(role) for role in ("id", "namespace", "document", "payload")}
    wanted = address.option("vectors")
    fields = dict(vectors) if wanted is None else {name: vectors[name] for name in _listed(address, wanted, vectors)}
    if chosen["id"] is None and len(key) == 1:
        chosen["id"] = key[0]
    if chosen["id"] is None:
        raise UsageError(
            f"{address}: {'its key has the columns ' + ', '.join(key) if key else 'the table has no primary key'}",
            hint="say which column holds the ids, each of them once: ?id=COLUMN",
        )
    taken: set[str] = set(vectors)
    for role, name in chosen.items():
        if name is None:
            continue
        if name not in names:
            raise UsageError(f"{address}: {role}={name}: there is no such column", hint=f"there are {', '.join(names)}")
        if name in taken:
            raise UsageError(f"{address}: {role}={name}: that column is something else already")
        taken.add(name)
    return Roles(
        str(chosen["id"]),
        chosen["namespace"],
        chosen["document"],
        chosen["payload"],
        fields,
        tuple(name for name in names if name not in taken),
        tuple(name for name in vectors if name not in fields),
    )


def _listed(address: Address, wanted: str, vectors: Collection[str]) -> list[str]:
    names = [name for name in wanted.split(",") if name]
    for name in names:
        if name not in vectors:
            hint = f"there are {', '.join(vectors)}" if vectors else "there are none"
            raise UsageError(f"{address}: vectors={name}: there is no such vector column", hint=hint)
    return list(dict.fromkeys(names))


def payload_column(ids: Sequence[str], values: Mapping[str, Sequence[Any]], objects: Sequence[Any] | None) -> pa.Array:
    """Canonical payload texts of rows: `values` are columns of Python values, `objects` decoded JSON objects.

    Without `values` an object that is None stays no payload. Raises `DataInvalid` naming the id of the row whose object
    is none, has a key that is a column as well, or holds what has no canonical form.
    """
    rows: list[dict[str, Any] | None]
    names = list(values)
    if objects is None:
        rows = [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]
        rows = rows if values else [None] * len(ids)
    else:
        rows = []
        columns = zip(*values.values(), strict=True) if values else ((),) * len(ids)
        for id_, found, row in zip(ids, objects, columns, strict=True):
            if found is not None and not isinstance(found, Mapping):
                raise DataInvalid(f"the payload of the record '{id_}' is no object but a {canonical.type_name(found)}")
            both = [name for name in names if found is not None and name in found]
            if both:
                raise DataInvalid(f"the record '{id_}' has the key '{both[0]}' in its payload and in a column")
            merged = dict(zip(names, row, strict=True)) | dict(found or {})
            rows.append(None if found is None and not names else merged)
    try:
        return payload_array(rows)
    except DataInvalid:
        for id_, payload in zip(ids, rows, strict=True):
            try:
                canonical.dumps(payload)
            except DataInvalid as error:
                raise DataInvalid(f"the record '{id_}': {error.message}", hint=error.hint) from error
        raise


def joined_payloads(ids: Sequence[str], objects: Sequence[Any], values: Mapping[str, Sequence[Any]]) -> list[Any]:
    """Payloads as exitramp wrote them with the columns beside them, by a user or for their types; null is no value.

    A column that repeats a key of the payload, as one does that is to be indexed, adds nothing. Raises `DataInvalid`
    naming the record where the two differ, or whose payload is no object.
    """
    rows = list(objects)
    for row, (id_, held) in enumerate(zip(ids, objects, strict=True)):
        if held is not None and not isinstance(held, dict):
            raise DataInvalid(f"the payload of the record '{id_}' is no object but a {canonical.type_name(held)}")
        more = {name: column[row] for name, column in values.items() if column[row] is not None}
        for name in more.keys() & (held or {}).keys():
            if held is not None and canonical.dumps(more[name]) != canonical.dumps(held[name]):
                raise DataInvalid(
                    f"the record '{id_}' has the key '{name}' in its payload, and something else in a column",
                    hint="which of the two is meant? make them the same, or give the column another name",
                )
        if more:
            rows[row] = {**(held or {}), **more}
    return rows


def plain_values(column: pa.Array) -> list[Any]:
    """The Python values of an Arrow column, exactly, as `canonical.dumps` takes them.

    What neither Python nor a payload has a type for is text (`is_textual` tells beforehand): times of day and moments
    finer than microseconds, durations and intervals. A map with text keys is an object, another one a list of pairs; of
    Arrow's own extension types a UUID stays one, and JSON is what it holds. Raises `DataInvalid` for a moment beyond
    the years 1 to 9999, a time of day from 24:00 on, a date with a time of day in it, and a struct of which two fields
    have one name: Python would make something else of each.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain_values(column.dictionary_decode())
    if isinstance(kind, pa.UuidType):
        return list(column.to_pylist())
    if isinstance(kind, pa.JsonType):
        return [None if text is None else canonical.parse(text, tags=False) for text in column.storage.to_pylist()]
    if isinstance(kind, pa.Bool8Type):
        return list(column.to_pylist())
    if isinstance(kind, pa.BaseExtensionType):
        return plain_values(column.storage)
    if pa.types.is_run_end_encoded(kind):
        return plain_values(pc.run_end_decode(column))
    if is_textual(kind):
        return _texts(column)
    if pa.types.is_map(kind):
        return _grouped(column, _pairs(column))
    if pa.types.is_union(kind):
        return _tagged(column)
    if pa.types.is_struct(kind):
        parts = {part.name: plain_values(column.field(number)) for number, part in enumerate(kind)}
        if len(parts) < kind.num_fields:
            raise DataInvalid(f"a struct of which two fields have one name: {', '.join(part.name for part in kind)}")
        rows = zip(*parts.values(), strict=True) if parts else ((),) * len(column)
        return [
            dict(zip(parts, row, strict=True)) if there else None
            for row, there in zip(rows, column.is_valid().to_pylist(), strict=True)
        ]
    if pa.types.is_fixed_size_list(kind):
        column = column.cast(pa.list_(kind.value_type))
        kind = column.type
    if any(is_kind(kind) for is_kind in _LISTS):
        return _grouped(column, plain_values(column.flatten()))
    _require_whole_days(column)
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError) as error:
        raise DataInvalid(f"a {kind} that no calendar holds: {type(error).__name__}") from error


_LISTS: Final = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view, pa.types.is_large_list_view)
_DAY: Final = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000}


def _require_whole_days(column: pa.Array) -> None:
    """pyarrow makes 00:00 of 24:00, and leaves out the time of day that a date of milliseconds may hold."""
    kind = column.type
    if pa.types.is_time(kind):
        least_most = pc.min_max(
            column.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).cast(pa.int64())
        ).as_py()
        if least_most["min"] is not None and not 0 <= least_most["min"] <= least_most["max"] < _DAY[kind.unit]:
            raise DataInvalid(f"a {kind} that no clock shows: it is not from 00:00 to before 24:00")
    elif pa.types.is_date64(kind):
        moments = column.cast(pa.int64()).drop_null().to_numpy(zero_copy_only=False)
        if (moments % _DAY["ms"]).any():
            raise DataInvalid(f"a {kind} with a time of day in it, which a date has not")


def is_textual(kind: pa.DataType) -> bool:
    """Whether values of this Arrow type, by themselves, become text in a payload."""
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return bool(kind.unit == "ns")
    return pa.types.is_duration(kind) or bool(kind == pa.month_day_nano_interval())


def textual_columns(schema: pa.Schema, names: Collection[str]) -> list[str]:
    """Those of the columns `names` in which something becomes text."""
    return [name for name in names if _has_textual(schema.field(name).type)]


def _has_textual(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _has_textual(kind.value_type)
    inside = [kind.field(number).type for number in range(kind.num_fields)]
    return is_textual(kind) or any(_has_textual(part) for part in inside)


def _texts(column: pa.Array) -> list[str | None]:
    kind = column.type
    if pa.types.is_duration(kind):
        return [None if count is None else f"{count} {kind.unit}" for count in column.cast(pa.int64()).to_pylist()]
    if kind == pa.month_day_nano_interval():
        return [None if part is None else f"P{part[0]}M{part[1]}DT{part[2]}ns" for part in column.to_pylist()]
    if pa.types.is_time(kind):
        return list(pc.cast(column, pa.string()).to_pylist())
    # Arrow's own text of a moment has nine digits; one with a zone is written in UTC, and says so with a Z.
    texts = pc.strftime(column.cast(pa.timestamp("ns", "UTC")) if kind.tz else column, "%Y-%m-%dT%H:%M:%S")
    mark = "Z" if kind.tz else ""
    return [None if text is None else text + mark for text in texts.to_pylist()]


def _tagged(column: pa.Array) -> list[Any]:
    """A value of a union as an object with the name of its alternative as the one key; null, whichever is null."""
    if column.offset:  # pyarrow shows the codes and offsets of a slice as if it were the whole
        column = column.take(pa.array(range(len(column)), pa.int64()))
    kind = column.type
    places = {code: place for place, code in enumerate(kind.type_codes)}
    names = [kind.field(place).name for place in range(kind.num_fields)]
    parts = [plain_values(column.field(place)) for place in range(kind.num_fields)]
    at = column.offsets.to_pylist() if kind.mode == "dense" else range(len(column))
    found = [
        (places[code], parts[places[code]][row]) for code, row in zip(column.type_codes.to_pylist(), at, strict=True)
    ]
    return [None if value is None else {names[place]: value} for place, value in found]


def _pairs(column: pa.Array) -> list[tuple[Any, Any]]:
    start, end = column.offsets[0].as_py(), column.offsets[len(column)].as_py()
    keys, items = column.keys.slice(start, end - start), column.items.slice(start, end - start)
    return list(zip(plain_values(keys), plain_values(items), strict=True))


def _grouped(column: pa.Array, flat: list[Any]) -> list[Any]:
    """`flat` cut into the rows of a list or map column: null rows have no items in it."""
    if pa.types.is_map(column.type):
        # Pairs that stand behind a null row are not skipped as a list's items are: each row is found by its offsets.
        offsets = column.offsets.to_pylist()
        there = column.is_valid().to_pylist()
        parts = [flat[offsets[row] - offsets[0] : offsets[row + 1] - offsets[0]] for row in range(len(column))]
        return [_object_of(part) if valid else None for part, valid in zip(parts, there, strict=True)]
    rows: list[Any] = []
    at = 0
    for size in pc.list_value_length(column).to_pylist():
        rows.append(None if size is None else flat[at : at + size])
        at += size or 0
    return rows


def _object_of(pairs: list[tuple[Any, Any]]) -> Any:
    keys = [key for key, _ in pairs]
    if all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys):
        return dict(pairs)
    return [list(pair) for pair in pairs]
