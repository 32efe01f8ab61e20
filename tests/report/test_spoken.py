"""The page as a screen reader is given it: landmarks, names, and pictures in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from exitramp.report.html import render_html
from exitramp.report.model import Document
from exitramp.report.sample import sample_document
from tests.report.chromium import CHROMIUM, FLAGS, NEEDS_CHROMIUM
from tests.report.devtools import Spoken, browser, spoken

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def read_aloud(folder: Path, drilled: Document) -> dict[str, list[Spoken]]:
    """Both documents as a screen reader is given them, folds closed."""
    assert CHROMIUM is not None
    found = {}
    with browser(CHROMIUM, FLAGS, folder / "spoken") as pipe:
        for name, document in (("sample", sample_document()), ("drill", drilled)):
            page = folder / f"spoken-{name}.html"
            page.write_text(render_html(document), encoding="utf-8")
            found[name] = spoken(pipe, page)
    return found


def test_a_screen_reader_is_told_where_it_is(read_aloud: dict[str, list[Spoken]]) -> None:
    for name, nodes in read_aloud.items():
        roles = [node.role for node in nodes]
        for landmark in ("banner", "navigation", "main", "contentinfo"):
            assert roles.count(landmark) == 1, (name, landmark)
        levels = [node.properties["level"] for node in nodes if node.role == "heading"]
        by_place = [node for node in nodes if node.role == "heading"]
        assert levels.count(1) == 1, name
        assert set(levels) == {1, 2, 3}, name
        assert all(node.name for node in by_place), name
        assert next(node for node in nodes if node.role == "RootWebArea").name.startswith("Pass: "), name


def test_whatever_a_screen_reader_stops_at_has_a_name(read_aloud: dict[str, list[Spoken]]) -> None:
    named = {"table", "region", "image", "link", "note", "columnheader", "rowheader", "DisclosureTriangle"}
    for name, nodes in read_aloud.items():
        assert {"table", "image", "note", "columnheader", "rowheader"} <= {node.role for node in nodes}, name
        for node in nodes:
            assert node.name or node.role not in named, (name, node.role, node.parent and node.parent.name)


def test_a_chart_is_one_picture_with_a_name_and_what_it_shows_in_words(read_aloud: dict[str, list[Spoken]]) -> None:
    for name, nodes in read_aloud.items():
        pictures = [node for node in nodes if node.role == "image"]
        assert len(pictures) >= 3, name
        for picture in pictures:
            assert len(picture.description) > 40, (name, picture.name)
        read = [node.name for node in nodes if node.within("image") and node.name]
        assert read == [], "the numbers on an axis are not read out"


def test_every_number_of_a_table_belongs_to_a_row_and_a_column(read_aloud: dict[str, list[Spoken]]) -> None:
    for name, nodes in read_aloud.items():
        for node in nodes:
            if node.role in {"cell", "rowheader", "columnheader"}:
                assert node.within("row"), (name, node.name)
                assert node.within("table"), (name, node.name)


def test_a_picture_that_only_repeats_a_word_is_not_read(read_aloud: dict[str, list[Spoken]]) -> None:
    """Without this, the verdict's shape could be read out in place of its word."""
    for name, nodes in read_aloud.items():
        told = [node.name for node in nodes if node.role == "StaticText" and node.within("banner")]
        assert told[:1] == ["Pass"], name
        assert not [node for node in nodes if node.role in {"image", "SvgRoot"} and node.within("banner")], name
