"""JSON: the whole document, readable by any program."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from exitramp.errors import DataInvalid
from exitramp.records import Verdict
from exitramp.report.json_ import REPORT_VERSION, render_json
from exitramp.report.model import NOT_APPLICABLE, Blank, Column, Document, Table, row
from exitramp.report.sample import HEAD, OBJECTIVES_HASH, RUN_ID, sample_document


def walk(value: Any) -> Iterator[Any]:
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(item)


def test_the_same_input_gives_the_same_text() -> None:
    results = {"b": 1, "a": [Decimal("0.10"), None]}
    assert render_json(sample_document(), results) == render_json(sample_document(), dict(reversed(results.items())))


def test_the_first_level_holds_what_a_program_asks_first() -> None:
    read = json.loads(render_json(sample_document(Verdict.INCONCLUSIVE), {"rows": 3}))
    assert read["report_version"] == REPORT_VERSION
    assert (read["run_id"], read["verdict"], read["unsigned"], read["blank_count"]) == (
        RUN_ID,
        "inconclusive",
        True,
        19,
    )
    assert [stamp["text"] for stamp in read["stamps"]] == ["made-up numbers", "mock vendors", "unsigned"]
    assert read["results"] == {"rows": 3}
    by_key = {one["key"]: one for one in read["objectives"]}
    assert (by_key["quality_margin"]["verdict"], by_key["quality_margin"]["measured"]) == ("inconclusive", None)
    assert by_key["rto_seconds"]["measured"]["value"] == 1.34
    meta = read["document"]["meta"]
    assert (meta["event_log_head"], meta["objectives_sha256"]) == (HEAD, OBJECTIVES_HASH)
    assert meta["started_at"] == "2030-01-14T09:30:00.000Z"


def test_the_whole_document_is_there() -> None:
    read = json.loads(render_json(sample_document()))
    assert len(read["document"]["sections"]) == 18
    kinds = {node.get("type") for node in walk(read) if isinstance(node, dict)}
    assert {"table", "verdict_table", "line_chart", "bar_chart", "dot_chart", "histogram", "blank", "fold"} <= kinds
    [latency] = [node for node in walk(read) if isinstance(node, dict) and node.get("type") == "line_chart"]
    assert sum(len(series["points"]) for series in latency["series"]) == 580


def test_values_keep_their_kind(of: Callable[..., Document]) -> None:
    cells = (None, NOT_APPLICABLE, Decimal("0.10"), 1, 1.5, float("inf"), True, Blank("b"), Verdict.FAIL, "")
    table = Table("t", tuple(Column(str(number)) for number in range(len(cells))), (row(*cells),))
    read = json.loads(render_json(of(table)))
    [one] = [node["cells"] for node in walk(read) if isinstance(node, dict) and node.get("type") == "row"]
    assert one[:5] == [None, {"type": "not_applicable"}, "0.10", 1, 1.5]
    assert one[5] == {"type": "not_finite", "value": "inf"}
    assert one[6] is True
    assert one[7]["type"] == "blank"
    assert one[8:] == ["fail", ""]


def test_results_are_masked_and_canonical() -> None:
    text = render_json(sample_document(), {"error": "Bearer abcdef0123456789", "password": "two words", "big": 2**70})
    read = json.loads(text)
    assert read["results"] == {
        "error": "Bearer [secret]",
        "password": "[secret]",
        "big": {"$exitramp:int": str(2**70)},
    }


def test_results_without_a_form_are_refused() -> None:
    with pytest.raises(DataInvalid):
        render_json(sample_document(), {"x": object()})


def test_no_results_are_null_and_not_empty() -> None:
    assert json.loads(render_json(sample_document()))["results"] is None


def test_whatever_is_in_a_text_it_comes_back_as_it_was(hard: Document, hard_texts: dict[str, str]) -> None:
    text = render_json(hard)
    text.encode("utf-8")
    read = json.loads(text)
    texts = {node for node in walk(read) if isinstance(node, str)}
    assert set(hard_texts.values()) <= texts
