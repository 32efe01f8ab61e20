"""A collection in VDF as exitramp writes it: what vdf-io reads, and beside that every record exactly.

    VDF_META.json                the index among the others, and under the key `exitramp` what only exitramp reads
    articles/1.parquet           `id`, the vectors, `document` and a column for each key of the payloads
    exitramp/articles/1.parquet  the same rows: ids, namespaces, documents and payloads as they are

A namespace is a folder of its own. A key of the payload is a column of its own type where all of its values are of one
type that Parquet has, else one of JSON texts; that is for other readers, and exitramp reads the payload from beside it.
Vectors are doubles, as those of vdf-io are, and become what they were again.
Data files that were changed since are found out by their size and the hash of both their ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import stream_schema
from exitramp.errors import IntegrityError
from exitramp.payloads import decoded_payloads
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, Finding, RecordKey
from exitramp_adapters.stores.files.formats import ParquetRows
from exitramp_adapters.stores.files.matrix import RecordsFile, ends_of
from exitramp_adapters.stores.files.store import Snapshot, mark_of
from exitramp_adapters.stores.files.vdf_part import GROUP_ROWS, PartWriter
from exitramp_adapters.stores.files.vectors import stream_column

FORMAT: Final = 1
_OPEN_AT_ONCE: Final = 64
_MOST_KEYS: Final = 1000
_TAKEN: Final = ("id", "vector", "document")
_ARROW: Final = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
}


_KINDS: Final[Mapping[type, str]] = {bool: "bool", float: "float", str: "string", type(None): "null"}
"""Types of which every value is one kind. Asking only these took a fifth of the time."""


class OwnParts:
    """The collection as exitramp wrote it: parts that follow one another, each of two files with the same rows."""

    findings: tuple[Finding, ...] = ()

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        try:
            self.spec = CollectionSpec.from_json(about["spec"])
            self.origin = None if about["origin"] is None else Origin.from_json(about["origin"])
            self._columns: Mapping[str, str] = about["columns"]
            self._parts = [
                _OwnPart(folder / str(part["data"]), folder / str(part["records"]), part["ends"], self)
                for part in about["parts"]
            ]
        except (KeyError, TypeError) as error:
            raise IntegrityError(f"{folder}: what VDF_META.json says under 'exitramp' is damaged") from error
        self._starts = [0, *np.cumsum([part.rows for part in self._parts], dtype=np.int64).tolist()]
        self.rows = self._starts[-1]
        self.parts = range(0, self.rows, GROUP_ROWS)
        self.mark = mark_of([path for part in self._parts for path in part.paths])

    @property
    def columns(self) -> Mapping[str, str]:
        """Under which name each vector column of the stream stands in the data."""
        return self._columns

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        for part, low, high in self._inside(start, stop):
            yield from part.read(low, high)

    def keys(self, start: int, stop: int) -> Iterator[list[RecordKey]]:
        for part, low, high in self._inside(start, stop):
            yield from part.records.keys(low, high)

    def _inside(self, start: int, stop: int) -> Iterator[tuple[_OwnPart, int, int]]:
        for number, part in enumerate(self._parts):
            low, high = max(start, self._starts[number]), min(stop, self._starts[number + 1])
            if low < high:
                yield part, low - self._starts[number], high - self._starts[number]

    def hashes(self) -> npt.NDArray[np.int64]:
        return np.concatenate([np.zeros(0, np.int64), *(part.records.hashes() for part in self._parts)])

    def require_unchanged(self) -> None:
        """The files are held open."""

    def close(self) -> None:
        for part in self._parts:
            part.records.close()
            part.data.close()


class _OwnPart:
    def __init__(self, data: Path, records: Path, ends: Any, whole: OwnParts) -> None:
        self.paths = [data, records]
        if ends_of(data) != ends:
            raise IntegrityError(
                f"{data} was changed since exitramp wrote it: {records} does not belong to it any more",
                hint="to read what is there now, remove the key 'exitramp' from VDF_META.json",
            )
        self.data, self.records = ParquetRows(data), RecordsFile(records)
        self._whole = whole
        self.rows = self.records.rows
        if self.data.rows != self.rows:
            raise IntegrityError(f"{data} and {records} have different numbers of rows")

    def read(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        spec = self._whole.spec
        schema = stream_schema(spec)
        columns = [self._whole.columns[field.column] for field in spec.vectors]
        vectors = self.data.chunks((), start, only=columns)
        for batch in self.records.read(start, stop):
            chunk = next(vectors)
            if chunk.rows < batch.num_rows:
                raise IntegrityError(f"{self.paths[0]} and {self.paths[1]} are not cut into the same groups of rows")
            made = [
                stream_column(chunk.columns[column].slice(0, batch.num_rows), field, lambda row: self.paths[0].name)
                for field, column in zip(spec.vectors, columns, strict=True)
            ]
            yield pa.RecordBatch.from_arrays([*batch.columns, *made], schema=schema)


def write_own(folder: Path, name: str, held: Snapshot) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Write the files of a collection into new folders; what VDF says of each namespace, and what exitramp does."""
    home = _free(folder, name)
    spaces, keys = _looked_through(held)
    columns = _vector_columns(held.spec)
    kept = {key: _free_name(key, columns.values(), number) for number, key in enumerate(keys)}
    parts: list[dict[str, Any]] = []
    numbers = {space: number for number, space in enumerate(spaces, start=1)}
    with ThreadPoolExecutor(2, "exitramp-vdf-write") as threads:
        for first in range(0, len(spaces), _OPEN_AT_ONCE):
            some = spaces[first : first + _OPEN_AT_ONCE]
            writers = {
                space: PartWriter(folder, home, numbers[space], len(spaces), held, columns, keys, kept, threads)
                for space in some
            }
            for batch in held.read(0, held.rows):
                if not held.spec.has_namespaces:
                    writers[None].add(batch)
                    continue
                spots = batch.column("namespace").to_pylist()
                for space in dict.fromkeys(spots):
                    if space in writers:
                        rows = [row for row, each in enumerate(spots) if each == space]
                        writers[space].add(batch if len(rows) == len(spots) else batch.take(pa.array(rows)))
            for space, writer in writers.items():
                parts.append({"namespace": space, **writer.close()})
    told = {
        "format": FORMAT,
        "spec": held.spec.to_json(),
        "origin": None if held.origin is None else held.origin.to_json(),
        "columns": columns,
        "home": home,
        "parts": parts,
    }
    return parts, told


