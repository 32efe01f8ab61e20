"""`exitramp report`: render a run's journal again, or check that it is the one that was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from exitramp.cli import output
from exitramp.cli.options import json_option
from exitramp.errors import ExitCode, JournalCorrupt, UsageError
from exitramp.records import Verdict

_FORMATS = ("html", "md", "json", "junit")


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    type=click.Choice(_FORMATS),
    multiple=True,
    help="Write only this one. May be repeated.  [default: all four]",
)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder for the files.  [default: RUN]")
@click.option("--verify", is_flag=True, help="Check the journal's hash chain and its head; write nothing.")
@click.option("--head", default=None, metavar="HASH", help="With --verify: the head as it was kept elsewhere.")
@json_option
def report(run: Path, formats: tuple[str, ...], out: Path | None, verify: bool, head: str | None, as_json: bool) -> int:
    """Render the journal of the run in the folder RUN again: report.html, report.md, report.json, report.xml.

    Nothing but the journal and its anchor is read, and the same two always give the same files. The exit code is the
    run's verdict: 0 pass, 1 fail, 3 inconclusive. A journal without the anchor that a run writes when it ends
    (journal.anchor.json) is never a pass.

    With --verify the chain of the journal's events is checked, and its head compared with the anchor in RUN, with
    RUN/report.xml and with the one given: 0 if they agree, 4 with file and line if anything was changed, 3 if there is
    nothing to compare the head with, since a chain alone can be recomputed by whoever can write the file. Anchors in
    RUN show nothing against somebody who can write there; the head that was kept elsewhere does.

    \b
    Example:
      exitramp report runs/first --verify
    """
    folder = run.parent if run.is_file() else run
    if verify:
        if formats or out is not None:
            raise UsageError("--verify writes nothing", hint="leave --format and --out away, or leave --verify away")
        return _verify(folder, head, as_json=as_json)
    if head is not None:
        raise UsageError("--head is what --verify compares with", hint="add --verify")
    return _render(folder, formats or _FORMATS, out, as_json=as_json)


def _render(folder: Path, formats: tuple[str, ...], out: Path | None, *, as_json: bool) -> int:
    from exitramp.report.run_journal import read_run
    from exitramp.report.sections import build_document
    from exitramp.report.writing import summary, write_reports

    written = write_reports(folder, kinds=formats, out=out)
    run = read_run(folder)
    document = build_document(run.journal)
    if as_json:
        output.emit_json(
            {
                "verdict": document.verdict.value,
                "verdict_reason": document.verdict_reason,
                "run_id": document.meta.run_id,
                "event_log_head": run.reading.head,
                "anchored": run.journal.is_anchored,
                **summary(run.journal),
                "reports": {kind: str(path) for kind, path in written.items()},
            }
        )
    else:
        output.say(f"{output.verdict_word(document.verdict)}  {document.verdict_reason}")
        held = "" if run.journal.is_anchored else "  (no anchor holds it)"
        output.say(f"event log head {run.reading.head}{held}")
        for path in written.values():
            output.say(f"report {path}")
    return output.exit_code(document.verdict)


def _verify(folder: Path, head: str | None, *, as_json: bool) -> int:
    from exitramp.report.verifying import verify_journal

    try:
        found = verify_journal(folder, head=head)
    except JournalCorrupt as error:
        if not as_json:
            raise
        output.emit_json(_broken(error))
        return int(ExitCode.INTEGRITY)
    if as_json:
        output.emit_json(found.to_json())
    else:
        output.say(f"{output.verdict_word(found.verdict)}  {found.summary()}")
        output.say(f"how the run itself came out is another question: {found.run_verdict().value}")
        for title, lines in (("this proves", found.proves), ("this does not prove", found.does_not_prove)):
            if lines:
                output.say(f"{title}:")
                for line in lines:
                    output.say(f"  · {line}")
    return output.exit_code(found.verdict)


def _broken(error: JournalCorrupt) -> dict[str, Any]:
    finding = {"code": "journal.corrupt", "message": error.message, "verdict": Verdict.FAIL.value}
    return {"verdict": Verdict.FAIL.value, "rows": None, "digests": None, "findings": [finding]}
