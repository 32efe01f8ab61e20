"""Files of rows as one collection: looked through once to know what they hold, then read in order.

The first look finds out what no part of the files can tell: the type of each vector field, the kind of the ids, and
whether an id stands twice. Of large files it reads ids and vectors (of text files everything) and no payloads. What is
small enough to be held is read once: the records that the look has made are those that are read then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import stream_schema
from exitramp.errors import DataInvalid, ExitrampError, StoreRejected, UsageError
from exitramp.ports import Origin
from exitramp.ports.gathered import joined_keys
from exitramp.ports.tables import textual_columns
from exitramp.records import CollectionSpec, Finding, IdKind, RecordKey, VectorField
from exitramp_adapters.stores.files.ahead import Ahead
from exitramp_adapters.stores.files.cells import (
    Field,
    Part,
    Table,
    chunks_of,
    head_of,
    id_kind_in,
    keys_in,
    payloads_in,
    texts_in,
    wanted_columns,
    where_in,
)
from exitramp_adapters.stores.files.chunks import Chunk
from exitramp_adapters.stores.files.json_rows import JsonRows
from exitramp_adapters.stores.files.store import hashes_in, mark_of, stamp_of
from exitramp_adapters.stores.files.vectors import Look, stream_column

_KEPT_BYTES: Final = 64 * 2**20
"""Records that take no more than this are held from the first look on: 40,000 x 384 floats with their texts."""
_KEPT_FILE_BYTES: Final = 2 * _KEPT_BYTES
"""Larger files are not begun with: doubles take twice the room of floats."""
_COMPARED: Final = 50_000
"""Pairs of rows with one hash that are looked at together. All of them are the same key but for one in 2^64."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A chunk as it was read: columns of the stream but for vectors, and those by their names in the file."""

    part: Part
    chunk: Chunk
    first: int
    columns: Mapping[str, pa.Array]

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in (*self.columns.values(), *self.chunk.columns.values()))


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
        self._kept = look.kept
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
        if self._kept is not None:
            for kept in self._kept:
                low, high = max(start, kept.first), min(stop, kept.first + kept.chunk.rows)
                if low < high:
                    whole = self._batch(kept.part, kept.chunk, kept.columns)
                    yield whole.slice(low - kept.first, high - low)
            return
        for part, chunk, first in self._chunks(start, stop, None):
            ids, spaces = keys_in(self._table, part, chunk, first)
            yield self._batch(part, chunk, _columns(self._table, part, chunk, ids, spaces))

    def keys(self, start: int, stop: int) -> Iterator[list[RecordKey]]:
        for part, chunk, first in self._chunks(start, stop, wanted_columns(self._table, part=None)):
            ids, spaces = keys_in(self._table, part, chunk, first)
            yield [RecordKey(id_, space) for id_, space in zip(ids, spaces, strict=True)]

    def _chunks(self, start: int, stop: int, only: Sequence[str] | None) -> Iterator[tuple[Part, Chunk, int]]:
        """The rows from `start` to `stop`, with the number of each chunk's first row among all files' rows."""
        for number, part in enumerate(self._table.parts):
            base, end = self._starts[number], self._starts[number + 1]
            if end <= start or base >= stop:
                continue
            for chunk in chunks_of(self._table, part, skip=max(0, start - base), only=only):
                first = base + chunk.first
                if first >= stop:
                    break
                yield part, head_of(chunk, stop - first), first

    def _batch(self, part: Part, chunk: Chunk, others: Mapping[str, pa.Array]) -> pa.RecordBatch:
        where = where_in(part, chunk)
        columns = dict(others)
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


def _columns(
    table: Table, part: Part, chunk: Chunk, ids: Sequence[str], spaces: Sequence[str | None]
) -> dict[str, pa.Array]:
    """The columns of the stream but for vectors."""
    where = where_in(part, chunk)
    own = None if table.row_ids else chunk.columns[table.roles.id]
    # Texts stand there already, and need not be made again of what was read from them.
    columns: dict[str, pa.Array] = {"id": pa.array(ids, pa.string()) if own is None or own.type != pa.string() else own}
    if table.namespaced:
        columns["namespace"] = pa.array(spaces, pa.string())
    if table.roles.document is not None:
        columns["document"] = texts_in(table.roles.document, chunk, where)
    columns["payload"] = payloads_in(table, ids, chunk, where)
    return columns


