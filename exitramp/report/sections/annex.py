"""Section 18: the drill as it ran, what it ran on, and everything needed to run it again and to check it."""

from __future__ import annotations

import shlex
from typing import Any, Final

from exitramp.records import Verdict
from exitramp.report.model import (
    Block,
    Cell,
    Code,
    Column,
    Fold,
    KeyValues,
    Row,
    Section,
    Subheading,
    Table,
    code,
    numbers,
    prose,
    row,
)
from exitramp.report.sections.checks import in_one_line
from exitramp.report.sections.fields import Data, count, figure, objects, part, word, words
from exitramp.report.sections.inventory import plan_block
from exitramp.report.sections.journal import Journal, StepRun
from exitramp.report.sections.stacks import StackPart, stack_parts
from exitramp.report.sections.words import bytes_text, not_measured
from exitramp.report.text import seconds_text
from exitramp.yaml_loader import dump

_DRILL_VERSION: Final = 1
_PACKAGES: Final = ("python_version", "numpy_version")


def annex(journal: Journal) -> Section:
    blocks: list[Block] = [
        Subheading("To run it again"),
        Code(rerun_command(journal), "sh", "The command, writing into another folder: it must not exist yet"),
        Fold("The drill as it was run, written as a drill file", (Code(drill_file(journal), "yaml", "drill.yaml"),)),
        Subheading("Steps"),
        _steps(journal),
        Subheading("Plan"),
        *plan_block(journal),
        Subheading("The dump’s manifest, in figures"),
        *_manifest(journal),
        Subheading("Versions and seeds"),
        _versions(journal),
        Subheading("How the application waits and gives up"),
        _orchestration(part(journal.drill, "orchestration")),
    ]
    return Section(18, "Annex", tuple(blocks), "annex")


def rerun_command(journal: Journal) -> str:
    """The command that was typed, or for a run that was started by a program, the one that does the same.

    It writes into a folder named after the first run's, since no run is written into a folder that holds one.
    """
    name = word(journal.drill, "name")
    fresh = f"runs/{name or 'drill'}-again"
    try:
        typed = shlex.split(word(journal.started, "command"))
    except ValueError:  # a quote that is never closed: no command that a shell would take
        return word(journal.started, "command")
    if typed:
        return shlex.join(_elsewhere(typed, fresh))
    file, seed = word(journal.started, "file"), figure(journal.started, "seed")
    drill = file if file not in {"", f"{name}.yaml"} else name
    parts = ["exitramp", "drill", "run", drill or "drill.yaml"]
    return shlex.join(_elsewhere(parts + (["--seed", str(seed)] if seed is not None else []), fresh))


def _elsewhere(command: list[str], fresh: str) -> list[str]:
    """`command` with the folder that it names after --out changed; with `fresh` where it names none."""
    for at, part_ in enumerate(command):
        if part_ == "--out" and at + 1 < len(command):
            return [*command[: at + 1], _again(command[at + 1]), *command[at + 2 :]]
        if part_.startswith("--out="):
            return [*command[:at], f"--out={_again(part_.removeprefix('--out='))}", *command[at + 1 :]]
    return [*command, "--out", fresh]


def _again(folder: str) -> str:
    return folder.rstrip("/") + "-again"


def drill_file(journal: Journal) -> str:
    """The drill as it stands in the first event, written as a drill file that can be run."""
    drill: dict[str, Any] = {"version": _DRILL_VERSION}
    drill |= {key: value for key, value in _without_none(journal.drill).items() if key != "steps"}
    drill["steps"] = [
        {word(step, "name"): {key: value for key, value in _without_none(step).items() if key != "name"}}
        for step in objects(journal.drill, "steps")
    ]
    return dump(drill, width=100)


