"""Commands that look at, take out, put in and check collections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from exitramp.cli import output
from exitramp.cli.options import json_option, open_settings, store_options, write_options
from exitramp.errors import ExitCode
from exitramp.urls import path_address

PLACE = click.Path(readable=False, path_type=Path)
"""Whether it can be read is told by whoever reads it, with a next step."""


@click.command()
@click.argument("source", metavar="SRC")
@click.option(
    "--show-values",
    multiple=True,
    metavar="KEY",
    help="Show the value of this key of the collection's own metadata. May be repeated.  [default: none is shown]",
)
@json_option
@store_options
def inspect(source: str, show_values: tuple[str, ...], as_json: bool, **stores: Any) -> int:
    """What the collection at SRC holds: fields, metric, model, count, payload inventory, norms. Reads everything once.

    No payload value is shown: the inventory names keys, types and how many rows have them. Of what the store's user
    wrote down of the collection itself, the keys are shown.

    \b
    Example:
      exitramp inspect chroma:./db#articles
    """
    from exitramp.cli.inspecting import inspect_endpoint, say_inspection
    from exitramp.wrappers import open_endpoint

    with open_endpoint(source, open_settings(**stores)) as endpoint:
        bar = output.Progress("inspect", None)
        found = inspect_endpoint(endpoint, show_values=show_values, progress=bar.at)
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
    from exitramp.cli.moving import say_next, say_plan, with_target
    from exitramp.migration import plan_move
    from exitramp.wrappers import open_endpoint

    settings = open_settings(**stores)
    with open_endpoint(source, settings) as one, open_endpoint(target, settings) as other:
        bar = output.Progress("measure", None)
        found = with_target(plan_move(one, other, progress=bar.at), other)
        bar.end()
    if as_json:
        output.emit_json(found.to_json() | {"digests": None})
    else:
        say_plan(found)
        say_next(found, one.address, other.address)
    return output.exit_code(found.verdict)


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("folder", metavar="DIR", type=PLACE)
@json_option
@store_options
def dump(source: str, folder: Path, as_json: bool, **stores: Any) -> int:
    """Take the collection at SRC out into DIR: Parquet shards, a manifest, digests. A killed dump goes on where it was.

    \b
    Example:
      exitramp dump chroma:./db#articles ./articles-dump
    """
    from exitramp.cli.moving import move

    return move(source, path_address("dump", folder), as_json=as_json, settings=open_settings(**stores))


@click.command()
@click.argument("folder", metavar="DIR", type=PLACE)
@click.argument("target", metavar="DST")
@click.option("--into-existing", is_flag=True, help="Write among the records that DST already holds.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Read DST back and compare digests.")
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Where an interrupted run keeps its place.",
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
    from exitramp.cli.moving import move

    return move(path_address("dump", folder), target, **_split(options, _MOVE))


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--into-existing", is_flag=True, help="Write among the records that DST already holds.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Read DST back and compare digests.")
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Where an interrupted run keeps its place.",
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
    from exitramp.cli.moving import move

    return move(source, target, **_split(options, _MOVE))


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
@json_option
@write_options
@store_options
def sync(source: str, target: str, **options: Any) -> int:
    """Bring DST up to date with SRC: only what is missing, changed or (with consent) deleted is touched.

    SRC is measured first, and what DST would lose of it needs --accept-loss, as for a copy. Then both sides are scanned
    completely. An empty SRC is refused. Without --delete, records that only DST holds are left there and told of; the
    verdict is on the others.

    \b
    Example:
      exitramp sync chroma:./db#articles qdrant:./new#articles
    """
    from exitramp.cli.syncing import bring_up_to_date

    return bring_up_to_date(source, target, **_split(options, _SYNC))


@click.command()
@click.argument("folder", metavar="DIR", type=PLACE)
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


_MOVE = frozenset({"into_existing", "verify", "state", "as_json", "accept_loss", "allow_writes", "dry_run"})
_SYNC = frozenset({"delete", "max_deletes", "as_json", "accept_loss", "allow_writes", "dry_run"})


def _split(options: dict[str, Any], own: frozenset[str]) -> dict[str, Any]:
    """Splits a writing command's options into its `own` and the settings of the stores."""
    stores = {name: value for name, value in options.items() if name not in own}
    return {name: options[name] for name in own} | {"settings": open_settings(**stores)}
