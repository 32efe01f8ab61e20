"""`exitramp compare`: parity of two collections."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exitramp.cli import output
from exitramp.cli.options import (
    NumberRange,
    choice_of,
    choice_options,
    consent_option,
    every_option,
    json_option,
    open_settings,
    reading_limits,
    store_options,
)
from exitramp.errors import UsageError
from exitramp.wording import counted

if TYPE_CHECKING:
    from exitramp.migration import Comparison
    from exitramp.records import Finding
    from exitramp.wrappers import Endpoint

IDS_FILE = Path("compare-ids.jsonl")
PROPOSED_FILTERS = 3
"""So many filters are worked out from A's own payloads where the user names none."""


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--tolerance",
    multiple=True,
    metavar="COLUMN=…",
    help="How near a vector must be: exact, ulp:N, cosine:X,l2:Y or direction.  [default: what the two stores do]",
)
@consent_option
@click.option(
    "--ids",
    "ids_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=IDS_FILE,
    show_default=True,
    help="Where every differing id is written; made only if there is one.",
)
@click.option(
    "--neighbours/--no-neighbours",
    default=True,
    show_default=True,
    help="Compare what the two indexes answer, against exact truth.",
)
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME",
    help="Compare neighbours of this vector field only, by name ('' is the unnamed one) or by column, e.g. "
    "sparse:words. May be repeated.  [default: all]",
)
@click.option("--queries", type=click.IntRange(min=1), default=200, show_default=True, help="Queries to ask.")
@click.option("--k", type=click.IntRange(min=1), default=10, show_default=True, help="Neighbours per query.")
@click.option(
    "--recall-floor",
    type=NumberRange(0, 1),
    default=0.95,
    show_default=True,
    help="Recall that B's lower bound must reach.",
)
@click.option(
    "--where",
    multiple=True,
    metavar="JSON",
    help='Compare filtered neighbours too, e.g. {"eq": {"field": "package", "value": "numpy"}}: see docs/filters.md. '
    "May be repeated.",
)
@click.option(
    "--filters/--no-filters",
    "filtered",
    default=True,
    show_default=True,
    help="Without --where, compare neighbours under up to three filters worked out from A's payloads.",
)
@click.option("--exact", is_flag=True, help="Ask both indexes for exact search, where they have it.")
@click.option(
    "--show-values",
    multiple=True,
    metavar="FIELD",
    help="Show differing values of this payload key (or 'document') of the first 20 records. Otherwise none is shown.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the sample of queries.")
@every_option
@choice_options
@reading_limits
@json_option
@store_options
def compare(
    a: str,
    b: str,
    every: bool,
    tolerance: tuple[str, ...],
    accept_loss: tuple[str, ...],
    ids_file: Path,
    neighbours: bool,
    fields: tuple[str, ...],
    queries: int,
    k: int,
    recall_floor: float,
    where: tuple[str, ...],
    filtered: bool,
    exact: bool,
    show_values: tuple[str, ...],
    seed: int,
    as_json: bool,
    **stores: Any,
) -> int:
    """Whether A and B hold the same records and answer alike. Reads both completely, writes nothing to them.

    First records (missing, extra, changed), then neighbours of every vector field, dense, sparse or a list of vectors:
    what each index finds, against exact truth computed from A's own data, without a filter and under those of --where
    (without it, under up to three filters worked out from A's own payloads: an equality, a range, a set). "The data
    differ" and "the index answers differently" are different findings. A side that has no index (a dump) is compared by
    its records alone, and a field that a side does not search leaves the comparison inconclusive.

    With what settings each side is searched stands in its address, ?search=ef:128 or ?search=exact, and in the result
    beside what the store does by itself.

    With --all, A and B are addresses without a collection, and each of A's is compared with the one that a copy of it
    would be in B.

    Where B is a copy of A that was made with --accept-loss, give the same here: a plan of the way from A to B is made
    again, and what it announces may differ, and no more. Neighbours are judged by A's metric all the same.

    \b
    Example:
      exitramp compare dump:./articles-dump qdrant:./new#articles
    """
    from exitramp.cli.limits import limited_pair, nothing_kept
    from exitramp.cli.moving import Moved, arrange, choose
    from exitramp.cli.place import require_room
    from exitramp.migration import announced_tolerances, compare_endpoints, excused_metrics, metrics_held, plan_move
    from exitramp.migration.search_settings import require_search_settings
    from exitramp.parity.tolerance import parse_tolerances
    from exitramp.wrappers import open_endpoint

    filters = [_filter(number, text) for number, text in enumerate(where, 1)]
    choice = choice_of(stores)
    a, b = limited_pair(a, b, stores)
    settings = open_settings(**stores)
    if choice.namespaces is not None and neighbours:
        raise UsageError("a search is of all namespaces, and --namespace means some", hint="add --no-neighbours")
    if ids_file != IDS_FILE:  # the usual one is only made where there is a difference
        require_room(ids_file, "--ids")

    def pair(one: Endpoint, other: Endpoint, ids: Path) -> Moved:
        choose(one, choice)
        arrange(other, choice)
        other.within(choice.namespaces)
        _require_fields(one.source().describe(), fields)
        bar = output.Progress("compare", None)
        given, plan = parse_tolerances(tolerance), None
        if accept_loss:
            for each in (one, other):
                require_search_settings(each)  # before the plan reads as well
            held = metrics_held(one.source().describe().vectors, other.source().describe().vectors)
            plan = plan_move(one, other, metrics=held, progress=bar.at)
            plan.require_known(accept_loss)
            given = {**announced_tolerances(plan, accept_loss), **given}
        result = compare_endpoints(one, other, given=given, ids_file=ids, show_values=show_values, progress=bar.at)
        result.findings = excused_metrics(result.findings, plan, accept_loss, other.source().describe().vectors)
        if neighbours:
            _ask_neighbours(
                result, one, other, fields=fields, queries=queries, k=k, recall_floor=recall_floor, filters=filters,
                proposed=PROPOSED_FILTERS if filtered and not filters else 0, exact=exact, seed=seed,
            )  # fmt: skip
        bar.end()
        told = result.to_json() | {"accepted": list(accept_loss)}
        return Moved(result.verdict, told, lambda: _say(result))

    if every:
        from exitramp.cli.whole import compare_every

        return compare_every(a, b, lambda one, other, ids: pair(one, other, ids), ids_file, settings, as_json=as_json)
    with nothing_kept(), open_endpoint(a, settings) as one, open_endpoint(b, settings) as other:
        done = pair(one, other, ids_file)
    if as_json:
        output.emit_json(done.told)
    else:
        done.say()
    return output.exit_code(done.verdict)


