"""Commands that look at, take out, put in and check collections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from exitramp.cli import output
from exitramp.cli.options import (
    choice_of,
    choice_options,
    every_option,
    json_option,
    limited,
    move_options,
    open_settings,
    reading_limits,
    store_options,
    write_options,
)
from exitramp.errors import AddressError, ExitCode
from exitramp.records import Verdict
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
@click.option(
    "--measure/--estimate",
    default=None,
    help="Read SRC once, or only say what it tells for nothing and what reading it would take.  [default: measure, but "
    "not where reading costs money]",
)
@choice_options
@reading_limits
@json_option
@store_options
def inspect(source: str, show_values: tuple[str, ...], measure: bool | None, as_json: bool, **stores: Any) -> int:
    """What the collection at SRC holds: fields, metric, model, count, payload inventory, norms. Reads everything once.

    Of a store that bills for reading no record is read unless --measure says so: shown is what the store tells for
    nothing (fields, metric, count, namespaces), and what reading it would take.

    No payload value is shown: the inventory names keys, types and how many rows have them. Of what the store's user
    wrote down of the collection itself, the keys are shown. Where SRC names a store and no collection, those that it
    holds are listed.

    \b
    Example:
      exitramp inspect chroma:./db
      exitramp inspect chroma:./db#articles
    """
    from exitramp.cli.estimating import reckoned
    from exitramp.cli.holdings import say_collections
    from exitramp.cli.inspecting import inspect_endpoint, look_at_endpoint, say_inspection
    from exitramp.cli.limits import nothing_kept
    from exitramp.cli.moving import choose
    from exitramp.wrappers import open_endpoint

    choice = choice_of(stores)
    source = limited(source, stores)
    with open_endpoint(source, open_settings(**stores)) as endpoint:
        reads = measure if measure is not None else endpoint.estimates() is None
        try:
            choose(endpoint, choice, reads=reads)
            endpoint.source().describe()
        except AddressError as error:
            return say_collections(endpoint, error, as_json=as_json)
        bar = output.Progress("inspect", None)
        reading = None if reads else reckoned(endpoint)
        if reading is not None:
            found = look_at_endpoint(endpoint, reading, show_values=show_values)
        else:
            with nothing_kept():
                found = inspect_endpoint(endpoint, show_values=show_values, progress=bar.at)
        bar.end()
    if as_json:
        output.emit_json(found)
    else:
        say_inspection(found, reading)
    # Of a store that charges nothing was to be read, and nothing is in doubt that was asked for.
    return output.exit_code(Verdict(found["verdict"])) if reading is None else int(ExitCode.PASS)


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option(
    "--measure/--estimate",
    default=None,
    help="Read SRC and measure it, or only reckon what reading it takes, from the store's own counts.  [default: "
    "measure, but not where reading costs money]",
)
@every_option
@choice_options
@json_option
@store_options
def plan(source: str, target: str, measure: bool | None, every: bool, as_json: bool, **stores: Any) -> int:
    """What a copy from SRC to DST would keep exactly, keep another way, round or lose. Reads SRC, writes nothing.

    Of a store that bills for reading nothing is read unless --measure says so: what reading takes (requests, units,
    hours, gigabytes, money) is reckoned from its own counts. What becomes of its records nobody knows then: the verdict
    is inconclusive, and the exit code 3, so that no script takes it for a plan.

    A line that is lossy needs --accept-loss with its name before a copy will start.

    With --all, both are addresses without a collection, and planned is what 'copy --all' would do with each.

    \b
    Example:
      exitramp plan chroma:./db#articles qdrant:./new#articles
      exitramp plan chroma:./db qdrant:./new --all
    """
    from exitramp.cli.planning import planned
    from exitramp.wrappers import open_endpoint

    choice = choice_of(stores)
    settings = open_settings(**stores)
    if every:
        from exitramp.cli.whole import plan_every

        return plan_every(source, target, measure=measure, as_json=as_json, settings=settings, choice=choice)
    with open_endpoint(source, settings) as one, open_endpoint(target, settings) as other:
        done = planned(one, other, choice, measure=measure)
    if as_json:
        output.emit_json(done.told)
    else:
        done.say()
    return output.exit_code(done.verdict)


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("folder", metavar="DIR", type=PLACE)
@every_option
@choice_options
@reading_limits
@json_option
@store_options
def dump(source: str, folder: Path, every: bool, as_json: bool, **stores: Any) -> int:
    """Take the collection at SRC out into DIR: Parquet shards, a manifest, digests. A killed dump goes on where it was.

    So does one that a limit of reading ended, with exit code 5: the same command again pays for nothing twice.

    With --all, SRC is an address without a collection, and DIR gets the dump of each of them, with one manifest above
    theirs. The address dump:DIR#NAME is then one of them, and dump:DIR all.

    \b
    Example:
      exitramp dump chroma:./db#articles ./articles-dump
      exitramp dump chroma:./db ./server-dump --all
    """
    from exitramp.cli.moving import move

    choice = choice_of(stores)
    source = limited(source, stores)
    settings = open_settings(**stores)
    if every:
        from exitramp.cli.whole import dump_every

        return dump_every(source, folder, as_json=as_json, settings=settings, choice=choice)
    return move(source, path_address("dump", folder), as_json=as_json, settings=settings, choice=choice)


@click.command()
@click.argument("folder", metavar="DIR", type=PLACE)
@click.argument("target", metavar="DST")
@move_options
@json_option
@write_options
@store_options
def restore(folder: Path, target: str, every: bool, **options: Any) -> int:
    """Put the dump in DIR into DST, read it back, and prove that it is the same.

    With --all, DIR is what 'dump --all' made, and DST an address without a collection.

    \b
    Example:
      exitramp restore ./articles-dump qdrant:./new#articles
      exitramp restore ./server-dump qdrant:./new --all
    """
    return _move(path_address("dump", folder), target, every, options)


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@move_options
@reading_limits
@json_option
@write_options
@store_options
def copy(source: str, target: str, every: bool, **options: Any) -> int:
    """Copy the collection at SRC to DST, without a dump between; read it back, and prove that it is the same.

    With --all, both are addresses without a collection, and each collection goes to one of its own name, or where DST
    does not take that name, to one that is made of it and leads back to it.

    With a limit of reading, SRC is read once, over as many runs as it takes, into a dump beside the --state file. When
    that is whole it is put into DST and removed.

    \b
    Example:
      exitramp copy chroma:./db#articles qdrant:./new#articles
      exitramp copy chroma:./db qdrant:./new --all
    """
    return _move(limited(source, options), target, every, options)


def _move(source: str, target: str, every: bool, options: dict[str, Any]) -> int:
    split = options.pop("split_namespaces")
    options["choice"] = choice_of(options)
    if split:
        from exitramp.cli.splitting import move_split

        return move_split(source, target, every=every, **_split(options, _MOVE))
    if every:
        from exitramp.cli.whole import move_every

        return move_every(source, target, **_split(options, _MOVE))
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
@choice_options
@reading_limits
@json_option
@write_options
@store_options
def sync(source: str, target: str, **options: Any) -> int:
    """Bring DST up to date with SRC: only what is missing, changed or (with consent) deleted is touched.

    SRC is measured first, and what DST would lose of it needs --accept-loss, as for a copy. Then both sides are scanned
    completely; where a limit of reading ends that, nothing is kept of what was read. An empty SRC is refused. Without
    --delete, records that only DST holds are left there and told of; the verdict is on the others.

    \b
    Example:
      exitramp sync chroma:./db#articles qdrant:./new#articles
    """
    from exitramp.cli.limits import limited_pair, nothing_kept
    from exitramp.cli.syncing import bring_up_to_date

    options["choice"] = choice_of(options)
    source, target = limited_pair(source, target, options)
    with nothing_kept():
        return bring_up_to_date(source, target, **_split(options, _SYNC))


@click.command()
@click.argument("folder", metavar="DIR", type=PLACE)
@json_option
def verify(folder: Path, as_json: bool) -> int:
    """Check the dump in DIR from its files alone: sizes, SHA-256, digests, ids, payload texts.

    Of a whole server's dump every collection is checked, and that none is missing or was replaced.

    Ends with exit code 4 and names the file when anything is not as it was written.

    \b
    Example:
      exitramp verify ./articles-dump
    """
    from exitramp.cli.verifying import verify_folder

    return verify_folder(folder, as_json=as_json)


_WRITE = frozenset({"choice", "as_json", "accept_loss", "allow_writes", "dry_run"})
_MOVE = _WRITE | {"into_existing", "verify", "state"}
_SYNC = _WRITE | {"delete", "max_deletes"}


def _split(options: dict[str, Any], own: frozenset[str]) -> dict[str, Any]:
    """Splits a writing command's options into its `own` and the settings of the stores."""
    stores = {name: value for name, value in options.items() if name not in own}
    return {name: options[name] for name in own} | {"settings": open_settings(**stores)}
