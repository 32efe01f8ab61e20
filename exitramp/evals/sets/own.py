"""Sets in a form of ours: JSON lines, or Parquet with one row a case. Both keep everything, the hash included.

In Parquet `id`, `use_case`, `question` and `sha256` are texts; every other key of a case is a text column that holds it
as JSON, null where the case lacks it.
"""

from __future__ import annotations

import codecs
import json
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from exitramp.durable import READ, storage_errors
from exitramp.errors import ConfigError, DataInvalid
from exitramp.evals.sets.case import KNOWN, Case, parse_case
from exitramp.evals.sets.fields import finite, no_constant, unique_keys, whole

_TEXTS: Final = ("id", "use_case", "question", "sha256")


def read_jsonl(path: Path, *, name: str | None = None) -> tuple[Case, ...]:
    """Raises `ConfigError` naming file and line for what is no case; no message holds a text of the case."""
    return parse_jsonl(read_text(path, name=name), name or str(path))


def parse_jsonl(text: str, file: str) -> tuple[Case, ...]:
    cases: list[Case] = []
    first: dict[str, int] = {}
    for number, data in json_lines(text, file):
        try:
            case = parse_case(data)
            if case.id in first:
                raise DataInvalid(f"the id {case.id!r} was already used on line {first[case.id]}")
        except DataInvalid as error:
            raise ConfigError(error.message, file=file, line=number, hint=error.hint) from error
        first[case.id] = number
        cases.append(case)
    if not cases:
        raise ConfigError("no case in it", file=file, hint="write one JSON object a line: id, question, checks")
    return tuple(cases)


def write_jsonl(cases: Iterable[Case]) -> str:
    """One case a line, its hash last."""
    rows = [dict(case.data) | {"sha256": case.sha256} for case in cases]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_parquet(path: Path, *, name: str | None = None) -> tuple[Case, ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, raw = name or str(path), read_bytes(path)
    try:
        rows = pq.read_table(pa.BufferReader(raw)).to_pylist()
    # What pyarrow makes of bytes that are no Parquet: its own errors, or an OSError that no disk is behind.
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ConfigError("not a Parquet file that can be read", file=file) from error
    cases: list[Case] = []
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        try:
            case = parse_case(_unpacked(row))
            if case.id in seen:
                raise DataInvalid(f"the id {case.id!r} stands twice")
        except DataInvalid as error:
            raise ConfigError(f"row {number}: {error.message}", file=file, hint=error.hint) from error
        seen.add(case.id)
        cases.append(case)
    if not cases:
        raise ConfigError("no case in it", file=file, hint="write one row a case: id, question, checks")
    return tuple(cases)


def write_parquet(cases: Iterable[Case], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([pa.field(name, pa.string(), nullable=name not in ("id", "sha256")) for name in KNOWN])
    rows = [
        {
            name: (value if name in _TEXTS else json.dumps(value, ensure_ascii=False))
            for name, value in (dict(case.data) | {"sha256": case.sha256}).items()
        }
        for case in cases
    ]
    partial = path.with_name(path.name + ".partial")
    with storage_errors(path):
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), partial)
        partial.replace(path)


def read_text(path: Path, *, name: str | None = None) -> str:
    """Raises `PathUnusable`, or `ConfigError` for what is not UTF-8."""
    return decoded(read_bytes(path), name or str(path))


def read_bytes(path: Path) -> bytes:
    """Raises `PathUnusable`, and `ConfigError` for a named pipe, which may never end; one that is open already
    (`/dev/fd/…`) will do."""
    with storage_errors(path, READ):
        if stat.S_ISFIFO(path.stat().st_mode) and not str(path).startswith(("/dev/", "/proc/")):
            raise ConfigError("is a named pipe, and no file", file=str(path), hint="write what comes of it to a file")
        return path.read_bytes()


def decoded(raw: bytes, file: str) -> str:
    """UTF-8 without its mark, if it has one. Raises `ConfigError` naming the line that is not UTF-8."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        is_wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        told = "not UTF-8 but UTF-16" if is_wide else "not UTF-8"
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(told, file=file, line=line, hint="save it as UTF-8") from error


def json_lines(text: str, file: str) -> Iterator[tuple[int, Any]]:
    """What each line holds that is not blank, with its number. Raises `ConfigError` naming the line that is no JSON."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                data = loads(line)
            except DataInvalid as error:
                raise ConfigError(error.message, file=file, line=number, hint=error.hint) from error
            yield number, data


def loads(text: str) -> Any:
    """JSON in which no key stands twice and no number is NaN. Raises `DataInvalid`."""
    try:
        return json.loads(
            text, object_pairs_hook=unique_keys, parse_constant=no_constant, parse_float=finite, parse_int=whole
        )
    except json.JSONDecodeError as error:
        raise DataInvalid(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise DataInvalid("JSON nested too deep") from None


def _unpacked(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if value is None:
            continue
        if name not in _TEXTS and name in KNOWN:
            if not isinstance(value, str):
                raise DataInvalid(f"the column {name!r} does not hold JSON as text")
            value = loads(value)
        found[name] = value
    return found
