"""Plan, apply, verify: one collection from one endpoint to another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_matrix
from exitramp.clock import Clock, SystemClock
from exitramp.codec import DecodingSource, Layout
from exitramp.codec.layout import restored_spec
from exitramp.digests import CollectionDigests, digest_batch
from exitramp.dump.integrity import unsteady
from exitramp.dump.manifest import read_manifest
from exitramp.dump.server import dump_folder
from exitramp.dump.writer import DumpSink
from exitramp.errors import CollectionMissing, DataInvalid, DumpCorrupt, IntegrityError, RoleUnsupported
from exitramp.migration.comparing import announced_tolerances, side_tolerances
from exitramp.migration.dump_checkpoint import checkpoint_of
from exitramp.migration.index_findings import index_findings
from exitramp.migration.promises import require_promised
from exitramp.parity.alignment import read_all
from exitramp.parity.kernel import compare_matrices
from exitramp.parity.records import RecordParity, compare_records
from exitramp.parity.tolerance import Tolerance
from exitramp.ports import SinkLimits, VectorSource
from exitramp.ports.collection_metadata import own_metadata
from exitramp.records import CollectionSpec, Finding, Metric, VectorField, VectorKind, Verdict
from exitramp.transfer.checkpoint import Checkpoint, FileCheckpoint, NoCheckpoint
from exitramp.transfer.copying import CopyResult, copy_records
from exitramp.transfer.obstacles import Standing
from exitramp.transfer.one_writer import only_writer
from exitramp.transfer.plan import Plan, make_plan
from exitramp.transfer.survey import survey_source
from exitramp.transfer.sync import SyncResult, synchronise
from exitramp.wording import counted
from exitramp.wrappers import DryRunSink, Endpoint, metric_overrides

BATCH_ROWS = 1000
"""Asked of every scan; stores whose best page is smaller give smaller pages."""


@dataclass(slots=True)
class MoveResult:
    """A finished move. `digests` are of the records as read, `target_digests` of what the target gave back.

    `verified` says whether the target was read back at all; a move that was not is never better than inconclusive.
    """

    spec: CollectionSpec
    rows: int
    rows_landed: int | None
    digests: CollectionDigests
    target_digests: CollectionDigests | None
    plan: Plan | None
    parity: RecordParity | None
    copy: CopyResult
    copy_seconds: float
    verify_seconds: float | None
    findings: list[Finding] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        return self.target_digests is not None

    @property
    def verdict(self) -> Verdict:
        verdicts = [finding.verdict for finding in self.findings if finding.verdict is not None]
        return Verdict.worst([*verdicts, Verdict.PASS if self.verified else Verdict.INCONCLUSIVE])

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "rows": self.rows,
            "rows_landed": self.rows_landed,
            "resumed": self.copy.resumed,
            "digests": self.digests.to_json(),
            "target_digests": self.target_digests.to_json() if self.target_digests else None,
            "plan": [line.to_json() for line in self.plan.lines] if self.plan else None,
            "parity": self.parity.to_json() if self.parity else None,
            "copy_seconds": round(self.copy_seconds, 3),
            "verify_seconds": round(self.verify_seconds, 3) if self.verify_seconds is not None else None,
            "findings": [finding.to_json() for finding in self.findings],
        }


def plan_move(
    source: Endpoint,
    target: Endpoint,
    *,
    metrics: Mapping[str, Metric] | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Plan:
    """Measure the source and plan its way into the target. Nothing is written.

    `metrics` are those of fields, by name, where they are not to be the source's own; None: what the address says.
    """
    limits = target.raw_sink().limits()
    reader = source.source()
    survey = survey_source(
        target.as_written(reader),
        limits,
        batch_rows=BATCH_ROWS,
        name=target.address.collection,
        metrics=metric_overrides(target.address) if metrics is None else metrics,
        progress=progress,
    )
    plan = make_plan(survey, limits, there=_standing(target, limits, survey.layout))
    identity = reader.identity()
    found = index_findings(reader.describe().index, limits, kind=target.address.scheme)
    return replace(plan, findings=(*identity.findings, *plan.findings, *found))


def _standing(target: Endpoint, limits: SinkLimits, layout: Layout) -> Standing | None:
    """The collection that is there already; None where there is none."""
    try:
        reader = target.source()
        empty, origin = not reader.count(), reader.origin()
    except (CollectionMissing, RoleUnsupported):
        return None
    if limits.verbatim:
        return None
    told = empty and limits.keeps_origin and (origin is not None or limits.adopts_empty)
    try:
        metadata = own_metadata(reader.describe(), origin)
    except DataInvalid:  # an empty one may not even know how long its vectors will be
        metadata = {}
    # But for them it has no other word than the store's.
    there = restored_spec(layout.native, None) if empty else reader.layout
    return Standing(there, empty, told, metadata)


def migrate(
    source: Endpoint,
    target: Endpoint,
    *,
    accept_loss: Collection[str] = (),
    checkpoint: Checkpoint | None = None,
    into_existing: bool = False,
    verify: bool = True,
    plan: Plan | None = None,
    progress: Callable[[str, int], None] = lambda what, rows: None,
    clock: Clock | None = None,
) -> MoveResult:
    """Plan, ask consent, copy, read back and compare.

    A target that takes every record as it is (a dump) needs no plan: nothing could be lost. Raises `ConsentMissing`
    or `DataInvalid` before the first write, and `UsageError` at once where another run is writing to the target.
    """
    with _alone(target):
        return _migrate(
            source,
            target,
            accept_loss=accept_loss,
            checkpoint=checkpoint,
            into_existing=into_existing,
            verify=verify,
            plan=plan,
            progress=progress,
            clock=clock or SystemClock(),
        )


def _alone(target: Endpoint) -> AbstractContextManager[None]:
    """A dump has a lock of its own: its journal's."""
    return nullcontext() if isinstance(target.raw_sink(), DumpSink) else only_writer(target.address)


