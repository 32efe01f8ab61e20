"""What a reader has to know beside a comparison's verdict: what was left out, who answered, what was known before."""

from __future__ import annotations

from collections.abc import Sequence

from exitramp.evals.comparing.pairing import Together, asked_alike
from exitramp.evals.comparing.side import Side, not_its_own, store_errors
from exitramp.evals.runs.folder import Run
from exitramp.evals.verdicts import NonInferiority
from exitramp.wording import counted


def notes_of(
    runs: tuple[Run, Run],
    sides: tuple[Side, Side],
    both: Together,
    judged: Sequence[NonInferiority],
    *,
    judges_order: bool,
) -> list[str]:
    """A sentence each."""
    first, second = runs
    notes = []
    for name, side in zip(("first", "second"), sides, strict=True):
        if failed := store_errors(side, name):
            notes.append(f"{failed}: it says nothing of how good an answer is")
        if judges_order:
            notes += [f"{told}; by --judge-order it is the order that is judged" for told in not_its_own(side, name)]
    if both.left_out:
        notes.append(f"{counted(len(both.left_out), 'case is', 'cases are')} not the same in both runs, and left out")
    if alike := asked_alike(both):
        notes.append(
            f"{counted(alike, 'case asks', 'cases ask')} what another one asks: averaged, as "
            f"{counted(len(both.first) - alike, 'question')} in all"
        )
    for each in judged:
        if each.unmeasured:
            notes.append(
                f"{each.metric}: {counted(len(each.unmeasured), 'case')} without a complete answer of the first run, "
                "or without a judgement: left out"
            )
        if each.substitute_missing:
            notes.append(
                f"{each.metric}: {counted(len(each.substitute_missing), 'case')} without a complete answer of the "
                "second run: counted as failed"
            )
    unlabelled = sum(
        all(result.outcome is None for result in results) and not results[0].values.get("ndcg")
        for results in both.first.values()
    )
    if unlabelled:
        notes.append(f"nobody labelled {counted(unlabelled, 'case')}: judged by retrieval overlap only, or not at all")
    if any(run.plan["repeats"] > 1 for run in (first, second)):
        notes.append("repeats of a case are averaged: the cases are what is counted")
    for name, run in (("first", first), ("second", second)):
        if replayed := sum(bool(result.data.get("replayed")) for result in run.results.values()):
            notes.append(
                f"{counted(replayed, 'answer')} of the {name} run {'was' if replayed == 1 else 'were'} kept from an "
                "earlier one: known when its margins were fixed, and nothing of who would answer now"
            )
        if run.lost:
            notes.append(f"the {name} run may have been billed twice for {counted(len(run.lost), 'question')}")
    if first.plan["subject"] == second.plan["subject"]:
        notes.append("both runs asked the same model in the same way")
    return notes