def _without_none(value: Any) -> Any:
    """In a drill file what is not given is left out: `limit: null` would be read as a value of the wrong type."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def _steps(journal: Journal) -> Table:
    ran = [_step(step, journal) for step in journal.steps]
    reached = {step.name for step in journal.steps}
    missed = [word(each, "name") for each in objects(journal.drill, "steps") if word(each, "name") not in reached]
    ran += [row(name, "not reached", None, journal.absence(name), "none") for name in missed]
    return Table(
        "Every step, in the order in which it ran",
        (
            Column("Step"),
            Column("It declares"),
            numbers("Took", "s", 2),
            Column("What it found"),
            Column("Events"),
        ),
        tuple(ran),
        note="Declared: which parts of the two stacks a step reads, writes or cuts, or plays an outage of without"
        " touching them. A step that only prepares or measures has no verdict.",
    )


def _step(step: StepRun, journal: Journal) -> Row:
    if step.finished is None:
        why = journal.absence(step.name) or "broken off"
        return row(step.name, _declared(step), None, why, _span(step), verdict=Verdict.INCONCLUSIVE)
    found = in_one_line(step) or "nothing to remark"
    return row(step.name, _declared(step), step.seconds, found, _span(step), verdict=step.verdict)


def _span(step: StepRun) -> Cell:
    last = f"–#{step.finished.seq}" if step.finished else ""
    return code(f"#{step.started.seq}{last}")


def _declared(step: StepRun) -> str:
    verbs = {
        "reads": "reads",
        "writes": "writes",
        "cuts": "cuts",
        "between": "puts a proxy in front of",
        "simulates": "simulates an outage of",
    }
    told = [f"{verb} {', '.join(named)}" for key, verb in verbs.items() if (named := words(step.started.data, key))]
    return "; ".join(told) or "neither stack"


def _manifest(journal: Journal) -> list[Block]:
    dump, checked = journal.data("dump"), journal.data("verify_dump")
    if not dump:
        return [not_measured(journal, "dump")]
    digests = part(dump, "digests")
    facts: list[tuple[str, Cell]] = [
        ("Records", count(dump, "rows")),
        ("Files of records (shards)", count(checked, "shards") if checked else "not counted: no step verified it"),
        ("Size", bytes_text(figure(dump, "bytes"))),
        ("Digest of the ids", _hash(word(digests, "ids"))),
        ("Digest of the payloads", _hash(word(digests, "payloads"))),
        *(
            (f"Digest of the vectors: {name}", _hash(word(digests, "vectors", name)))
            for name in part(digests, "vectors")
        ),
        ("Taken out in", _seconds(figure(dump, "copy_seconds"))),
        ("Taken up again after an interruption", "yes" if dump.get("resumed") else "no"),
        ("Folder", code(word(checked, "folder") or "dump")),
    ]
    told: list[Block] = [KeyValues(tuple(facts))]
    if checked:
        told.append(
            prose(
                "These figures stand in the manifest too; ",
                code("exitramp verify DIR"),
                " checks them from the files alone.",
            )
        )
    else:
        told.append(not_measured(journal, "verify_dump"))
    return told


def _hash(text: str) -> Cell:
    return code(text) if text else None


def _seconds(value: float | None) -> Cell:
    return None if value is None else seconds_text(value)


def _versions(journal: Journal) -> KeyValues:
    started = journal.started
    corpus = part(journal.data("build_primary"), "corpus")
    facts: list[tuple[str, Cell]] = [
        ("exitramp", word(started, "tool_version") or None),
        ("Python", word(started, "python_version") or None),
        ("Platform", word(started, "platform") or None),
        *((f"Corpus: {key.removesuffix('_version')}", word(corpus, key)) for key in _PACKAGES if word(corpus, key)),
        *(fact for each in stack_parts(journal) for fact in _software(each)),
        ("Seed of the run", _seed(started)),
    ]
    seeds = {figure(each, "seed") for each in objects(journal.data("compare_quality"), "metrics")} - {None}
    facts += [("Seed of the bootstrap", code(f"{seed}")) for seed in sorted(seeds, key=str)]
    facts += [
        (f"Seed of {each.service or each.scheme}", code(f"{seed}"))
        for each in stack_parts(journal)
        if (seed := figure(each.described, "seed")) is not None
    ]
    return KeyValues(tuple(facts))


def _software(each: StackPart) -> list[tuple[str, Cell]]:
    """The part's address, what kind of thing it is, and the versions of what answered and of what it was asked with."""
    title = f"{each.stack.capitalize()}’s {each.kind}"
    facts: list[tuple[str, Cell]] = [(title, code(each.address))]
    facts += [(f"{title}: kind", each.summary)] if each.summary else []
    facts += [(f"{title}: versions", each.versions)] if each.versions else []
    return facts


def _seed(started: Data) -> Cell:
    seed = figure(started, "seed")
    return None if seed is None else code(f"{seed}")


def _setting(settings: Data, name: str) -> Cell:
    if name != "stop":
        return figure(settings, name)
    return ", ".join(repr(each) for each in words(settings, name)) or "none: an answer ends by itself"


def _orchestration(settings: Data) -> Block:
    if not settings:
        return prose("The journal holds no settings of it.")
    rows = tuple((name.replace("_", " ").capitalize(), _setting(settings, name)) for name in settings)
    return KeyValues(rows)
