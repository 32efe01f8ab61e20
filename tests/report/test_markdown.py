"""Markdown: that it says what the page says, and that no text turns into markup."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from exitramp.records import Verdict
from exitramp.report.markdown import code_span, escape, render_markdown
from exitramp.report.model import Blank, Bullets, Code, Column, Document, Fold, Table, code, prose, row
from exitramp.report.sample import sample_document


def rendered(text: str) -> str:
    """`text` as HTML by an independent reader of Markdown."""
    markdown_it = pytest.importorskip("markdown_it", reason="no independent reader of Markdown is installed")
    return str(markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


def test_the_same_document_gives_the_same_text() -> None:
    assert render_markdown(sample_document()) == render_markdown(sample_document())


@pytest.mark.parametrize("verdict", Verdict)
def test_the_verdict_its_stamps_and_the_blanks_stand_at_the_top(verdict: Verdict) -> None:
    top = render_markdown(sample_document(verdict)).split("\n|", 1)[0]
    word = {"pass": "✔ Pass", "fail": "✘ Fail", "inconclusive": "◆ Inconclusive"}[verdict.value]
    assert word in top
    assert "**MADE-UP NUMBERS** · **MOCK VENDORS** · **UNSIGNED**" in top
    assert "19 fields are left" in top


def test_every_section_is_a_heading_with_its_anchor() -> None:
    text = render_markdown(sample_document())
    for section in sample_document().sections:
        assert f'<a id="{section.anchor}"></a>\n\n## {section.number}. {section.title}\n' in text


def test_a_chart_is_its_alternative_and_its_numbers() -> None:
    text = render_markdown(sample_document())
    assert "**Chart: Cost of one request before and after, by part**" in text
    assert "A request costs 0.00215 USD on the primary" in text
    assert "| rerank | *not measured* | *not measured* |" in text
    assert "<svg" not in text


def test_tables_have_as_many_cells_in_every_row() -> None:
    width = None
    for line in render_markdown(sample_document()).split("\n"):
        if line.startswith("|"):
            cells = len(re.findall(r"(?<!\\)\|", line))
            assert width in (None, cells), line
            width = cells
        else:
            width = None


def test_numbers_are_aligned_right(of: Callable[..., Document]) -> None:
    assert "| --- | ---: |" in render_markdown(sample_document())


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b", "a\\|b"),
        ("*x* _y_ `z` [l](u) ~s~ $m$", "\\*x\\* \\_y\\_ \\`z\\` \\[l\\](u) \\~s\\~ \\$m\\$"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("a\nb", "a b"),
        ("1.34 s", "1.34 s"),
    ],
)
def test_no_character_of_a_text_is_markup(text: str, written: str) -> None:
    assert escape(text) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [("plain", "`plain`"), ("a`b", "``a`b``"), ("`", "`` ` ``"), ("", "`(empty)`"), (" x", "`  x `")],
)
def test_a_code_span_holds_backticks(text: str, written: str) -> None:
    assert code_span(text) == written


@pytest.mark.parametrize("text", ["1. one", "- one", "+ one", "---", "===", "# one", "> one", "7) x", "* one"])
def test_a_paragraph_stays_a_paragraph(of: Callable[..., Document], text: str) -> None:
    page = rendered(render_markdown(of(prose(text), Bullets(((text,),)))))
    shown = text.replace(">", "&gt;")
    assert f"<p>{shown}</p>" in page
    assert f"<li>{shown}</li>" in page


def test_a_fence_is_longer_than_any_in_the_code(of: Callable[..., Document]) -> None:
    page = rendered(render_markdown(of(Code("```\nx\n````\ny", "sh"))))
    assert '<pre><code class="language-sh">```\nx\n````\ny\n</code></pre>' in page


def test_a_table_cell_holds_bars_and_code(of: Callable[..., Document]) -> None:
    page = rendered(render_markdown(of(Table("t", (Column("a"), Column("b")), (row("x|y", code("p|q")),)))))
    assert "<td>x|y</td>" in page
    assert "<td><code>p|q</code></td>" in page


def test_a_blank_is_room_to_write(of: Callable[..., Document]) -> None:
    text = render_markdown(of(Blank("Signature", 2, "name, date")))
    assert "**Signature**, *to be filled in* (name, date):" in text
    assert text.count("\\_" * 48) == 2


def test_a_fold_is_a_details_element_whose_body_is_markdown(of: Callable[..., Document]) -> None:
    page = rendered(render_markdown(of(Fold("a_b & <c>", (prose(code("x")),)))))
    assert "<summary>a_b &amp; &lt;c&gt;</summary>" in page
    assert "<code>x</code>" in page


def test_whatever_is_in_a_text_no_element_and_no_control_character_comes_of_it(
    hard: Document, hard_texts: dict[str, str]
) -> None:
    text = render_markdown(hard)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e]", text)
    page = rendered(text)
    names = set(re.findall(r"<([a-z][a-z0-9]*)", page))
    allowed = {"h1", "h2", "h3", "p", "a", "table", "thead", "tbody", "tr", "th", "td", "strong", "em", "code", "pre"}
    assert names <= allowed | {"ul", "ol", "li", "blockquote", "details", "summary", "hr", "br"}
    assert not re.search(r"<a href", page)


def test_a_secret_does_not_reach_the_text(of: Callable[..., Document]) -> None:
    assert "ghp_" not in render_markdown(of(prose("ghp_abcdefghijklmnopqrst")))
