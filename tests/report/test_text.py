"""How values become text."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitramp.records import Verdict
from exitramp.report.cells import cell_text
from exitramp.report.model import NOT_APPLICABLE, Cell, Column, Quantity, code
from exitramp.report.text import NO_BREAK, number_text, reads_right_to_left, seconds_text, visible, with_unit


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (0, None, "0"),
        (1234567, None, "1,234,567"),
        (-5, None, "−5"),
        (0.0, 2, "0.00"),
        (1234.5678, 2, "1,234.57"),
        (-0.021, 3, "−0.021"),
        (0.123456, None, "0.1235"),
        (412.0, None, "412"),
        (1e-9, None, "1.000e-09"),
        (Decimal("0.10"), 2, "0.10"),
        (Decimal("1234.5"), None, "1,234"),
        (3, 2, "3.00"),
        (True, None, "yes"),
        (math.inf, 1, "infinite"),
        (-math.inf, None, "−infinite"),
    ],
)
def test_a_number_reads_as_a_person_would_write_it(value: float, decimals: int | None, text: str) -> None:
    assert number_text(value, decimals) == text


@pytest.mark.parametrize(
    ("value", "decimals", "text"), [(0.0004, 2, "< 0.01"), (-0.0004, 2, "> −0.01"), (Decimal("0.4"), 0, "< 1")]
)
def test_what_is_not_zero_is_never_shown_as_zero(value: float, decimals: int, text: str) -> None:
    assert number_text(value, decimals) == text


@given(st.floats(allow_nan=False, allow_infinity=False), st.one_of(st.none(), st.integers(0, 6)))
def test_only_zero_is_shown_as_zero(value: float, decimals: int | None) -> None:
    shown_as_zero = not any(digit in number_text(value, decimals) for digit in "123456789")
    assert shown_as_zero == (value == 0)


def test_a_value_that_is_no_number_says_so() -> None:
    assert number_text(math.nan, 3) == "not a number"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "not measured"),
        (NOT_APPLICABLE, "not applicable"),
        ("", "(empty)"),
        (code(""), "(empty)"),
        (0, "0"),
        (0.0, "0"),
        (False, "no"),
        (Verdict.INCONCLUSIVE, "Inconclusive"),
        (Quantity(1.5, "s", 2), f"1.50{NO_BREAK}s"),
        (Quantity(1.9, "%", 1, 1.0, 3.4), "1.9% (1.0% to 3.4%)"),
        (Quantity(1.9, "%", 1, None, 3.4), "1.9% (not measured to 3.4%)"),
        (datetime(2030, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=2))), f"2029-12-31 23:00:00{NO_BREAK}UTC"),
    ],
)
def test_an_absent_value_never_reads_as_zero_or_as_nothing(cell: Cell, text: str) -> None:
    assert cell_text(cell) == text


def test_a_column_rounds_its_plain_numbers_only() -> None:
    column = Column("c", decimals=1)
    assert cell_text(1.26, column) == "1.3"
    assert cell_text(Quantity(1.26, "", 2), column) == "1.26"
    assert cell_text(None, column) == "not measured"


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        cell_text(datetime(2030, 1, 1))
    assert cell_text(datetime(2030, 1, 1, tzinfo=UTC)).startswith("2030-01-01 00:00:00")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "not measured"),
        (0, f"0{NO_BREAK}s"),
        (0.12, f"0.120{NO_BREAK}s"),
        (0.0004, f"< 0.001{NO_BREAK}s"),
        (12.3, f"12.30{NO_BREAK}s"),
        (107.44, f"1{NO_BREAK}min 47.4{NO_BREAK}s"),
        (119.96, f"2{NO_BREAK}min 00.0{NO_BREAK}s"),
    ],
)
def test_a_duration_reads_in_minutes_and_seconds(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


def test_a_percent_sign_stands_close_and_other_units_do_not() -> None:
    assert with_unit("5", "%") == "5%"
    assert with_unit("5", "ms") == f"5{NO_BREAK}ms"
    assert with_unit("5", "") == "5"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("naïve — ✓ 👩‍👧", "naïve — ✓ 👩‍👧"),
        ("a\x00b\x1b\x7f", "a\u2400b\u241b\u2421"),
        ("a\tb\nc", "a b c"),
        ("\x85", "\\u0085"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("\ufffe\U0001ffff", "\\ufffe\\U0001ffff"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
    ],
)
def test_what_nobody_can_see_is_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_lines_are_kept_where_they_matter() -> None:
    assert visible("a\n\tb\r", keep_newlines=True) == "a\n\tb\u240d"


@given(st.text(st.characters(exclude_categories=())))
def test_whatever_the_text_what_is_shown_is_legal_xml(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    element = ElementTree.Element("t")
    element.text = shown
    assert ElementTree.fromstring(ElementTree.tostring(element, encoding="unicode")).text == (shown or None)
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in shown)


def test_text_of_a_right_to_left_script_is_known() -> None:
    assert reads_right_to_left("abc שלום")
    assert not reads_right_to_left("naïve 👩 中文")
