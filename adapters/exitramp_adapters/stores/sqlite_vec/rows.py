"""Reading records: rows by rowid, and their vectors out of the chunks that vec0 keeps them in.

A chunk is one BLOB with the vectors of (usually) 1024 rows, and `TABLE_rowids` tells which row is where. Read whole and
cut in numpy, 20,000 vectors of 384 numbers came at 700,000 to 2 million a second, where vec0's own SELECT gave 180,000
to 350,000. Where a page's rows are scattered (partitions, rows written anew), vec0 is asked row by row instead: no more
than that, but only what is wanted is read.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_array, stream_schema
from exitramp.errors import DataInvalid, StoreProtocolError
from exitramp.payloads import payload_array
from exitramp.ports.tables import joined_payloads, payload_column
from exitramp.records import DType, IdKind, RecordKey
from exitramp_adapters.stores.sqlite_vec.collection import Collection, Part
from exitramp_adapters.stores.sqlite_vec.database import quoted
from exitramp_adapters.stores.sqlite_vec.texts import documents, parsed, payload_texts
from exitramp_adapters.stores.sqlite_vec.vectors import TURNED, Mask, Matrix

_CACHE_BYTES: Final = 48 * 2**20
_SCATTERED: Final = 6
"""So many times the bytes that are wanted are read in chunks before vec0 is asked for the rows alone."""
_AT_ONCE: Final = 500
_ROWIDS: Final = "(SELECT value FROM json_each(?))"


class Rows:
    """Reads one collection. Chunks are kept from page to page, so that a write to the file makes it out of date."""

    def __init__(self, found: Collection) -> None:
        self.found = found
        self._chunks: OrderedDict[tuple[str, int | None, int], Matrix] = OrderedDict()

    def page(
        self, connection: Any, after: int | None, until: int | None, rows: int
    ) -> tuple[pa.RecordBatch, int | None, bool]:
        """At most `rows` records behind the rowid `after` and before `until`; the last rowid, and if none follow."""
        at = self.found.rowid
        bounds = [text for text, bound in ((f"{at} > ?", after), (f"{at} < ?", until)) if bound is not None]
        where = (
            f"WHERE {' AND '.join(bounds)} ORDER BY {at} LIMIT {rows + 1}"
            if bounds
            else f"ORDER BY {at} LIMIT {rows + 1}"
        )
        found = self._select(connection, where, [bound for bound in (after, until) if bound is not None])
        last = len(found) <= rows
        found = found[:rows]
        return self._batch(connection, found), (found[-1][0] if found else after), last

    def by_rowids(self, connection: Any, rowids: Sequence[int]) -> pa.RecordBatch:
        where = f"WHERE {self.found.rowid} IN {_ROWIDS} ORDER BY {self.found.rowid}"
        return self._batch(connection, self._select(connection, where, [json.dumps(list(rowids))]))

    def rowids_of(self, connection: Any, keys: Sequence[RecordKey]) -> list[int]:
        """The rowids of those records that are there."""
        wanted = set(keys)
        ids: list[Any] = list(dict.fromkeys(key.id for key in keys))
        if self.found.spec.id_kind is IdKind.INT64 and not self.found.is_own:
            ids = [int(id_) for id_ in ids if _is_int64(id_)]
        column = self.found.columns[self.found.roles.id]
        found = []
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            where = f"WHERE {column} IN ({','.join('?' * len(part))})"
            found += [rowid for rowid, key in self.keys(connection, where, part) if key in wanted]
        return sorted(found)

    def keys(self, connection: Any, where: str, values: Sequence[Any]) -> list[tuple[int, RecordKey]]:
        found = self.found
        space = "NULL" if found.roles.namespace is None else found.columns[found.roles.namespace]
        sql = f"SELECT {found.rowid}, {found.columns[found.roles.id]}, {space} FROM {found.source} {where}"
        return [
            (rowid, RecordKey(_id(id_, rowid, self.found), _namespace(space_)))
            for rowid, id_, space_ in connection.execute(sql, values)
        ]

    def payloads(self, connection: Any, rowids: Sequence[int]) -> pa.Array:
        """The canonical payload texts of these rowids, in ascending order of them."""
        where = f"WHERE {self.found.rowid} IN {_ROWIDS} ORDER BY {self.found.rowid}"
        rows = self._select(connection, where, [json.dumps(list(rowids))], vectors=False)
        return self._payloads(
            [_id(row[1], row[0], self.found) for row in rows], _turned(rows, self._width(vectors=False))
        )

    def _names(self) -> list[str]:
        """The columns that are asked for behind the rowid and the id."""
        roles = self.found.roles
        given = [name for name in (roles.namespace, roles.document, roles.payload) if name is not None]
        return [*given, *roles.values]

    def _width(self, *, vectors: bool = True) -> int:
        inline = [part for part in self.found.parts if part.inline] if vectors else []
        return 2 + len(self._names()) + len(inline)

    def _select(
        self, connection: Any, where: str, values: Sequence[Any], *, vectors: bool = True
    ) -> list[tuple[Any, ...]]:
        found = self.found
        asked = [found.rowid, found.columns[found.roles.id], *(found.columns[name] for name in self._names())]
        asked += [part.inline for part in found.parts if part.inline] if vectors else []
        rows: list[tuple[Any, ...]]
        rows = connection.execute(f"SELECT {', '.join(asked)} FROM {found.source} {where}", values).fetchall()
        return rows

    def _batch(self, connection: Any, rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
        found, spec = self.found, self.found.spec
        columns = _turned(rows, self._width())
        rowids = np.array(columns[0], np.int64)
        ids: Sequence[str] = columns[1]
        if not set(map(type, ids)) <= {str}:
            ids = [_id(id_, rowid, found) for rowid, id_ in zip(columns[0], columns[1], strict=True)]
        made: dict[str, pa.Array] = {"id": pa.array(ids, pa.string())}
        names = self._names()
        if spec.has_namespaces:
            made["namespace"] = pa.array(
                map(_namespace, columns[2 + names.index(found.roles.namespace or "")]), pa.string()
            )
        if spec.has_documents:
            made["document"] = documents(columns[2 + names.index(found.roles.document or "")], ids)
        made["payload"] = self._payloads(ids, columns)
        inline = iter(columns[2 + len(names) :])
        for part in found.parts:
            if part.inline is None:
                matrix, valid = self.vectors(connection, part, rowids)
            else:
                matrix, valid = self._decoded(part, next(inline), ids)
            made[part.field.column] = dense_array(matrix, part.field, valid=valid)
        schema = stream_schema(spec)
        return pa.RecordBatch.from_arrays([made[name] for name in schema.names], schema=schema)

    def _payloads(self, ids: Sequence[str], columns: list[Sequence[Any]]) -> pa.Array:
        found, names = self.found, self._names()
        roles = found.roles
        texts = None if roles.payload is None else columns[2 + names.index(roles.payload)]
        beside = {name: columns[2 + names.index(name)] for name in roles.values}
        if found.is_own:
            beside = {name: column for name, column in beside.items() if column.count(None) < len(column)}
        if texts is not None and not beside:
            return payload_texts(texts, ids, tags=found.is_own)
        values: dict[str, Sequence[Any]] = {}
        for name, column in beside.items():
            values[name] = (
                [None if each is None else bool(each) for each in column] if name in found.booleans else column
            )
        objects = None
        if texts is not None:
            objects = [parsed(text, id_, tags=found.is_own) for text, id_ in zip(texts, ids, strict=True)]
        if found.is_own and objects is not None:
            return payload_array(joined_payloads(ids, objects, values))
        return payload_column(ids, values, objects)

    def column(self, connection: Any, part: Part, rowids: npt.NDArray[np.int64]) -> tuple[Matrix, Mask]:
        """`vectors`, of a field that may also stand in an ordinary column."""
        if part.number is not None:
            return self.vectors(connection, part, rowids)
        found = self.found
        sql = (
            f"SELECT {part.inline} FROM {quoted(found.table)} t WHERE {found.rowid} IN {_ROWIDS} ORDER BY {found.rowid}"
        )
        values = [row[0] for row in connection.execute(sql, (json.dumps(rowids.tolist()),))]
        return self._decoded(part, values, [str(rowid) for rowid in rowids])

    def vectors(self, connection: Any, part: Part, rowids: npt.NDArray[np.int64]) -> tuple[Matrix, Mask]:
        """The vectors of these rows, ascending, and which of them have one."""
        items, dtype = part.field.item_count, np.dtype(part.stored)
        matrix, valid = np.zeros((len(rowids), items), dtype), np.zeros(len(rowids), bool)
        if not len(rowids):
            return matrix, valid
        asked = json.dumps(rowids.tolist())
        places = np.array(
            connection.execute(
                "SELECT p.rowid, p.chunk_id, p.chunk_offset FROM json_each(?) j"
                f" CROSS JOIN {quoted(part.table + '_rowids')} p ON p.rowid = j.value ORDER BY p.rowid",
                (asked,),
            ).fetchall(),
            np.int64,
        ).reshape(-1, 3)
        spots = np.searchsorted(rowids, places[:, 0])
        valid[spots] = True
        chunks = np.unique(places[:, 1])
        wanted = len(places) * items * dtype.itemsize
        missing = sum((part.table, part.number, int(chunk)) not in self._chunks for chunk in chunks)
        if missing > 1 and missing * part.chunk_rows * items * dtype.itemsize > _SCATTERED * wanted:
            self._one_by_one(connection, part, asked, rowids, matrix)
        else:
            for start, end in _runs(spots, places):
                offset = int(places[start, 2])
                held = self._chunk(connection, part, int(places[start, 1]))
                matrix[spots[start] : spots[start] + end - start] = held[offset : offset + end - start]
        if self.found.is_own:
            self._take_unranked(connection, part, rowids, matrix, valid)
        if part.field.dtype is DType.BINARY and self.found.low_bit_first:
            matrix = TURNED[matrix]
        return matrix, valid

    def _chunk(self, connection: Any, part: Part, chunk: int) -> Matrix:
        """All vectors of a chunk, also those of rows that are gone."""
        key = (part.table, part.number, chunk)
        if key not in self._chunks:
            row = connection.execute(
                f"SELECT vectors FROM {quoted(f'{part.table}_vector_chunks{part.number:02d}')} WHERE rowid=?", (chunk,)
            ).fetchone()
            dtype = np.dtype(part.stored)
            if row is None or len(row[0]) != part.chunk_rows * part.field.item_count * dtype.itemsize:
                raise StoreProtocolError(
                    f"the vec0 table {part.table!r} has no chunk {chunk} of {part.chunk_rows} vectors",
                    hint="is the file damaged, or of a sqlite-vec that keeps vectors in another way?",
                )
            self._chunks[key] = np.frombuffer(row[0], dtype).reshape(part.chunk_rows, -1)
            while len(self._chunks) > 1 and sum(each.nbytes for each in self._chunks.values()) > _CACHE_BYTES:
                self._chunks.popitem(last=False)
        return self._chunks[key]

    def _one_by_one(
        self, connection: Any, part: Part, asked: str, rowids: npt.NDArray[np.int64], matrix: Matrix
    ) -> None:
        joined = f"CROSS JOIN {quoted(part.table)} v ON v.{quoted(part.key)} = j.value"
        if part.key_is_text:
            joined = (
                f"CROSS JOIN {quoted(part.table + '_rowids')} p ON p.rowid = j.value"
                f" CROSS JOIN {quoted(part.table)} v ON v.{quoted(part.key)} = p.id"
            )
        sql = f"SELECT j.value, v.{quoted(part.column)} FROM json_each(?) j {joined}"
        found = connection.execute(sql, (asked,)).fetchall()
        spots = np.searchsorted(rowids, np.array([row[0] for row in found], np.int64))
        matrix[spots] = np.frombuffer(b"".join([row[1] for row in found]), matrix.dtype).reshape(len(found), -1)

    def _take_unranked(
        self, connection: Any, part: Part, rowids: npt.NDArray[np.int64], matrix: Matrix, valid: Mask
    ) -> None:
        rows = connection.execute(
            f"SELECT record, vector FROM {quoted(self.found.table + '_unranked')}"
            " WHERE field = ? AND record BETWEEN ? AND ?",
            (part.field.name, int(rowids[0]), int(rowids[-1])),
        ).fetchall()
        for record, vector in rows:
            spot = int(np.searchsorted(rowids, record))
            if rowids[spot] == record:
                matrix[spot], valid[spot] = np.frombuffer(vector, matrix.dtype), True

    def _decoded(self, part: Part, values: Sequence[Any], ids: Sequence[str]) -> tuple[Matrix, Mask]:
        """The vectors of a column of an ordinary table. Raises `DataInvalid` naming the record of one that is none."""
        items = part.field.item_count
        dtype = np.dtype("<f4" if part.stored == "json" else part.stored)
        valid = np.array([value is not None for value in values], bool)
        matrix = np.zeros((len(values), items), dtype)
        for row, value in enumerate(values):
            if value is not None:
                matrix[row] = _numbers(value, part, dtype, ids[row])
        if part.field.dtype is DType.BINARY and self.found.low_bit_first:
            matrix = TURNED[matrix]
        return matrix, valid


def _runs(spots: npt.NDArray[Any], places: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """From where to where rows follow one another in the page as in their chunk: each is one copy."""
    steps = (np.diff(places[:, 1]) != 0) | (np.diff(places[:, 2]) != 1) | (np.diff(spots) != 1)
    yield from pairwise([*([0] if len(places) else []), *(np.flatnonzero(steps) + 1).tolist(), len(places)])


def _numbers(value: Any, part: Part, dtype: np.dtype[Any], id_: str) -> Matrix:
    try:
        if part.stored != "json":
            if isinstance(value, bytes) and len(value) == part.field.item_count * dtype.itemsize:
                return np.frombuffer(value, dtype)
        elif isinstance(value, str):
            told = json.loads(value, parse_float=canonical.finite)
            if not set(map(type, told)) <= {int, float}:  # numpy makes NaN of null, 1 of true and of "1"
                raise TypeError(value)
            with np.errstate(over="raise"):
                found = np.array(told, np.float64).astype(dtype)
            if found.shape == (part.field.item_count,):
                return np.asarray(found)
    except (ValueError, TypeError, ArithmeticError):
        pass
    raise DataInvalid(
        f"the record '{id_}' holds no vector of {part.field.dimensions} dimensions in {part.column!r}",
        hint="?vectors= says of which type the numbers are; the first row says how many there are",
    )


def _turned(rows: list[tuple[Any, ...]], width: int) -> list[Sequence[Any]]:
    """Rows as columns. zip(*rows) makes an iterator of each row, which sets the garbage collector going: 3 us a row."""
    return [list(map(itemgetter(column), rows)) for column in range(width)]


def _id(value: Any, rowid: int, found: Collection) -> str:
    if type(value) is str or type(value) is int:
        return str(value)
    raise DataInvalid(
        f"the row {rowid} of {found.table!r} has no id: its {found.roles.id!r} is neither text nor integer"
    )


def _is_int64(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and str(int(text)) == text and -(2**63) <= int(text) < 2**63


def _namespace(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    raise DataInvalid("a namespace is neither text nor integer")
