"""The page on paper: pages with the folded parts, nothing wider than the sheet, and the first sheet by itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from exitramp.report.html import render_html
from exitramp.report.model import Document
from exitramp.report.sample import sample_document
from tests.report.chromium import NEEDS_CHROMIUM, probe, run_chromium

pytestmark = NEEDS_CHROMIUM


def on_paper(document: Document) -> str:
    """The page as it is printed, for a frame as wide as what A4 leaves between its margins."""
    screens = "@media screen and", "@media (max-width:1px) and"
    return render_html(document).replace("@media print", "@media all").replace(*screens)


def test_nothing_is_wider_than_the_paper(folder: Path, drilled: Document, hard: Document) -> None:
    """On paper nothing scrolls: what sticks out is gone."""
    for name, document in (("drill", drilled), ("sample", sample_document()), ("hard", hard)):
        page = (
            on_paper(document).replace('class="scroll', 'class="').replace("<pre", "<div").replace("</pre>", "</div>")
        )
        [view] = probe(folder, page, (672,))
        assert view["wide"] == [], name


def test_what_is_too_wide_for_the_paper_would_have_been_seen(folder: Path, of: Callable[..., Document]) -> None:
    page = on_paper(of()).replace("<main", '<div style="width:700px">too wide</div><main', 1)
    [view] = probe(folder, page, (672,))
    assert any("too wide" in each for each in view["wide"])


@pytest.mark.parametrize("paper", ["A4", "letter"])
def test_the_first_sheet_holds_the_verdict_the_objectives_and_what_is_not_proven(
    folder: Path, drilled: Document, paper: str
) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext to read it with")
    page, pdf = folder / f"first-{paper}.html", folder / f"first-{paper}.pdf"
    page.write_text(render_html(drilled).replace("</style>", f"@page{{size:{paper}}}</style>", 1), encoding="utf-8")
    run_chromium(folder, page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    first = " ".join(
        subprocess.run(
            ["pdftotext", "-l", "1", str(pdf), "-"], capture_output=True, text=True, timeout=60, check=True
        ).stdout.split()
    )
    assert "The switch worked" in first
    for objective in drilled.objectives:
        assert objective.name in first
    assert "What this report does not prove" in first
    assert "Nobody has signed this report." in first, "the whole of it, its last sentence included"


@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_it_prints_as_pages_with_the_folded_parts(folder: Path, paper: str) -> None:
    sheet = "@page{size:A4}" if paper == "A4" else "@page{size:letter}"
    page = folder / f"{paper}.html"
    page.write_text(render_html(sample_document()).replace("</style>", f"{sheet}</style>", 1), encoding="utf-8")
    pdf = folder / f"{paper}.pdf"
    run_chromium(folder, page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf.read_bytes()))
    assert 8 <= pages <= 24
    if shutil.which("pdftotext") is None:
        pytest.skip(f"{pages} pages; no pdftotext to read them with")
    text = subprocess.run(
        ["pdftotext", "-layout", str(pdf), "-"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    sheets = text.rstrip("\f").split("\f")
    assert len(sheets) == pages
    assert "asyncio.timeout#1" in text, "a folded part was not printed"
    assert all(f"q{number:03d}" in text for number in range(1, 97)), "a chart's numbers were not printed"
    assert "Skip to the report" not in text
    for number, one in enumerate(sheets, start=1):
        assert f"{number} / {pages}" in one
        assert "PASS · MADE-UP NUMBERS · MOCK VENDORS · UNSIGNED" in one
    assert "What this report does not prove" in sheets[0], "the verdict page says what it does not prove"


def test_bars_and_marks_are_printed(folder: Path) -> None:
    """A style for the screen's bar once hid the charts' bars on paper."""
    sheet = render_html(sample_document()).split("@media print", 2)
    hidden = re.findall(r"([^{}]+)\{[^{}]*display:\s*none", "".join(sheet[1:]).split("</style>")[0])
    classes = {name for rule in hidden for name in re.findall(r"\.([\w-]+)", rule)}
    drawn = set(re.findall(r'<(?:rect|path|text)[^>]* class="([\w -]+)"', sheet[-1]))
    assert classes
    assert not classes & {name for names in drawn for name in names.split()}
