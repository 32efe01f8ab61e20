"""The texts of flipped cases: in every format where the drill file asks for them, and otherwise in none."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from exitramp.report.writing import write_reports
from tests.report.drill_journals import document_of_run, drill, judged, played, section_text
from tests.report.drill_results import results

QUESTION, BEFORE, AFTER = "How is a <b>lock</b> | held?", "With a context\nmanager.", "By calling acquire."
TEXTS = {"question": QUESTION, "primary_answer": BEFORE, "substitute_answer": AFTER}


def _write(folder: Path, asked: list[str], texts: Mapping[str, Any]) -> dict[str, str]:
    found = copy.deepcopy(results())
    found["compare_quality"]["flips"][0] |= texts
    data = {**drill()["data"], "show_values": asked}
    played(folder, found, drill(data=data)).end("pass", judged())
    return {kind: path.read_text() for kind, path in write_reports(folder).items()}


def test_texts_that_the_drill_file_asks_for_are_shown_in_every_format_and_marked(tmp_path: Path) -> None:
    told = _write(tmp_path, ["question", "answer"], TEXTS)
    for kind in ("html", "markdown", "json"):
        for text in ("acquire", "context", "held?"):
            assert text in told[kind], (kind, text)
    for kind in ("html", "markdown", "json", "junit"):
        assert "shows texts: question, answer" in told[kind].lower(), kind
    for kind in ("html", "markdown"):
        assert "this report shows questions and answers in full text" in told[kind], kind
        assert "neither they nor the answers" not in told[kind], kind
    assert "<b>lock" not in told["html"]
    assert "How is a &lt;b&gt;lock&lt;/b&gt; \\| held?" in told["markdown"]


@pytest.mark.parametrize(
    ("asked", "there", "gone"),
    [(["question"], ("held?",), ("acquire", "context")), (["answer"], ("acquire", "context"), ("held?",))],
)
def test_only_what_is_asked_for_is_shown(
    tmp_path: Path, asked: list[str], there: tuple[str, ...], gone: tuple[str, ...]
) -> None:
    told = _write(tmp_path, asked, TEXTS)
    for kind in ("html", "markdown", "json"):
        assert all(text in told[kind] for text in there), kind
    for kind, text in told.items():
        assert not any(each in text for each in gone), kind


def test_without_being_asked_for_no_text_is_in_any_format_even_where_the_journal_holds_it(tmp_path: Path) -> None:
    for kind, text in _write(tmp_path, [], TEXTS).items():
        assert not any(each in text for each in ("acquire", "context", "held?")), kind
        assert "shows texts" not in text.lower(), kind


def test_what_is_asked_for_and_not_in_the_journal_is_neither_shown_nor_announced(tmp_path: Path) -> None:
    told = _write(tmp_path, ["question", "answer"], {})
    assert "shows texts" not in told["markdown"].lower()
    assert "neither they nor the answers are shown" in told["markdown"]


def test_an_answer_that_never_came_says_so_and_a_long_one_is_cut_where_people_read(tmp_path: Path) -> None:
    told = _write(tmp_path, ["answer"], {"primary_answer": "word " * 500, "substitute_answer": None})
    assert "no text came" in told["markdown"]
    assert "… (2,500 characters)" in told["markdown"]
    assert told["markdown"].count("word ") < 200
    assert "word " * 500 in told["json"]


def test_a_text_that_is_no_text_is_no_traceback(tmp_path: Path) -> None:
    found = copy.deepcopy(results())
    found["compare_quality"]["flips"][0] |= {"question": {"a": 1}}
    data = {**drill()["data"], "show_values": ["question"]}
    events = played(tmp_path, found, drill(data=data)).end("pass", judged())
    assert "not a text" in section_text(document_of_run(events), "Quality parity")
