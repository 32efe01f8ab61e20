"""What `sync` does: plan, ask consent, write what differs, compare; and what is printed of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exitramp.cli import output
from exitramp.cli.moving import say_plan, within
from exitramp.cli.options import EVERYTHING, Choice
from exitramp.migration import announced_tolerances, compare_endpoints, plan_move, synchronise_endpoints
from exitramp.records import Finding, Verdict
from exitramp.transfer.plan import Plan
from exitramp.transfer.sync import SyncResult, left_there
from exitramp.wording import counted
from exitramp.wrappers import OpenSettings, open_endpoint, require_write_allowed


def bring_up_to_date(
    source: str,
    target: str,
    *,
    as_json: bool,
    settings: OpenSettings,
    accept_loss: tuple[str, ...] = (),
    allow_writes: tuple[str, ...] = (),
    choice: Choice = EVERYTHING,
    delete: bool = False,
    max_deletes: int | None = None,
    dry_run: bool = False,
) -> int:
    """Bring one collection up to date with another and print how it went; returns the exit code."""
    with open_endpoint(source, settings) as one, open_endpoint(target, settings) as other:
        require_write_allowed(other.address, allow_writes)
        within(one, other, choice)
        other.source().describe()  # there is nothing to bring up to date where there is no collection
        measuring, scanning = output.Progress("measure", one.source().count()), output.Progress("scan", None)
        try:
            plan = plan_move(one, other, progress=measuring.at)
            done = synchronise_endpoints(
                one,
                other,
                plan=plan,
                accept_loss=accept_loss,
                delete=delete,
                maximum_deletes=max_deletes,
                dry_run=dry_run,
                progress=scanning.at,
            )
            if not dry_run:
                given = announced_tolerances(plan, accept_loss)
                after = compare_endpoints(one, other, given=given, progress=scanning.at)
        finally:
            measuring.end()
            scanning.end()
    if dry_run:
        return _say_dry_run(plan, done, accept_loss, as_json=as_json)
    left_over = [_left_there(each) if not delete else each for each in after.records.findings]
    # How many those are was looked at once more, and their ids are known by now.
    done.findings = [each for each in done.findings if each.code != "sync.extra"]
    # What was read as something else than it may be; that a metric or a model differs is no matter of records.
    left_over += [each for each in after.findings if each.code.startswith("codec.")]
    verdict = Verdict.worst([Verdict.PASS, *_verdicts(left_over)])
    findings = [*plan.findings, *done.findings, *left_over]
    if as_json:
        output.emit_json(
            {
                "verdict": verdict.value,
                "rows": after.records.rows_a,
                "digests": after.records.digests_a.to_json(),
                "target_digests": after.records.digests_b.to_json(),
                **_counts(done),
                "upserted": done.upserted,
                "deleted": done.deleted,
                "plan": [line.to_json() for line in plan.lines],
                "findings": [each.to_json() for each in findings],
            }
        )
    else:
        extra = sum(each.count or 0 for each in left_over if each.code == "sync.extra")
        left = f"; {counted(extra, 'record stands', 'records stand')} only at the target" if extra else ""
        output.say(f"{output.verdict_word(verdict)}  {done.upserted} written, {done.deleted} deleted{left}")
        output.say_findings(findings)
    return output.exit_code(verdict)


def _say_dry_run(plan: Plan, done: SyncResult, accept_loss: Sequence[str], *, as_json: bool) -> int:
    """The plan, and what would have been touched."""
    findings = [*plan.findings, *(each for each in done.findings if each.code != "sync.deleted")]
    if as_json:
        told = {"dry_run": True, "digests": None, **_counts(done), "to_write": done.upserted, "to_delete": done.deleted}
        output.emit_json(plan.to_json() | told | {"findings": [each.to_json() for each in findings]})
    else:
        say_plan(plan, accept_loss)
        output.say_findings(done.findings)
        output.say(f"dry run: nothing was written; {done.upserted} would be written, {done.deleted} deleted")
    return output.exit_code(plan.verdict)


def _counts(done: SyncResult) -> dict[str, int]:
    return {"missing": done.missing, "changed": done.changed, "extra": done.extra}


def _left_there(finding: Finding) -> Finding:
    """What the target has too much is no fault of a run that was not to delete it: it did what it was asked."""
    if finding.code != "records.extra":
        return finding
    return left_there(finding.count or 0, finding.ids)


def _verdicts(findings: Sequence[Finding]) -> list[Any]:
    return [each.verdict for each in findings if each.verdict is not None]
