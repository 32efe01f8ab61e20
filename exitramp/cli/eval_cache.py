"""`exitramp eval cache`: how often a semantic cache would answer with another question's answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exitramp.cli import output
from exitramp.cli.options import json_option
from exitramp.errors import ExitCode, UsageError
from exitramp.records import Verdict

if TYPE_CHECKING:
    from exitramp.evals.false_hits import Likest, Measured
    from exitramp.evals.sets.case import Case

_SHOWN = 5


@click.command("cache")
@click.argument("golden", metavar="SET", type=click.Path(path_type=Path))
@click.option("--stack", type=click.Path(path_type=Path), default=None, help="Measure the embedders of this file.")
@click.option("--embedder", "addresses", multiple=True, metavar="ADDRESS", help="Measure this one too.")
@click.option("--thresholds", default=None, metavar="A,B,…", help="Least cosines.  [default: 0.7 to 0.98]")
@click.option(
    "--most-false",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="The share of questions that may get a false answer.",
)
@json_option
def cache_command(
    golden: Path,
    stack: Path | None,
    addresses: tuple[str, ...],
    thresholds: str | None,
    most_false: float,
    as_json: bool,
) -> int:
    """Measure how often a semantic cache would answer a question of SET with the answer to another one.

    Each question is asked of a cache that holds all others of its use case. Its hit is false if the two have no best
    document in common. Recommended is the lowest threshold at which at most --most-false of the questions get a false
    answer, with 95 % confidence, and some get a right one; or none. SET is a file, or `pydocs` for the packaged one.

    Exit code, with a stack file that has a semantic cache: 0 its threshold holds, 1 it does not, 3 that is not shown.
    Else: 0 a threshold is recommended for each embedder, 3 for one there is none.

    \b
    Example:
      exitramp eval cache pydocs --embedder wordllama: --embedder minilm:
      exitramp eval cache cases.jsonl --stack stack.yaml
    """
    from exitramp.evals.false_hits import THRESHOLDS, likest_pairs, measure
    from exitramp.ports import Purpose, embed_all
    from exitramp.registry import open_embedder

    cases = _cases(golden)
    wanted = {address: address for address in addresses}
    own: tuple[str, float] | None = None
    if stack is not None:
        from exitramp.orchestration.stack_file import read_stack_file

        file = read_stack_file(stack)
        wanted = {name: spec.address.text for name, spec in file.embedders.items()} | wanted
        if file.semantic_cache is not None:
            own = file.semantic_cache.embedder, file.semantic_cache.threshold
    if not wanted:
        raise UsageError("there is no embedder to measure", hint="name --embedder ADDRESS, or a --stack with embedders")
    tested = THRESHOLDS if thresholds is None else _numbers(thresholds)
    told: list[dict[str, Any]] = []
    verdicts: list[Verdict] = []
    for name, address in wanted.items():
        embedder = open_embedder(address)
        try:
            vectors = embed_all(embedder, [case.question for case in cases], purpose=Purpose.QUERY)
            model = f"{embedder.identity().provider}/{embedder.identity().model}"
        finally:
            embedder.close()
        likest = likest_pairs(cases, vectors)
        found = measure(likest, tested)
        best, bounded = found.recommended(most_false), found.bounded_from(most_false)
        at_own = measure(likest, [own[1]]).rows[0] if own is not None and own[0] == name else None
        if at_own is not None:
            verdicts = [at_own.verdict(most_false)]
        elif own is None:
            verdicts.append(Verdict.PASS if best is not None else Verdict.INCONCLUSIVE)
        row = {
            "embedder": name,
            "model": model,
            "most_false": most_false,
            "thresholds": [each.to_json() for each in found.rows],
            "recommended": None if best is None else best.threshold,
            "bounded_from": None if bounded is None else bounded.threshold,
            "in_the_stack_file": None if at_own is None else at_own.to_json(),
            "verdict": None if at_own is None else at_own.verdict(most_false).value,
            "likest_false": [_pair(each) for each in likest if not each.is_right][:_SHOWN],
        }
        told.append(row)
        if not as_json:
            _say(row, found)
    if as_json:
        output.emit_json({"set": str(golden), "cases": len(cases), "embedders": told})
    worst = next((each for each in (Verdict.FAIL, Verdict.INCONCLUSIVE) if each in verdicts), Verdict.PASS)
    return output.exit_code(worst) if verdicts else int(ExitCode.PASS)


def _cases(golden: Path) -> tuple[Case, ...]:
    from exitramp.evals.sets import read_set
    from exitramp.evals.sets.own import parse_jsonl

    if str(golden) == "pydocs" and not golden.exists():
        from importlib.resources import files

        name = "pydocs.jsonl"
        text = (files("exitramp_fixtures") / "golden" / name).read_text(encoding="utf-8")
        return tuple(parse_jsonl(text, name))
    return tuple(read_set(golden).cases)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 <= each <= 1 for each in found):
        raise UsageError("--thresholds: not cosines from 0 to 1, with commas between them", hint="write 0.9,0.95")
    return found


def _pair(each: Likest) -> dict[str, Any]:
    return {"case": each.case_id, "other": each.other_id, "cosine": each.cosine}


def _say(row: dict[str, Any], found: Measured) -> None:
    output.say(f"{output.visible(row['embedder'])}  ({output.visible(row['model'])})")
    shown = [
        (f"{each.threshold:g}", each.hits, each.false, f"{each.false / each.questions:.1%}", f"{each.at_most:.1%}")
        for each in found.rows
    ]
    output.say(output.table(shown, ("cosine", "hits", "false", "of all", "at most (95 %)")))
    limit = f"at most {row['most_false']:.1%} false answers"
    if row["recommended"] is not None:
        output.say(f"recommended: {row['recommended']:g}")
    elif row["bounded_from"] is None:
        output.say(f"recommended: none; {limit} are shown at no threshold")
    else:
        output.say(
            f"recommended: none; from {row['bounded_from']:g} on there are {limit}, but no right one either: no two "
            "questions of the set are that alike and mean the same, so nothing is shown to be saved"
        )
    if (own := row["in_the_stack_file"]) is not None:
        output.say(
            f"{row['verdict']}: the stack file's threshold {own['threshold']:g} has {own['false_hits']} false hits of "
            f"{own['questions']} questions, at most {own['false_share_at_most']:.1%}"
        )
    for pair in row["likest_false"]:
        ids = f"{output.visible(pair['case'], 60)} / {output.visible(pair['other'], 60)}"
        output.say(f"  · {pair['cosine']:.3f}  {ids}")
    output.say()
