"""The ids of what was retrieved for a question, in an entry's output or in that of what ran inside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exitramp.evals.logs.asked import said_by
from exitramp.evals.logs.files import value_of

_IDS: Final = ("id", "document_id", "doc_id", "chunk_id", "source")
_BELOW: Final = ("observations", "child_runs")
_SPEAKERS: Final = ("user", "human", "assistant", "ai", "system", "tool")
_DEEPEST: Final = 6


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Ids in their order, each once, and how many documents had none."""

    ids: tuple[str, ...] = ()
    without_id: int = 0


def retrieved_in(row: Mapping[str, Any], keys: Sequence[str]) -> Retrieved:
    """What an entry's own output holds, else what the first retriever below it gave, else the first that gave any."""
    below = [each for each in _all_below(row) if isinstance(each, Mapping)]
    retrieving = [each for each in below if "retriever" in (_lower(each, "run_type"), _lower(each, "type"))]
    nothing = Retrieved()
    for each in [row, *retrieving, *below]:
        found = _ids(value_of(each.get("outputs", each.get("output"))), keys)
        if found.ids:
            return found
        if each in retrieving and found.without_id:
            nothing = found
    return nothing


def split_ids(text: str, keys: Sequence[str]) -> Retrieved:
    """Ids in a cell: a JSON list or object, or texts set apart by `;`."""
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return _ids(json.loads(text), keys)
        except (ValueError, RecursionError):
            pass
    return Retrieved(tuple(dict.fromkeys(each.strip() for each in text.split(";") if each.strip())))


def _all_below(row: Mapping[str, Any], depth: int = 0) -> Iterator[Any]:
    for key in _BELOW:
        for each in row.get(key) or () if isinstance(row.get(key), list) else ():
            yield each
            if isinstance(each, Mapping) and depth < _DEEPEST:
                yield from _all_below(each, depth + 1)


def _lower(row: Mapping[str, Any], key: str) -> str:
    return str(row.get(key) or "").lower()


def _ids(given: Any, keys: Sequence[str]) -> Retrieved:
    if isinstance(given, Mapping):
        found = (_ids(given.get(key), keys) for key in keys)
        return next((each for each in found if each.ids or each.without_id), Retrieved())
    ids, without = [], 0
    for each in given if isinstance(given, list) else []:
        if isinstance(each, Mapping) and (said_by(each) in _SPEAKERS or said_by(each).endswith("Message")):
            continue  # a message is no document
        id_ = _id_of(each) if isinstance(each, Mapping) else each
        if isinstance(id_, str | int) and not isinstance(id_, bool) and str(id_).strip():
            ids.append(str(id_).strip())
        else:
            without += 1
    return Retrieved(tuple(dict.fromkeys(ids)), without)


def _id_of(document: Mapping[str, Any]) -> Any:
    """A document's id, of its own or of its metadata; LangChain writes `id: null` where it has none."""
    kwargs = document.get("kwargs")
    # Of a serialised object `id` is the path of its class.
    outer = kwargs if document.get("type") == "constructor" and isinstance(kwargs, Mapping) else document
    inside = [outer, outer.get("metadata"), outer.get("kwargs")]
    parts = [part for part in inside if isinstance(part, Mapping)]
    return next((part[key] for part in parts for key in _IDS if part.get(key) is not None), None)
