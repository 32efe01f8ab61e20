"""Cases from logs: what users asked, and what was retrieved for them then.

Nobody labelled such a case. What was retrieved is no truth, so the cases can be compared by overlap alone.

    files      entries of a file: rows of a CSV, traces, runs that stand flat put together
    asked      the question in an entry's input, and what stands beside it
    retrieved  the documents' ids in an entry's output, or in that of what retrieved below it
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.errors import ConfigError
from exitramp.evals.logs.asked import Asked, asked_in
from exitramp.evals.logs.files import entries_of, value_of
from exitramp.evals.logs.retrieved import Retrieved, retrieved_in, split_ids
from exitramp.evals.sets.carried import Carried, Gathering

FORMS: Final = ("csv", "langfuse", "langsmith")
QUESTIONS: Final = ("question", "query", "input", "prompt", "text")
DOCUMENTS: Final = ("documents", "source_documents", "context", "sources", "retrieved_ids", "ids", "output")
# What a case has no place for, by the keys under which tools keep it.
_BESIDE: Final[Mapping[str, tuple[str, ...]]] = {
    "outputs, but for documents' ids": ("output", "outputs"),
    "scores and feedback": ("scores", "feedback_stats"),
    "tags and metadata": ("tags", "metadata", "extra"),
    "users and sessions": ("userId", "user_id", "sessionId", "session_id"),
    "times, tokens and costs": ("timestamp", "startTime", "start_time", "totalCost", "total_cost", "usageDetails"),
    "attachments": ("attachments", "s3_urls"),
}


def cases_of_logs(path: Path, form: str) -> Carried:
    """Unlabelled cases, each question once; what cannot be one is listed. Raises `ConfigError` naming file and line."""
    found = Gathering()
    kept: dict[str, tuple[str, str, Retrieved]] = {}
    beside: Counter[str] = Counter()
    for number, row in entries_of(path, form, QUESTIONS):
        where = f"{form} {number}"
        asked, retrieved = _of_csv(row, beside) if form == "csv" else _of_trace(row, beside)
        for what in (*asked.beside, *row.get("", ())):
            found.lose(what, where)
        if asked.text is None:
            found.lose("an entry in which no question was found", where)
            continue
        key = hashlib.sha256(" ".join(asked.text.casefold().split()).encode("utf-8", "replace")).hexdigest()
        before = kept.get(key)
        if before is not None and (before[2].ids or not retrieved.ids):
            found.lose("a question that was asked before", where)
            continue
        if before is not None:
            found.lose("a question that was asked again later, and with retrieved ids only then", before[0])
        kept[key] = (where, asked.text, retrieved)
    for key, (where, text, retrieved) in kept.items():
        if retrieved.without_id:
            found.lose("a retrieved document that has no id", where)
        if not retrieved.ids:
            found.lose("retrieved ids: nothing can be measured on it until somebody labels it", where)
        ids = list(retrieved.ids)
        found.take({"id": f"log-{key[:12]}", "question": text, "logged_ids": ids, "metadata": {"from": form}})
    for what, count in sorted(beside.items()):
        found.lose(f"{what} ({count} of its entries)")
    if not found.cases:
        raise ConfigError("no question was found in it", file=str(path), hint=f"is it an export of {form}?")
    return found.carried()


def _of_csv(row: Mapping[str, Any], beside: Counter[str]) -> tuple[Asked, Retrieved]:
    filled = {name for name, value in row.items() if isinstance(value, str) and value.strip()}
    question = next((name for name in QUESTIONS if name in filled), None)
    ids = next((name for name in DOCUMENTS if name in filled), None)
    beside.update(f"the column {name!r}" for name in filled - {question, ids})
    asked = asked_in(value_of(row[question])) if question is not None else Asked(None)
    return asked, split_ids(row[ids] if ids is not None else "", DOCUMENTS)


def _of_trace(row: Mapping[str, Any], beside: Counter[str]) -> tuple[Asked, Retrieved]:
    """Of a trace or run, its input, and the documents of its own output, else of the first that retrieved below it."""
    for what, keys in _BESIDE.items():
        beside[what] += any(row.get(key) not in (None, "", [], {}, 0) for key in keys)
        if not beside[what]:
            del beside[what]
    if row.get("error") or row.get("level") == "ERROR":
        beside["that they ended in an error"] += 1
    return asked_in(value_of(row.get("inputs", row.get("input")))), retrieved_in(row, DOCUMENTS)
