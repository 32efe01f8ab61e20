"""Section 12: what leaving adds, which prices the figures rest on, and what is missing or assumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exitramp.report.model import Document
from tests.report.drill_journals import VERDICTS, Play, document_of_run, drill, judged, section_text
from tests.report.drill_results import results

ROW = {
    "id": "chroma-egress",
    "provider": "chroma",
    "item": "vector_store",
    "unit": "usd_per_gb_egress",
    "amount": "0.090",
    "source": "contract of 3 March, annex B",
    "retrieved": "2026-03-03",
    "valid_from": "2026-03-01",
    "valid_to": None,
    "illustrative": False,
    "used_for": ["exit:egress"],
}
ASSUMED = {
    "code": "cost.assumed_requests",
    "message": "100,000 requests a month are assumed: data.monthly_requests says how many there are",
    "verdict": None,
}


def line(name: str, usd: str | None, *, anyway: bool = False, **more: Any) -> dict[str, Any]:
    told = {"quantity": "1", "counted": "days", "note": "", "source": "a run-rate", "price_id": None, **more}
    return {"name": name, "usd": usd, "paid_anyway": anyway, **told}


def leaving(*lines: dict[str, Any], adds: str | None, whole: str | None) -> dict[str, Any]:
    unknown = [each["name"] for each in lines if each["usd"] is None]
    sums = {"total_usd": whole, "additional_usd": adds}
    return {"illustrative": False, "lines": list(lines), **sums, "unknown": unknown, "not_included": ["labour"]}


def told(folder: Path, *findings: dict[str, Any], **changes: Any) -> str:
    return section_text(_document(folder, findings, changes), "Cost before, after and once").replace("\u00a0", " ")


def _document(folder: Path, findings: tuple[dict[str, Any], ...], changes: dict[str, Any]) -> Document:
    play = Play(folder, drill())
    for name, data in results().items():
        here = name == "cost"
        play.step(name, {**data, **(changes if here else {})}, VERDICTS.get(name), findings if here else ())
    return document_of_run(play.end("pass", judged()))


def test_what_leaving_adds_stands_before_the_sum_that_holds_what_would_be_paid_anyway(tmp_path: Path) -> None:
    lines = line("parallel_run_primary", "70", anyway=True), line("parallel_run_substitute", "95")
    text = told(tmp_path, exit=leaving(*lines, adds="95", whole="165"))
    assert "**Leaving adds 95.00 USD.** With what would be paid anyway it is 165.00 USD." in text
    assert "Paid without leaving, too: Parallel run: the primary. Not counted: People’s time." in text
    assert "| Leaving adds | without what would be paid anyway | 95.00 |" in text
    assert "| With what would be paid anyway | all lines above | 165.00 |" in text
    assert "| Parallel run: the substitute | 1 day | 95.00 |" in text


def test_a_sum_with_an_unknown_line_is_not_known_and_the_other_is(tmp_path: Path) -> None:
    lines = line("parallel_run_primary", None, anyway=True), line("parallel_run_substitute", "95")
    text = told(tmp_path, exit=leaving(*lines, adds="95", whole=None))
    assert "**Leaving adds 95.00 USD.** What it comes to with what would be paid anyway is not known." in text
    lines = line("parallel_run_primary", "70", anyway=True), line("parallel_run_substitute", None)
    text = told(tmp_path / "other", exit=leaving(*lines, adds=None, whole=None))
    assert "**What leaving adds is not known.**" in text
    assert "Unknown, and so is every sum that holds it: Parallel run: the substitute." in text


def test_an_older_journal_is_not_said_to_tell_what_leaving_adds(tmp_path: Path) -> None:
    text = told(tmp_path)
    assert "Leaving adds" not in text
    assert "| Together, of what was counted | all lines above | &lt; 0.01 |" in text
    assert "does not say what of it would be paid without leaving, too" in text


def test_every_price_row_can_be_looked_up_from_the_report(tmp_path: Path) -> None:
    month = {**ROW, "id": "chroma-month", "unit": "usd_per_month", "amount": "70", "valid_to": "2026-12-31"}
    month |= {"illustrative": True, "used_for": ["month:primary", "request:primary"]}
    text = told(tmp_path, prices_used=[ROW, month])
    assert (
        "| `chroma-egress` | chroma / vector\\_store | 0.090 USD a GB of egress | contract of 3 March, annex B;"
        " retrieved 2026-03-03; holds from 2026-03-01, no end set | no | egress |" in text
    )
    assert "| 70 USD a month |" in text
    assert "holds from 2026-03-01 to 2026-12-31 | yes | the month, primary; requests, primary |" in text


def test_an_older_journal_gives_the_ids_of_its_prices_and_says_that_it_has_no_more(tmp_path: Path) -> None:
    text = told(tmp_path)
    assert "- `chroma-egress`\n- `mock-openai-input`" in text
    assert "holds the ids of the prices alone" in text


def test_missing_prices_and_an_assumed_number_of_requests_stand_at_the_top_of_the_section(tmp_path: Path) -> None:
    gap = "own-contract has no usd_per_gb_egress for chroma/vector_store on 2026-03-03"
    lines = line("egress", None, note=gap, source="mock-vendors")
    missing = {"code": "cost.missing_prices", "message": f"prices are missing: {gap}", "verdict": None, "count": 1}
    text = told(tmp_path, missing, ASSUMED, exit=leaving(lines, adds=None, whole=None))
    top = text.partition("**Cost of one request")[0]
    assert "prices are missing, so what rests on them is not known" in top
    assert gap.replace("_", "\\_") in top
    assert "the number of requests a month is assumed, not known" in top
    assert "100,000 requests a month are assumed" in top


def test_a_finding_of_missing_prices_is_shown_even_if_no_figure_names_them(tmp_path: Path) -> None:
    missing = {"code": "cost.missing_prices", "message": "prices are missing: one of them", "verdict": None}
    assert "> - prices are missing: one of them" in told(tmp_path, missing)
