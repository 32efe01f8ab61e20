"""Hashes and JSON documents as records.

What becomes of a hash that exitramp did not write: every field but the vectors' is a key of the payload, its value the
text that stands there, or bytes where that is no UTF-8. Only where the index says NUMERIC it is a number, and there
only if the number's own text is the very text of the field: `7` and `0.5`, but not `007` or `1e3`, which stay texts.

Something in a vector's place that is no vector of the field (a blob or an array of another length) stays in the payload
under the field's own name, and the record has no vector.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_array, stream_schema
from exitramp.errors import DataInvalid
from exitramp.payloads import payload_array
from exitramp.records import CollectionSpec, DType
from exitramp_adapters.stores.redis.connection import bytes_of
from exitramp_adapters.stores.redis.index import ITEM_BYTES, MARK, Index, VectorAttribute

_MARK: Final = MARK.encode()
_EMPTY: Final = b"{}"
_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]*")
_FLOAT: Final = re.compile(rb"-?[0-9]+[.e][0-9.e+-]+")
_NUMPY: Final[Mapping[str, str]] = {
    "FLOAT32": "<f4",
    "FLOAT64": "<f8",
    "FLOAT16": "<f2",
    "BFLOAT16": "<u2",
    "INT8": "i1",
    "UINT8": "u1",
}
_TAG: Final = canonical.TAG_PREFIX.encode()
_LONG: Final = re.compile(rb"[0-9]{19}")

Matrix = npt.NDArray[np.generic]


def id_of(key: bytes, index: Index) -> str:
    """The id in a key: what follows the prefix. Bytes that are no UTF-8 show as `\\xff`."""
    return key[index.cut :].decode("utf-8", "backslashreplace")


def hash_batch(
    keys: Sequence[bytes],
    hashes: Sequence[dict[bytes, bytes]],
    index: Index,
    spec: CollectionSpec,
    document: str | None,
) -> pa.RecordBatch:
    """The records of hashes. They are used up."""
    columns: dict[str, pa.Array] = {}
    sizes: dict[bytes, set[int]] = {}
    for vector in index.vectors:
        name = bytes_of(vector.attribute.identifier)
        size = (vector.field.dimensions or 0) * ITEM_BYTES[vector.item]
        blobs = [blob if len(blob := held.get(name, b"")) == size else None for held in hashes]
        columns[vector.field.column] = _vectors_of_blobs(blobs, vector, size)
        sizes.setdefault(name, set()).add(size)
    for name, taken in sizes.items():  # only now, since two fields may be one and the same blob
        for held in hashes:
            if len(held.get(name, b"")) in taken:
                del held[name]
    if document is not None:
        field = document.encode()
        columns["document"] = pa.array([_taken_text(held, field) for held in hashes], pa.string())
    numeric = {bytes_of(each.identifier) for each in index.attributes if each.kind == "NUMERIC"}
    ids = [id_of(key, index) for key in keys]
    reader = _Payloads(numeric)
    rows = [reader.of(held, id_) for held, id_ in zip(hashes, ids, strict=True)]
    return _batch(ids, rows, columns, spec)


def json_batch(
    keys: Sequence[bytes], texts: Sequence[bytes], index: Index, spec: CollectionSpec, document: str | None
) -> pa.RecordBatch:
    """The records of JSON documents: what stands at a vector's path is taken out of the payload."""
    ids = [id_of(key, index) for key in keys]
    rows: list[dict[str, Any] | None] = []
    for id_, text in zip(ids, texts, strict=True):
        found = orjson.loads(text)
        if not isinstance(found, dict):
            raise DataInvalid(f"the document of the record {id_!r} is no object but a {canonical.type_name(found)}")
        rows.append(found)
    columns: dict[str, pa.Array] = {}
    places: list[tuple[dict[str, Any], str]] = []
    for vector in index.vectors:
        found = [_array_at(row, vector) for row in rows]
        places += [place for _, place in found if place is not None]
        columns[vector.field.column] = _vectors_of_arrays([array for array, _ in found], vector)
    for inside, key in places:
        inside.pop(key, None)
    if document is not None:
        taken = [row.pop(document) if row and isinstance(row.get(document), str) else None for row in rows]
        columns["document"] = pa.array(taken, pa.string())
    return _batch(ids, rows, columns, spec)


def query_blob(vector: VectorAttribute, query: npt.NDArray[np.generic]) -> bytes:
    """A query's numbers as the index compares them."""
    with np.errstate(over="ignore"):
        if vector.item == "BFLOAT16":
            bits = np.ascontiguousarray(query, np.float32).view(np.uint32)
            return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
        return query.astype(_NUMPY[vector.item]).tobytes()


def _batch(
    ids: list[str], rows: Sequence[dict[str, Any] | None], columns: dict[str, pa.Array], spec: CollectionSpec
) -> pa.RecordBatch:
    try:
        columns["payload"] = payload_array(rows)
    except DataInvalid:
        for id_, row in zip(ids, rows, strict=True):
            try:
                canonical.dumps(row)
            except DataInvalid as error:
                raise DataInvalid(f"the record {id_!r}: {error.message}", hint=error.hint) from error
        raise
    columns["id"] = pa.array(ids, pa.string())
    schema = stream_schema(spec)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


