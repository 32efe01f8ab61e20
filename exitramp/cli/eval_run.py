"""`exitramp eval run`: a golden set asked of a model, a stack or an application."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exitramp.cli import output
from exitramp.cli.eval_asking import ask_set, asking_options, model_subject, only_one, open_chat
from exitramp.cli.eval_ended import tell
from exitramp.cli.options import json_option

if TYPE_CHECKING:
    from exitramp.evals.runs.subject import Subject
    from exitramp.evals.sets import Case


@click.command("run")
@click.argument("cases", metavar="SET", type=click.Path(path_type=Path))
@click.option("--model", default=None, metavar="ADDRESS", help="Ask this chat model.")
@click.option("--stack", type=click.Path(path_type=Path), default=None, help="Ask what this stack file names.")
@click.option("--app", type=click.Path(path_type=Path), default=None, help="Ask the application this file describes.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder of the run.  [default: runs/…]")
@asking_options
@click.option("--replay-cache", type=click.Path(path_type=Path), default=None, help="Folder of answers given before.")
@json_option
def run_command(cases: Path, out: Path | None, replay_cache: Path | None, as_json: bool, **options: Any) -> int:
    """Ask every case of SET, measure the answers, and keep the measurements in a folder.

    A run that was interrupted, killed or stopped by a limit is gone on with by the same command with the same --out:
    nothing that has a result is asked again. The exit code is 0 when every case was asked, 3 when more than 5 % got no
    complete answer or one that nobody could judge, or a limit stopped the run, 5 when none was answered. A run has no
    verdict: `eval compare` has. Of a stack file it is told who answered, and for whom another one stood in.

    \b
    Example:
      exitramp eval run cases.jsonl --model 'openai:gpt-x?base_url=http://127.0.0.1:8080/v1' --out runs/before
    """
    from exitramp.evals.runs.replay_cache import ReplayCache

    kind = only_one(options, "model", "stack", "app")
    folder = out or Path("runs") / f"eval-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    cache = None if replay_cache is None else ReplayCache(replay_cache)
    ended = ask_set(cases, folder, options, lambda read: _subject(kind, options, read), cache)
    if as_json:
        output.emit_json(ended.to_json())
    else:
        tell(ended)
    return ended.code


def _subject(kind: str, options: Mapping[str, Any], cases: tuple[Case, ...]) -> Subject:
    if kind == "app":
        from exitramp.evals.apps import open_app, read_app

        return open_app(read_app(options["app"]))
    if kind == "stack":
        from exitramp.evals.runs.stack_subject import StackSubject

        return StackSubject(
            options["stack"],
            only=options["only"],
            maximum_tokens=options["max_tokens"],
            temperature=options["temperature"],
        )
    return model_subject(options, cases, open_chat(options["model"], "--model"))
