"""`exitramp eval`: golden sets, asked of a model, a stack or an application, and two runs compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exitramp.cli import output
from exitramp.cli.eval_cache import cache_command
from exitramp.cli.eval_compare import compare_command
from exitramp.cli.eval_record import record_command
from exitramp.cli.eval_run import run_command
from exitramp.cli.options import json_option
from exitramp.errors import ExitCode
from exitramp.wording import counted

if TYPE_CHECKING:
    from exitramp.evals.sets import Loss

_FORMS = ("jsonl", "parquet", "promptfoo", "openai-evals", "inspect")
_SHOWN = 20


@click.group("eval")
def eval_group() -> None:
    """Ask golden sets, and compare what came of it.

    \b
    Example:
      exitramp eval sets convert tests.yaml cases.jsonl --from promptfoo
    """


eval_group.add_command(run_command)
eval_group.add_command(record_command)
eval_group.add_command(compare_command)
eval_group.add_command(cache_command)


@eval_group.command()
@click.argument("logs", metavar="LOGS", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "form",
    type=click.Choice(["csv", "langfuse", "langsmith"]),
    required=True,
    help="Whose export LOGS is.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The set, .jsonl or .parquet.")
@json_option
def bootstrap(logs: Path, form: str, out: Path, as_json: bool) -> int:
    """Make cases of the questions in LOGS. Nobody labelled them: they are judged by retrieval overlap only.

    The set holds the questions in plain text. Equal questions become one case.

    \b
    Example:
      exitramp eval bootstrap queries.csv --from csv --out cases.jsonl
    """
    from exitramp.evals.logs import cases_of_logs
    from exitramp.evals.sets import write_set

    found = cases_of_logs(logs, form)
    losses = [*found.losses, *write_set(found.cases, out)]
    note = "nobody labelled these cases: they are judged by overlap with what was retrieved then, which is no truth"
    if as_json:
        told = {"cases": len(found.cases), "out": str(out), "note": note, "losses": [each.to_json() for each in losses]}
        output.emit_json(told)
    else:
        output.say(f"{counted(len(found.cases), 'case')} in {out}\n{note}")
        say_losses(losses)
    return int(ExitCode.PASS)


@eval_group.group()
def sets() -> None:
    """Golden sets as files.

    \b
    Example:
      exitramp eval sets convert tests.yaml cases.jsonl --from promptfoo
    """


@sets.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--from", "source_form", type=click.Choice(_FORMS), default=None, help="Form of IN.  [default: by name]")
@click.option("--to", "target_form", type=click.Choice(_FORMS), default=None, help="Form of OUT.  [default: by name]")
@click.option(
    "--ideal-means",
    type=click.Choice(["exact", "starts_with", "contains"]),
    default=None,
    help="How an ideal (openai-evals: starts_with) or target (inspect: contains) is compared.",
)
@click.option("--question-var", default=None, metavar="NAME", help="Which of promptfoo's vars is the question.")
@json_option
def convert(
    source: Path,
    target: Path,
    source_form: str | None,
    target_form: str | None,
    ideal_means: str | None,
    question_var: str | None,
    as_json: bool,
) -> int:
    """Write the golden set IN as OUT, and list everything that did not carry over.

    Forms: jsonl and parquet are ours and keep everything, with a hash per case; promptfoo, openai-evals and inspect
    are those tools' own.

    \b
    Example:
      exitramp eval sets convert tests.yaml cases.jsonl --from promptfoo
    """
    from exitramp.evals.sets import read_set, set_sha256, write_set

    read = read_set(source, source_form, meaning=ideal_means, question=question_var)
    losses = [*read.losses, *write_set(read.cases, target, target_form)]
    if as_json:
        output.emit_json(
            {
                "cases": len(read.cases),
                "set_sha256": set_sha256(read.cases),
                "out": str(target),
                "losses": [loss.to_json() for loss in losses],
            }
        )
    else:
        output.say(f"{counted(len(read.cases), 'case')} in {target}, set sha256 {set_sha256(read.cases)}")
        say_losses(losses)
    return int(ExitCode.PASS)


def say_losses(losses: Iterable[Loss]) -> None:
    """What did not carry over, equal things counted; `--json` has each with its case."""
    counted = Counter(loss.what for loss in losses)
    output.say("nothing was lost on the way" if not counted else "not carried over:")
    for what, _ in counted.most_common():
        ids = [loss.case_id for loss in losses if loss.what == what and loss.case_id is not None]
        more = f" … ({len(ids)} in all)" if len(ids) > _SHOWN else ""
        where = f"  [{', '.join(output.visible(each, 60) for each in ids[:_SHOWN])}{more}]" if ids else ""
        output.say(f"  · {output.visible(what)}{where}")
