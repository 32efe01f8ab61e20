"""`exitramp cost`: what requests cost, from their traces and a price book."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exitramp.cli import output
from exitramp.cli.options import json_option
from exitramp.errors import ExitCode, UsageError
from exitramp.wording import counted

if TYPE_CHECKING:
    from decimal import Decimal

    from exitramp.finops.comparison import CostSummary
    from exitramp.records import TraceRecord

_ALL = "all"
_EVERY = "every use case"
"""What the last column is called where a use case is called `all`, as `eval bootstrap` leaves them."""


@click.group()
def cost() -> None:
    """What requests cost, by part, from their traces and a price book.

    \b
    Example:
      exitramp cost unit traces.jsonl --prices prices.yaml
    """


@cost.command()
@click.argument("traces", metavar="TRACES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--prices", required=True, type=click.Path(path_type=Path), help="Price book.")
@click.option("--with-evals", is_flag=True, help="Count the calls of evals too, which are not the application's.")
@json_option
def unit(traces: tuple[Path, ...], prices: Path, with_evals: bool, as_json: bool) -> int:
    """The mean cost of a request by part and use case: input, generation, retrieval, rerank, vector reads and writes,
    orchestration, people.

    TRACES are files of traces (.jsonl, .parquet) or folders of them, as a stack file's `trace` writes them. What a
    request asked of models beside its answer is part of it. An answer from a cache is a request too. Calls that
    an eval made (`eval run --stack` writes into the stack file's traces too) are left out and counted apart, and what
    stands in two files is counted once. With a price missing the cost is unknown, and the exit code 3.

    \b
    Example:
      exitramp cost unit traces.jsonl --prices prices.yaml
    """
    from exitramp.finops.comparison import summarise_costs
    from exitramp.finops.gathering import gather
    from exitramp.finops.prices import load_price_book
    from exitramp.finops.unit_cost import request_costs

    book = load_price_book(_file(prices))
    found = gather((record for path in traces for record in _records(path)), with_evals=with_evals)
    costs = request_costs(found.records, book)
    if not costs and found.evals:
        calls = counted(found.evals, "call of these traces is", "calls of these traces are all")
        raise UsageError(f"{calls} an eval's, and none the application's", hint="count them by --with-evals")
    if not costs:
        raise UsageError("there is no request in these traces", hint="name a file that a stack file's 'trace' wrote")
    names = sorted({each.use_case_id for each in costs})
    groups = {name: summarise_costs([each for each in costs if each.use_case_id == name], label=name) for name in names}
    whole = summarise_costs(costs, label=_ALL if _ALL not in names else _EVERY)
    if as_json:
        use_cases = {name: _json(each) for name, each in groups.items()}
        told = {"price_book": {"name": book.name, "sha256": book.sha256}, **_json(whole), "by_use_case": use_cases}
        output.emit_json(told | {"eval_calls_left_out": found.evals, "copies_left_out": found.copies})
    else:
        _say(groups, whole)
        if found.evals:
            calls = counted(found.evals, "call of an eval is", "calls of evals are")
            output.say(f"\n{calls} left out, which the application did not make; --with-evals counts them too")
        if found.copies:
            output.say(f"\n{counted(found.copies, 'record stands', 'records stand')} there twice, and counted once")
    return int(ExitCode.INCONCLUSIVE if whole.missing else ExitCode.PASS)


def _say(groups: dict[str, CostSummary], whole: CostSummary) -> None:
    from exitramp.finops.unit_cost import CostPart

    columns = [*groups.values(), whole] if len(groups) > 1 else [whole]
    rows: list[tuple[str, ...]] = [("requests", *(f"{each.overall.requests:,}" for each in columns))]
    for part in CostPart:
        rows.append((part.value.replace("_", " "), *(_usd(each.part_means_usd[part]) for each in columns)))
    for name, get in (("a request, mean", "mean_usd"), ("half at most", "p50_usd"), ("95% at most", "p95_usd")):
        rows.append((name, *(_usd(getattr(each.overall, get)) for each in columns)))
    rows.append(("together", *(_usd(each.total_usd) for each in columns)))
    labels = [each.label for each in columns] if len(groups) > 1 else list(groups)
    output.say(output.table(rows, ("USD", *labels)))
    if whole.possibly_billed:
        output.say(f"\npossibly billed without an answer: {whole.possibly_billed:,} requests; what for is not known")
    if whole.illustrative:
        output.say("\nsome prices are marked illustrative: nobody charges them")
    if whole.missing:
        output.say("\nprices are missing, and what rests on them is unknown:")
        for gap in whole.missing:
            output.say(f"  {gap}")


def _usd(amount: Decimal | None) -> str:
    return "unknown" if amount is None else f"{amount:f}"


def _json(summary: CostSummary) -> dict[str, Any]:
    found = summary.to_json()
    return {name: value for name, value in found.items() if name not in ("label", "use_cases")}


def _records(path: Path) -> Iterator[TraceRecord]:
    """Those of a file, or of every file of a folder: finished parts and what is not in one of them yet."""
    from exitramp.orchestration.trace import read_parquet, read_traces
    from exitramp.orchestration.trace_files import UNDER_WAY

    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix in (".jsonl", ".parquet"))
        if not files:
            raise UsageError(f"there are no traces in {path}", hint="it holds neither .jsonl nor .parquet files")
        # What is under way may stand in a part already, after a kill between writing the one and deleting the other.
        seen: set[tuple[str, int]] = set()
        for each in sorted(files, key=lambda file: (file.name == UNDER_WAY, file.name)):
            if each.name.endswith(".prompts.jsonl"):
                continue
            for record in _records(each):
                key = (record.request_id, record.attempt)
                if each.name != UNDER_WAY or key not in seen:
                    yield record
                seen.add(key)
        return
    _file(path)

    def tell(line: int) -> None:
        output.note(f"{path}:{line}: the last line is torn and is left out: what that call cost is not counted")

    yield from read_parquet(path) if path.suffix == ".parquet" else read_traces(path, on_torn=tell)


def _file(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"there is no file {path}", hint="check the path")
    return path