def _migrate(
    source: Endpoint,
    target: Endpoint,
    *,
    accept_loss: Collection[str],
    checkpoint: Checkpoint | None,
    into_existing: bool,
    verify: bool,
    plan: Plan | None,
    progress: Callable[[str, int], None],
    clock: Clock,
) -> MoveResult:
    raw = target.raw_sink()
    kept_by_sink = checkpoint_of(raw)
    if plan is None and not raw.limits().verbatim:
        plan = plan_move(source, target, progress=lambda rows: progress("measure", rows))
    if plan is not None:
        plan.require_consent(accept_loss)
    place = kept_by_sink or checkpoint or NoCheckpoint()
    there = count_or_none(target) or 0
    if isinstance(place, FileCheckpoint):
        _require_acknowledged(target, place, there)
    reader = source.source()
    started = clock.monotonic()
    copied = copy_records(
        reader,
        target.sink(),
        batch_rows=BATCH_ROWS,
        checkpoint=place,
        landed=lambda: target.source().count(),
        # A dump has a lock of its own, and nobody counts in one that is not finished.
        standing=partial(count_or_none, target) if kept_by_sink is None else lambda: 0,
        target_rows_before=there,
        into_existing=into_existing,
        # A dump digests what it writes and again what it reads back from each shard; a third time adds nothing.
        with_digests=kept_by_sink is None,
        read_again=source.estimates() is None,
        check=partial(_require_promised, source, target),
        progress=lambda rows: progress("copy", rows),
        clock=clock,
    )
    seconds = clock.monotonic() - started
    try:
        result = _copied(source, target, reader, copied, plan, seconds)
        if not result.verified and verify:
            started = clock.monotonic()
            _read_back(source, target, result, into_existing, progress)
            result.verify_seconds = clock.monotonic() - started
        elif not result.verified:
            result.findings.append(Finding("target.unverified", "the target was not read back", Verdict.INCONCLUSIVE))
    except BaseException:
        # The place is kept: the same command again finds everything written, and goes on with the proof.
        place.close(complete=False)
        raise
    place.close(complete=True)
    return result


def _require_acknowledged(target: Endpoint, place: FileCheckpoint, there: int) -> None:
    """Raises `IntegrityError` where a target holds less than an earlier run was told it would keep."""
    done = place.progress().rows
    if there < done:
        raise IntegrityError(
            f"{target.address} holds {counted(there, 'record')}, and an interrupted run of this move was told that "
            f"{counted(done, 'record')} of it would stay: they were removed since, or the store lost them",
            hint=f"remove what is left of the collection, and {place.path}, and run the same command again",
        )


def _copied(
    source: Endpoint, target: Endpoint, reader: DecodingSource, copied: CopyResult, plan: Plan | None, seconds: float
) -> MoveResult:
    """What is known once everything is written. A dump has read back each of its shards by then, and says so itself."""
    written = read_manifest(target.address.path).digests if isinstance(target.raw_sink(), DumpSink) else None
    digests = copied.digests or written
    assert digests is not None
    known = copied.account.source.findings if copied.account.source is not None else ()
    findings = [*copied.findings, *reader.findings(), *(plan.findings if plan else known)]
    if source.address.scheme == "dump":
        manifest = read_manifest(dump_folder(source.address))
        if (found := unsteady(manifest)) is not None:
            findings.append(Finding(f"source.{found[0]}", f"the dump: {found[1]}", Verdict.INCONCLUSIVE))
    elif not copied.resumed:
        text = "the source was read once: a write to it meanwhile that left its count alone would not show here"
        findings.append(Finding("source.live", f"{text}; 'exitramp compare' afterwards tells"))
    return MoveResult(
        spec=copied.spec,
        rows=copied.rows_total,
        rows_landed=copied.account.rows_landed,
        digests=digests,
        target_digests=written,
        plan=plan,
        parity=None,
        copy=copied,
        copy_seconds=seconds,
        verify_seconds=None,
        findings=findings,
    )


