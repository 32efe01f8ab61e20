"""Rows out of files, a chunk at a time: Parquet, Arrow, CSV and JSON lines.

Nothing is read but what one chunk needs. Parquet and Arrow files are entered in the middle; of a CSV or JSON-lines file
everything before the row that is wanted is read as well, since nothing tells where a row begins.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from exitramp import canonical
from exitramp.durable import READ, storage_errors
from exitramp.errors import DataInvalid, UsageError

CHUNK_ROWS: Final = 4096
"""Of 384 doubles 4,096 rows are 12 MiB. Parquet of 20,000 x 384 took 0.11 s in chunks of 1,024 to 16,384 alike."""
JSON_ROWS: Final = 512
_BLOCK_BYTES: Final = 16 * 2**20
_CONSTANTS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows that follow one another in a file, the first being `first` (from 0).

    columns: those of the file; of JSON lines only the keys that were asked for, and `objects` what else each line has.
    """

    first: int
    rows: int
    columns: Mapping[str, pa.Array]
    objects: list[dict[str, Any]] | None = field(default=None, hash=False)


class RowsFile(Protocol):
    """One file of rows. `schema` is None where only the rows themselves tell what they hold; `rows` where nobody does
    until all were read. `keys` of `chunks` are those that become columns of JSON lines."""

    path: Path
    schema: pa.Schema | None
    rows: int | None

    def chunks(self, keys: Sequence[str], skip: int = 0, only: Sequence[str] | None = None) -> Iterator[Chunk]: ...

    def close(self) -> None: ...


class ParquetRows:
    """A Parquet file, held open, so that it is read on even when another one has got its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _reading(path, "Parquet"):
            self._file = pq.ParquetFile(path, memory_map=True)
            self.schema: pa.Schema | None = self._file.schema_arrow
            about = self._file.metadata
        self.rows: int | None = about.num_rows
        self.metadata: Mapping[bytes, bytes] = about.metadata or {}
        sizes = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        _no_doubles(path, self._file.schema_arrow.names)

    def chunks(self, keys: Sequence[str], skip: int = 0, only: Sequence[str] | None = None) -> Iterator[Chunk]:
        group = int(np.searchsorted(self._starts, skip, side="right")) - 1
        at = int(self._starts[group]) if group < len(self._starts) - 1 else skip
        with _reading(self.path, "Parquet"):
            found = self._file.iter_batches(
                CHUNK_ROWS, row_groups=list(range(group, len(self._starts) - 1)), columns=only, use_threads=True
            )
            for batch in found:
                yield from _from(batch, at, skip)
                at += batch.num_rows

    def close(self) -> None:
        self._file.close(force=True)


class ArrowRows:
    """An Arrow IPC file (Feather of version 2), or a stream of the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _reading(path, "Arrow"):
            self._map = pa.memory_map(str(path))
            try:
                self._file: Any = pa.ipc.open_file(self._map)
            except pa.ArrowInvalid:
                self._map.seek(0)
                self._file = None
                with pa.ipc.open_stream(self._map) as stream:
                    self.schema: pa.Schema | None = stream.schema
            else:
                self.schema = self._file.schema
        sizes = [] if self._file is None else [batch.num_rows for batch in self._batches()]
        self.rows: int | None = None if self._file is None else sum(sizes)
        assert self.schema is not None
        _no_doubles(path, self.schema.names)

    def chunks(self, keys: Sequence[str], skip: int = 0, only: Sequence[str] | None = None) -> Iterator[Chunk]:
        at = 0
        with _reading(self.path, "Arrow"):
            for whole in self._batches():
                for start in range(0, whole.num_rows, CHUNK_ROWS):
                    batch = whole.slice(start, CHUNK_ROWS)
                    yield from _from(batch if only is None else batch.select(list(only)), at, skip)
                    at += batch.num_rows

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self._file is not None:
            yield from (self._file.get_batch(number) for number in range(self._file.num_record_batches))
            return
        with pa.memory_map(str(self.path)) as found, pa.ipc.open_stream(found) as stream:
            yield from stream

    def close(self) -> None:
        self._map.close()


class CsvRows:
    """Every cell is the text that stands there. An empty one is null, and an empty one in quotes the empty text."""

    rows: int | None = None

    def __init__(self, path: Path, *, delimiter: str = ",") -> None:
        self.path = path
        self._delimiter = delimiter
        with _reading(path, "CSV"), path.open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file, delimiter=delimiter), None)
        if not names:
            raise DataInvalid(f"{path} is empty: its first line names the columns")
        _no_doubles(path, names)
        self.schema: pa.Schema | None = pa.schema([(name, pa.string()) for name in names])

    def chunks(self, keys: Sequence[str], skip: int = 0, only: Sequence[str] | None = None) -> Iterator[Chunk]:
        assert self.schema is not None
        names = self.schema.names
        convert = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            include_columns=None if only is None else list(only),
        )
        parse = pa.csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True)
        read = pa.csv.ReadOptions(block_size=_BLOCK_BYTES)
        at = 0
        with _reading(self.path, "CSV"), pa.csv.open_csv(self.path, read, parse, convert) as reader:
            for whole in reader:
                for start in range(0, whole.num_rows, CHUNK_ROWS):
                    batch = whole.slice(start, CHUNK_ROWS)
                    yield from _from(batch, at, skip)
                    at += batch.num_rows

    def close(self) -> None:
        """Nothing is held."""


