"""What a request costs before and after, and what leaving costs once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from exitramp.drill.costing import price_book
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.steps.base import Step
from exitramp.evals.replay import Replay
from exitramp.finops.comparison import CostComparison, CostSummary, compare_costs, summarise_costs
from exitramp.finops.exit_cost import Egress, ExitCost, ParallelRun, Reembedding, VectorTraffic, exit_cost
from exitramp.finops.prices import MissingPrice, Price, PriceBook, Unit, plain
from exitramp.finops.unit_cost import Billed, Billing, request_costs
from exitramp.records import Finding, Verdict
from exitramp.wording import counted
from exitramp.yaml_reader import Block

STORE_ITEM = Billing().store_item
MONTHLY_REQUESTS = 100_000
"""Where the drill file does not say how many there are."""


@dataclass(frozen=True, slots=True)
class CostArguments:
    parallel_run_days: int

    def to_json(self) -> dict[str, Any]:
        return {"parallel_run_days": self.parallel_run_days}


def _cost(run: DrillRun, arguments: CostArguments) -> StepOutcome:
    book = price_book(run)
    before, after = run.shared.get("replay:baseline"), run.shared.get("replay:replay")
    if book is None or before is None or after is None:
        text = "cost was not compared: it takes a price book and both replays"
        return StepOutcome({}, (Finding("cost.unmeasured", text, Verdict.INCONCLUSIVE),), Verdict.INCONCLUSIVE)
    cap = run.spec.objectives.usd_per_request
    monthly = {side: _fixed(run, side, book) for side in ("primary", "substitute")}
    comparison = compare_costs(
        _summary(before, book, "primary"),
        _summary(after, book, "substitute"),
        monthly_requests=run.spec.data.monthly_requests or MONTHLY_REQUESTS,
        fixed_before=monthly["primary"],
        fixed_after=monthly["substitute"],
        cap_usd_per_request=Decimal(str(cap)) if cap is not None else None,
    )
    dumped = run.results.get("dump", {})
    leaving = exit_cost(
        book,
        day=run.clock.now().date(),
        egress=Egress(int(dumped.get("bytes", 0)), Billed(_provider(run, "primary"), STORE_ITEM)),
        reembedding=Reembedding(why_none="both stores take the same vectors; the embedding model stays"),
        parallel_run=ParallelRun(
            arguments.parallel_run_days,
            comparison.monthly.before_usd,
            comparison.monthly.after_usd,
            comparison.illustrative,
        ),
        read_out=VectorTraffic(int(dumped.get("rows", 0)), Billed(_provider(run, "primary"), STORE_ITEM)),
        load=VectorTraffic(int(dumped.get("rows", 0)), Billed(_provider(run, "substitute"), STORE_ITEM)),
    )
    findings = []
    if comparison.illustrative:
        text = "prices marked illustrative are made up: nobody charges them, and the figures show the method only"
        findings.append(Finding("cost.illustrative", text))
    gaps = dict.fromkeys(map(str, (*comparison.before.missing, *comparison.after.missing, *comparison.missing_fixed)))
    gaps |= dict.fromkeys(line.note for line in leaving.lines if line.usd is None and line.source == book.name)
    if gaps:
        text = f"prices are missing, and what rests on them is unknown: {'; '.join(gaps)}"
        findings.append(Finding("cost.missing_prices", text, count=len(gaps)))
    if run.spec.data.monthly_requests is None:
        text = (
            f"{counted(MONTHLY_REQUESTS, 'request')} a month are assumed: data.monthly_requests says how many there are"
        )
        findings.append(Finding("cost.assumed_requests", text))
    data = {
        "price_book": {"name": book.name, "sha256": book.sha256},
        "comparison": comparison.to_json(),
        "exit": leaving.to_json(),
        "prices_used": _prices_used(book, comparison, monthly, leaving),
    }
    return StepOutcome(data, tuple(findings), comparison.verdict)


def _summary(found: Replay, book: PriceBook, label: str) -> CostSummary:
    traces = [trace for result in found.results for trace in result.traces]
    return summarise_costs(request_costs(traces, book), label=label)


def _provider(run: DrillRun, stack: str) -> str:
    return run.stack(stack).store.address.scheme.partition("+")[0]


def _fixed(run: DrillRun, stack: str, book: PriceBook) -> list[Price | MissingPrice]:
    return [book.look_up(_provider(run, stack), STORE_ITEM, Unit.MONTH, day=run.clock.now().date())]


def _prices_used(
    book: PriceBook,
    comparison: CostComparison,
    monthly: Mapping[str, Iterable[Price | MissingPrice]],
    leaving: ExitCost,
) -> list[dict[str, Any]]:
    """Every row of the book that a figure rests on, in the book's order, with what it was used for.

    `used_for` holds `request:primary`, `month:substitute`, `exit:egress`: whoever checks a figure finds its prices.
    """
    used: dict[str, list[str]] = {}
    for side, summary in (("primary", comparison.before), ("substitute", comparison.after)):
        for price_id in summary.price_ids:
            used.setdefault(price_id, []).append(f"request:{side}")
        for price in monthly[side]:
            if isinstance(price, Price):
                used.setdefault(price.id, []).append(f"month:{side}")
    for line in leaving.lines:
        if line.price_id is not None:
            used.setdefault(line.price_id, []).append(f"exit:{line.name}")
    return [_row(price) | {"used_for": used[price.id]} for price in book.prices if price.id in used]


def _row(price: Price) -> dict[str, Any]:
    return {
        "id": price.id,
        "provider": price.provider,
        "item": price.item,
        "unit": price.unit.value,
        "amount": plain(price.amount),
        "source": price.source,
        "retrieved": price.retrieved.isoformat(),
        "valid_from": price.valid_from.isoformat(),
        "valid_to": price.valid_to.isoformat() if price.valid_to is not None else None,
        "illustrative": price.illustrative,
    }


def _parse(block: Block) -> CostArguments:
    return CostArguments(block.integer("parallel_run_days", 30, minimum=0))


COST = Step("cost", "cost of a request before and after, and of leaving once", _cost, _parse)
