"""A move that an earlier run had finished already: nothing is written, and it is proved instead of believed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from exitramp.cli import output
from exitramp.digests import CollectionDigests
from exitramp.dump.integrity import verify_dump
from exitramp.dump.layout import MANIFEST
from exitramp.dump.manifest import Manifest, SourceInfo, read_manifest
from exitramp.errors import CollectionExists, DumpCorrupt
from exitramp.migration import announced_tolerances, compare_endpoints, excused_metrics, plan_move
from exitramp.migration.moving import count_or_none, read_digests
from exitramp.records import CollectionSpec, Finding, Verdict
from exitramp.urls import Address
from exitramp.wording import counted
from exitramp.wrappers import Endpoint

Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class FinishedAlready:
    """What stands at the target is what a new run would have put there."""

    rows: int
    digests: CollectionDigests
    target_digests: CollectionDigests
    findings: tuple[Finding, ...]
    verdict: Verdict = Verdict.PASS

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "finished_already": True,
            "rows": self.rows,
            "rows_landed": self.rows,
            "resumed": False,
            "digests": self.digests.to_json(),
            "target_digests": self.target_digests.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
        }


def finished_already(
    one: Endpoint, other: Endpoint, accepted: Collection[str], *, instead_of: CollectionExists, progress: Progress
) -> FinishedAlready:
    """What an earlier run finished, such as one that was killed just before it could say so.

    Raises `instead_of` where something else stands there, and `DumpCorrupt` where a finished dump is damaged.
    """
    if other.address.scheme == "dump":
        return _dumped(one, other, instead_of, progress)
    return _copied(one, other, accepted, instead_of, progress)


def _dumped(one: Endpoint, other: Endpoint, instead_of: CollectionExists, progress: Progress) -> FinishedAlready:
    folder = other.address.path
    if not (folder / MANIFEST).is_file():
        raise instead_of
    report = verify_dump(folder)
    if report.verdict is not Verdict.PASS:
        raise DumpCorrupt(f"{folder} holds a finished dump that is damaged", hint=f"exitramp verify {folder}")
    manifest = read_manifest(folder)
    source = one.source()
    if manifest.source is None or manifest.source.address != SourceInfo.of(source.identity()).address:
        raise CollectionExists(
            f"{folder} holds a finished dump of another source"
            + (f", {manifest.source.address}" if manifest.source is not None else ""),
            hint="choose another folder",
        )
    if one.estimates() is not None:
        return _unread(manifest, source.count())
    now = read_digests(source, progress=lambda rows: progress("compare", rows))
    differing = now.differences(manifest.digests)
    if differing:
        raise CollectionExists(
            f"{folder} holds a finished dump of this source, of {manifest.ended_at}, and the source has changed since "
            f"({', '.join(differing)} differ)",
            hint="choose another folder for a new one; a finished dump is never written to again",
        )
    if _fields(source.describe()) != _fields(manifest.collection):
        raise CollectionExists(
            f"{folder} holds a finished dump of this source, of {manifest.ended_at}, whose vector fields were others "
            "(metric, type or model)",
            hint="choose another folder for a new one; a finished dump is never written to again",
        )
    return FinishedAlready(manifest.rows, now, manifest.digests, (_told(f"the dump of {manifest.ended_at}"),))


def _unread(manifest: Manifest, count: int) -> FinishedAlready:
    """Of a source that charges: nobody asked to pay once more to see whether it has changed."""
    text = (
        f"an earlier run had finished it: the dump of {manifest.ended_at} is whole, and nothing was written. The "
        f"source, which counts {counted(count, 'record')} now, was not read again, since that costs: 'exitramp "
        "compare' reads it; for a new dump choose another folder"
    )
    told = Finding("target.finished_already", text, Verdict.INCONCLUSIVE)
    return FinishedAlready(manifest.rows, manifest.digests, manifest.digests, (told,), Verdict.INCONCLUSIVE)


def _fields(spec: CollectionSpec) -> list[dict[str, Any]]:
    return [field.to_json() for field in spec.vectors]


def _copied(
    one: Endpoint, other: Endpoint, accepted: Collection[str], instead_of: CollectionExists, progress: Progress
) -> FinishedAlready:
    # A look that costs nothing: a target of another size holds something else. Nobody asked to pay for another.
    if one.estimates() is not None or count_or_none(other) != one.source().count():
        raise instead_of
    # What a plan would announce today is what an earlier run may have changed, and not what the stores could do at all.
    planned = not other.raw_sink().limits().verbatim
    plan = plan_move(one, other, progress=lambda rows: progress("measure", rows)) if planned else None
    given = announced_tolerances(plan, accepted)
    found = compare_endpoints(one, other, given=given, progress=lambda rows: progress("compare", rows))
    others = excused_metrics(found.findings, plan, accepted, other.source().describe().vectors)
    verdicts = [found.records.verdict, *(each.verdict for each in others if each.verdict is not None)]
    if Verdict.worst(verdicts) is not Verdict.PASS or not found.records.rows_a:
        raise instead_of
    files = [] if plan is None else [each for each in plan.findings if each.code == "target.files"]
    findings = (_told("the target"), *found.records.findings, *others, *files)
    return FinishedAlready(found.records.rows_a, found.records.digests_a, found.records.digests_b, findings)


def _told(what: str) -> Finding:
    text = f"an earlier run had finished it: {what} holds what the source holds now; nothing was written"
    return Finding("target.finished_already", text, Verdict.PASS)


def say_finished(found: FinishedAlready, source: Address, target: Address, accepted: Collection[str]) -> None:
    """The same for people, with a command that ends as this one did: by the same consent."""
    stand = counted(found.rows, "record stands", "records stand")
    output.say(f"{output.verdict_word(found.verdict)}  finished already: {stand} in {target}")
    output.say(f"  ids       {found.digests.ids.hex}")
    output.say(f"  payloads  {found.digests.payloads.hex}")
    for column, digest in found.digests.vectors.items():
        output.say(f"  {column:<9} {digest.hex}")
    output.say_findings(found.findings)
    if target.scheme == "dump":
        output.say(f"  check its files again at any time: exitramp verify {shlex.quote(str(target.path))}")
    else:
        losses = [word for name in accepted for word in ("--accept-loss", name)]
        command = shlex.join(["exitramp", "compare", str(source), str(target), *losses])
        output.say(f"  hold the two against each other at any time: {command}")
