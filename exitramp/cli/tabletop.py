"""Table-top drills at the prompt: shown, held, interrupted and resumed."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from exitramp.cli import output
from exitramp.errors import ExitCode, UsageError
from exitramp.wording import counted

if TYPE_CHECKING:
    from exitramp.drill.interruption import Interruption
    from exitramp.drill.tabletop.sitting import SittingResult
    from exitramp.drill.tabletop.spec import TabletopSpec

_KEPT = "what is recorded is kept; the decision being typed is not"


def show_tabletop(spec: TabletopSpec, as_json: bool) -> int:
    """What will be read out and asked, and what is expected; nothing is run."""
    if as_json:
        output.emit_json(spec.to_json() | {"how": "table-top", "steps": [each.name for each in spec.injects]})
        return int(ExitCode.PASS)
    output.say(f"{spec.title}  (table-top; {spec.expected} until people have decided)\n")
    output.say(textwrap.fill(spec.description.strip(), 100) + "\n")
    rows = []
    for inject, asked in spec.questions():
        within = "" if asked.within_minutes is None else f"{asked.within_minutes:g} min"
        names = (f"{inject.at_minutes:g}", inject.name, asked.name, asked.by, within, asked.runbook or "")
        rows.append((*names, "yes" if asked.evidence else ""))
    output.say(output.table(rows, ("minute", "inject", "question", "decided by", "within", "runbook step", "evidence")))
    output.say("\ntable-top: read out and talked through; no step of it touches a store or a model")
    asked_for = counted(len(spec.expectations()), "question")
    output.say(f"\nobjectives: {asked_for}, each decided as expected; what nobody recorded is inconclusive")
    return int(ExitCode.PASS)


def run_tabletop(
    spec: TabletopSpec, folder: Path, *, decisions: Path | None, operator: str, command: str, as_json: bool
) -> int:
    """Hold the drill in a folder of its own."""
    from exitramp.drill.interruption import Interruption
    from exitramp.drill.tabletop.decisions import read_decisions
    from exitramp.drill.tabletop.sitting import begin

    given = None if decisions is None else read_decisions(decisions, spec)
    with Interruption(tells=_KEPT) as interruption:
        result = begin(
            spec,
            folder,
            ask=_ask if given is None else None,
            given=given,
            operator=operator,
            command=command,
            say=_say,
            interruption=interruption,
        )
        return _end(result, interruption, as_json)


def resume_tabletop(folder: Path, *, decisions: Path | None, as_json: bool) -> int:
    """Go on with a sitting, by the drill as it stands in its journal."""
    from exitramp.drill.interruption import Interruption
    from exitramp.drill.log_reading import read_log
    from exitramp.drill.tabletop.decisions import read_decisions
    from exitramp.drill.tabletop.record import Sitting
    from exitramp.drill.tabletop.sitting import LOG_NAME, resume
    from exitramp.errors import DataInvalid

    if not (folder / LOG_NAME).is_file():
        raise UsageError(f"{folder} holds no {LOG_NAME}", hint="give the folder of a table-top drill's run")
    reading = read_log(folder / LOG_NAME)
    try:
        spec = Sitting.of(reading.events).spec
    except DataInvalid as error:
        raise UsageError(f"{folder}: {error.message}", hint="only those can be resumed; run it anew") from error
    given = None if decisions is None else read_decisions(decisions, spec)
    output.note(f"{spec.title}")
    with Interruption(tells=_KEPT) as interruption:
        result = resume(folder, ask=_ask if given is None else None, given=given, say=_say, interruption=interruption)
        return _end(result, interruption, as_json)


def _end(result: SittingResult, interruption: Interruption, as_json: bool) -> int:
    from exitramp.report.writing import write_reports

    reports = write_reports(result.folder)
    if as_json:
        output.emit_json(result.to_json() | {"reports": {kind: str(path) for kind, path in reports.items()}})
    else:
        _say_result(result, reports["html"])
    return interruption.exit_code or output.exit_code(result.verdict)


def _say_result(result: SittingResult, report: Path) -> None:
    rows = [
        (each.verdict.value.upper(), each.title, output.visible(each.measured or "not recorded"), each.target)
        for each in result.expectations
    ]
    output.say("\n" + output.table(rows, ("verdict", "question", "recorded", "expected")))
    for number, each in enumerate(each for each in result.expectations if each.gap):
        output.say(("\n" if not number else "") + f"gap      {each.title}: {each.gap.partition(' – ')[2]}")
    output.say(f"\n{output.verdict_word(result.verdict)}  table-top: nothing was switched; run {result.run_id}")
    if result.paused:
        output.say(f"interrupted; go on with: exitramp drill resume {result.folder}")
    else:
        output.say(f"event log head {result.head}")
    output.say(f"report {report}")


def _say(text: str) -> None:
    output.note("\n".join(output.visible(line) for line in text.splitlines()) if text else "")


def _ask(prompt: str) -> str | None:
    """One line from the standard input, None where it is a file that ended.

    Prompts go where progress goes: with --json the output is JSON alone.
    """
    sys.stderr.write(output.visible(prompt))
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        sys.stderr.write("\n")
        if sys.stdin.isatty():
            raise KeyboardInterrupt  # Ctrl-D slips easily, and a sitting that has ended cannot go on
        return None
    return line.rstrip("\r\n")
