"""Asking every case of a set, in several threads, and keeping what came of it durably one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from exitramp.clock import Clock, SystemClock
from exitramp.evals.measuring import Measurer
from exitramp.evals.runs.answerers import StandIn, answerers_of
from exitramp.evals.runs.folder import COMPLETE, RUNNING, STOPPED, Place, RunFolder
from exitramp.evals.runs.questioning import Answered, Asking, Questions
from exitramp.evals.runs.replay_cache import ReplayCache
from exitramp.evals.runs.resuming import settle_lost
from exitramp.evals.runs.spending import Allowance, Spent
from exitramp.evals.runs.subject import Subject
from exitramp.evals.runs.tracing import RunTraces, request_id
from exitramp.evals.sets.case import Case
from exitramp.orchestration.trace import TraceWriter, read_traces

_USUAL: Final = Asking()


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended: `state` is `complete` or `stopped`, with why."""

    state: str
    totals: dict[str, Any]
    asked_now: int
    stopped_by: str | None = None
    stand_ins: tuple[StandIn, ...] = ()


def run_set(
    cases: Sequence[Case],
    subject: Subject,
    folder: RunFolder,
    measurer: Measurer,
    *,
    asking: Asking = _USUAL,
    allowance: Allowance | None = None,
    cache: ReplayCache | None = None,
    clock: Clock | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    is_sent: Callable[[str], bool] = lambda key: True,
) -> Finished:
    """Ask what has no result yet. Raises whatever is no `ModelError`; the folder then holds what was recorded.

    is_sent: whether a question, by its idempotency key, was put to a model, and not answered from a recording.
    """
    clock = clock or SystemClock()
    allowance = allowance or Allowance(clock)
    measurer.require(cases)
    with TraceWriter(folder.traces) as writer:
        traces = RunTraces(writer, clock, _attempts(folder), folder.run_id)
        work = Questions(
            subject,
            measurer,
            traces,
            asking,
            cache,
            clock,
            folder.run_id,
            is_sent,
            allowance.covers,
            folder.bills.was_answered,
            allowance.covers_more,
        )
        settle_lost({case.id: case for case in cases}, work, folder, allowance)
        places = list(_left(cases, folder, asking))
        total = len(cases) * asking.repeats
        stopped = _ask_all(places, work, folder, allowance, lambda: progress(len(folder.results), total))
    done = len(folder.results) == total
    state = COMPLETE if done else STOPPED
    totals = totals_of(folder, allowance)
    if stopped is not None:
        totals["stopped_by"] = stopped
    folder.end(state if stopped or done else RUNNING, totals)
    found = answerers_of(folder.results.values(), folder.plan.get("subject", {}))
    return Finished(state, totals, work.asked, stopped, found.stand_ins)


def totals_of(folder: RunFolder, allowance: Allowance) -> dict[str, Any]:
    """Counts and sums over a run's results, errors of providers and of stores, truncations and wrong answers each
    by themselves."""
    results = list(folder.results.values())
    outcomes = Counter(result.outcome or "unlabelled" for result in results)
    values: dict[str, list[float]] = {}
    for result in results:
        for name, value in result.values.items():
            values.setdefault(name, []).append(value)
    bills = folder.bills
    unpriced = sum(result.data.get("usd") is None for result in results)
    return {
        "results": len(results),
        "outcomes": dict(sorted(outcomes.items())),
        "error_classes": dict(sorted(Counter(each.error_class for each in results if each.error_class).items())),
        **answerers_of(results, folder.plan.get("subject", {})).to_json(),
        "store_said": sorted({each.data["store_said"] for each in results if "store_said" in each.data}),
        "asked_of_nobody": sum(each.data.get("was_asked") is False for each in results),
        "unscored": {
            why: sorted({each.case_id for each in results if why in each.unscored_for})
            for why in sorted({why for each in results for why in each.unscored_for})
        },
        "means": {name: sum(found) / len(found) for name, found in sorted(values.items())},
        "measured": {name: len(found) for name, found in sorted(values.items())},
        "prompt_tokens": sum(result.data["prompt_tokens"] for result in results),
        "gen_tokens": sum(result.data["gen_tokens"] for result in results),
        "usd": str(bills.usd) if bills.priced else None,
        "usd_held": str(bills.held_usd) if bills.priced else None,
        "unpriced_results": unpriced,
        "unpriced_lost": bills.lost_unpriced,
        "prices_missing": sorted({gap for result in results for gap in result.data.get("prices_missing", ())}),
        "replayed": sum(bool(result.data["replayed"]) for result in results),
        "possibly_billed_twice": [list(place) for place in folder.lost],
    }


def _left(cases: Sequence[Case], folder: RunFolder, asking: Asking) -> Iterator[tuple[Case, Place]]:
    """What is to be asked: the first repeat of every case, then the second, so that a run cut short has all cases."""
    for repeat in range(1, asking.repeats + 1):
        for case in cases:
            found = folder.results.get((case.id, repeat))
            if found is None or (asking.retry_errors and found.error_class is not None):
                yield case, (case.id, repeat)


def _ask_all(
    places: Sequence[tuple[Case, Place]],
    work: Questions,
    folder: RunFolder,
    allowance: Allowance,
    told: Callable[[], None],
) -> str | None:
    """Ask with a bounded number of threads; results are recorded by this one. Returns why it stopped early."""
    queue = iter(places)
    running: set[Future[Answered]] = set()
    stopped: str | None = None
    executor = ThreadPoolExecutor(work.asking.concurrency, "asking")
    try:
        more = True
        while more or running:
            while more and stopped is None and len(running) < work.asking.concurrency:
                following = next(queue, None)
                if following is None:
                    more = False
                    break
                case, place = following
                key = request_id(place)
                stopped = allowance.stops(key, work.ways(case) if allowance.holds_money else ())
                if stopped is None:
                    folder.asking(place)
                    running.add(executor.submit(work.ask, case, place))
            if stopped is not None:
                more = False
            if running:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    answered = future.result()
                    spent = allowance.cost(answered.traces) if answered.traces else Spent(Decimal(0))
                    doubtful = sum(record.possibly_billed for record in answered.traces)
                    held = allowance.settle(request_id(answered.place), spent, doubtful=doubtful)
                    if answered.data.get("given_again"):
                        allowance.count(-folder.bills.newest_held(answered.place))
                    folder.record(
                        answered.place, answered.data | _money(spent, held) | {"records": len(answered.traces)}
                    )
                    told()
    except BaseException:
        # What is on its way ends by its own deadline; nobody waits for it, and it is named when the run goes on.
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()
    return stopped


def _money(spent: Spent, held: Decimal) -> dict[str, Any]:
    """What a result says of its cost: by name what has no price, and what is held for tries whose bill nobody knows."""
    told: dict[str, Any] = {"usd": None if spent.usd is None else format(spent.usd, "f")}
    if spent.missing:
        told["prices_missing"] = list(spent.missing)
    return told | ({"usd_held": format(held, "f")} if held else {})


def _attempts(folder: RunFolder) -> Counter[str]:
    """How many attempts of each request a run that was killed had already traced: numbers go on behind them."""
    if not folder.traces.exists():
        return Counter()
    return Counter(record.request_id for record in read_traces(folder.traces))
