"""OpenAI-evals samples: JSON lines of `input` (a text or messages) and `ideal` (a text or several).

How an ideal is compared stands not in the file but in the registry's class: `Match` (the answer begins with it, the
basic one), `Includes` or an exact one. So whoever reads says what `ideal` means, and it is told as something assumed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from exitramp.errors import ConfigError
from exitramp.evals.sets.carried import Carried, Gathering, Loss, conversation, lost_in, question_part, said
from exitramp.evals.sets.case import Case
from exitramp.evals.sets.own import json_lines

MEANINGS: Final = ("exact", "starts_with", "contains")
USUAL: Final = "starts_with"
_KNOWN: Final = frozenset({"input", "ideal", "id", "metadata"})


def ideal_check(ideal: object, meaning: str) -> dict[str, Any] | None:
    """The check for an ideal or target: one text, or several of which one is enough. None for no text."""
    texts = [ideal] if isinstance(ideal, str) else ideal
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) and text for text in texts):
        return None
    if meaning == "contains":
        return {"kind": "contains_any", "phrases": list(texts)}
    return {"kind": meaning, "text": texts[0]} if len(texts) == 1 else {"kind": meaning, "texts": list(texts)}


def read(text: str, file: str, *, meaning: str | None = None) -> Carried:
    found = Gathering()
    found.lose(
        f"the eval's class, which the file does not name: an ideal is read as {meaning or USUAL}"
        + ("" if meaning else " (say otherwise with --ideal-means)")
    )
    for number, data in json_lines(text, file):
        if not isinstance(data, Mapping) or "input" not in data:
            raise ConfigError("not an object with 'input'", file=file, line=number)
        id_ = found.unique(str(data.get("id") or f"line-{number}"))
        if conversation(data["input"]) is None:
            found.lose("the case as a whole: its input is not text", id_)
            continue
        check = ideal_check(data.get("ideal"), meaning or USUAL)
        if check is None:
            found.lose("the ideal, which is no text: the case is without a label", id_)
        for key in sorted(set(data) - _KNOWN):
            found.lose(f"the key {key!r}, which an eval's own class reads: kept as metadata", id_)
        kept = {key: value for key, value in data.items() if key not in _KNOWN}
        given = data.get("metadata")
        found.take(
            {"id": id_}
            | question_part(data["input"])
            | {"checks": [check] if check else None, "metadata": (given if isinstance(given, dict) else {}) | kept}
        )
    return found.carried()


def write(cases: Sequence[Case]) -> Carried:
    lines, losses = [], []
    for case in cases:
        ideals = [check for check in case.checks if check.kind in (*MEANINGS, "contains_any", "choice")]
        usable = [check for check in ideals if not check.data.get("not")]
        row: dict[str, Any] = {"id": case.id, "input": said(case)}
        if case.choices:
            row["input"] = [{"role": each.role, "content": each.content} for each in case.asked()]
        if usable:
            texts = usable[0].texts or tuple(usable[0].data.get("phrases", ()))
            row["ideal"] = texts[0] if len(texts) == 1 else list(texts)
            losses.append(Loss(f"that the ideal is compared by {usable[0].kind}: the eval's class says that", case.id))
        else:
            losses.append(Loss("a label: no check of it can be an ideal", case.id))
        others = [check for check in case.checks if not usable or check is not usable[0]]
        losses += [Loss(f"a check of kind {check.kind}", case.id) for check in others]
        if case.metadata:
            row["metadata"] = dict(case.metadata)
        losses += lost_in(case, "metadata", "choices")
        lines.append(json.dumps(row, ensure_ascii=False))
    return Carried(tuple(cases), tuple(losses), "".join(f"{line}\n" for line in lines))
