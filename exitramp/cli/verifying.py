"""What `exitramp verify` prints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from exitramp.cli import output
from exitramp.dump.integrity import VerifyReport, verify_dump
from exitramp.dump.layout import shown
from exitramp.records import Verdict
from exitramp.wording import counted

FINDINGS_SHOWN = 40


def verify_folder(folder: Path, *, as_json: bool) -> int:
    """Verify a dump, print the result, and return the exit code: 4 where anything is damaged.

    Raises `CollectionMissing` where there is nothing to verify.
    """
    bar = output.Progress("verify", None)
    report = verify_dump(folder, progress=bar.at)
    bar.end()
    if as_json:
        output.emit_json(report.to_json())
    else:
        _say(report)
    return int(report.exit_code)


def _say(report: VerifyReport) -> None:
    # Where a shard cannot be read nothing can be said of them together.
    held = (
        f"  {counted(report.rows, 'record')} in {counted(report.shards, 'shard')}" if report.digests is not None else ""
    )
    output.say(f"{output.verdict_word(report.verdict)}{held}")
    if report.digests is not None:
        output.say(f"  ids       {report.digests.ids.hex}")
        output.say(f"  payloads  {report.digests.payloads.hex}")
        for column, digest in report.digests.vectors.items():
            output.say(f"  {column:<9} {digest.hex}")
    if report.verdict is Verdict.PASS and not report.rows:
        output.say("  the collection was empty when it was dumped: whole, and nothing in it")
    # A dump of many shards can be damaged in as many places, and an id may hold what a terminal would obey.
    tame = [replace(finding, ids=tuple(map(shown, finding.ids))) for finding in report.findings[:FINDINGS_SHOWN]]
    output.say_findings(tame)
    if len(report.findings) > FINDINGS_SHOWN:
        output.say(f"  … and {counted(len(report.findings) - FINDINGS_SHOWN, 'more finding')}; --json has them all")
    for step in dict.fromkeys(str(each.detail["next"]) for each in report.findings if "next" in each.detail):
        output.say(f"  next: {step}")
    if report.verdict is Verdict.FAIL and not any("next" in each.detail for each in report.findings):
        output.say("  next: restore nothing from it; take it out anew, into another folder")
