"""Every pair of colours that is ever laid on one another can be read, by day and by night."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from exitramp.report.palette import DARK, LIGHT, PAIRS, PART_COUNT, contrast


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "ground", "least"), PAIRS)
def test_the_contrast_of_a_pair_is_enough(scheme: dict[str, str], front: str, ground: str, least: float) -> None:
    assert contrast(scheme[front], scheme[ground]) >= least


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        ("#ffffff", "#000000", 21.0),
        ("#ffffff", "#ffffff", 1.0),
        ("#777777", "#ffffff", 4.48),
        ("#0000ff", "#ffffff", 8.59),
        ("#ff0000", "#ffffff", 4.0),
    ],
)
def test_contrast_is_computed_as_the_guidelines_say(one: str, other: str, ratio: float) -> None:
    assert contrast(one, other) == pytest.approx(ratio, abs=0.01)
    assert contrast(other, one) == contrast(one, other)


def test_both_schemes_name_the_same_colours_and_the_sheet_uses_no_other() -> None:
    sheet = (resources.files("exitramp.report") / "report.css").read_text(encoding="utf-8")
    assert LIGHT.keys() == DARK.keys()
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", sheet)) - {"tone", "tint", "serif", "sans", "mono"}
    assert used <= LIGHT.keys()
    outside_print_margins = re.sub(r"@bottom-\w+ \{[^}]*\}", "", sheet)
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsl", outside_print_margins)


def test_every_part_of_a_stack_has_a_colour() -> None:
    assert {f"part-{number}" for number in range(1, PART_COUNT + 1)} <= LIGHT.keys()


def test_the_sheet_loads_nothing() -> None:
    sheet = (resources.files("exitramp.report") / "report.css").read_text(encoding="utf-8")
    assert "url(" not in sheet
    assert "@import" not in sheet
    assert "@font-face" not in sheet
