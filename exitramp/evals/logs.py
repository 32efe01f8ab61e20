"""Cases from logs: what users asked, and what was retrieved for them then.

Nobody labelled such a case. What was retrieved is no truth, so the cases can be compared by overlap alone.

CSV: a column for the question and one for the ids, a JSON list or separated by `;`.

Langfuse: traces as the API gives them, or as the interface exports one, `{"trace": …, "observations": […]}`, in which
inputs and outputs are JSON in a text. LangSmith: runs, nested by `child_runs` or flat, a line each, told together by
`trace_id` and `parent_run_id`: only the outermost run is a question of a user. In both the documents are looked for in
the trace's own output, then in that of what retrieved.
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
_IDS: Final = ("id", "document_id", "doc_id", "chunk_id", "source")
_USERS: Final = ("user", "human", "HumanMessage", "HumanMessageChunk")
_BELOW: Final = ("observations", "child_runs")
_DEEPEST: Final = 6
"""Of lists and objects within one another, behind which nobody's question stands."""


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
        listed = _listed(listed)
        rows = list(enumerate(listed, start=1))
    except DataInvalid:
        rows = []
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    rows.append((number, loads(line)))
                except DataInvalid as error:
                    raise ConfigError(error.message, file=str(path), line=number) from error
    yield from _outermost([(number, row if isinstance(row, Mapping) else {}) for number, row in rows])


def _listed(data: Any) -> list[Any]:
    """The traces or runs of a file that is one JSON value."""
    if not isinstance(data, Mapping):
        return data if isinstance(data, list) else [data]
    held = next((data[key] for key in ("data", "runs", "traces") if isinstance(data.get(key), list)), None)
    return [data] if held is None else held


def _outermost(rows: list[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Traces as they are; runs that stand flat, each in one with what ran inside it."""
    inside: dict[Any, list[Mapping[str, Any]]] = {}
    outer: list[tuple[int, Mapping[str, Any]]] = []
    roots = {row.get("trace_id") for _, row in rows if "trace_id" in row and not row.get("parent_run_id")}
    for number, row in rows:
        if isinstance(row.get("trace"), Mapping):
            outer.append((number, {**row["trace"], "observations": row.get("observations") or []}))
        elif row.get("parent_run_id") and row.get("trace_id") in roots:
            inside.setdefault(row["trace_id"], []).append(row)
        else:
            outer.append((number, row))
    for number, row in outer:
        more = inside.get(row.get("trace_id"), [])
        yield number, {**row, "child_runs": [*(row.get("child_runs") or ()), *more]} if more else row


def _of_csv(row: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    question = next((row[name] for name in _QUESTIONS if isinstance(row.get(name), str) and row[name].strip()), None)
    raw = next((row[name] for name in _DOCUMENTS if isinstance(row.get(name), str) and row[name].strip()), "")
    try:
        listed = json.loads(raw) if raw.lstrip().startswith("[") else raw.split(";")
    except ValueError:
        listed = raw.split(";")
    return question, list(dict.fromkeys(str(each).strip() for each in listed if str(each).strip()))


def _of_trace(row: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    """Of a trace or run, its input, and the documents of its own output, else of the first that retrieved below it."""
    question = _question(_value(row.get("inputs", row.get("input"))))
    below = [each for each in _all_below(row) if isinstance(each, Mapping)]
    retrieving = [each for each in below if "retriever" in (_lower(each, "run_type"), _lower(each, "type"))]
    for each in [row, *retrieving, *below]:
        ids = _ids(_value(each.get("outputs", each.get("output"))))
        if ids:
            return question, ids
    return question, []


def _all_below(row: Mapping[str, Any], depth: int = 0) -> Iterator[Any]:
    for key in _BELOW:
        for each in row.get(key) or () if isinstance(row.get(key), list) else ():
            yield each
            if isinstance(each, Mapping) and depth < _DEEPEST:
                yield from _all_below(each, depth + 1)


def _lower(row: Mapping[str, Any], key: str) -> str:
    return str(row.get(key) or "").lower()


def _value(given: Any) -> Any:
    """A JSON object or list where a text holds one, as exports write it; a text otherwise."""
    if isinstance(given, str) and given.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(given)
        except (ValueError, RecursionError):
            return given
    return given


def _question(given: Any, depth: int = 0) -> str | None:
    if depth > _DEEPEST:
        return None
    if isinstance(given, str):
        return given if given.strip() else None
    if isinstance(given, list):
        if given and all(isinstance(each, list) for each in given):
            return _question(given[0], depth + 1)  # a batch of conversations
        parts = [each["text"] for each in given if isinstance(each, Mapping) and isinstance(each.get("text"), str)]
        if parts and all(_lower(each, "type") not in ("human", "user") for each in given if isinstance(each, Mapping)):
            return " ".join(parts).strip() or None
        said = [each for each in given if isinstance(each, Mapping) and _said_by(each) in _USERS]
        return _question(_content(said[-1]), depth + 1) if said else None
    if isinstance(given, Mapping):
        for key in (*_QUESTIONS, "messages"):
            if (text := _question(given.get(key), depth + 1)) is not None:
                return text
        # As a decorator writes down what a function was called with.
        called = [given.get("kwargs"), *(given["args"] if isinstance(given.get("args"), list) else ())]
        return next((text for each in called if (text := _question(each, depth + 1))), None)
    return None


def _said_by(message: Mapping[str, Any]) -> str:
    """The role of a message in the shapes of vendors and of LangChain, serialised or not."""
    if message.get("type") == "constructor" and isinstance(message.get("id"), list) and message["id"]:
        return str(message["id"][-1])
    return str(message.get("role") or message.get("type") or "")


def _content(message: Mapping[str, Any]) -> Any:
    inner = next((message[key] for key in ("kwargs", "data") if isinstance(message.get(key), Mapping)), message)
    return inner.get("content")


def _ids(given: Any) -> list[str]:
    if isinstance(given, Mapping):
        return next((ids for key in _DOCUMENTS if (ids := _ids(given.get(key)))), [])
    if not isinstance(given, list):
        return []
    found = []
    for each in given:
        if isinstance(each, Mapping):
            if _said_by(each) in ("user", "human", "assistant", "ai", "system", "tool"):
                continue  # a message is no document
            each = _id_of(each)
        if isinstance(each, str | int) and not isinstance(each, bool):
            found.append(str(each))
    return list(dict.fromkeys(found))


def _id_of(document: Mapping[str, Any]) -> Any:
    """A document's id, of its own or of its metadata; LangChain writes `id: null` where it has none."""
    kwargs = document.get("kwargs")
    # Of a serialised object `id` is the path of its class.
    outer = kwargs if document.get("type") == "constructor" and isinstance(kwargs, Mapping) else document
    inside = [outer, outer.get("metadata"), outer.get("kwargs")]
    parts = [part for part in inside if isinstance(part, Mapping)]
    return next((part[key] for part in parts for key in _IDS if part.get(key) is not None), None)
