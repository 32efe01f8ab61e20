"""The entries of a log's file: one for each thing that a user asked.

Langfuse: traces as its API gave them until its fifth version, as the interface exports one (`{"trace": …,
"observations": […]}`, in which inputs and outputs are JSON in a text), and the flat observations that the API gives
since, put together by `traceId` and `parentObservationId`. LangSmith: runs, nested by `child_runs` or flat, put
together by `trace_id` and `parent_run_id`. Only what is outermost is a question of a user.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from exitramp.errors import ConfigError, DataInvalid
from exitramp.evals.sets.own import json_lines, loads, read_text

Entry = tuple[int, Mapping[str, Any]]
"""Its place in the file, from 1 (of JSON lines and CSV: its line), and what it holds. Under the key "" may stand what
is to be told of it."""

_PARENTS: Final = ("parent_run_id", "parentObservationId", "parent_observation_id")
_TRACES: Final = ("trace_id", "traceId")
_LONGEST_FIELD: Final = 64 * 1024 * 1024


def entries_of(path: Path, form: str, questions: Sequence[str]) -> Iterator[Entry]:
    """Raises `ConfigError` naming the file and, where there is one, the line."""
    text = read_text(path)
    if form == "csv":
        yield from _rows(text, path, questions)
        return
    try:
        rows = list(enumerate(_listed(loads(text)), start=1))
    except DataInvalid:
        rows = list(json_lines(text, str(path)))
    yield from _outermost([(number, row if isinstance(row, Mapping) else {}) for number, row in rows])


def value_of(given: Any) -> Any:
    """What a JSON text holds, as exports write it; a text that is no JSON as it is."""
    if isinstance(given, str) and given.lstrip()[:1] in ("{", "[", '"'):
        try:
            return json.loads(given)
        except (ValueError, RecursionError):
            return given
    return given


def _rows(text: str, path: Path, questions: Sequence[str]) -> Iterator[Entry]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if not {name.strip().lower() for name in reader.fieldnames or ()} & set(questions):
            raise ConfigError(
                f"no column is called {', '.join(questions[:-1])} or {questions[-1]}",
                file=str(path),
                line=1,
                hint="write one of these names over the column of the questions, in the first line; the retrieved "
                "documents' ids stand under 'ids', set apart by ;",
            )
        for row in reader:
            yield reader.line_num, {str(name).strip().lower(): value for name, value in row.items() if name is not None}
    except csv.Error as error:
        raise ConfigError(f"not CSV: {error}", file=str(path), line=reader.line_num) from error


def _listed(data: Any) -> list[Any]:
    """The traces or runs of a file that is one JSON value."""
    if not isinstance(data, Mapping):
        return data if isinstance(data, list) else [data]
    held = next((data[key] for key in ("data", "runs", "traces") if isinstance(data.get(key), list)), None)
    return [data] if held is None else held


def _outermost(rows: list[Entry]) -> Iterator[Entry]:
    """Traces as they are; what stands flat, each outermost one with what ran inside it."""
    known = {str(row["id"]): (number, row) for number, row in rows if row.get("id") is not None}
    roots = {_first(row, _TRACES): number for number, row in reversed(rows) if not _first(row, _PARENTS)}
    inside: dict[int, list[Mapping[str, Any]]] = {}
    outer: list[Entry] = []
    for number, row in rows:
        if isinstance(row.get("trace"), Mapping):
            outer.append((number, {**row["trace"], "observations": row.get("observations") or []}))
            continue
        root = _root(row, known, roots)
        if root is None or root == number:
            is_orphan = bool(_first(row, _PARENTS)) and root is None
            what = "what it ran inside, which is not in the file: its own input is taken for a question"
            outer.append((number, {**row, "": (what,)} if is_orphan else row))
        else:
            inside.setdefault(root, []).append(row)
    for number, row in outer:
        more = inside.get(number, [])
        yield number, {**row, "child_runs": [*(row.get("child_runs") or ()), *more]} if more else row


def _root(row: Mapping[str, Any], known: Mapping[str, Entry], roots: Mapping[Any, int]) -> int | None:
    """The place of the outermost one that this ran inside, by its parents, else by its trace; None where it is gone."""
    seen: set[str] = set()
    at: Mapping[str, Any] = row
    while (parent := _first(at, _PARENTS)) is not None and str(parent) in known and str(parent) not in seen:
        seen.add(str(parent))
        number, at = known[str(parent)]
        if not _first(at, _PARENTS):
            return number
    trace = _first(row, _TRACES)
    return roots.get(trace) if trace is not None and _first(row, _PARENTS) else None


def _first(row: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((row[key] for key in keys if row.get(key)), None)
