"""`exitramp eval compare`: is the second run worse than the first, and by how much at most?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exitramp.cli import output
from exitramp.cli.options import json_option

if TYPE_CHECKING:
    from exitramp.evals.comparing.comparison import Comparison, Flipped, MetricResult
    from exitramp.evals.comparing.side import Side
    from exitramp.evals.runs.folder import Result

_ANSWER_WIDTH = 2000


@click.command("compare")
@click.argument("first", metavar="RUN_A", type=click.Path(path_type=Path))
@click.argument("second", metavar="RUN_B", type=click.Path(path_type=Path))
@click.option(
    "--margin",
    "margins",
    multiple=True,
    metavar="[METRIC=]SHARE",
    help="By how much RUN_B may be worse, e.g. 0.05 or ndcg=0.1, if the runs did not fix it. May be repeated.",
)
@click.option("--common-cases", is_flag=True, help="Compare runs of different sets by the cases that both hold.")
@click.option(
    "--judge-order",
    is_flag=True,
    help="Judge a stack file's order itself, so that answers of stand-ins count too.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the bootstrap.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write JUnit XML there.")
@click.option("--answers", is_flag=True, help="Show flipped cases' answers side by side, where the runs kept them.")
@json_option
def compare_command(
    first: Path,
    second: Path,
    margins: tuple[str, ...],
    common_cases: bool,
    judge_order: bool,
    seed: int,
    junit: Path | None,
    answers: bool,
    as_json: bool,
) -> int:
    """Compare RUN_B, the substitute, with RUN_A, what is in use.

    The verdict comes from the lower confidence bound of the paired difference against the margin and from nothing
    else: 0 pass, 1 fail, 3 inconclusive, which is also the answer to too few cases. A margin that was fixed when a run
    was made holds, and no other. Where a stack file was asked and another one stood in for who was to answer, that is
    inconclusive too, unless --judge-order says that the order itself is what is judged. Wilson intervals and McNemar's
    test are shown and decide nothing.

    \b
    Example:
      exitramp eval compare runs/before runs/after --margin 0.05
    """
    from exitramp.durable import write_atomically
    from exitramp.evals.comparing.comparison import compare_runs
    from exitramp.evals.comparing.junit import render_junit
    from exitramp.evals.comparing.margins import fixed_margins, parse_margins
    from exitramp.evals.runs.folder import read_run

    one, other = read_run(first), read_run(second)
    held, fixed = fixed_margins(one.plan["margins"], other.plan["margins"], parse_margins(margins))
    found = compare_runs(
        one, other, held, margin_fixed=fixed, common_cases=common_cases, judges_order=judge_order, seed=seed
    )
    if junit is not None:
        write_atomically(junit, render_junit(found).encode("utf-8"))
    if as_json:
        told = found.to_json()
        if answers:
            told["answers"] = {flip.case_id: [_texts(flip.first), _texts(flip.second)] for flip in found.flipped}
        output.emit_json(told)
    else:
        _tell(found, answers=answers)
    return output.exit_code(found.verdict)


def _tell(found: Comparison, *, answers: bool) -> None:
    output.say(f"{output.verdict_word(found.verdict)}  {found.reason}")
    if found.next_step is not None:
        output.say(f"  next: {found.next_step}")
    output.say(f"\n{found.cases:,} cases; margins: {found.margin_fixed}")
    names = sorted({*found.first.outcomes, *found.second.outcomes})
    rows = [_side("A", found.first, names), _side("B", found.second, names)]
    output.say(output.table(rows, ("run", "subject", *names)))
    for letter, side in (("A", found.first), ("B", found.second)):
        if side.error_classes:
            told = ", ".join(f"{name} {count}" for name, count in side.error_classes.items())
            output.say(f"errors of {letter}: {told}")
        if told := ", ".join(f"{name} {count}" for name, count in side.answerers.answered_by.items()):
            stood_in = "".join(f"; {each}" for each in side.answerers.stand_ins)
            output.say(f"{letter} answered by: {output.visible(told + stood_in)}")
        if side.is_mock:
            told = "its answers come from a rule or a cassette, and say nothing about a real model of today"
            output.say(f"{letter} is a mock: {told}")
    header = ("metric", "verdict", "n", "A", "B", "B - A", "lower", "upper", "margin", "at", "cases for 80 % power")
    output.say()
    output.say(output.table([_row(metric) for metric in found.metrics], header))
    for metric in found.metrics:
        judged = metric.judged
        if judged.primary_wilson and judged.substitute_wilson and judged.mcnemar_p is not None:
            low, high = judged.primary_wilson
            low_b, high_b = judged.substitute_wilson
            output.say(
                f"{judged.metric}, deciding nothing: Wilson A {low:.3f} to {high:.3f}, B {low_b:.3f} to {high_b:.3f}; "
                f"McNemar p {judged.mcnemar_p:.3f}"
            )
    for note in found.notes:
        output.say(f"· {note}")
    if found.flipped:
        output.say()
        output.say(output.table([_flip(flip) for flip in found.flipped], ("flipped", "case", "use case", "A", "B")))
    if answers:
        _tell_answers(found.flipped)


def _side(letter: str, side: Side, names: Sequence[str]) -> tuple[object, ...]:
    told = side.subject.get("model") or side.subject.get("name") or side.subject.get("kind")
    subject = f"{side.subject.get('provider', side.subject.get('kind'))} {told}"
    return (letter, f"{subject}{' (mock)' if side.is_mock else ''}", *(side.outcomes.get(name, 0) for name in names))


def _row(metric: MetricResult) -> tuple[object, ...]:
    from exitramp.evals.verdicts import level_text

    judged = metric.judged
    numbers = (judged.primary, judged.substitute)
    signed = (judged.difference, judged.lower, judged.upper)
    return (
        judged.metric,
        judged.verdict.value if metric.decides else "(shown)",
        judged.n,
        *("" if each is None else f"{each:.3f}" for each in numbers),
        *("" if each is None else f"{each:+.3f}" for each in signed),
        f"{judged.margin:g}" if metric.decides else "",
        level_text(judged.confidence),
        f"{metric.cases_for_power:,}" if metric.decides else "",
    )


def _flip(flip: Flipped) -> tuple[object, ...]:
    return (flip.direction, flip.case_id, flip.use_case, _outcomes(flip.first), _outcomes(flip.second))


def _outcomes(results: Sequence[Result]) -> str:
    return ", ".join(
        f"{result.outcome}{f' ({result.error_class})' if result.error_class else ''}" for result in results
    )


def _texts(results: Sequence[Result]) -> list[Any]:
    return [result.data.get("answer") for result in results]


def _tell_answers(flips: Sequence[Flipped]) -> None:
    for flip in flips:
        output.say(f"\n{output.visible(flip.case_id)}")
        for letter, results in (("A", flip.first), ("B", flip.second)):
            for text in _texts(results):
                kept = "(not kept: run with --keep-answers)" if text is None else output.visible(text, _ANSWER_WIDTH)
                output.say(f"  {letter}: {kept}")