def _require_promised(source: Endpoint, target: Endpoint, found: CollectionDigests) -> None:
    try:
        require_promised(source, found)
    except DumpCorrupt as error:
        first = f"{error.hint}; " if error.hint else ""
        raise DumpCorrupt(
            f"{error.message}; they were written to {target.address}",
            hint=f"{first}do not use the target: remove what was written, and begin anew with a whole dump",
        ) from error


def synchronise_endpoints(
    source: Endpoint,
    target: Endpoint,
    *,
    plan: Plan | None = None,
    accept_loss: Collection[str] = (),
    delete: bool = False,
    maximum_deletes: int | None = None,
    dry_run: bool = False,
    given: Mapping[str, Tolerance] | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> SyncResult:
    """`transfer.synchronise`, with what a plan announced (`given`, by column) or else what the two stores can do to
    vectors as the measure of "changed".

    `plan` is what `plan_move` said of these two: raises `ConsentMissing` or `DataInvalid` before the first write for
    what it loses. None says that whoever calls has asked already. A dry run does everything but write; what it counts
    as written or deleted would have been.
    """
    if plan is not None:
        plan.require_consent(accept_loss)
        given = announced_tolerances(plan, accept_loss) if given is None else given
    reader = source.source()
    tolerances = side_tolerances(reader.describe().vectors, source, target, given=given)

    def same_vectors(each: VectorField, a: pa.Array, b: pa.Array) -> npt.NDArray[np.bool_]:
        same: npt.NDArray[np.bool_] = np.asarray(a.is_valid()) == np.asarray(b.is_valid())
        if each.kind is not VectorKind.DENSE or a.type != b.type:
            same &= np.array([left == right for left, right in zip(a, b, strict=True)], np.bool_)
            return same
        found = compare_matrices(dense_matrix(a), dense_matrix(b))
        same[found.unequal[~tolerances[each.column].within(found)]] = False
        return same

    with nullcontext() if dry_run else _alone(target):
        return synchronise(
            reader,
            target.source(),
            DryRunSink(target.sink()) if dry_run else target.sink(),
            batch_rows=BATCH_ROWS,
            delete=delete,
            maximum_deletes=maximum_deletes,
            same_vectors=same_vectors,
            check=partial(require_promised, source),
            progress=progress,
        )


def count_or_none(endpoint: Endpoint) -> int | None:
    """How many records stand at an address; None where there is no collection, or nothing can be read."""
    try:
        return endpoint.source().count()
    except (CollectionMissing, RoleUnsupported):
        return None


def read_digests(source: VectorSource, *, progress: Callable[[int], None] = lambda rows: None) -> CollectionDigests:
    """The digests of everything in `source`, by one scan."""
    spec = source.describe()
    found = CollectionDigests.empty(spec)
    for batch in read_all(source, batch_rows=BATCH_ROWS):
        found = found.merge(digest_batch(batch, spec))
        progress(found.rows)
    return found


def _read_back(
    source: Endpoint,
    target: Endpoint,
    result: MoveResult,
    among_others: bool,
    progress: Callable[[str, int], None],
) -> None:
    back = target.source()
    result.target_digests = read_digests(back, progress=lambda rows: progress("verify", rows))
    if among_others and result.target_digests.rows != result.digests.rows:
        result.findings.append(
            Finding(
                "target.shared",
                "the target holds other records too; compare the two to see that nothing is missing",
                Verdict.INCONCLUSIVE,
            )
        )
    elif result.target_digests.differences(result.digests):
        result.findings += _explain(source, target, result, progress)
    result.findings += back.findings()


def _explain(
    source: Endpoint, target: Endpoint, result: MoveResult, progress: Callable[[str, int], None]
) -> tuple[Finding, ...]:
    """Digests differ: by design where the plan said so, and within what it said, or really."""
    reader = source.source()
    if result.plan is not None:
        # What the plan announced is what may differ, and not what the two stores could have done to other vectors.
        tolerances = announced_tolerances(result.plan)
    else:
        tolerances = side_tolerances(reader.describe().vectors, source, target)
    result.parity = compare_records(
        reader, target.source(), tolerances=tolerances, progress=lambda rows: progress("compare", rows)
    )
    return result.parity.findings