class JsonRows:
    """One JSON object on each line. Blank lines are none; the words NaN and Infinity are taken as Python writes them."""

    schema: pa.Schema | None = None
    rows: int | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        with _reading(path, "JSON"):
            path.open("rb").close()

    def names(self) -> list[str]:
        """The keys of the first lines."""
        found: dict[str, None] = {}
        for number, (_, line) in zip(range(100), self._lines(), strict=False):
            found.update(dict.fromkeys(self._object(line, number)))
        return list(found)

    def chunks(self, keys: Sequence[str], skip: int = 0, only: Sequence[str] | None = None) -> Iterator[Chunk]:
        held: list[dict[str, Any]] = []
        at = 0
        for at, (number, line) in enumerate(self._lines(), start=1):
            if at <= skip:
                continue
            held.append(self._object(line, number))
            if len(held) == JSON_ROWS:
                yield self._chunk(held, at - len(held), keys)
                held = []
        if held:
            yield self._chunk(held, at - len(held), keys)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with _reading(self.path, "JSON"), self.path.open("rb") as file:
            for number, line in enumerate(file):
                if not line.isspace():
                    yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line

    def _object(self, line: bytes, number: int) -> dict[str, Any]:
        where = f"{self.path}:{number + 1}"
        try:
            text = line.decode("utf-8")
            if canonical.TAG_PREFIX in text:
                found = canonical.parse(text)
            else:
                found = json.loads(text, object_pairs_hook=_unique, parse_constant=_CONSTANTS.__getitem__)
        except DataInvalid as error:
            raise DataInvalid(f"{where}: {error.message}") from error
        except (ValueError, RecursionError) as error:
            raise DataInvalid(f"{where}: no JSON that can be read ({_reason(error)})") from error
        if not isinstance(found, dict):
            raise DataInvalid(f"{where}: a JSON object is wanted on each line, not a {canonical.type_name(found)}")
        return found

    def _chunk(self, held: list[dict[str, Any]], first: int, keys: Sequence[str]) -> Chunk:
        columns = {}
        for key in keys:
            values = [found.pop(key, None) for found in held]
            columns[key] = _json_column(values, lambda row, key=key: f"{self.path} row {first + row + 1}: '{key}'")
        return Chunk(first, len(held), columns, held)

    def close(self) -> None:
        """Nothing is held."""


def _json_column(values: list[Any], where: Any) -> pa.Array:
    """The values of one key as an Arrow column; what is of no one type is kept as JSON text, as a vector's may be."""
    sparse = [value if value is None or not isinstance(value, dict) else _sparse(value) for value in values]
    for row, value in enumerate(sparse):
        if isinstance(value, bool) or value is NotImplemented:
            raise DataInvalid(f"{where(row)} holds what this column cannot have")
    try:
        return pa.array(sparse)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    if all(value is None or isinstance(value, str | int) for value in sparse):
        return pa.array([None if value is None else str(value) for value in sparse], pa.string())
    try:
        return pa.array(sparse, pa.list_(pa.float64()))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise DataInvalid(f"{where(0)} and the rows after it hold values of several kinds") from error


def _sparse(value: dict[str, Any]) -> Any:
    """`{"indices": […], "values": […]}` as it is, and `{"12": 0.5, …}` as the same."""
    if value.keys() == {"indices", "values"}:
        return value
    if all(key.isascii() and key.isdigit() for key in value):
        return {"indices": [int(key) for key in value], "values": [float(number) for number in value.values()]}
    return NotImplemented


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _from(batch: pa.RecordBatch, at: int, skip: int) -> Iterator[Chunk]:
    """What of a batch that begins with row `at` is not skipped."""
    if at + batch.num_rows > skip:
        cut = batch.slice(max(0, skip - at))
        yield Chunk(at + max(0, skip - at), cut.num_rows, dict(zip(cut.schema.names, cut.columns, strict=True)))


def _no_doubles(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataInvalid(f"{path}: two columns are called '{name}'")


def _reason(error: BaseException) -> str:
    return "a key stands twice in one object" if "stands twice" in str(error) else type(error).__name__


class _reading:
    """What a file system or a reader raises about `path`, as an error of ours that names it."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._kind = path, kind

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException | UnicodeDecodeError | csv.Error) and not isinstance(error, OSError):
            why = _uneven_line(self._path) if self._kind == "CSV" else ""
            raise DataInvalid(f"{self._path}: no {self._kind} that can be read{why}") from error
        if isinstance(error, OSError):
            if error.errno is None:  # Arrow raises it for a file that is cut short as well
                raise DataInvalid(f"{self._path}: no {self._kind} that can be read, or damaged") from error
            with storage_errors(self._path, READ):
                raise error


def _uneven_line(path: Path) -> str:
    """Which line has not as many cells as the first, since Arrow's words on it hold its values instead."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            wanted = len(next(reader))
            for cells in reader:
                if len(cells) not in (0, wanted):
                    return f": line {reader.line_num} has {len(cells)} cells where the first has {wanted}"
    except UnicodeDecodeError as error:
        return f": byte {error.start} is not UTF-8"
    except (OSError, csv.Error, StopIteration):
        pass
    return ""


def open_rows(path: Path) -> RowsFile:
    """The file as its name says. Raises `UsageError` for a name that says nothing, `DataInvalid` for another content."""
    suffix = path.suffix.lower()
    if suffix in {".parquet", ".pq"}:
        return ParquetRows(path)
    if suffix in {".arrow", ".arrows", ".feather", ".ipc"}:
        return ArrowRows(path)
    if suffix in {".csv", ".tsv"}:
        return CsvRows(path, delimiter="\t" if suffix == ".tsv" else ",")
    if suffix in {".jsonl", ".ndjson"}:
        return JsonRows(path)
    raise UsageError(f"{path}: what kind of file this is cannot be told", hint=f"known are {', '.join(SUFFIXES)}")


SUFFIXES: Final = (".parquet", ".pq", ".arrow", ".arrows", ".feather", ".ipc", ".csv", ".tsv", ".jsonl", ".ndjson")
