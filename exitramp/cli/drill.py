"""`exitramp drill`: list, show, run and begin drills."""

from __future__ import annotations

import os
import shlex
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exitramp.cli import output
from exitramp.cli.options import json_option, open_settings, store_options
from exitramp.errors import ExitCode, UsageError
from exitramp.wording import counted

if TYPE_CHECKING:
    from exitramp.drill.spec import DrillSpec
    from exitramp.drill.touching import Touches


NO_BREAK = "\u00a0"
"""A blank at which a report's line does not end; a terminal has no use for it."""


@click.group()
def drill() -> None:
    """Rehearse leaving a vendor, for real, and measure it.

    \b
    Example:
      exitramp drill run vendor_outage
    """


@drill.command("list")
@json_option
def list_drills(as_json: bool) -> int:
    """The drills that come with exitramp.

    \b
    Example:
      exitramp drill list
    """
    from exitramp.drill.catalogue import find_any, how_held
    from exitramp.drill.inputs import packaged_drills

    found = [find_any(name) for name in packaged_drills()]
    if as_json:
        told = [
            {"name": each.name, "title": each.title, "expected": each.expected, "how": how_held(each)} for each in found
        ]
        output.emit_json({"drills": told})
    else:
        rows = [(each.name, how_held(each), each.expected, each.title) for each in found]
        output.say(output.table(rows, ("drill", "how", "ends", "title")))
    return int(ExitCode.PASS)


@drill.command()
@click.argument("name", metavar="DRILL")
@json_option
def show(name: str, as_json: bool) -> int:
    """What a drill does, step by step, and what each step reads, writes and cuts. Nothing is run.

    DRILL is a packaged drill's name or a path to a drill file.

    \b
    Example:
      exitramp drill show vendor_outage
    """
    from exitramp.cli.tabletop import show_tabletop
    from exitramp.drill.catalogue import STEPS, find_any, how_held
    from exitramp.drill.tabletop.spec import TabletopSpec
    from exitramp.drill.touching import touches

    spec = find_any(name)
    if isinstance(spec, TabletopSpec):
        return show_tabletop(spec, as_json)
    touched = [touches(STEPS[step.name], step, spec) for step in spec.steps]
    if as_json:
        output.emit_json(spec.to_json() | {"touches": [each.to_json() for each in touched]})
        return int(ExitCode.PASS)
    # Only the packaged drills come with a verdict that they have to end with.
    expected = f"; expected to end: {spec.expected}" if spec.folder is None else ""
    output.say(
        f"{spec.title}  ({spec.mode}, {how_held(spec)}{expected})\n\n{textwrap.fill(spec.description.strip(), 100)}\n"
    )
    _say_steps(spec, touched)
    promised = {key: value for key, value in spec.objectives.to_json().items() if value is not None}
    told = ", ".join(f"{key} {value:g}" for key, value in promised.items())
    output.say(f"\nobjectives: {told or 'none has a number, so nothing is judged'}")
    return int(ExitCode.PASS)


def _say_steps(spec: DrillSpec, touched: list[Touches]) -> None:
    from exitramp.drill.catalogue import STEPS
    from exitramp.drill.touching import parts_of, writes_elsewhere

    parts = list(parts_of(spec))
    rows = []
    for number, (step, each) in enumerate(zip(spec.steps, touched, strict=True), 1):
        cuts = [_in_short(each.cuts, parts), *(f"{name} (by a proxy)" for name in each.between)]
        cuts += [f"{name} (simulated)" for name in each.simulates]
        summary = STEPS[step.name].as_in(spec, step.arguments).summary
        told = (_in_short(each.reads, parts), _in_short(each.writes, parts), ", ".join(filter(None, cuts)))
        rows.append((number, step.name, *told, summary))
    output.say(output.table(rows, ("", "step", "reads", "writes", "cuts", "what it does")))
    if spec.application is not None:
        whose = ", which the drill starts" if spec.application.start is not None else ""
        output.say(f"\nasked is the application of {spec.application.file}{whose}, and not the stacks")
    if any(each.between for each in touched):
        output.say("\nby a proxy: it stands between the application and the part, which is not touched")
    if any(each.simulates for each in touched):
        output.say("\nsimulated: what the drill did not start is never cut; exitramp's own calls to it fail instead")
    written = tuple(dict.fromkeys(name for each in touched for name in each.writes))
    for name, address in writes_elsewhere(spec, written).items():
        output.say(f"\n{name} is not on this machine: it is written only with --allow-writes {address}")


def _in_short(names: tuple[str, ...], parts: list[str]) -> str:
    """`primary` where the primary's store and chat are meant, if it has both."""
    told: list[str] = []
    for stack in ("primary", "substitute"):
        whole = [name for name in parts if name.startswith(f"{stack}.")]
        named = [name for name in whole if name in names]
        told += [stack] if len(named) > 1 and named == whole else named
    return ", ".join(told)


