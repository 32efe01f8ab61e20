"""Commands that look at, take out, put in and check collections."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exitramp.cli import output
from exitramp.cli.options import json_option, open_settings, store_options, write_options
from exitramp.errors import ExitCode
from exitramp.urls import path_address

if TYPE_CHECKING:
    from exitramp.migration import MoveResult
    from exitramp.transfer.checkpoint import Checkpoint
    from exitramp.transfer.plan import Plan
    from exitramp.wrappers import Endpoint, OpenSettings


@click.command()
@click.argument("source", metavar="SRC")
@json_option
@store_options
def inspect(source: str, as_json: bool, **stores: Any) -> int:
    """What the collection at SRC holds: fields, metric, model, count, payload inventory, norms. Reads everything once.

    No payload value is shown: the inventory names keys, types and how many rows have them.

    \b
    Example:
      exitramp inspect chroma:./db#articles
    """
    from exitramp.cli.inspecting import inspect_endpoint, say_inspection
    from exitramp.wrappers import open_endpoint

    with open_endpoint(source, open_settings(**stores)) as endpoint:
        bar = output.Progress("inspect", None)
        found = inspect_endpoint(endpoint, progress=bar.at)
        bar.end()
    if as_json:
        output.emit_json(found)
    else:
        say_inspection(found)
    return int(ExitCode.PASS)


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@json_option
@store_options
def plan(source: str, target: str, as_json: bool, **stores: Any) -> int:
    """What a copy from SRC to DST would keep exactly, keep another way, round or lose. Reads SRC, writes nothing.

    A line that is lossy needs --accept-loss with its name before a copy will start.

    \b
    Example:
      exitramp plan chroma:./db#articles qdrant:./new#articles
    """
    from exitramp.migration import plan_move
    from exitramp.wrappers import open_endpoint

    settings = open_settings(**stores)
    with open_endpoint(source, settings) as one, open_endpoint(target, settings) as other:
        bar = output.Progress("measure", None)
        found = plan_move(one, other, progress=bar.at)
        bar.end()
    if as_json:
        output.emit_json(found.to_json() | {"digests": None})
    else:
        _say_plan(found)
    return output.exit_code(found.verdict)


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
@store_options
def dump(source: str, folder: Path, as_json: bool, **stores: Any) -> int:
    """Take the collection at SRC out into DIR: Parquet shards, a manifest, digests. A killed dump goes on where it was.

    \b
    Example:
      exitramp dump chroma:./db#articles ./articles-dump
    """
    return _move(source, path_address("dump", folder), as_json=as_json, settings=open_settings(**stores))


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("target", metavar="DST")
@click.option("--into-existing", is_flag=True, help="Write among the records that DST already holds.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Read DST back and compare digests.")
@click.option(
    "--state", type=click.Path(path_type=Path), default=None, help="Where an interrupted run keeps its place."
)
@json_option
@write_options
@store_options
def restore(folder: Path, target: str, **options: Any) -> int:
    """Put the dump in DIR into DST, read it back, and prove that it is the same.

    \b
    Example:
      exitramp restore ./articles-dump qdrant:./new#articles
    """
    return _move(path_address("dump", folder), target, **_writing(options))


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--into-existing", is_flag=True, help="Write among the records that DST already holds.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Read DST back and compare digests.")
@click.option(
    "--state", type=click.Path(path_type=Path), default=None, help="Where an interrupted run keeps its place."
)
@json_option
@write_options
@store_options
def copy(source: str, target: str, **options: Any) -> int:
    """Copy the collection at SRC to DST, without a dump between; read it back, and prove that it is the same.

    \b
    Example:
      exitramp copy chroma:./db#articles qdrant:./new#articles
    """
    return _move(source, target, **_writing(options))


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--delete", is_flag=True, help="Delete from DST what SRC does not hold, after a second look by id.")
@click.option(
    "--max-deletes",
    type=click.IntRange(min=0),
    default=None,
    metavar="N",
    help="Stop before deleting more than N records.  [default: a tenth of DST]",
)
@click.option(
    "--allow-writes",
    multiple=True,
    metavar="ADDRESS",
    help="Allow writing to ADDRESS although it is not on this machine.",
)
@json_option
@store_options
def sync(
    source: str,
    target: str,
    delete: bool,
    max_deletes: int | None,
    allow_writes: tuple[str, ...],
    as_json: bool,
    **stores: Any,
) -> int:
    """Bring DST up to date with SRC: only what is missing, changed or (with consent) deleted is touched.

    Both sides are scanned completely. An empty SRC is refused.

    \b
    Example:
      exitramp sync chroma:./db#articles qdrant:./new#articles
    """
    from exitramp.migration import compare_endpoints, synchronise_endpoints
    from exitramp.records import Finding, Verdict
    from exitramp.wrappers import open_endpoint, require_write_allowed

    settings = open_settings(**stores)
    with open_endpoint(source, settings) as one, open_endpoint(target, settings) as other:
        require_write_allowed(other.address, allow_writes)
        bar = output.Progress("scan", None)
        done = synchronise_endpoints(one, other, delete=delete, maximum_deletes=max_deletes, progress=bar.at)
        after = compare_endpoints(one, other, progress=bar.at)
        bar.end()
    left_over = [
        Finding("sync.extra", each.message, None, each.ids, each.count)
        if each.code == "records.extra" and not delete
        else each
        for each in after.records.findings
    ]
    verdict = Verdict.worst([Verdict.PASS, *(each.verdict for each in left_over if each.verdict is not None)])
    findings = [*done.findings, *left_over]
    if as_json:
        output.emit_json(
            {
                "verdict": verdict.value,
                "rows": after.records.rows_a,
                "digests": after.records.digests_a.to_json(),
                "target_digests": after.records.digests_b.to_json(),
                "missing": done.missing,
                "changed": done.changed,
                "extra": done.extra,
                "upserted": done.upserted,
                "deleted": done.deleted,
                "findings": [each.to_json() for each in findings],
            }
        )
    else:
        output.say(f"{output.verdict_word(verdict)}  {done.upserted} written, {done.deleted} deleted")
        output.say_findings(findings)
    return output.exit_code(verdict)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def verify(folder: Path, as_json: bool) -> int:
    """Check the dump in DIR from its files alone: sizes, SHA-256, digests, ids, payload texts.

    Ends with exit code 4 and names the file when anything is not as it was written.

    \b
    Example:
      exitramp verify ./articles-dump
    """
    from exitramp.cli.verifying import verify_folder

    return verify_folder(folder, as_json=as_json)


def _writing(options: dict[str, Any]) -> dict[str, Any]:
    """Splits a writing command's options into those of the move and the settings of the stores."""
    own = {"into_existing", "verify", "state", "as_json", "accept_loss", "allow_writes", "dry_run"}
    stores = {name: value for name, value in options.items() if name not in own}
    return {name: options[name] for name in own} | {"settings": open_settings(**stores)}


