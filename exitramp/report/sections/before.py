"""Sections 6 and 7: what was promised before the run, and how the primary did before anything was broken."""

from __future__ import annotations

from exitramp.drill.naming import without_classes
from exitramp.records import Verdict
from exitramp.report.model import (
    Block,
    Callout,
    Cell,
    Column,
    KeyValues,
    Notice,
    Quantity,
    Row,
    Section,
    Subheading,
    Table,
    code,
    prose,
    row,
)
from exitramp.report.sections.asked import (
    NOBODY_ANSWERS,
    answered_title,
    application_asked,
    measures_explained,
    nobody_answers,
    tokens_cell,
)
from exitramp.report.sections.doubts import doubts
from exitramp.report.sections.fields import Data, count, figure, flag, objects, part, word, words
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.promises import hash_holds, promised
from exitramp.report.sections.words import PARTS, counted, not_measured, sentence
from exitramp.report.text import number_text

_MOST_IDS = 60
_OUTCOMES = (
    ("wrong", "Wrong answers"),
    ("truncated", "Broken off"),
    ("provider_error", "Vendor errors"),
    ("store_error", "Store errors"),
)


def objectives_section(journal: Journal) -> Section:
    first = journal.events[0]
    rest = next((event for event in journal.events if event.kind == "step.started"), None)
    before = f", before the first step began in event #{rest.seq}" if rest else ""
    blocks: list[Block] = [
        prose(
            f"They stand in the journal’s first event, #{first.seq}, written at {first.ts}{before}. Their SHA-256"
            " stands beside them; every later event holds the hash of the one before, so neither can be changed"
            " afterwards without changing every hash up to the head of the chain (section 8)."
        ),
        Table(
            "Objectives as they were set",
            (Column("Objective"), Column("Key"), Column("Promised")),
            tuple(row(title, code(key), target or "not set") for key, title, target in promised(journal)),
        ),
        KeyValues(
            (
                ("SHA-256 of the objectives", code(word(journal.started, "objectives_sha256"))),
                ("Computed again from event #1", "the same" if hash_holds(journal) else "not the same"),
                ("Stands in event", code(f"#{first.seq}")),
                ("Hash of that event", code(first.hash)),
            )
        ),
    ]
    if doubts(journal):
        told = tuple(prose(sentence(each)) for each in doubts(journal))
        blocks.append(Callout(Notice.WARNING, "the journal contradicts itself", told))
    return Section(6, "Objectives, set and hashed before the run", tuple(blocks), "objectives")


def baseline_section(journal: Journal) -> Section:
    return Section(
        7,
        "Baseline",
        (*_hypotheses(journal), Subheading(f"Golden questions, asked of the {_who(journal)}"), *_golden(journal)),
        "baseline",
    )


def _who(journal: Journal) -> str:
    return "application" if application_asked(journal) else "primary"


def _hypotheses(journal: Journal) -> list[Block]:
    found: list[Block] = [Subheading("Does everything answer?")]
    ran = [step for step in journal.steps if step.name == "check_hypothesis" and step.finished is not None]
    if not ran:
        return [*found, not_measured(journal, "check_hypothesis")]
    for step in ran:
        when = word(step.data, "when") or "before"
        rows = [
            row(
                f"{sentence(word(check, 'stack')).rstrip('.')}: {PARTS.get(word(check, 'part'), word(check, 'part'))}",
                "answers" if flag(check, "answers") else f"silent ({without_classes(word(check, 'error'))})",
                _held(check),
                verdict=Verdict.PASS if flag(check, "answers") else Verdict.FAIL,
            )
            for check in objects(step.data, "checks")
        ]
        columns = (Column("Part"), Column("Does it answer?"), Column("With"))
        found.append(Table(f"Steady state {'beforehand' if when == 'before' else 'afterwards'}", columns, tuple(rows)))
    return found


def _held(check: Data) -> Cell:
    records = count(check, "records")
    if records is not None:
        return counted(records, "record")
    model, dimensions = word(check, "model"), count(check, "dimensions")
    if word(check, "part") != "store":
        return ", ".join(filter(None, (model, counted(dimensions, "dimension") if dimensions else ""))) or None
    return "no collection yet" if flag(check, "answers") else None


