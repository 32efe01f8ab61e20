"""What a document refuses to be, and what it knows about itself."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from exitramp.records import Verdict
from exitramp.report.figures import Axis, BarChart, BarSeries, DotChart, DotItem, EventMark, Histogram, Series, Side
from exitramp.report.model import (
    Blank,
    Callout,
    Column,
    Document,
    Fold,
    Meta,
    Notice,
    Objective,
    Section,
    Stamp,
    Table,
    masked,
    prose,
    row,
)
from exitramp.report.sample import sample_document
from exitramp.report.walk import nodes
from exitramp.secrets import remember

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def document(verdict: Verdict, *objectives: Verdict, sections: tuple[Section, ...] = ()) -> Document:
    return Document(
        title="T",
        subtitle="",
        verdict=verdict,
        verdict_reason="",
        meta=Meta("run", "program", datetime(2030, 1, 1, tzinfo=UTC)),
        objectives=tuple(Objective(f"o{n}", "O", "t", 1, one) for n, one in enumerate(objectives)),
        sections=sections,
    )


@pytest.mark.parametrize(
    ("verdict", "objectives"),
    [
        (PASS, ()),
        (PASS, (PASS, INCONCLUSIVE)),
        (PASS, (PASS, FAIL)),
        (INCONCLUSIVE, (PASS, FAIL)),
    ],
)
def test_a_report_is_never_better_than_its_objectives(verdict: Verdict, objectives: tuple[Verdict, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        document(verdict, *objectives)


@pytest.mark.parametrize(
    ("verdict", "objectives"), [(INCONCLUSIVE, ()), (FAIL, (PASS,)), (INCONCLUSIVE, (PASS,)), (PASS, (PASS, PASS))]
)
def test_a_report_may_be_as_bad_as_the_run_was(verdict: Verdict, objectives: tuple[Verdict, ...]) -> None:
    assert document(verdict, *objectives).verdict is verdict


def test_an_objective_does_not_pass_on_nothing_measured() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Objective("o", "O", "t", None, PASS)
    assert Objective("o", "O", "t", None, INCONCLUSIVE).measured is None


def test_a_report_with_a_blank_is_unsigned_wherever_the_blank_is() -> None:
    signature = Blank("Signature")
    for block in (
        signature,
        Table("t", (Column("c"),), (row(signature),)),
        Fold("f", (prose("x"), signature)),
    ):
        held = document(INCONCLUSIVE, sections=(Section(1, "S", (block,), "s"),))
        assert held.blank_count == 1
        assert held.all_stamps == (Stamp(Notice.UNSIGNED, "unsigned"),)
    assert document(INCONCLUSIVE).all_stamps == ()


def test_the_stamp_unsigned_is_not_set_twice() -> None:
    stamped = replace(sample_document(), stamps=(Stamp(Notice.UNSIGNED, "nobody signed"),))
    assert stamped.all_stamps == stamped.stamps


def test_a_name_used_twice_is_refused() -> None:
    section = Section(1, "S", (), "s")
    for sections in ((section, replace(section, number=2)), (section, replace(section, anchor="t"))):
        with pytest.raises(ValueError, match="twice"):
            document(INCONCLUSIVE, sections=sections)
    one = Objective("o", "O", "t", 1, PASS)
    with pytest.raises(ValueError, match="objective twice"):
        replace(document(INCONCLUSIVE), objectives=(one, one))


@pytest.mark.parametrize("anchor", ["", "Ä", "has space", "1", "_t1", 'x"onclick'])
def test_an_anchor_is_a_plain_word(anchor: str) -> None:
    with pytest.raises(ValueError, match="anchor"):
        Section(1, "S", (), anchor)


def test_a_row_that_does_not_fit_its_table_is_refused() -> None:
    with pytest.raises(ValueError, match="row 2 has 1 cells for 2 columns"):
        Table("t", (Column("a"), Column("b")), (row(1, 2), row(1)))


def test_figures_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values for 1 categories"):
        BarChart("t", "a", Axis("x"), ("c",), (BarSeries("s", (1.0, 2.0)),))
    with pytest.raises(ValueError, match="cannot be stacked"):
        BarChart("t", "a", Axis("x"), ("c",), (BarSeries("s", (-1.0,)),), stacked=True)
    with pytest.raises(ValueError, match="1 values"):
        DotChart("t", "a", Axis("x"), "i", "i", (("p", Side.PRIMARY), ("s", Side.SUBSTITUTE)), (DotItem("i", (1.0,)),))
    with pytest.raises(ValueError, match="ascend"):
        Histogram("t", "a", Axis("x"), (0.0, 0.0), ())
    with pytest.raises(ValueError, match="no finite number"):
        Series("s", ((math.nan, 1.0),))
    with pytest.raises(ValueError, match="no finite number"):
        EventMark(math.inf, "e")


def test_the_sample_has_all_eighteen_sections_and_every_kind_of_block() -> None:
    sample = sample_document()
    assert [section.number for section in sample.sections] == list(range(1, 19))
    kinds = {type(node).__name__ for node in nodes(sample)}
    assert {
        "Paragraph", "Bullets", "Subheading", "Callout", "KeyValues", "Table", "VerdictTable", "Timeline", "Blank",
        "Code", "Fold", "LineChart", "BarChart", "DotChart", "Histogram", "Quantity",
    } <= kinds  # fmt: skip
    callouts = {node.kind for node in nodes(sample) if isinstance(node, Callout)}
    assert {Notice.MOCK, Notice.SIMULATED, Notice.UNSIGNED, Notice.WARNING} <= callouts


@pytest.mark.parametrize("verdict", Verdict)
def test_the_sample_says_that_it_is_one_whatever_its_verdict(verdict: Verdict) -> None:
    sample = sample_document(verdict)
    assert sample.verdict is verdict
    assert "made-up" in sample.title
    assert [stamp.text for stamp in sample.all_stamps] == ["made-up numbers", "mock vendors", "unsigned"]


def test_a_secret_anywhere_in_a_document_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exitramp.secrets._fetched", set())
    remember("correct-horse-battery")
    held = document(
        INCONCLUSIVE,
        sections=(
            Section(1, "S", (Table("t", (Column("c"),), (row("it is correct-horse-battery"),)),), "s"),
            Section(2, "sk-abcdefghijklmnop", (Fold("f", (prose("ghp_abcdefghijklmnopqrst"),)),), "t"),
        ),
    )
    texts = [node for node in nodes(masked(held)) if isinstance(node, str)]
    assert not any("correct-horse" in text or "sk-abc" in text or "ghp_" in text for text in texts)
    assert sum("[secret]" in text for text in texts) == 3


def test_masking_leaves_a_document_without_secrets_as_it_is() -> None:
    assert masked(sample_document()) == sample_document()
