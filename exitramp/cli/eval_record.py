"""`exitramp eval record`: a golden set asked of a real vendor, and what it answered kept for the mock to play."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exitramp.cli import output
from exitramp.cli.eval_asking import ask_set, asking_options, model_subject, only_one, open_chat
from exitramp.cli.eval_ended import tell
from exitramp.cli.options import json_option
from exitramp.errors import PathUnusable, UsageError

if TYPE_CHECKING:
    from exitramp.evals.runs.subject import Subject
    from exitramp.evals.sets import Case
    from exitramp.ports.cassette import CassetteWriter


@click.command("record")
@click.argument("cases", metavar="SET", type=click.Path(path_type=Path))
@click.option("--address", default=None, metavar="ADDRESS", help="Ask this chat model.")
@click.option("--stack", type=click.Path(path_type=Path), default=None, help="Ask what this stack file names.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="CASSETTE", help="The cassette."
)
@click.option(
    "--run", "folder", type=click.Path(path_type=Path), default=None, help="Folder of the run.  [default: CASSETTE.run]"
)
@asking_options
@click.option("--stream", is_flag=True, help="Ask for streams, and keep the pieces in which the answers came.")
@click.option("--keep-requests", is_flag=True, help="Keep the requests in the cassette too, in plain text.")
@json_option
def record_command(
    cases: Path, out: Path, folder: Path | None, stream: bool, keep_requests: bool, as_json: bool, **options: Any
) -> int:
    """Ask every case of SET of a real vendor, with your key, and keep answers and failures on a cassette.

    `exitramp mock-vendor SHAPE --cassette CASSETTE` then answers the same set in the same way. It is a run as well, and
    its folder can be compared with others. Secrets are masked before anything is written. The same command goes on
    after a crash or a limit: what is on the cassette is not asked again. Exit codes are those of `eval run`.

    \b
    Example:
      exitramp eval record cases.jsonl --address 'openai:gpt-x?base_url=…&key=env:KEY' --out recorded.jsonl
    """
    from exitramp.ports.cassette import CassetteWriter

    kind = only_one(options, "address", "stack")
    run = folder or out.with_name(f"{out.name}.run")
    _require_own(out, run)
    cassette = CassetteWriter(out, keep_requests=keep_requests)
    try:
        ended = ask_set(
            cases,
            run,
            options,
            lambda read: _subject(kind, options, read, cassette, stream=stream),
            is_sent=cassette.has_sent,
        )
    finally:
        cassette.close()
    told = {
        "cassette": str(out),
        "written_now": cassette.written,
        "given_again": cassette.given_again,
        "masked": cassette.masked,
    }
    if as_json:
        output.emit_json(ended.to_json() | told)
        return ended.code
    tell(ended)
    again = f", {cassette.given_again} were there already" if cassette.given_again else ""
    output.say(f"{cassette.written} exchanges written to {out}{again}")
    if cassette.masked:
        output.say(f"{cassette.masked} of them held what looks like a secret: it is masked, and plays masked")
    return ended.code


def _require_own(out: Path, run: Path) -> None:
    """Nothing is recorded over: a cassette that is there has to be this run's, and a run's cassette has to be there."""
    from exitramp.evals.runs.folder import read_run

    if not run.exists():
        if out.exists():
            hint = f"name another file; to go on with a recording, its run is needed too (--run; {run} is not there)"
            raise PathUnusable(f"{out}: is there already", hint=hint)
    elif not out.exists() and any(run.iterdir()) and read_run(run).results:
        raise UsageError(f"{out}: is not there, though {run} holds results of it", hint="put it back, or name another")


def _subject(
    kind: str, options: Mapping[str, Any], cases: tuple[Case, ...], cassette: CassetteWriter, *, stream: bool
) -> Subject:
    from exitramp.wrappers.recording import RecordingChat

    if kind == "stack":
        from exitramp.evals.runs.stack_subject import StackSubject

        return StackSubject(
            options["stack"],
            only=options["only"],
            maximum_tokens=options["max_tokens"],
            temperature=options["temperature"],
            stream=stream,
            around_chat=lambda model: RecordingChat(model, cassette),
        )
    model = RecordingChat(open_chat(options["address"], "--address"), cassette)
    return model_subject(options, cases, model, stream=stream)
