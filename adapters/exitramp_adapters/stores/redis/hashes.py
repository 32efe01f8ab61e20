"""Records as the commands that write them into hashes.

Payloads of a batch have much the same keys: for each combination of keys and types there is one pattern of the whole
command, and the values of the rows that follow it are put into their places a column at a time. So a record of 384
float32 and seven fields takes 3 us, where row by row it took 7, and to put each part behind its length 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exitramp import canonical
from exitramp.arrow import dense_matrix, require_schema, stream_schema
from exitramp.errors import DataInvalid, UsageError
from exitramp.payloads import parsed_payloads
from exitramp.records import CollectionSpec
from exitramp_adapters.stores.redis.connection import bytes_of, pack
from exitramp_adapters.stores.redis.index import BATCH_ROWS, MARK, Index, VectorAttribute

_MARK: Final = MARK.encode()
_EMPTY: Final = b"{}"
_END: Final = b"\r\n"

# Hashes in one transaction. It is all there or not at all, after kill -9 too, and the server does nothing else in it.
# With 25, 50 and 100 of 384 float32 they were written at 30k/s, with 250 at 27k, with 500 and 1000 at 18k.
TRANSACTION_ROWS: Final = 100

_Blob = bytes | memoryview
_Shape = tuple[tuple[bool, ...], tuple[str, ...] | None, tuple[type, ...]]
"""Which vectors are there, the payload's keys (None: no payload at all), and their values' types."""


@dataclass(frozen=True, slots=True)
class HashRows:
    """The rows of a batch: their keys, and for each the packed command that writes it into a hash that is not there."""

    keys: Sequence[bytes]
    commands: Iterator[bytes]


def hash_rows(batch: pa.RecordBatch, index: Index, spec: CollectionSpec, *, where: str) -> HashRows:
    """What there may be to say against a row is said here; the commands are packed as they are taken.

    Raises `UsageError` for more rows than are taken at once, `DataInvalid` naming a record that the collection has no
    room for.
    """
    if batch.num_rows > BATCH_ROWS:
        raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {BATCH_ROWS}")
    names = stream_schema(spec).names
    if set(names) == set(batch.schema.names):
        batch = batch.select(names)
    require_schema(batch, spec, where=where)
    ids = batch.column("id").to_pylist()
    if spec.has_documents and batch.column("document").null_count < batch.num_rows:
        row = batch.column("document").is_valid().to_pylist().index(True)
        raise DataInvalid(f"{where}: the record {ids[row]!r} has a document, which belongs into the payload here")
    prefix = index.prefixes[0] if index.cut else b""
    keys = [prefix + id_.encode() for id_ in ids]
    if len(set(keys)) < len(keys):  # the hash would hold fields of both
        raise DataInvalid(f"{where}: an id stands twice in one batch")
    fields = [bytes_of(vector.attribute.identifier) for vector in index.vectors]
    vectors = list(zip(*[_blobs(batch, vector) for vector in index.vectors], strict=True))
    payloads = _payloads(batch)
    if _is_plain(batch, payloads, fields):
        return HashRows(keys, _Packed(fields).all(keys, vectors, payloads))
    found = []
    for id_, key, blobs, payload in zip(ids, keys, vectors, payloads, strict=True):
        try:
            found.append(pack((b"HSET", key, *_parts(fields, blobs, payload))))
        except DataInvalid as error:
            raise DataInvalid(f"{where}: the record {id_!r}: {error.message}", hint=error.hint) from error
    return HashRows(keys, iter(found))


def _payloads(batch: pa.RecordBatch) -> list[Any]:
    found = parsed_payloads(batch)
    if len(found) == batch.num_rows:
        return found
    rest = iter(found)
    return [next(rest) if there else None for there in batch.column("payload").is_valid().to_pylist()]


def _blobs(batch: pa.RecordBatch, vector: VectorAttribute) -> list[_Blob | None]:
    """Each row's numbers, where they stand: only the command that holds them is a copy."""
    column = batch.column(vector.field.column)
    matrix = dense_matrix(column)
    size = matrix.shape[1] * matrix.dtype.itemsize
    little = np.ascontiguousarray(matrix.astype(matrix.dtype.newbyteorder("<"), copy=False))
    data = little.view(np.uint8).reshape(-1).data
    found: list[_Blob | None] = [data[start : start + size] for start in range(0, len(data), size)]
    if column.null_count:
        found = [blob if valid else None for blob, valid in zip(found, column.is_valid().to_pylist(), strict=True)]
    return found