def _golden(journal: Journal) -> list[Block]:
    told: list[Block] = []
    loaded, asked = journal.data("load_golden"), journal.data("baseline")
    if count(loaded, "cases"):
        told.append(_loaded(journal, loaded))
        absent = words(loaded, "absent_ids")
        if absent:
            told.append(_absent(absent, words(loaded, "affected_cases")))
    if not count(asked, "asked"):
        return [*told, not_measured(journal, "baseline")]
    if flag(asked, "mock"):
        told.append(Callout(Notice.MOCK, "these answers are a mock’s", ()))
    latency = " Latency contains what a mock waits on purpose." if flag(asked, "mock") else ""
    silent = f" {NOBODY_ANSWERS}" if nobody_answers(journal) else ""
    told.append(
        Table(
            f"The golden set on the {_who(journal)}",
            (Column("What"), Column("Measured")),
            (
                row(
                    answered_title(journal),
                    share_cell(count(asked, "answered"), count(asked, "asked")),
                ),
                *([] if nobody_answers(journal) else [row("Assertions met", assertions_met(asked))]),
                row(f"nDCG@{asked.get('k', '?')}", _quantity(figure(asked, "ndcg"))),
                row(f"Recall@{asked.get('k', '?')}", _quantity(figure(asked, "recall"))),
                row("Mean reciprocal rank", _quantity(figure(asked, "mrr"))),
                row("Latency, median", _quantity(figure(asked, "latency_ms", "p50"), "ms", 1)),
                row("Latency, 95th percentile", _quantity(figure(asked, "latency_ms", "p95"), "ms", 1)),
                *_answers(journal, asked),
            ),
            note=f"By use case, and beside the {'second time' if application_asked(journal) else 'substitute'}, in"
            f" section 10.{latency}{silent} {measures_explained(journal)}"
            " Mean reciprocal rank: one divided by the place of the first relevant passage.",
        )
    )
    return told


def _answers(journal: Journal, asked: Data) -> list[Row]:
    """What became of answers, where there are any; outcomes are counted of those that an assertion judges."""
    if nobody_answers(journal):
        return []
    outcomes = part(asked, "outcomes")
    rows = [
        row("Tokens read", tokens_cell(asked, "prompt_tokens")),
        row("Tokens written", tokens_cell(asked, "gen_tokens")),
    ]
    if not any(count(outcomes, name) for name in outcomes):
        return rows
    if part(asked, "application"):
        # Behind which of its parts a request failed is not seen from outside.
        seen = (*_OUTCOMES[:2], ("provider_error", "Errors of the application"))
        return rows + [row(title, count(outcomes, name)) for name, title in seen]
    return rows + [row(title, count(outcomes, name)) for name, title in _OUTCOMES]


def _loaded(journal: Journal, loaded: Data) -> KeyValues:
    cases, every, usable = count(loaded, "cases"), count(loaded, "of"), count(loaded, "usable")
    by_use = part(loaded, "use_cases")
    overlap = figure(loaded, "mean_token_overlap")
    asserted: Cell = count(loaded, "with_assertion")
    if asserted and nobody_answers(journal):
        asserted = f"{asserted}, and none of them is judged: nobody answers in this drill"
    return KeyValues(
        (
            ("Golden set", word(loaded, "set") or None),
            ("Questions", cases if every in {None, cases} else f"{cases} of {every}, spread evenly over the set"),
            ("That can be asked here", usable),
            ("By use case", ", ".join(f"{name} {by_use[name]}" for name in sorted(by_use)) or None),
            ("With an assertion on the answer", asserted),
            (
                "Words shared with the relevant text, as the set states",
                "the set does not state it" if overlap is None else Quantity(overlap * 100, "%", 0),
            ),
        )
    )


def _absent(absent: tuple[str, ...], cases: tuple[str, ...]) -> Callout:
    shown = ", ".join(absent[:_MOST_IDS]) + (" …" if len(absent) > _MOST_IDS else "")
    body = (prose(f"They touch {counted(len(cases), 'question')}. Named: ", code(shown)),)
    return Callout(Notice.WARNING, f"{counted(len(absent), 'golden id')} not in the corpus", body)


def share_cell(passed: int | None, of: int | None) -> Cell:
    """`91 of 119 (76.5%)`; None where nothing was judged."""
    if passed is None or not of:
        return None
    return f"{number_text(passed)} of {number_text(of)} ({number_text(100 * passed / of, 1)}%)"


def assertions_met(asked: Data) -> Cell:
    """Of a replay; one without a chat vendor has no answers to judge."""
    passed, judged = count(asked, "assertions_passed"), count(asked, "assertions_judged")
    return "no answer has one to meet" if judged == 0 else share_cell(passed, judged)


def _quantity(value: float | None, unit: str = "", decimals: int = 3) -> Cell:
    return None if value is None else Quantity(value, unit, decimals)
