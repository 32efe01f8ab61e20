"""Rows of a file that follow one another, and what goes wrong when a file is read."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from exitramp.durable import READ, storage_errors
from exitramp.errors import DataInvalid


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


def cut_to(batch: pa.RecordBatch, at: int, skip: int) -> Iterator[Chunk]:
    """What of a batch that begins with row `at` is not skipped."""
    if at + batch.num_rows > skip:
        cut = batch.slice(max(0, skip - at))
        yield Chunk(at + max(0, skip - at), cut.num_rows, dict(zip(cut.schema.names, cut.columns, strict=True)))


def refuse_doubles(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataInvalid(f"{path}: two columns are called '{name}'")


class reading:
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