def _is_plain(batch: pa.RecordBatch, payloads: Sequence[Mapping[str, Any] | None], fields: Sequence[bytes]) -> bool:
    """Whether nothing can be wrong with any row, by what their keys are taken together: 0.5 us a row."""
    if len({*fields}) < len(fields):
        return False  # two of a record's vectors would stand in one field
    keys = {key for payload in payloads if payload for key in payload}
    if MARK in keys or any("\n" in key for key in keys) or not keys.isdisjoint(map(_shown, fields)):
        return False
    # An escape may hide half a character, which has no bytes.
    return not pc.any(pc.match_substring(batch.column("payload"), "\\u")).as_py()


def _shown(field: bytes) -> str:
    return field.decode("utf-8", "surrogateescape")


class _Lengths(dict[int, bytes]):
    """By its length, what stands before a value: what is always there, and the length."""

    def __init__(self, before: bytes) -> None:
        self._before = before

    def __missing__(self, length: int) -> bytes:
        found = self[length] = b"%b$%d\r\n" % (self._before, length)
        return found


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Of the commands for rows of one shape: what stands before each value, how the payload's values are written, and
    what stands behind the last."""

    before: Sequence[_Lengths]
    written: Sequence[Callable[[Any], bytes]]
    end: bytes


class _Packed:
    """Packs the rows of a batch with which nothing is wrong, some at a time, a column of them in one go."""

    def __init__(self, fields: Sequence[bytes]) -> None:
        self._fields = fields
        self._patterns: dict[_Shape, _Pattern] = {}

    def all(
        self, keys: Sequence[bytes], vectors: Sequence[Sequence[_Blob | None]], payloads: Sequence[Any]
    ) -> Iterator[bytes]:
        for first in range(0, len(keys), TRANSACTION_ROWS):
            some = slice(first, first + TRANSACTION_ROWS)
            yield from self._some(keys[some], vectors[some], payloads[some])

    def _some(
        self, keys: Sequence[bytes], vectors: Sequence[Sequence[_Blob | None]], payloads: Sequence[Any]
    ) -> list[bytes]:
        shapes: dict[_Shape, list[int]] = {}
        for row, (blobs, payload) in enumerate(zip(vectors, payloads, strict=True)):
            there = tuple([blob is not None for blob in blobs])
            if payload is None:
                shape: _Shape = (there, None, ())
            else:
                shape = (there, tuple(payload), tuple(map(type, payload.values())))
            shapes.setdefault(shape, []).append(row)
        found = [b""] * len(keys)
        for shape, rows in shapes.items():
            its = [keys[row] for row in rows], [vectors[row] for row in rows], [payloads[row] for row in rows]
            for row, command in zip(rows, self._alike(shape, *its), strict=True):
                found[row] = command
        return found

    def _alike(
        self,
        shape: _Shape,
        keys: Sequence[bytes],
        vectors: Sequence[Sequence[_Blob | None]],
        payloads: Sequence[Any],
    ) -> Iterable[bytes]:
        """The commands for rows of one shape."""
        there, names, types = shape
        if bytes in types:  # one that is UTF-8 is written otherwise than one that is none
            rows = zip(keys, vectors, payloads, strict=True)
            return [pack((b"HSET", key, *_parts(self._fields, *row))) for key, *row in rows]
        pattern = self._patterns.get(shape)
        if pattern is None:
            pattern = self._patterns[shape] = self._pattern(there, payloads[0])
        columns: list[Sequence[Any]] = [keys]
        columns += [column for column in zip(*vectors, strict=True) if column[0] is not None]
        values = zip(*[payload.values() for payload in payloads], strict=True) if names else ()
        columns += [[*map(write, column)] for write, column in zip(pattern.written, values, strict=True)]
        step = 2 * len(columns) + 1
        parts: list[_Blob] = [pattern.end] * (step * len(keys))
        for place, (before, column) in enumerate(zip(pattern.before, columns, strict=True)):
            parts[2 * place :: step] = map(before.__getitem__, map(len, column))
            parts[2 * place + 1 :: step] = column
        return [b"".join(parts[start : start + step]) for start in range(0, len(parts), step)]

    def _pattern(self, there: Sequence[bool], payload: Mapping[str, Any] | None) -> _Pattern:
        names = [name for name, is_there in zip(self._fields, there, strict=True) if is_there]
        names += [key.encode() for key in payload or ()]
        before = [b"*%d\r\n%b" % (2 * len(names) + 4, _part(b"HSET")), *[_END + _part(name) for name in names]]
        written = [_WRITTEN.get(type(value), _json_text) for value in (payload or {}).values()]
        return _Pattern([*map(_Lengths, before)], written, _END + _part(_MARK) + _part(_mark_of(payload)))


def _part(part: bytes) -> bytes:
    """A part of a command: its length and itself."""
    return b"$%d\r\n%b\r\n" % (len(part), part)


def _mark_of(payload: Mapping[str, Any] | None) -> bytes:
    """What says which fields hold JSON, of a payload without bytes."""
    if not payload:
        # A hash has a field at least, and this one tells no payload from an empty one.
        return b"" if payload is None else _EMPTY
    return b"\n".join([key.encode() for key, value in payload.items() if type(value) is not str])


def _parts(
    fields: Sequence[bytes], blobs: Sequence[_Blob | None], payload: Mapping[str, Any] | None
) -> Iterator[bytes]:
    """The names and values of a record's hash. Raises `DataInvalid` for what the hash has no room for."""
    taken: dict[bytes, _Blob] = {}
    for name, blob in zip(fields, blobs, strict=True):
        if blob is not None and taken.setdefault(name, blob) != blob:
            raise DataInvalid(f"two vectors for the field {name!r} of its hash")
    for name, blob in taken.items():
        yield from (name, bytes(blob))
    reserved = {_MARK, *(fields if taken else ())}
    typed: list[bytes] = []
    for key, value in (payload or {}).items():
        name = key.encode()
        if name in reserved:
            raise DataInvalid(f"the key {key!r} is the name of a field that holds something else here")
        yield name
        if type(value) is str:
            yield value.encode()
        elif type(value) is bytes and not _is_text(value):
            yield value
        elif b"\n" in name:
            raise DataInvalid("a key of several lines, whose value is no text")
        else:
            typed.append(name)
            yield _json_text(value)
    yield from (_MARK, b"\n".join(typed) if payload else _mark_of(payload))


def _json_text(value: Any) -> bytes:
    if type(value) is int:  # in full, however long: nobody who asks Redis for a number expects an object
        return b"%d" % value
    if type(value) is float:
        return _float_text(value)
    return canonical.dumps(value, keys_are_text=True).encode()


def _float_text(value: float) -> bytes:
    return repr(value).encode() if math.isfinite(value) else canonical.dumps(value).encode()


_WRITTEN: Final[Mapping[type, Callable[[Any], bytes]]] = {
    str: str.encode,
    int: b"%d".__mod__,
    bool: {True: b"true", False: b"false"}.__getitem__,
    float: _float_text,
    type(None): {None: b"null"}.__getitem__,
}


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
