"""From a drill's journal to its report: one file for each group of sections, and nothing but the journal read."""

from __future__ import annotations

from exitramp.report.model import Document, Meta
from exitramp.report.sections import (
    annex,
    before,
    costs,
    events,
    inventory,
    outage,
    people,
    quality,
    rollback,
    setting,
    tabletop,
    verdict_page,
)
from exitramp.report.sections.fields import word
from exitramp.report.sections.journal import Journal, moment
from exitramp.report.sections.outcome import overall, reason, stamps
from exitramp.report.sections.promises import judged
from exitramp.report.sections.words import sentence

__all__ = ["Journal", "build_document"]


def build_document(journal: Journal) -> Document:
    """The report of one run, from its journal alone: the same journal always gives the same document.

    A run that was stopped, killed or made of other steps gives a whole document too: what is not in the journal reads
    "not measured" with the reason why.
    """
    if tabletop.is_tabletop(journal):
        return tabletop.tabletop_document(journal, _meta(journal))
    objectives = judged(journal)
    found = overall(journal, objectives)
    name = word(journal.drill, "name")
    return Document(
        title=sentence(word(journal.drill, "title") or name or "A drill without a name").rstrip("."),
        subtitle=f"Drill “{name}”, {word(journal.drill, 'mode') or 'of unknown mode'}: {setting.parts_named(journal)}",
        verdict=found,
        verdict_reason=reason(journal, objectives, found),
        meta=_meta(journal),
        objectives=objectives,
        sections=(
            verdict_page.verdict_page(journal, objectives),
            setting.identity(journal),
            setting.scope(journal),
            setting.mode(journal),
            setting.participants(journal),
            before.objectives_section(journal),
            before.baseline_section(journal),
            events.event_section(journal),
            outage.results_section(journal, objectives),
            quality.quality_section(journal),
            inventory.inventory_section(journal),
            costs.cost_section(journal),
            people.contract_section(journal),
            rollback.rollback_section(journal),
            people.findings_section(journal),
            people.actions_section(journal, objectives),
            people.sign_off_section(),
            annex.annex(journal),
        ),
        stamps=stamps(journal),
    )


def _meta(journal: Journal) -> Meta:
    started = journal.started
    version = word(started, "tool_version")
    return Meta(
        run_id=word(started, "run_id") or "unknown",
        program=f"exitramp {version}".strip(),
        # Not the moment of rendering: the same journal would give another report every time.
        generated_at=moment(journal.last),
        started_at=moment(journal.events[0]),
        ended_at=moment(journal.last) if journal.is_finished else None,
        objectives_sha256=word(started, "objectives_sha256") or None,
        event_log_head=journal.head,
        event_count=len(journal.events),
        is_anchored=journal.is_anchored,
        seconds=journal.last.elapsed_seconds - journal.events[0].elapsed_seconds if journal.is_finished else None,
        is_without_pauses=bool(journal.of_kind("run.resumed")),
    )
