"""Records as the commands that write them into hashes.

Payloads of a batch have much the same keys: for each combination of keys and types there is one pattern of the whole
command, with places for the values. So a record of 384 float32 and seven fields takes 7 us, where to put each part of
the command behind its length took 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
_TEXT: Final = b"$%d\r\n%b\r\n"
"""A part of a command: its length and itself."""


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
    fields = [bytes_of(vector.attribute.identifier) for vector in index.vectors]
    vectors = list(zip(*[_blobs(batch, vector) for vector in index.vectors], strict=True))
    payloads = _payloads(batch)
    if _is_plain(batch, payloads, fields):
        return HashRows(keys, map(_Packed(fields).row, keys, vectors, payloads))
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


def _blobs(batch: pa.RecordBatch, vector: VectorAttribute) -> list[bytes | None]:
    column = batch.column(vector.field.column)
    matrix = dense_matrix(column)
    size = matrix.shape[1] * matrix.dtype.itemsize
    data = np.ascontiguousarray(matrix.astype(matrix.dtype.newbyteorder("<"), copy=False)).tobytes()
    found: list[bytes | None] = [data[start : start + size] for start in range(0, len(data), size)]
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


class _Packed:
    """Packs the rows of a batch with which nothing is wrong."""

    def __init__(self, fields: Sequence[bytes]) -> None:
        self._fields = fields
        self._patterns: dict[Any, tuple[bytes, Sequence[Callable[[Any], bytes]]]] = {}

    def row(self, key: bytes, blobs: Sequence[bytes | None], payload: Mapping[str, Any] | None) -> bytes:
        values = () if payload is None else payload.values()
        sizes = tuple([-1 if blob is None else len(blob) for blob in blobs])
        shape = (sizes, None if payload is None else tuple(payload), tuple(map(type, values)))
        found = self._patterns.get(shape)
        if found is None:
            if bytes in shape[2]:  # one that is UTF-8 is written otherwise than one that is none
                return pack((b"HSET", key, *_parts(self._fields, blobs, payload)))
            found = self._patterns[shape] = self._pattern(sizes, payload)
        pattern, written = found
        places: list[Any] = [len(key), key]
        places += blobs if -1 not in sizes else [blob for blob in blobs if blob is not None]
        for write, value in zip(written, values, strict=True):
            text = write(value)
            places += (len(text), text)
        return pattern % tuple(places)

    def _pattern(
        self, sizes: Sequence[int], payload: Mapping[str, Any] | None
    ) -> tuple[bytes, Sequence[Callable[[Any], bytes]]]:
        """Of a whole command, with places for the key, the vectors and the payload's values."""
        there = [(name, size) for name, size in zip(self._fields, sizes, strict=True) if size >= 0]
        parts = [_fixed(name) + b"$%d\r\n%%b\r\n" % size for name, size in there]
        parts += [_fixed(key.encode()) + _TEXT for key in payload or ()]
        mark = _mark_of(payload)
        head = b"*%d\r\n" % (2 * len(parts) + 4) + _fixed(b"HSET") + _TEXT
        written = [_WRITTEN.get(type(value), _json_text) for value in (payload or {}).values()]
        return b"".join([head, *parts, _fixed(_MARK), _fixed(mark)]), written


def _fixed(part: bytes) -> bytes:
    """In a pattern, a part that is no place."""
    return (_TEXT % (len(part), part)).replace(b"%", b"%%")


def _mark_of(payload: Mapping[str, Any] | None) -> bytes:
    """What says which fields hold JSON, of a payload without bytes."""
    if not payload:
        # A hash has a field at least, and this one tells no payload from an empty one.
        return b"" if payload is None else _EMPTY
    return b"\n".join([key.encode() for key, value in payload.items() if type(value) is not str])


def _parts(
    fields: Sequence[bytes], blobs: Sequence[bytes | None], payload: Mapping[str, Any] | None
) -> Iterator[bytes]:
    """The names and values of a record's hash. Raises `DataInvalid` for what the hash has no room for."""
    taken: dict[bytes, bytes] = {}
    for name, blob in zip(fields, blobs, strict=True):
        if blob is not None and taken.setdefault(name, blob) != blob:
            raise DataInvalid(f"two vectors for the field {name!r} of its hash")
    for name, blob in taken.items():
        yield from (name, blob)
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
