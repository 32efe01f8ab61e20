"""Rows out of files, a chunk at a time: Parquet, Arrow, CSV and JSON lines.

Nothing is read but what one chunk needs. Parquet and Arrow files are entered in the middle; of a CSV or JSON-lines file
everything before the row that is wanted is read as well, since nothing tells where a row begins.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from exitramp.errors import DataInvalid, UsageError
from exitramp_adapters.stores.files.chunks import Chunk, RowsFile, cut_to, reading, refuse_doubles
from exitramp_adapters.stores.files.json_rows import JsonArrayRows, JsonRows

CHUNK_ROWS: Final = 4096
"""Of 384 doubles 4,096 rows are 12 MiB. Parquet of 20,000 x 384 took 0.11 s in chunks of 1,024 to 16,384 alike."""
_BLOCK_BYTES: Final = 16 * 2**20
_AHEAD_BYTES: Final = 2**20
"""Arrow's reader of CSV is some 30 blocks ahead: of 60,000 x 384 it held 41 MiB in blocks of 1 MiB and 430 in blocks of
16, in the same time. No row may be longer than a block."""
_PAIR_BYTES: Final = 2 * 2**20
"""Row groups that take no more are read two at a time: 20,000 texts of 370 bytes in ten groups came so in 4.4 ms, and
in 7.6 one after the other. Larger ones would take twice their memory."""
SUFFIXES: Final = (
    *(".parquet", ".pq", ".arrow", ".arrows", ".feather", ".ipc"),
    *(".csv", ".tsv", ".jsonl", ".ndjson", ".json"),
)


class ParquetRows:
    """A Parquet file, held open, so that it is read on even when another one has got its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, "Parquet"):
            self._opened = pa.OSFile(str(path))
            self._file = pq.ParquetFile(self._opened)
            self.schema: pa.Schema | None = self._file.schema_arrow
            about = self._file.metadata
        self.rows: int | None = about.num_rows
        self.metadata: Mapping[bytes, bytes] = about.metadata or {}
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        sizes = [group.num_rows for group in groups]
        self._small = [group.total_byte_size <= _PAIR_BYTES for group in groups]
        self._beside: pq.ParquetFile | None = None
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        refuse_doubles(path, self._file.schema_arrow.names)

    def chunks(self, keys: Sequence[str], skip: int = 0, only: Sequence[str] | None = None) -> Iterator[Chunk]:
        group = int(np.searchsorted(self._starts, skip, side="right")) - 1
        at = int(self._starts[group]) if group < len(self._starts) - 1 else skip
        with reading(self.path, "Parquet"):
            for batch in self._batches(group, only):
                yield from cut_to(batch, at, skip)
                at += batch.num_rows

    def _batches(self, first: int, only: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """Group by group: asked for all of them at once, the reader kept what it had read, 318 MB of 200,000 x 384.

        Of two that are read at once both are there before the first is given, so that between two batches nothing is
        being read, and the file may be closed.
        """
        number, last = first, len(self._small) - 1
        with ThreadPoolExecutor(1, "exitramp-files-pair") as other:  # which begins its thread when it is needed
            while number <= last:
                if number == last or not all(self._small[number : number + 2]):
                    yield from _group(self._file, number, only)
                    number += 1
                    continue
                if self._beside is None:  # a reader is for one thread; the open file is for any
                    self._beside = pq.ParquetFile(self._opened, metadata=self._file.metadata)
                second = other.submit(list, _group(self._beside, number + 1, only, abreast=True))
                both = [list(_group(self._file, number, only, abreast=True)), second.result()]
                for batches in both:
                    yield from batches
                number += 2

    def close(self) -> None:
        self._opened.close()


def _group(
    file: pq.ParquetFile, number: int, only: Sequence[str] | None, *, abreast: bool = False
) -> Iterable[pa.RecordBatch]:
    """The rows of one group; `abreast` of another that is read at the same time, the columns one after the other."""
    found: Iterable[pa.RecordBatch] = file.iter_batches(
        CHUNK_ROWS, row_groups=[number], columns=only, use_threads=not abreast
    )
    return found


class ArrowRows:
    """An Arrow IPC file (Feather of version 2), or a stream of the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, "Arrow"):
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
        refuse_doubles(path, self.schema.names)

    def chunks(self, keys: Sequence[str], skip: int = 0, only: Sequence[str] | None = None) -> Iterator[Chunk]:
        at = 0
        with reading(self.path, "Arrow"):
            for whole in self._batches():
                for start in range(0, whole.num_rows, CHUNK_ROWS):
                    batch = whole.slice(start, CHUNK_ROWS)
                    yield from cut_to(batch if only is None else batch.select(list(only)), at, skip)
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
        self._quotes_pair = False
        self._ahead_bytes = _AHEAD_BYTES
        with reading(path, "CSV"), path.open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file, delimiter=delimiter), None)
        if not names:
            raise DataInvalid(f"{path} is empty: its first line names the columns")
        refuse_doubles(path, names)
        self.schema: pa.Schema | None = pa.schema([(name, pa.string()) for name in names])

    def chunks(self, keys: Sequence[str], skip: int = 0, only: Sequence[str] | None = None) -> Iterator[Chunk]:
        assert self.schema is not None
        if not self._quotes_pair:
            self._require_quotes()
        names = self.schema.names
        convert = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            include_columns=None if only is None else list(only),
        )
        parse = pa.csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True)
        with reading(self.path, "CSV"):
            while True:
                read = pa.csv.ReadOptions(block_size=self._ahead_bytes)
                at = 0
                try:
                    with pa.csv.open_csv(self.path, read, parse, convert) as reader:
                        for whole in reader:
                            for start in range(0, whole.num_rows, CHUNK_ROWS):
                                batch = whole.slice(start, CHUNK_ROWS)
                                yield from cut_to(batch, at, skip)
                                at += batch.num_rows
                                skip = max(skip, at)
                    return
                except pa.ArrowInvalid as error:
                    if "straddl" not in str(error) or self._ahead_bytes >= _BLOCK_BYTES:
                        raise
                self._ahead_bytes = _BLOCK_BYTES  # a row is longer than that; what was given already is passed over

    def _require_quotes(self) -> None:
        """Raises `DataInvalid` for a quote that opens a cell and closes none: for Arrow all that follows is that cell.

        As a file should be, every other quote opens a cell, or goes on in it after one that is written twice. Where
        they do not, Python's own reader, twice as slow, tells whether they only stand within cells.
        """
        apart = np.frombuffer(f'"\r\n{self._delimiter}'.encode(), np.uint8)
        count, last = 0, ord("\n")
        pair = True
        with reading(self.path, "CSV"), self.path.open("rb") as file:
            file.seek(3 if file.read(3) == b"\xef\xbb\xbf" else 0)
            while pair and (block := file.read(_BLOCK_BYTES)):
                codes = np.frombuffer(b"%c" % last + block, np.uint8)
                quotes = np.flatnonzero(codes[1:] == ord('"')) + 1
                openers, closers = (quotes[(count + odd) % 2 :: 2] for odd in (0, 1))
                # What follows a closer at the end of a block is seen with the next one.
                behind = codes[closers[closers + 1 < len(codes)] + 1]
                if last == ord('"') and count and count % 2 == 0:
                    behind = np.append(behind, codes[1])
                pair = bool(np.isin(codes[openers - 1], apart).all() and np.isin(behind, apart).all())
                count, last = count + len(quotes), int(codes[-1])
        if not pair or count % 2:
            self._require_strict()
        self._quotes_pair = True

    def _require_strict(self) -> None:
        limit = csv.field_size_limit(sys.maxsize)
        try:
            with reading(self.path, "CSV"), self.path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, delimiter=self._delimiter, strict=True)
                line = 0
                try:
                    for _ in reader:
                        line = reader.line_num
                except csv.Error as error:
                    text = f"{self.path}: no CSV that can be read: line {line + 1} has a quote out of its place"
                    raise DataInvalid(text, hint='a quote inside a cell in quotes is written twice: ""') from error
        finally:
            csv.field_size_limit(limit)

    def close(self) -> None:
        """Nothing is held."""


def open_rows(path: Path) -> RowsFile:
    """The file as its name says. Raises `UsageError` for a name that says nothing, `DataInvalid` for other content."""
    suffix = path.suffix.lower()
    if suffix in {".parquet", ".pq"}:
        return ParquetRows(path)
    if suffix in {".arrow", ".arrows", ".feather", ".ipc"}:
        return ArrowRows(path)
    if suffix in {".csv", ".tsv"}:
        return CsvRows(path, delimiter="\t" if suffix == ".tsv" else ",")
    if suffix in {".jsonl", ".ndjson"}:
        return JsonRows(path)
    if suffix == ".json":
        return JsonArrayRows(path)
    raise UsageError(f"{path}: what kind of file this is cannot be told", hint=f"known are {', '.join(SUFFIXES)}")
