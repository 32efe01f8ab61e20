"""The report as JSON: the whole document, and beside it whatever raw results are passed in."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from exitramp import canonical
from exitramp.clock import iso_utc
from exitramp.report.model import Absent, Document, masked
from exitramp.secrets import redacted

REPORT_VERSION = 1
_WORD_STARTS = re.compile(r"(?<!^)(?=[A-Z])")


def render_json(document: Document, results: Mapping[str, object] | None = None) -> str:
    """The report, indented, ending in a line feed. The same input gives the same text.

    Every object of the document has a `type` (`section`, `verdict_table`, `line_chart`, …). What was not measured is
    null; what does not apply is `{"type": "not_applicable"}`; decimals are strings, since they are money; times are
    UTC. `results` is written by the rules of `exitramp.canonical`. Raises `DataInvalid` for results that have no
    canonical form.
    """
    document = masked(document)
    whole = {
        "report_version": REPORT_VERSION,
        "run_id": document.meta.run_id,
        "verdict": document.verdict.value,
        "verdict_reason": document.verdict_reason,
        "unsigned": document.blank_count > 0,
        "blank_count": document.blank_count,
        "stamps": [{"kind": stamp.kind.value, "text": stamp.text} for stamp in document.all_stamps],
        "objectives": [_plain(one) for one in document.objectives],
        "document": _plain(document),
        "results": None if results is None else json.loads(canonical.dumps(redacted(results))),
    }
    # A lone surrogate has no UTF-8 form, so such a text is written with escapes; all others as they are.
    text = json.dumps(whole, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(whole, ensure_ascii=True, indent=2, allow_nan=False)
    return text + "\n"


def _plain(value: object) -> Any:
    if isinstance(value, Absent):
        return {"type": "not_applicable"}
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"type": "not_finite", "value": str(value)}
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        return iso_utc(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": _WORD_STARTS.sub("_", type(value).__name__).lower(), **fields}
    raise TypeError(f"a report holds no {type(value).__name__}")