class _Looked:
    """What the first look through all files finds."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.starts = [0]
        self._looks = [Look(each.column, each.said) for each in table.fields]
        self._hashes: list[npt.NDArray[np.int64]] = []
        self._kinds: set[IdKind] = set()
        self._seen: set[str] = set()
        files = [part.file for part in table.parts]
        # Objects of JSON take several times the room of their text.
        small = not any(isinstance(file, JsonRows) for file in files)
        small = small and sum(size for _, _, size, _ in stamp_of([file.path for file in files])) <= _KEPT_FILE_BYTES
        self.kept: list[_Kept] | None = [] if small else None
        self._kept_bytes = 0

    def see(self, part: Part) -> None:
        rows = 0
        only = None if self.kept is not None else wanted_columns(self._table, part)
        for chunk in Ahead().of(chunks_of(self._table, part, only=only)):
            where = where_in(part, chunk)
            first = self.starts[-1] + chunk.first
            ids, spaces = keys_in(self._table, part, chunk, first)
            self._kinds.add(id_kind_in(self._table, chunk, ids))
            self._hashes.append(hashes_in(joined_keys(ids, spaces)))
            vectors = {}
            for look in self._looks:
                column = chunk.columns.get(look.name)
                vectors[look.name] = look.see(pa.nulls(chunk.rows) if column is None else column, where)
            self._keep(part, replace(chunk, columns=vectors), chunk, ids, spaces)
            self._seen.update(name for name, column in chunk.columns.items() if column.null_count < len(column))
            rows = chunk.first + chunk.rows
        self.starts.append(self.starts[-1] + rows)

    def _keep(self, part: Part, vectors: Chunk, whole: Chunk, ids: Sequence[str], spaces: Sequence[str | None]) -> None:
        """Hold what was seen, as long as everything so far is held and there is room for it."""
        if self.kept is None:
            return
        try:
            columns = _columns(self._table, part, whole, ids, spaces)
        except ExitrampError:  # which is told where the record is read, if it is
            self.kept = None
            return
        found = _Kept(part, vectors, self.starts[-1] + whole.first, columns)
        self._kept_bytes += found.nbytes
        self.kept.append(found)
        if self._kept_bytes > _KEPT_BYTES:
            self.kept = None

    def hashes(self) -> npt.NDArray[np.int64]:
        """Raises `DataInvalid` naming the rows of an id that stands twice."""
        found = np.concatenate([np.zeros(0, np.int64), *self._hashes])
        order = np.argsort(found, kind="stable")
        same = np.flatnonzero(np.diff(found[order]) == 0)
        for start in range(0, len(same), _COMPARED):  # both rows of a pair, else the second would never be seen
            some = same[start : start + _COMPARED]
            self._compare(np.unique(np.concatenate([order[some], order[some + 1]])))
        return found

    def _compare(self, rows: npt.NDArray[np.int64]) -> None:
        """Two keys may have one hash: only those that are the same are doubles."""
        suspects = set(rows.tolist())
        first: dict[RecordKey, str] = {}
        for number, part in enumerate(self._table.parts):
            base = self.starts[number]
            for chunk in chunks_of(self._table, part, only=wanted_columns(self._table, part)):
                where = where_in(part, chunk)
                ids, spaces = keys_in(self._table, part, chunk, base + chunk.first)
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
    found: dict[str, None] = {}
    for part in table.parts:
        schema = part.file.schema
        names = [] if schema is None else [name for name in table.roles.values if name in schema.names]
        found |= {} if schema is None else dict.fromkeys(textual_columns(schema, names))
    if found:
        text = f"columns whose values become text, as no payload has their type: {', '.join(found)}"
        yield Finding("source.textual", text)
