"""The page: that it loads nothing, escapes everything, and reads without eyes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exitramp.records import Verdict
from exitramp.report.figures import Side
from exitramp.report.html import POLICY, render_html
from exitramp.report.model import Document, Fold, Row, Section, Table, numbers, prose
from exitramp.report.sample import sample_document

Parse = Callable[[str], Any]
LOADING = {
    "src",
    "srcset",
    "href",
    "xlink:href",
    "action",
    "formaction",
    "poster",
    "data",
    "background",
    "ping",
    "style",
}


@pytest.fixture(scope="module")
def page(parse: Parse) -> Any:
    return parse(render_html(sample_document()))


def test_the_same_document_gives_the_same_bytes() -> None:
    assert render_html(sample_document()) == render_html(sample_document())


def test_the_page_loads_nothing_from_anywhere(page: Any) -> None:
    for node in page.all():
        assert node.name not in {
            "script",
            "iframe",
            "object",
            "embed",
            "base",
            "form",
            "video",
            "audio",
            "image",
            "use",
        }
        for name, value in node.attributes.items():
            assert not name.startswith("on"), f"<{node.name}> carries {name}"
            if name in LOADING:
                allowed = value == "data:," if node.name == "link" else (value or "").startswith("#")
                assert allowed, f"<{node.name} {name}={value!r}>"
    [style] = page.all("style")
    assert "url(" not in style.text()
    assert "@import" not in style.text()


def test_the_policy_refuses_everything_but_the_page_s_own_style(page: Any) -> None:
    policies = [node for node in page.all("meta") if node.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert [node.attributes["content"] for node in policies] == [POLICY]
    assert POLICY.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    [head] = page.all("head")
    names = [child.name for child in head.all()]
    assert names.index("meta") == 0
    assert names.index("style") > 1, "the policy comes before whatever it governs"


def test_no_address_is_written_that_the_document_does_not_hold() -> None:
    text = render_html(sample_document())
    held = {"chroma+http://127.0.0.1:8123/docs", "qdrant+http://127.0.0.1:6433/docs"}
    assert set(re.findall(r"[a-z+]+://[^\s\"<&]+", text)) == held


def test_headings_descend_by_one(page: Any) -> None:
    levels = [int(node.name[1]) for node in page.all() if re.fullmatch(r"h[1-6]", node.name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert levels.count(2) == 18
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_there_is_one_of_each_landmark_and_a_way_past_the_contents(page: Any) -> None:
    for landmark in ("main", "header", "footer", "nav"):
        assert len(list(page.all(landmark))) == 1
    [html] = page.all("html")
    assert html.attributes["lang"] == "en"
    [body] = page.all("body")
    first = next(body.all())
    assert (first.name, first.attributes["href"]) == ("a", "#content")
    assert any(node.attributes.get("id") == "content" for node in page.all("main"))
    [nav] = page.all("nav")
    assert nav.attributes["aria-label"] == "Contents"


def test_every_link_and_every_reference_leads_somewhere(page: Any) -> None:
    ids = [node.attributes["id"] for node in page.all() if "id" in node.attributes]
    assert len(set(ids)) == len(ids), "an id is used twice"
    for node in page.all():
        for name in ("aria-labelledby", "aria-describedby"):
            if name in node.attributes:
                assert node.attributes[name] in ids
        if node.name == "a":
            assert node.attributes["href"][1:] in ids
    [nav] = page.all("nav")
    assert len(list(nav.all("a"))) == 18


def test_every_table_has_a_caption_and_every_heading_cell_a_scope(page: Any) -> None:
    tables = list(page.all("table"))
    assert len(tables) > 10
    for table in tables:
        [caption] = table.all("caption")
        assert caption.text().strip()
        assert all(cell.attributes.get("scope") in {"col", "row"} for cell in table.all("th"))
        columns = len(list(next(table.all("thead")).all("th")))
        for line in next(table.all("tbody")).all("tr"):
            cells = [child for child in line.children if not isinstance(child, str)]
            assert len(cells) == columns
            assert cells[0].name == "th"
            assert all(cell.text().strip() or cell.attributes.get("data-name") == "Note" for cell in cells)


def test_a_table_that_may_scroll_can_be_reached_with_the_keyboard(page: Any) -> None:
    for frame in page.all("div"):
        if frame.has_class("many"):
            assert frame.attributes["tabindex"] == "0"
            assert frame.attributes["role"] == "region"


def test_every_chart_has_a_name_a_description_and_its_numbers(page: Any) -> None:
    charts = [node for node in page.all("div") if node.has_class("chart")]
    assert len(charts) == 5
    for chart in charts:
        drawings = [node for node in chart.all("svg") if node.attributes.get("role") == "img"]
        assert len(drawings) == 2, "one for wide pages, one for narrow"
        for drawing in drawings:
            ids = {node.attributes.get("id"): node.text() for node in drawing.all()}
            assert ids[drawing.attributes["aria-labelledby"]].strip()
            assert len(ids[drawing.attributes["aria-describedby"]]) > 40
        assert list(chart.all("figcaption"))
        assert list(next(chart.all("details")).all("table"))


def test_pictures_without_a_name_are_hidden_from_screen_readers(page: Any) -> None:
    for drawing in page.all("svg"):
        assert drawing.attributes.get("role") == "img" or drawing.attributes.get("aria-hidden") == "true"


@pytest.mark.parametrize("verdict", Verdict)
def test_a_verdict_is_a_word_and_a_shape(parse: Parse, verdict: Verdict) -> None:
    page = parse(render_html(sample_document(verdict)))
    word = {"pass": "Pass", "fail": "Fail", "inconclusive": "Inconclusive"}[verdict.value]
    [box] = [node for node in page.all("div") if node.has_class("verdict-box")]
    assert next(node for node in box.all("p") if node.has_class("word")).text() == f"Verdict: {word}"
    assert list(box.all("svg"))
    [banner] = page.all("header")
    assert banner.text().startswith(word)
    assert list(banner.all("svg"))
    [head] = page.all("head")
    assert next(head.all("title")).text().startswith(f"{word}: ")


def test_the_shapes_of_the_three_verdicts_differ(parse: Parse) -> None:
    shapes = set()
    for verdict in Verdict:
        [banner] = parse(render_html(sample_document(verdict))).all("header")
        shapes.add(next(banner.all("path")).attributes["d"])
    assert len(shapes) == 3


def test_every_stamp_stands_beside_the_verdict_on_screen_and_on_each_printed_page(page: Any) -> None:
    [banner] = page.all("header")
    [box] = [node for node in page.all("div") if node.has_class("verdict-box")]
    [style] = page.all("style")
    for stamp in sample_document().all_stamps:
        assert stamp.text in banner.text()
        assert stamp.text in box.text()
        foot = "".join(c if c.isalnum() or c == " " else f"\\{ord(c):x} " for c in stamp.text.upper())
        assert foot in style.text()


def test_blanks_stay_blank_and_say_what_they_wait_for(page: Any) -> None:
    cells = [node for node in page.all("span") if node.has_class("blank-cell")]
    boxes = [node for node in page.all("div") if node.has_class("blank")]
    assert len(cells) + len(boxes) == sample_document().blank_count
    for node in cells:
        [hidden] = node.all("span")
        assert hidden.has_class("hidden")
        assert hidden.text().endswith(": to be filled in")
    for node in boxes:
        assert "to be filled in" in node.text()
        assert [child for child in node.all("span") if child.has_class("line")]


def test_what_was_not_measured_says_so(parse: Parse, of: Callable[..., Document]) -> None:
    table = Table("t", (numbers("a", "", 2), numbers("b", "", 2)), (Row((None, float("nan"))),))
    text = parse(render_html(of(table))).text()
    assert "not measured" in text
    assert "not a number" in text


def test_an_empty_table_and_an_empty_document_can_be_rendered(parse: Parse, of: Callable[..., Document]) -> None:
    assert "no rows" in parse(render_html(of(Table("t", (numbers("a"),), ())))).text()
    page = parse(render_html(replace(of(), sections=())))
    assert not list(page.all("section"))


def test_whatever_is_in_a_text_the_page_stays_whole(parse: Parse, hard: Document, hard_texts: dict[str, str]) -> None:
    text = render_html(hard)
    page = parse(text)
    assert not list(page.all("script"))
    assert not list(page.all("img"))
    assert len(list(page.all("h1"))) == 1
    shown = page.text()
    for name in ("script", "closing", "quotes", "entities", "emoji", "long id", "markdown", "address"):
        assert hard_texts[name] in shown, name
    text.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]", text)


def test_right_to_left_text_is_kept_from_reordering_its_neighbours(parse: Parse, of: Callable[..., Document]) -> None:
    page = parse(render_html(of(prose("before שלום after"), Fold("f", (prose("plain"),)))))
    assert [node.text() for node in page.all("bdi")] == ["before שלום after"]


def test_a_secret_does_not_reach_the_page(of: Callable[..., Document]) -> None:
    assert "sk-abcdefghijklmnop" not in render_html(of(prose("the key sk-abcdefghijklmnop")))


def test_a_new_page_in_print_is_asked_for_by_the_section(parse: Parse, of: Callable[..., Document]) -> None:
    document = replace(of(), sections=(Section(1, "a", (), "a"), Section(2, "b", (), "b", new_page=True)))
    assert [node.has_class("new-page") for node in parse(render_html(document)).all("section")] == [False, True]


def test_both_sides_of_a_chart_have_a_style_of_their_own() -> None:
    text = render_html(sample_document())
    for side in Side:
        assert f".dot.{side.value}" in text
