"""What `exitramp verify` prints."""

from __future__ import annotations

from pathlib import Path

from exitramp.cli import output
from exitramp.dump.integrity import verify_dump


def verify_folder(folder: Path, *, as_json: bool) -> int:
    """Verify a dump, print the result, and return the exit code: 4 where anything is damaged."""
    report = verify_dump(folder)
    if as_json:
        output.emit_json(report.to_json())
    else:
        output.say(f"{output.verdict_word(report.verdict)}  {report.rows:,} records in {report.shards} shards")
        if report.digests is not None:
            output.say(f"  ids       {report.digests.ids.hex}")
            output.say(f"  payloads  {report.digests.payloads.hex}")
            for column, digest in report.digests.vectors.items():
                output.say(f"  {column:<9} {digest.hex}")
        output.say_findings(report.findings)
    return int(report.exit_code)
