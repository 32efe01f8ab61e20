"""Samples as inspect reads them: JSON lines (or one JSON list) of `input`, `target`, `choices`, `id`, `metadata`.

As with OpenAI's evals the scorer stands elsewhere; a target is read as something that the answer holds (`includes`)
unless there are choices, whose letters targets are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from exitramp.errors import ConfigError, DataInvalid
from exitramp.evals.sets.carried import Carried, Gathering, Loss, conversation, lost_in, question_part, said
from exitramp.evals.sets.case import Case
from exitramp.evals.sets.openai_evals import MEANINGS, ideal_check
from exitramp.evals.sets.own import json_lines, loads

USUAL: Final = "contains"
_KNOWN: Final = frozenset({"input", "target", "choices", "id", "metadata"})


def read(text: str, file: str, *, meaning: str | None = None) -> Carried:
    found = Gathering()
    found.lose(
        f"the task's scorer, which the file does not name: a target without choices is read as {meaning or USUAL}"
        + ("" if meaning else " (say otherwise with --ideal-means)")
    )
    for number, data in _samples(text, file):
        if not isinstance(data, Mapping) or "input" not in data:
            raise ConfigError("not an object with 'input'", file=file, line=number)
        id_ = found.unique(str(data["id"]) if data.get("id") is not None else f"sample-{number}")
        if conversation(data["input"]) is None:
            found.lose("the case as a whole: its input is not text", id_)
            continue
        choices = data.get("choices") or []
        if not isinstance(choices, list):
            found.lose("the case as a whole: its choices are no list", id_)
            continue
        check = ideal_check(data.get("target"), meaning or USUAL)
        if check is not None and choices:
            texts = [data["target"]] if isinstance(data["target"], str) else list(data["target"])
            letters = [each for each in texts if len(each) == 1 and each.isalpha()]
            check = {"kind": "choice", "texts": letters} if len(letters) == len(texts) else None
        if check is None and data.get("target"):
            found.lose("the target, which is neither a text nor a choice's letter: the case is without a label", id_)
        for key in sorted(set(data) - _KNOWN):
            found.lose(f"the key {key!r}", id_)
        metadata = data.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            found.lose("metadata that is no object", id_)
        found.take(
            {"id": id_}
            | question_part(data["input"])
            | {
                "choices": list(choices),
                "checks": [check] if check else None,
                "metadata": metadata if isinstance(metadata, dict) else None,
            }
        )
    return found.carried()


def write(cases: Sequence[Case]) -> Carried:
    lines, losses = [], []
    for case in cases:
        row: dict[str, Any] = {"id": case.id, "input": case.question if len(case.messages) == 1 else said(case)}
        usable = [
            check
            for check in case.checks
            if check.kind in (*MEANINGS, "contains_any", "choice") and not check.data.get("not")
        ]
        if usable:
            texts = usable[0].texts or tuple(usable[0].data.get("phrases", ()))
            row["target"] = texts[0] if len(texts) == 1 else list(texts)
            losses.append(
                Loss(f"that the target is compared by {usable[0].kind}: the task's scorer says that", case.id)
            )
        else:
            row["target"] = ""
            losses.append(Loss("a label: no check of it can be a target", case.id))
        losses += [
            Loss(f"a check of kind {check.kind}", case.id)
            for check in case.checks
            if not usable or check is not usable[0]
        ]
        if case.choices:
            row["choices"] = list(case.choices)
        if case.metadata:
            row["metadata"] = dict(case.metadata)
        losses += lost_in(case, "metadata", "choices")
        lines.append(json.dumps(row, ensure_ascii=False))
    return Carried(tuple(cases), tuple(losses), "".join(f"{line}\n" for line in lines))


def _samples(text: str, file: str) -> list[tuple[int, Any]]:
    try:
        if text.lstrip().startswith("["):
            listed = loads(text)
            return list(enumerate(listed, start=1))
    except DataInvalid as error:
        raise ConfigError(error.message, file=file) from error
    return list(json_lines(text, file))