@drill.command()
@click.argument("name", metavar="DRILL")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder for the run.  [default: runs/…]")
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of everything that is drawn.")
@click.option("--operator", default="", help="Who runs the drill; shown in the report.")
@click.option(
    "--allow-writes",
    multiple=True,
    metavar="ADDRESS",
    help="Allow writing to or cutting ADDRESS although it is not on this machine.",
)
@click.option(
    "--decisions",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Table-top drills: take the decisions from this YAML file instead of asking for them.",
)
@json_option
def run(
    name: str,
    out: Path | None,
    seed: int,
    operator: str,
    allow_writes: tuple[str, ...],
    decisions: Path | None,
    as_json: bool,
) -> int:
    """Run a drill and write its journal and report.

    DRILL is a packaged drill's name or a path to a drill file. The exit code is the verdict: 0 pass, 1 fail,
    3 inconclusive.

    Ctrl-C, or SIGTERM, ends it: no further step runs, the way back does (25 s at most), the report is written, and
    the exit code is 130 (143). A second signal ends it at once.

    A table-top drill is held at the prompt, and Ctrl-C keeps what was recorded: 'exitramp drill resume' goes on.

    \b
    Example:
      exitramp drill run vendor_outage --out runs/first
      exitramp drill run table_top_vendor_exit
    """
    from exitramp.cli.tabletop import run_tabletop
    from exitramp.drill.catalogue import find_any
    from exitramp.drill.engine import run_drill
    from exitramp.drill.interruption import Interruption
    from exitramp.drill.tabletop.spec import TabletopSpec
    from exitramp.report.writing import write_reports

    # Embedders that use several threads for a matrix of one row slow everything else down.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    spec = find_any(name)
    folder = out or Path("runs") / f"{spec.name}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    output.note(f"{spec.title}")
    command = shlex.join(["exitramp", *sys.argv[1:]])
    if isinstance(spec, TabletopSpec):
        return run_tabletop(spec, folder, decisions=decisions, operator=operator, command=command, as_json=as_json)
    if decisions is not None:
        raise UsageError(f"'{spec.name}' is no table-top drill, and takes no --decisions")
    with Interruption() as interruption:
        result = run_drill(
            spec,
            folder,
            seed=seed,
            allow_writes=allow_writes,
            operator=operator,
            command=command,
            say=lambda text: output.note(output.visible(text)),
            interruption=interruption,
        )
        reports = write_reports(folder)
        if as_json:
            output.emit_json(result.to_json() | {"reports": {kind: str(path) for kind, path in reports.items()}})
        else:
            _say_result(result, reports)
    return interruption.exit_code or output.exit_code(result.verdict)


@drill.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--decisions",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Take the decisions that are not recorded yet from this YAML file instead of asking for them.",
)
@json_option
def resume(folder: Path, decisions: Path | None, as_json: bool) -> int:
    """Go on with a table-top drill that was interrupted.

    FOLDER is that of the run. What is recorded stays as it is; a question without an answer is asked again.

    \b
    Example:
      exitramp drill resume runs/table_top_vendor_exit-20300131T101500
    """
    from exitramp.cli.tabletop import resume_tabletop

    return resume_tabletop(folder, decisions=decisions, as_json=as_json)


def _say_result(result: Any, reports: dict[str, Path]) -> None:
    from exitramp.report.cells import cell_text
    from exitramp.report.sections.promises import measured_cell, target_text

    def figure(each: Any, target: float | None = None) -> str:
        """As the report has it: rounded for a reader, with its unit, and never onto the other side of the target."""
        return cell_text(measured_cell(each.name, each.unit, each.measured, target)).replace(NO_BREAK, " ")

    rows = []
    for each in result.objectives:
        promised = target_text(each.name, each.unit, each.target).replace(NO_BREAK, " ")
        rows.append((each.verdict.value.upper(), each.title, figure(each, each.target), f"at most {promised}"))
    rows += [("-", each.title, figure(each), "no number") for each in result.unpromised]
    if rows:
        output.say("\n" + output.table(rows, ("verdict", "objective", "measured", "promised")))
    given_up = list(dict.fromkeys(each.message for each in result.findings if each.code == "loss.accepted"))
    for number, text in enumerate(given_up):
        output.say(("\n" if not number else "") + f"loss     {output.visible(text)}")
    reasons = list(result.reasons)
    if not result.objectives:
        reasons.append("no objective has a number in the drill file, so nothing was promised")
    for number, reason in enumerate(reasons):
        output.say(("\n" if not number else "") + f"because  {output.visible(reason)}")
    output.say(f"\n{output.verdict_word(result.verdict)}  in {result.seconds:.0f} s, run {result.run_id}")
    if result.aborted:
        output.say(f"stopped: {output.visible(result.aborted)}")
    output.say(f"event log head {result.head}")
    output.say(f"report {reports['html']}")


@drill.command()
@click.option("--primary", required=True, metavar="ADDRESS", help="The store you depend on. It is only read.")
@click.option("--substitute", required=True, metavar="ADDRESS", help="The store you would leave to.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("own-drill"),
    show_default=True,
    help="Folder for drill.yaml, README.md and prices.yaml.",
)
@json_option
@store_options
def init(primary: str, substitute: str, out: Path, as_json: bool, **stores: Any) -> int:
    """Begin a drill for your own stack. Reads both sides, writes three files here, and touches nothing else.

    \b
    Example:
      exitramp drill init --primary chroma:./db#articles --substitute qdrant:./new#articles
    """
    from exitramp.drill.beginning import begin_drill

    bar = output.Progress("measure", None)
    found = begin_drill(primary, substitute, out, open_settings(**stores), progress=bar.at)
    bar.end()
    if as_json:
        output.emit_json(found.to_json())
        return int(ExitCode.PASS)
    for name, look in (("primary", found.primary), ("substitute", found.substitute)):
        records = "no collection yet" if look.records is None else counted(look.records, "record")
        output.say(f"{name:<11} {look.address}: {records}")
    size = output.megabytes(found.plan.estimates["bytes"] or 0)
    output.say(f"to copy     {counted(found.plan.rows, 'record')}, {size}")
    for note in found.notes:
        output.say(f"note        {note}")
    output.say(f"\nwritten     {found.drill_file}, {found.readme} and {found.prices}")
    output.say(f"next        exitramp drill run {found.drill_file}")
    return int(ExitCode.PASS)
