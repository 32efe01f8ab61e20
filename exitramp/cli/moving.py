"""What `dump`, `restore` and `copy` have in common: one move from one address to another, and what is printed of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from exitramp.cli import output
from exitramp.cli.by_dump import dump_between, move_by_dump
from exitramp.cli.done_before import done_before, keep_done
from exitramp.cli.finished import FinishedAlready, finished_already, say_finished
from exitramp.cli.limits import nothing_kept
from exitramp.cli.options import EVERYTHING, Choice
from exitramp.cli.place import place_of
from exitramp.cli.selection import selection_of
from exitramp.codec import arrangement
from exitramp.dump.writer import DumpSink
from exitramp.errors import CollectionExists, UsageError
from exitramp.migration import MoveResult, count_or_none, migrate, plan_move
from exitramp.ports.estimating import ReadingSpent
from exitramp.records import Finding, Verdict
from exitramp.transfer.plan import MAGNITUDE, PRECISION, ULP, UNIT, Plan, PlanLine, payload_summary
from exitramp.wording import counted
from exitramp.wrappers import Endpoint, OpenSettings, open_endpoint, require_write_allowed


def with_target(plan: Plan, target: Endpoint) -> Plan:
    """`plan` with a word on what stands at the target already, which a copy would refuse to write among."""
    held = count_or_none(target)
    if not held:
        return plan
    finding = Finding(
        "target.holds",
        f"the target holds {counted(held, 'record')} already: a copy refuses it unless --into-existing lets them stay",
        Verdict.INCONCLUSIVE,
        count=held,
    )
    return replace(plan, findings=(*plan.findings, finding))


@dataclass(frozen=True, slots=True)
class Moved:
    """How one move went: its verdict, the JSON of it, and what prints it for people."""

    verdict: Verdict
    told: Mapping[str, Any]
    say: Callable[[], None]


def move(
    source: str,
    target: str,
    *,
    as_json: bool,
    settings: OpenSettings,
    allow_writes: tuple[str, ...] = (),
    choice: Choice = EVERYTHING,
    **how: Any,
) -> int:
    """Move one collection, or what is chosen of it, and print how it went; returns the exit code. `how` is as `moved`
    takes it."""
    with open_endpoint(source, settings) as one, open_endpoint(target, settings) as other:
        require_write_allowed(other.address, allow_writes)
        within(one, other, choice)
        done = moved(one, other, **how)
    if as_json:
        output.emit_json(done.told)
    else:
        done.say()
    return output.exit_code(done.verdict)


def choose(endpoint: Endpoint, choice: Choice, *, reads: bool = True) -> None:
    """From now on only the chosen records are read from it, under the chosen ids. Raises `UsageError` where a namespace
    that was named has none, unless to know that would take a reading and nothing is to be read (`reads`)."""
    endpoint.within(choice.namespaces)
    endpoint.ids = choice.ids
    arrange(endpoint, choice)
    if reads or endpoint.tells_namespaces():
        endpoint.require_records()


def arrange(endpoint: Endpoint, choice: Choice) -> None:
    """From now on its records are read and written as the chosen framework keeps them in stores of its kind."""
    if choice.layout is not None:
        endpoint.arrangement = arrangement(choice.layout, endpoint.address.scheme)


def within(one: Endpoint, other: Endpoint, choice: Choice) -> None:
    """Of both sides only the chosen namespaces are read: what else the target holds is no matter of this move."""
    choose(one, choice)
    arrange(other, choice)
    if other.address.scheme != "dump":
        other.within(choice.namespaces)


def moved(
    one: Endpoint,
    other: Endpoint,
    *,
    accept_loss: tuple[str, ...] = (),
    into_existing: bool = False,
    verify: bool = True,
    dry_run: bool = False,
    state: Path | None = None,
) -> Moved:
    """Move one collection, or with `dry_run` say what would become of it. A finished move is proved once more."""
    place = None if dry_run else place_of(one, other, state)
    folder = dump_between(one, place)
    addresses = {"source": str(one.address), "target": str(other.address)}
    if place is not None and one.estimates() is not None and not into_existing:
        # Before the first reading, which would be paid for.
        ready = done_before(place, one, other, begun=folder is not None and folder.exists())
        if ready is not None:
            return _known(ready, one, other, accept_loss)
    if folder is not None:
        done = move_by_dump(
            one, other, folder, moved, into_existing=into_existing, accept_loss=accept_loss, verify=verify
        )
        keep_done(place, one, done)
        return done
    total = one.source().count()
    bars = {name: output.Progress(name, total) for name in ("measure", "copy", "verify", "compare")}
    if one.estimates() is not None and other.address.scheme != "dump":
        output.note(
            f"reading {one.address} costs by request, and a copy reads it twice: to plan, and to copy. 'exitramp dump' "
            "reads it once, and whatever is restored from the dump reads nothing there."
        )
    if dry_run:
        return _dry(one, other, accept_loss, into_existing, bars["measure"])
    if isinstance(sink := other.raw_sink(), DumpSink):
        sink.selection = selection_of(one)
    going_on = place is not None and not place.progress().is_fresh
    try:
        result = migrate(
            one,
            other,
            accept_loss=accept_loss,
            checkpoint=place,
            into_existing=into_existing,
            verify=verify,
            progress=lambda what, rows: bars[what].at(rows),
        )
    except CollectionExists as error:
        ready = finished_already(
            one, other, accept_loss, instead_of=error, progress=lambda what, rows: bars[what].at(rows)
        )
        return _known(ready, one, other, accept_loss)
    except UsageError as error:
        if going_on and place is not None and error.hint is None:
            error.hint = (
                f"{place.path} keeps the place of an interrupted run; if {one.address} was replaced since, remove "
                "that file and begin anew, in a collection that is empty"
            )
        raise
    finally:
        for bar in bars.values():
            bar.end()
    spent = one.spent()
    told = result.to_json() | addresses | ({} if spent is None else {"spent": spent.to_json()})
    done = Moved(result.verdict, told, lambda: _say_move(result, str(other.address), spent))
    keep_done(place, one, done)
    return done


def _known(ready: FinishedAlready, one: Endpoint, other: Endpoint, accepted: Collection[str]) -> Moved:
    told = ready.to_json() | {"source": str(one.address), "target": str(other.address)}
    return Moved(ready.verdict, told, lambda: say_finished(ready, one.address, other.address, accepted))


def _dry(
    one: Endpoint, other: Endpoint, accept_loss: tuple[str, ...], into_existing: bool, bar: output.Progress
) -> Moved:
    with nothing_kept():
        found = plan_move(one, other, progress=bar.at)
    bar.end()
    found.require_consent(accept_loss)
    if not into_existing:
        found = with_target(found, other)

    def say() -> None:
        say_plan(found, accept_loss)
        output.say("dry run: nothing was written")

    return Moved(found.verdict, found.to_json() | {"dry_run": True, "digests": None}, say)


def say_plan(found: Plan, accepted: Collection[str] = ()) -> None:
    """The plan for people; `accepted` are the lossy lines that somebody has agreed to."""
    rows = [
        (line.fidelity.value, line.subject, "" if line.rows is None else f"{line.rows:,}", line.how)
        for line in found.lines
        if not line.summed
    ]
    rows += [(fidelity.value, subject, "", how) for fidelity, subject, how in payload_summary(found.lines)]
    output.say(output.table(rows, ("class", "what", "rows", "how")))
    estimates = found.estimates
    output.say(
        f"\n{counted(found.rows, 'record')}, {output.megabytes(estimates['bytes'] or 0)}, "
        f"{counted(int(estimates['read_requests'] or 0), 'read')}, "
        f"{counted(int(estimates['write_requests'] or 0), 'write')}; reading took {estimates['read_seconds']} s"
    )
    output.say_findings(found.findings)
    agreed = [line for line in found.lossy() if line.subject in accepted]
    if agreed:
        output.say(f"lossy, and accepted by name: {', '.join(line.subject for line in agreed)}")
    if len(agreed) < len(found.lossy()):
        consent = _consent(line for line in found.lossy() if line not in agreed)
        output.say(f"lossy lines need consent by name before anything is written: {consent}")


def _consent(lines: Iterable[PlanLine]) -> str:
    return " ".join(f"--accept-loss {shlex.quote(line.subject)}" for line in lines)


def say_next(found: Plan, one: Endpoint, other: Endpoint, choice: Choice) -> None:
    """The command that does what was planned, where nothing stands in its way."""
    if found.verdict is not Verdict.PASS:
        return
    source, target = one.address, other.address
    words = ["exitramp", "copy", str(source), str(target)]
    if source.scheme == "dump" and source.collection is None:
        words = ["exitramp", "restore", str(source.path), str(target)]
    words += choice.words
    with_consent = f" {_consent(found.lossy())}" if found.lossy() else ""
    output.say(f"next: {shlex.join(words)}{with_consent}")


_WORDS = {MAGNITUDE: "magnitude", PRECISION: "precision", UNIT: "rounding", ULP: "rounding"}


def _read_back(result: MoveResult, differing: Sequence[str]) -> str:
    """What the target gave back: by which digests it differs, and whether that is what the plan said, and no more."""
    if not differing:
        return "the same digests"
    announced = result.parity is not None and result.parity.verdict is Verdict.PASS
    if not announced or result.plan is None:
        return f"differs in {', '.join(differing)}"
    columns = [name.removeprefix("vectors.") for name in differing]
    changes = [change for line in result.plan.lines if line.subject in columns for change in line.changes]
    words = " and ".join(dict.fromkeys(_WORDS[change] for change in changes if change in _WORDS))
    differ = "differs" if len(columns) == 1 else "differ"
    said = f"{' and '.join(columns)} {differ} by what the plan announced, and by no more"
    return f"ids and payloads are the same; {said}" + (f" ({words})" if words else "")


def _say_move(result: MoveResult, target: str, spent: ReadingSpent | None) -> None:
    output.say(f"{output.verdict_word(result.verdict)}  {counted(result.rows, 'record')} → {target}")
    if result.copy.resumed:
        output.say("  went on where an earlier run had stopped")
    output.say(f"  ids       {result.digests.ids.hex}")
    output.say(f"  payloads  {result.digests.payloads.hex}")
    for column, digest in result.digests.vectors.items():
        output.say(f"  {column:<9} {digest.hex}")
    if result.target_digests is not None:
        output.say(f"  read back: {_read_back(result, result.target_digests.differences(result.digests))}")
    if result.parity is not None:
        output.say(f"  {result.parity.summary()}")
    output.say_findings(result.findings)
    if spent is not None:
        money = "" if spent.usd is None else f", {spent.usd:,.4f} USD"
        output.say(f"  reading took {counted(spent.requests, 'request')}, {spent.read_units:,} units{money}")
    seconds = max(result.copy_seconds, 1e-9)
    output.note(f"copied in {seconds:.1f} s ({result.copy.rows_read / seconds:,.0f} records/s)")