def _move(
    source: str,
    target: str,
    *,
    as_json: bool,
    settings: OpenSettings,
    accept_loss: tuple[str, ...] = (),
    allow_writes: tuple[str, ...] = (),
    into_existing: bool = False,
    verify: bool = True,
    dry_run: bool = False,
    state: Path | None = None,
) -> int:
    from exitramp.migration import migrate, plan_move
    from exitramp.wrappers import open_endpoint, require_write_allowed

    with open_endpoint(source, settings) as one, open_endpoint(target, settings) as other:
        require_write_allowed(other.address, allow_writes)
        total = one.source().count()
        bars = {name: output.Progress(name, total) for name in ("measure", "copy", "verify", "compare")}
        if dry_run:
            found = plan_move(one, other, progress=bars["measure"].at)
            bars["measure"].end()
            found.require_consent(accept_loss)
            if as_json:
                output.emit_json(found.to_json() | {"dry_run": True, "digests": None})
            else:
                _say_plan(found)
                output.say("dry run: nothing was written")
            return output.exit_code(found.verdict)
        result = migrate(
            one,
            other,
            accept_loss=accept_loss,
            checkpoint=_checkpoint(one, other, state),
            into_existing=into_existing,
            verify=verify,
            progress=lambda what, rows: bars[what].at(rows),
        )
        for bar in bars.values():
            bar.end()
    if as_json:
        output.emit_json(result.to_json() | {"source": str(one.address), "target": str(other.address)})
    else:
        _say_move(result, str(other.address))
    return output.exit_code(result.verdict)


def _checkpoint(one: Endpoint, other: Endpoint, state: Path | None) -> Checkpoint | None:
    """Where an interrupted move keeps its place: a file named after the two addresses; a dump keeps its own."""
    from exitramp.transfer.checkpoint import FileCheckpoint

    if other.raw_sink().limits().verbatim and other.address.scheme == "dump":
        return None
    identity = {"source": str(one.address), "target": str(other.address)}
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode("utf-8")).hexdigest()[:16]
    return FileCheckpoint(state or Path(".exitramp") / f"transfer-{name}.jsonl", identity)


def _say_plan(found: Plan) -> None:
    exact_keys = [
        line for line in found.lines if line.subject.startswith("payload.") and line.fidelity.value == "exact"
    ]
    rows = [
        (line.fidelity.value, line.subject, "" if line.rows is None else f"{line.rows:,}", line.how)
        for line in found.lines
        if line not in exact_keys
    ]
    if exact_keys:
        # Hundreds of keys that are kept as they are would hide the few that are not.
        rows.append(("exact", f"payload: {len(exact_keys)} keys", "", "kept as they are"))
    output.say(output.table(rows, ("class", "what", "rows", "how")))
    estimates = found.estimates
    output.say(
        f"\n{found.rows:,} records, {(estimates['bytes'] or 0) / 1e6:,.1f} MB, {estimates['read_requests']} reads, "
        f"{estimates['write_requests']} writes; reading took {estimates['read_seconds']} s"
    )
    output.say_findings(found.findings)
    if found.lossy():
        names = " ".join(f"--accept-loss {line.subject}" for line in found.lossy())
        output.say(f"\nlossy lines need consent before anything is written: {names}")


def _say_move(result: MoveResult, target: str) -> None:
    output.say(f"{output.verdict_word(result.verdict)}  {result.rows:,} records → {target}")
    if result.copy.resumed:
        output.say("  went on where an earlier run had stopped")
    output.say(f"  ids       {result.digests.ids.hex}")
    output.say(f"  payloads  {result.digests.payloads.hex}")
    for column, digest in result.digests.vectors.items():
        output.say(f"  {column:<9} {digest.hex}")
    if result.target_digests is not None:
        differing = result.target_digests.differences(result.digests)
        output.say("  read back: " + ("the same digests" if not differing else f"differs in {', '.join(differing)}"))
    if result.parity is not None:
        output.say(f"  {result.parity.summary()}")
    output.say_findings(result.findings)
    seconds = max(result.copy_seconds, 1e-9)
    output.note(f"copied in {seconds:.1f} s ({result.copy.rows_read / seconds:,.0f} records/s)")