def _filter(number: int, text: str) -> tuple[str, Any]:
    from exitramp.filters import And, Not, Or, leaves, parse_filter
    from exitramp.migration import key_text

    try:
        data = json.loads(text)
    except ValueError as error:
        raise UsageError(
            "--where is not JSON", hint='write e.g. --where \'{"eq": {"field": "package", "value": "numpy"}}\''
        ) from error
    where = parse_filter(data)
    operator = next(iter(data))
    keys = [] if isinstance(where, And | Or | Not) else [key_text(leaf.field) for leaf in leaves(where)]
    return output.visible(":".join([f"where-{number}", operator, *keys])), where


def _require_fields(spec: Any, fields: tuple[str, ...]) -> None:
    """Raises `UsageError` before anything is compared."""
    from exitramp.migration import asked_fields

    if fields:
        try:
            asked_fields(spec, fields)
        except UsageError as error:
            raise UsageError(f"--field: {error.message} in A", hint=error.hint) from error


def _ask_neighbours(result: Comparison, one: Any, other: Any, **options: Any) -> None:
    from exitramp.errors import RoleUnsupported
    from exitramp.migration import asked_fields, asked_settings, unmatched
    from exitramp.parity.neighbour_result import Demands
    from exitramp.parity.neighbours import compare_neighbours
    from exitramp.ports import SearchSettings
    from exitramp.records import Finding

    def search(endpoint: Any) -> Any:
        try:
            return endpoint.search()
        except RoleUnsupported:
            return None

    asked = SearchSettings(exact=options["exact"])
    result.settings = asked_settings(one, asked), asked_settings(other, asked)
    search_b = search(other)
    if search_b is None:
        result.findings.append(Finding("neighbours.no_index", f"{other.address} has no index to ask; records only"))
        return
    found = [
        compare_neighbours(
            one.source(),
            other.source(),
            search(one),
            search_b,
            queries=options["queries"],
            k=options["k"],
            seed=options["seed"],
            field=field.name,
            kind=field.kind,
            filters=options["filters"],
            proposed=options["proposed"],
            demands=Demands(recall_floor=options["recall_floor"]),
            settings=asked,
            records=result.records.verdict,
            missing=result.missing,
        )
        for field in asked_fields(one.source().describe(), options["fields"])
    ]
    result.neighbours, result.further_neighbours = found[0], found[1:]
    result.findings += unmatched(one.source(), dict(options["filters"]), found[0])


def _say(result: Comparison) -> None:
    records = result.records
    output.say(records.summary())
    output.say(
        f"{output.verdict_word(result.verdict)}  A {counted(records.rows_a, 'record')}, B {records.rows_b:,}, "
        f"{records.compared:,} on both sides"
    )
    for each in records.fields:
        output.say(
            f"  {each.column}: {each.bit_equal:,} of {each.rows:,} bit for bit, {each.beyond:,} beyond the tolerance "
            f"({each.tolerance.source}), greatest difference {each.max_abs:.3g}"
        )
    if records.paths:
        rows = [
            (path, ", ".join(f"{kind} {count}" for kind, count in kinds.items()))
            for path, kinds in sorted(records.paths.items())
        ]
        output.say(output.table(rows, ("payload path", "differences")))
    if records.values:
        values = [
            (output.visible(value.id, output.ID_WIDTH), value.field, value.a or "(none)", value.b or "(none)")
            for value in records.values
        ]
        output.say(output.table(values, ("id", "field", "A", "B")))
    for neighbours in result.all_neighbours():
        for line in neighbours.lines():
            output.say(line)
    for side, told in zip("AB", result.settings, strict=True):
        if result.neighbours is not None and told is not None and told.text():
            output.say(f"  {side} was searched with {output.visible(told.text())}")
    findings = result.all_findings()
    output.say_findings(findings)
    for step in dict.fromkeys(filter(None, map(_step, findings))):
        output.say(f"  next: {output.visible(step)}")
    if result.ids_file is not None:
        output.note(f"every differing id is in {result.ids_file}")


def _step(finding: Finding) -> str | None:
    """What to do about a finding, where something can be."""
    if finding.code == "collection.metric" and finding.verdict is not None:
        column = finding.message.partition(": ")[0]
        return f"if that was accepted, add --accept-loss {shlex.quote(f'metric:{column}')}"
    step: str | None = finding.detail.get("next")
    return step
