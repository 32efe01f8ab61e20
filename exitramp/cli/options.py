"""Options that several commands share, and how their values become settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from exitramp.errors import UsageError

if TYPE_CHECKING:
    from exitramp.codec import IdMap
    from exitramp.wrappers import OpenSettings

F = TypeVar("F", bound=Callable[..., Any])


def _stack(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    return lambda function: reduce(lambda found, decorator: decorator(found), reversed(decorators), function)


class NumberRange(click.FloatRange):
    """Numbers within bounds, of which NaN is none: it is neither below nor above any. Nor is a number beyond
    `GREATEST`, which no clock knows."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number) or number > GREATEST:
            self.fail(f"{value} is no number up to {GREATEST:,.0f}.", param, ctx)
        return number


GREATEST = 1_000_000.0

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")

store_options = _stack(
    click.option(
        "--timeout",
        "timeout_seconds",
        type=NumberRange(min=0.1),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="Deadline of a single store call.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(min=0),
        default=2,
        show_default=True,
        help="How often a failed call is tried again.",
    ),
    click.option(
        "--rate",
        type=NumberRange(min=0.01),
        default=None,
        metavar="N",
        help="At most N calls a second to each store.",
    ),
    click.option(
        "--ca-bundle",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        default=None,
        help="Certificates to trust instead of the system's.",
    ),
    click.option("--proxy", default=None, metavar="URL", help="Proxy for stores that are not on this machine."),
)

choice_options = _stack(
    click.option(
        "--layout",
        type=click.Choice(["langchain", "llama-index", "plain"]),
        default=None,
        help="Whose records these are: each store is read and written as that framework does it there.",
    ),
    click.option(
        "--namespace",
        "namespace",
        multiple=True,
        metavar="NAME",
        help="Only the records of this namespace (tenant, partition). May be repeated.  [default: of all]",
    ),
    click.option(
        "--no-namespace", is_flag=True, help="Only the records that are in no namespace; with --namespace, these too."
    ),
    click.option(
        "--id-map",
        type=click.Path(dir_okay=False, path_type=Path),
        default=None,
        metavar="FILE",
        help="Other ids for the records that are read: a CSV, JSON-lines or Parquet file with columns from and to.",
    ),
    click.option(
        "--id-map-back",
        "id_map_backwards",
        type=click.Path(dir_okay=False, path_type=Path),
        default=None,
        metavar="FILE",
        help="The same, from its column to to its column from: the way back.",
    ),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which records are meant, and under which ids: `namespaces` None are all, `ids` None are their own. And as
    which framework keeps them. `words` say it again on another command's line."""

    namespaces: frozenset[str | None] | None = None
    ids: IdMap | None = None
    layout: str | None = None
    words: tuple[str, ...] = ()


EVERYTHING = Choice()


def choice_of(options: dict[str, Any]) -> Choice:
    """What the options say, which are taken out of `options`. Raises `ConfigError` for a map that is none."""
    named: set[str | None] = set(options.pop("namespace"))
    if options.pop("no_namespace"):
        named.add(None)
    path, backwards = options.pop("id_map"), options.pop("id_map_backwards")
    layout = options.pop("layout")
    words = [word for each in sorted(named - {None}, key=str) for word in ("--namespace", str(each))]
    words += ["--no-namespace"] if None in named else []
    words += ["--layout", layout] if layout is not None else []
    if path is None and backwards is None:
        return Choice(frozenset(named) or None, None, layout, tuple(words))
    if path is not None and backwards is not None:
        raise UsageError("--id-map and --id-map-back are two directions", hint="leave one out")
    from exitramp.codec import read_id_map

    words += ["--id-map" if path is not None else "--id-map-back", str(path or backwards)]
    ids = read_id_map(path or backwards, backwards=path is None)
    return Choice(frozenset(named) or None, ids, layout, tuple(words))


reading_limits = _stack(
    click.option(
        "--limit", type=click.IntRange(min=1), default=None, metavar="N", help="Stop before reading more records."
    ),
    click.option(
        "--max-read-units", type=click.IntRange(min=1), default=None, metavar="N",
        help="Stop before the vendor's units of reading exceed this.",
    ),
    click.option(
        "--max-usd", type=NumberRange(min=0.0), default=None, metavar="USD",
        help="Stop before reading costs more, at the price that the plan names.",
    ),
    click.option(
        "--max-minutes", type=NumberRange(min=0.0), default=None, metavar="N",
        help="Stop before reading takes longer.",
    ),
)  # fmt: skip
LIMITS = ("limit", "max_read_units", "max_usd", "max_minutes")


def limited(source: str, options: dict[str, Any]) -> str:
    """The address of a source with the limits that were given, which are taken out of `options`.

    Raises `UsageError` for a store that counts nothing of the kind.
    """
    given = {name: value for name in LIMITS if (value := options.pop(name)) is not None}
    if not given:
        return source
    from dataclasses import replace

    from exitramp.registry import store_adapter
    from exitramp.wrappers.opening import parse_address

    address = parse_address(source)
    if not store_adapter(address.scheme).counts_reading:
        option = next(iter(given)).replace("_", "-")
        raise UsageError(f"--{option}: {address.scheme} counts no reading, so nothing can be limited by it")
    said = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in given.items()}
    return replace(address, options={**address.options, **said}).text


every_option = click.option("--all", "every", is_flag=True, help="Every collection there is, each under its own name.")

move_options = _stack(
    every_option,
    choice_options,
    click.option(
        "--split-namespaces",
        is_flag=True,
        help="A collection for each namespace, COLLECTION--NAMESPACE, for stores that keep tenants apart like that.",
    ),
    click.option("--into-existing", is_flag=True, help="Write among the records that DST already holds."),
    click.option("--verify/--no-verify", default=True, show_default=True, help="Read DST back and compare digests."),
    click.option(
        "--state",
        type=click.Path(dir_okay=False, path_type=Path),
        default=None,
        help="Where an interrupted run keeps its place.",
    ),
)

consent_option = click.option(
    "--accept-loss",
    multiple=True,
    metavar="FIELD",
    help="Accept that FIELD (as the plan names it) loses something. May be repeated.",
)

write_options = _stack(
    consent_option,
    click.option(
        "--allow-writes",
        multiple=True,
        metavar="ADDRESS",
        help="Allow writing to ADDRESS although it is not on this machine.",
    ),
    click.option("--dry-run", is_flag=True, help="Read and plan, but write nothing."),
)


def open_settings(
    *, timeout_seconds: float, retries: int, rate: float | None, ca_bundle: Path | None, proxy: str | None
) -> OpenSettings:
    """The settings behind `store_options`."""
    from exitramp.backoff import Backoff
    from exitramp.urls import Network
    from exitramp.wrappers import OpenSettings

    return OpenSettings(
        timeout_seconds=timeout_seconds,
        backoff=Backoff(tries=retries + 1),
        calls_per_second=rate,
        network=Network(proxy=proxy, ca_bundle=ca_bundle, timeout_seconds=timeout_seconds),
    )
