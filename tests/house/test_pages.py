"""What the pages show in Python runs, and says what the program says."""

from __future__ import annotations

import re
from pathlib import Path

from exitramp.codec.ids import native_id
from exitramp.evals.golden import load_golden
from exitramp.ports import PayloadLimits, SinkLimits
from exitramp.records import IdKind, Metric, RecordKey

DOCS = Path(__file__).parents[2] / "docs"


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_derived_id_is_computed_as_the_page_says() -> None:
    [code] = [block for block in python_blocks("in-the-new-store.md") if "derived_uuid" in block]
    found: dict[str, object] = {}
    exec(code, found)
    derived = found["derived_uuid"]
    assert callable(derived)
    limits = SinkLimits(
        id_kinds=frozenset({IdKind.UUID, IdKind.UINT64}),
        metrics=frozenset(Metric),
        payload=PayloadLimits(frozenset({"string"})),
    )
    for old in ("kb/x", "", "é" * 300, "007"):
        assert derived(old) == native_id(RecordKey(old), limits)


def test_the_golden_question_on_the_page_can_be_read() -> None:
    text = (DOCS / "drills.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    [case] = load_golden(block.replace("\n", " "))
    assert case.vector == (0.0123, -0.4567)