def _free(folder: Path, name: str) -> str:
    """A folder's name that is made of the collection's and is not there yet."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:60] or "index"
    number = 1
    while True:
        home = slug if number == 1 and slug != "exitramp" else f"{slug}-{number}"
        if not (folder / home).exists() and not (folder / "exitramp" / home).exists():
            return home
        number += 1


def _looked_through(held: Snapshot) -> tuple[list[str | None], dict[str, pa.DataType]]:
    """All namespaces, and the keys of all payloads with the type that a column of each can have."""
    spaces: dict[str | None, None] = {}
    seen: dict[str, set[str]] = {}
    for batch in held.read(0, held.rows):
        spaces.update(dict.fromkeys(batch.column("namespace").to_pylist() if held.spec.has_namespaces else [None]))
        for key, values in _by_key(decoded_payloads(batch.column("payload"))):
            seen.setdefault(key, set()).update(_types_of(values))
    # Keys of which there are too many to be columns stand in the records beside the data alone.
    return list(spaces), {key: _column_type(kinds) for key, kinds in list(seen.items())[:_MOST_KEYS]}


def _by_key(payloads: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Every key of these payloads, in the order in which they come up, with the values of those that have it.

    Payloads of a collection mostly have the same keys, which stand in one order in their texts: those with five keys
    take 0.3 us each so, and 0.6 where each key of each is looked at.
    """
    alike: dict[tuple[str, ...], list[Any]] = {}
    for payload in payloads:
        if payload:
            alike.setdefault(tuple(payload), []).append(payload.values())
    for keys, found in alike.items():
        yield from zip(keys, zip(*found, strict=True), strict=True)


def _types_of(values: Sequence[Any]) -> set[str]:
    types = set(map(type, values))
    found = {_KINDS[each] for each in types & _KINDS.keys()}
    if int in types:
        numbers = [value for value in values if type(value) is int]
        found |= {_type_of(min(numbers)), _type_of(max(numbers))}
    others = types - _KINDS.keys() - {int}
    return found | {_type_of(value) for value in values if type(value) in others} if others else found


def _type_of(value: Any) -> str:
    known = _KINDS.get(type(value))
    if known is not None:
        return known
    kind = canonical.type_name(value)
    if kind == "int" and not -(2**63) <= value < 2**63:
        return "other"
    if kind == "timestamp" and value.tzinfo is None:
        return "other"
    if kind == "nonfinite":
        return "float"
    if kind == "list":
        inner = {_type_of(item) for item in value} - {"null"}
        return f"list of {inner.pop()}" if len(inner) == 1 and inner <= set(_ARROW) else "other"
    return kind if kind in _ARROW or kind == "null" else "other"


def _column_type(kinds: set[str]) -> pa.DataType:
    """`pa.null()` stands for JSON texts."""
    kinds = kinds - {"null"}
    if len(kinds) != 1:
        return pa.null()
    [kind] = kinds
    if kind.startswith("list of "):
        return pa.list_(_ARROW[kind.removeprefix("list of ")])
    return _ARROW.get(kind, pa.null())


def _vector_columns(spec: CollectionSpec) -> dict[str, str]:
    found: dict[str, str] = {}
    for field in spec.vectors:
        plain = field.name or "vector"
        taken = plain in found.values() or (bool(field.name) and plain in _TAKEN)
        found[field.column] = f"vector_{plain}" if taken else plain
    return found


def _free_name(key: str, vectors: Any, number: int) -> str:
    """As vdf-io does where a key of the metadata is called like a column of its own."""
    return f"metadata_{key}" if key in _TAKEN or key in vectors else key or f"key_{number}"
