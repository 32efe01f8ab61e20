"""Questions with a label each, to train a classifier on: any column of a set that says of a question what it is.

JSON lines. The text of a line is its `question`, its `text`, or what the user last said in its `messages`; the label
stands under the column's name, or under it in `metadata`, where golden sets keep what is the user's own. A line that
states its `sha256` is held to it. No message repeats a question.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from exitramp.errors import ConfigError, DataInvalid
from exitramp.evals.golden import ReadableText
from exitramp.evals.sets.fields import DEFAULT_USE_CASE, case_sha256

USE_CASE: Final = "use_case"


@dataclass(frozen=True, slots=True)
class Labelled:
    text: str = field(repr=False)
    label: str


def read_labelled(source: ReadableText, column: str, *, name: str) -> tuple[Labelled, ...]:
    """Every line of `source`. Raises `ConfigError` naming file and line for one without a text or a label."""
    try:
        text = source.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise ConfigError("there is no such file", file=name, hint="a set is JSON lines; pydocs is packaged") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read as UTF-8 ({type(error).__name__})", file=name) from error
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                found.append(_parsed(line, column))
            except DataInvalid as error:
                raise ConfigError(error.message, file=name, line=number, hint=error.hint) from error
    if not found:
        raise ConfigError("no question in it", file=name, hint=f'one JSON object a line: "question" and "{column}"')
    return tuple(found)


def require_labels(rows: Sequence[Labelled], column: str, *, least: int) -> None:
    """Raises `DataInvalid` where there is nothing to tell apart, or too few different texts of a label to judge it."""
    texts: dict[str, set[str]] = {}
    for row in rows:
        texts.setdefault(row.label, set()).add(folded(row.text))
    if len(texts) < 2:
        raise DataInvalid(f"all questions are of one {column}, so there is nothing to tell apart",
                          hint=f"give the questions their '{column}', or name another column by --label")  # fmt: skip
    few = [label for label, found in sorted(texts.items()) if len(found) < least]
    if few:
        raise DataInvalid(
            f"fewer than {least} questions are of the {column} {few[0]!r}, too few to judge it",
            hint="label more of them, or leave that label out",
        )


def folded(text: str) -> str:
    """What makes two texts one: a question that was written down twice is no new one."""
    return " ".join(text.casefold().split())


def commonest(rows: Sequence[Labelled]) -> str:
    """The most frequent label; of equal ones the first by name."""
    counts = Counter(row.label for row in rows)
    return min(counts, key=lambda label: (-counts[label], label))


def _parsed(line: str, column: str) -> Labelled:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataInvalid("is no JSON") from error
    if not isinstance(data, Mapping):
        raise DataInvalid("is no JSON object")
    stated = data.get("sha256")
    if stated is not None and stated != case_sha256({key: data[key] for key in data if key != "sha256"}):
        raise DataInvalid("'sha256' is not that of this case", hint="it was changed: make its hash anew, or remove it")
    metadata = data.get("metadata")
    label = data.get(column)
    if label is None and isinstance(metadata, Mapping):
        label = metadata.get(column)
    if label is None and column == USE_CASE:
        label = DEFAULT_USE_CASE
    if not isinstance(label, str) or not label.strip():
        raise DataInvalid(f"has no text under '{column}'", hint="label every question, or leave it out of the file")
    text = data.get("question", data.get("text"))
    if text is None:
        text = _last_said(data.get("messages"))
    if not isinstance(text, str) or not text.strip():
        raise DataInvalid("has no question: a text under 'question', 'text' or 'messages'")
    return Labelled(text, label)


def _last_said(messages: Any) -> Any:
    if not isinstance(messages, list):
        return None
    said = [each.get("content") for each in messages if isinstance(each, Mapping) and each.get("role") == "user"]
    return said[-1] if said else None