class _Payloads:
    """Payloads of the hashes of a page, whose fields have much the same names: each is decoded once."""

    def __init__(self, numeric: Collection[bytes]) -> None:
        self._numeric = frozenset(numeric)
        self._names: dict[bytes, str] = {}
        self._typed: dict[bytes, frozenset[bytes]] = {}

    def of(self, held: dict[bytes, bytes], id_: str) -> dict[str, Any] | None:
        mark = held.pop(_MARK, None)
        read, odd = _number, self._numeric
        if mark is not None:
            if not held:
                return {} if mark == _EMPTY else None
            read, odd = _json, self._typed.get(mark) or self._learnt(mark)
        names, payload = self._names, {}
        for name, value in held.items():
            key = names.get(name) or self._name(name)
            if name in odd:
                payload[key] = read(value)
                continue
            try:
                payload[key] = value.decode()
            except UnicodeDecodeError:
                payload[key] = value
        if len(payload) < len(held):
            raise DataInvalid(f"two fields of the hash of the record {id_!r} have names that read alike")
        return payload

    def _learnt(self, mark: bytes) -> frozenset[bytes]:
        found = self._typed[mark] = frozenset(mark.split(b"\n"))
        return found

    def _name(self, name: bytes) -> str:
        found = self._names[name] = name.decode("utf-8", "backslashreplace")
        return found


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _number(value: bytes) -> Any:
    if _INTEGER.fullmatch(value):
        return int(value)
    if _FLOAT.fullmatch(value):
        text = value.decode()
        try:
            if canonical.dumps(number := float(text)) == text:
                return number
        except ValueError:
            pass  # such as 1.2.3
    return _text(value)


def _json(value: bytes) -> Any:
    """What a field holds that was JSON when it was written; an application may have put a text there since."""
    try:
        if _TAG not in value and not _LONG.search(value):
            return orjson.loads(value)
        # orjson makes a float of an integer beyond 64 bits.
        return canonical.loads(value.decode())
    except (DataInvalid, ValueError):
        return _text(value)


def _taken_text(held: dict[bytes, bytes], field: bytes) -> str | None:
    """The text of a field, which is then gone; what is no text stays where it is."""
    found = _text(held[field]) if field in held else None
    if not isinstance(found, str):
        return None
    del held[field]
    return found


def _vectors_of_blobs(blobs: Sequence[bytes | None], vector: VectorAttribute, size: int) -> pa.Array:
    valid = np.array([blob is not None for blob in blobs], dtype=bool)
    joined = b"".join([bytes(size) if blob is None else blob for blob in blobs])
    numbers = np.frombuffer(joined, _NUMPY[vector.item]).reshape(len(blobs), -1)
    return dense_array(_widened(numbers, vector.item), vector.field, valid=valid)


def _widened(numbers: npt.NDArray[Any], item: str) -> npt.NDArray[Any]:
    if item == "BFLOAT16":  # the upper half of a float32
        return (numbers.astype("<u4") << 16).view("<f4")
    return numbers.astype("<f4") if item == "UINT8" else numbers


def _array_at(
    row: dict[str, Any] | None, vector: VectorAttribute
) -> tuple[list[Any] | None, tuple[dict[str, Any], str] | None]:
    """The array at the field's path and the place where it stands, if it is one of as many numbers as the field has."""
    inside: Any = row
    *steps, last = vector.attribute.path or ("",)
    for step in steps:
        inside = inside.get(step) if isinstance(inside, dict) else None
    found = inside.get(last) if isinstance(inside, dict) else None
    if not isinstance(found, list) or len(found) != vector.field.dimensions or not {*map(type, found)} <= {int, float}:
        return None, None
    if vector.field.dtype is DType.INT8 and not all(type(each) is int and -128 <= each <= 127 for each in found):
        return None, None
    return found, (inside, last)


def _vectors_of_arrays(arrays: Sequence[list[Any] | None], vector: VectorAttribute) -> pa.Array:
    """As the index has them: cast to its type, unless the address asks for the documents' own float64."""
    valid = np.array([array is not None for array in arrays], dtype=bool)
    matrix = np.zeros((len(arrays), vector.field.dimensions or 0), np.float64)
    if valid.any():
        matrix[valid] = np.array([array for array in arrays if array is not None], np.float64)
    with np.errstate(over="ignore"):
        return dense_array(matrix.astype(vector.field.dtype.value), vector.field, valid=valid)


def rounded_rows(texts: Sequence[bytes], index: Index) -> int:
    """In how many of these documents a vector has a number that the index's type does not hold exactly."""
    found = 0
    for text in texts:
        row = orjson.loads(text)
        for vector in index.vectors:
            array, _ = _array_at(row, vector) if isinstance(row, dict) else (None, None)
            wide = np.array(array or [], np.float64)
            with np.errstate(over="ignore"):
                if not np.array_equal(wide.astype(vector.field.dtype.value).astype(np.float64), wide):
                    found += 1
                    break
    return found
