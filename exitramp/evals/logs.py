"""Cases from logs: what users asked, and what was retrieved for them then.

Nobody labelled such a case. What was retrieved is no truth, so the cases can be compared by overlap alone.

CSV: a column for the question and one for the ids, a JSON list or separated by `;`. Langfuse and LangSmith: JSON or
JSON lines of traces or runs; the question and the documents are looked for where those tools put them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.errors import ConfigError, DataInvalid
from exitramp.evals.sets.carried import Carried, Gathering
from exitramp.evals.sets.own import loads, read_text

FORMS: Final = ("csv", "langfuse", "langsmith")
_QUESTIONS: Final = ("question", "query", "input", "prompt", "text")
_DOCUMENTS: Final = ("documents", "source_documents", "context", "sources", "retrieved_ids", "ids", "output")
_IDS: Final = ("id", "document_id", "doc_id", "source")


def cases_of_logs(path: Path, form: str) -> Carried:
    """Unlabelled cases, each question once; what cannot be one is listed. Raises `ConfigError` naming file and line."""
    found = Gathering()
    seen: set[str] = set()
    for number, row in _rows(path, form):
        question, ids = (_of_csv if form == "csv" else _of_trace)(row)
        where = f"{form} {number}"
        if question is None:
            found.lose("an entry in which no question was found", where)
            continue
        key = hashlib.sha256(" ".join(question.casefold().split()).encode("utf-8", "replace")).hexdigest()
        if key in seen:
            found.lose("a question that was asked before", where)
            continue
        seen.add(key)
        if not ids:
            found.lose("retrieved ids: nothing can be measured on it until somebody labels it", where)
        found.take({"id": f"log-{key[:12]}", "question": question, "logged_ids": ids, "metadata": {"from": form}})
    if not found.cases:
        raise ConfigError("no question was found in it", file=str(path), hint=f"is it an export of {form}?")
    return found.carried()


def _rows(path: Path, form: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    text = read_text(path)
    if form == "csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if not {name.strip().lower() for name in reader.fieldnames or ()} & set(_QUESTIONS):
            raise ConfigError(f"no column is called {', '.join(_QUESTIONS[:-1])} or text", file=str(path), line=1)
        for row in reader:
            yield reader.line_num, {str(name).strip().lower(): value for name, value in row.items()}
        return
    try:
        listed = loads(text)
        listed = listed.get("data", [listed]) if isinstance(listed, Mapping) else listed
        rows = list(enumerate(listed, start=1))
    except DataInvalid:
        rows = []
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    rows.append((number, loads(line)))
                except DataInvalid as error:
                    raise ConfigError(error.message, file=str(path), line=number) from error
    for number, row in rows:
        yield number, row if isinstance(row, Mapping) else {}


def _of_csv(row: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    question = next((row[name] for name in _QUESTIONS if isinstance(row.get(name), str) and row[name].strip()), None)
    raw = next((row[name] for name in _DOCUMENTS if isinstance(row.get(name), str) and row[name].strip()), "")
    try:
        listed = json.loads(raw) if raw.lstrip().startswith("[") else raw.split(";")
    except ValueError:
        listed = raw.split(";")
    return question, list(dict.fromkeys(str(each).strip() for each in listed if str(each).strip()))


def _of_trace(row: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    """Of a trace or run, its input and the first list of documents in it or below it."""
    question = _question(row.get("inputs", row.get("input")))
    below = [row, *(each for key in ("observations", "child_runs") for each in row.get(key) or ())]
    for each in below:
        if isinstance(each, Mapping):
            ids = _ids(each.get("outputs", each.get("output")))
            if ids:
                return question, ids
    return question, []


def _question(given: Any) -> str | None:
    if isinstance(given, str):
        return given if given.strip() else None
    if isinstance(given, list):
        said = [each for each in given if isinstance(each, Mapping) and each.get("role") in ("user", "human")]
        return _question(said[-1].get("content")) if said else None
    if isinstance(given, Mapping):
        return next((text for key in (*_QUESTIONS, "messages") if (text := _question(given.get(key)))), None)
    return None


def _ids(given: Any) -> list[str]:
    if isinstance(given, Mapping):
        return next((ids for key in _DOCUMENTS if (ids := _ids(given.get(key)))), [])
    if not isinstance(given, list):
        return []
    found = []
    for each in given:
        if isinstance(each, Mapping):
            inside = [each, each.get("metadata"), each.get("kwargs")]
            each = next(
                (part[key] for part in inside if isinstance(part, Mapping) for key in _IDS if key in part), None
            )
        if isinstance(each, str | int) and not isinstance(each, bool):
            found.append(str(each))
    return list(dict.fromkeys(found))
