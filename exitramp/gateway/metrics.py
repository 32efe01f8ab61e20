"""What the gateway counts, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from exitramp.orchestration.budget import WindowStanding
from exitramp.orchestration.following import Edits
from exitramp.records import TraceRecord

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_STATES: Final = ("closed", "half_open", "open")


class Metrics:
    """Thread-safe. One call of a vendor is one trace; a request may have several."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Counter[tuple[str, str, str, str, str]] = Counter()
        self._tokens: Counter[tuple[str, str, str]] = Counter()
        self._cache: Counter[str] = Counter()
        self._cost: dict[tuple[str, str], Decimal] = {}
        self._unpriced: Counter[tuple[str, str, str]] = Counter()
        self._answers: Counter[tuple[str, int]] = Counter()
        self._buckets = [0] * (len(_BUCKETS_SECONDS) + 1)
        self._seconds = 0.0
        self._under_way = 0

    def traced(self, record: TraceRecord) -> None:
        model = (record.provider, record.model_id)
        with self._lock:
            if record.cache_hit:
                self._cache[record.cache_hit_kind] += 1
                return
            self._calls[(*model, record.operation, record.status, record.error_class or "")] += 1
            self._tokens[(*model, "prompt")] += record.prompt_tokens
            self._tokens[(*model, "gen")] += record.gen_tokens
            if record.unit_cost_usd is not None:
                self._cost[model] = self._cost.get(model, Decimal(0)) + record.unit_cost_usd
            else:
                self._unpriced[(*model, record.operation)] += 1

    def began(self) -> None:
        with self._lock:
            self._under_way += 1

    def ended(self, path: str, status: int, seconds: float) -> None:
        with self._lock:
            self._under_way -= 1
            self._answers[(path, status)] += 1
            self._buckets[bisect_left(_BUCKETS_SECONDS, seconds)] += 1
            self._seconds += seconds

    def text(self, breakers: Mapping[str, str], edits: Edits, budget: Sequence[WindowStanding] = ()) -> str:
        with self._lock:
            return "\n".join((*self._lines(breakers), *_edit_lines(edits), *_budget_lines(budget))) + "\n"

    def _lines(self, breakers: Mapping[str, str]) -> Iterator[str]:
        yield from _head("exitramp_gateway_responses_total", "counter", "Answers of the gateway, by path and status.")
        for (path, status), count in sorted(self._answers.items()):
            yield _line("exitramp_gateway_responses_total", count, path=path, status=str(status))
        name = "exitramp_gateway_request_seconds"
        yield from _head(name, "histogram", "How long the gateway's requests took.")
        total = 0
        for bound, count in zip((*map(str, _BUCKETS_SECONDS), "+Inf"), self._buckets, strict=True):
            total += count
            yield _line(f"{name}_bucket", total, le=bound)
        yield f"{name}_sum {self._seconds}"
        yield f"{name}_count {total}"
        yield from _head("exitramp_gateway_requests_under_way", "gauge", "Requests that have not ended.")
        yield f"exitramp_gateway_requests_under_way {self._under_way}"
        yield from _head("exitramp_calls_total", "counter", "Calls of vendors, by what became of them.")
        for (provider, model, operation, said, error), count in sorted(self._calls.items()):
            yield _line("exitramp_calls_total", count, provider=provider, model=model, operation=operation,
                        status=said, error_class=error)  # fmt: skip
        yield from _head("exitramp_tokens_total", "counter", "Tokens, by vendor, model and kind.")
        for (provider, model, kind), count in sorted(self._tokens.items()):
            yield _line("exitramp_tokens_total", count, provider=provider, model=model, kind=kind)
        yield from _head("exitramp_cost_usd_total", "counter", "Cost at the price book's prices, where there is one.")
        for (provider, model), cost in sorted(self._cost.items()):
            yield _line("exitramp_cost_usd_total", float(cost), provider=provider, model=model)
        yield from _head("exitramp_calls_of_unknown_cost_total", "counter", "Calls that exitramp_cost_usd_total lacks.")
        for (provider, model, operation), count in sorted(self._unpriced.items()):
            yield _line("exitramp_calls_of_unknown_cost_total", count, provider=provider, model=model,
                        operation=operation)  # fmt: skip
        yield from _head("exitramp_cache_hits_total", "counter", "Answers that were kept from before.")
        for kind, count in sorted(self._cache.items()):
            yield _line("exitramp_cache_hits_total", count, kind=kind)
        yield from _head("exitramp_breaker_state", "gauge", "0 is closed (asked), 1 half open, 2 open (not asked).")
        for model, state in sorted(breakers.items()):
            yield _line("exitramp_breaker_state", _STATES.index(state), model=model)


def _edit_lines(edits: Edits) -> Iterator[str]:
    yield from _head("exitramp_stack_edits_total", "counter", "Edits of the stack file, by what became of them.")
    yield _line("exitramp_stack_edits_total", edits.in_force, result="in_force")
    yield _line("exitramp_stack_edits_total", edits.refused, result="refused")
    yield from _head("exitramp_stack_edit_refused", "gauge", "1 while the file as it stands is not the one in force.")
    yield f"exitramp_stack_edit_refused {int(edits.is_refused)}"


def _budget_lines(budget: Sequence[WindowStanding]) -> Iterator[str]:
    if not budget:
        return
    name = "exitramp_budget_usd"
    yield from _head(name, "gauge", "Of the day and the month in UTC: the cap, what is spent of it, and what is held.")
    for window in budget:
        amounts = {"cap": window.cap_usd, "spent": window.spent_usd, "held": window.held_usd}
        for kind, usd in amounts.items():
            yield _line(name, float(usd), period=window.period, use_case=window.use_case or "", kind=kind)


def _head(name: str, kind: str, what: str) -> Iterator[str]:
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"


def _line(name: str, value: float, **labels: str) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inner}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
