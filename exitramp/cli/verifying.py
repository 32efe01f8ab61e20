"""What `exitramp verify` prints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from exitramp.cli import output
from exitramp.dump.absence import is_there
from exitramp.dump.integrity import VerifyReport, verify_dump
from exitramp.dump.layout import MANIFEST, shown
from exitramp.dump.server import is_server_dump, read_server, server_findings
from exitramp.errors import ExitCode
from exitramp.records import Verdict
from exitramp.wording import counted

FINDINGS_SHOWN = 40


def verify_folder(folder: Path, *, as_json: bool) -> int:
    """Verify a dump, print the result, and return the exit code: 4 where anything is damaged.

    Raises `CollectionMissing` where there is nothing to verify.
    """
    if is_server_dump(folder):
        return _verify_server(folder, as_json=as_json)
    bar = output.Progress("verify", None)
    report = verify_dump(folder, progress=bar.at)
    bar.end()
    if as_json:
        output.emit_json(report.to_json())
    else:
        _say(report)
    return int(report.exit_code)


def _verify_server(folder: Path, *, as_json: bool) -> int:
    """Every collection's dump by itself, and that they are those that the manifest above them names."""
    manifest = read_server(folder)
    findings = server_findings(folder, manifest)
    reports = []
    for entry in manifest.collections:
        if not is_there(folder / entry.folder / MANIFEST):
            continue  # one of the findings says so
        bar = output.Progress(f"verify {output.visible(entry.name, 30)}", entry.rows)
        reports.append((entry.name, verify_dump(folder / entry.folder, progress=bar.at)))
        bar.end()
    verdicts = [each.verdict for each in findings if each.verdict is not None]
    verdict = Verdict.worst([*verdicts, *(report.verdict for _, report in reports), Verdict.PASS])
    if as_json:
        output.emit_json(
            {
                "verdict": verdict.value,
                "folder": str(folder),
                "collections": [{"name": name} | report.to_json() for name, report in reports],
                "findings": [each.to_json() for each in findings],
            }
        )
    else:
        for name, report in reports:
            output.say(f"── {output.visible(name)}")
            _say(report)
        rows = sum(report.rows for _, report in reports)
        output.say(
            f"\n{output.verdict_word(verdict)}  {counted(len(reports), 'collection')}, {counted(rows, 'record')}"
        )
        output.say_findings(findings)
    return int(ExitCode.PASS if verdict is Verdict.PASS else ExitCode.INTEGRITY)


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
