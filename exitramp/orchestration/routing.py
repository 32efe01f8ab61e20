"""Which size of model a question goes to: by what is known of the question, from thresholds that a file names.

Complexity is a number in [0, 1]. Whoever knows better gives it; else it is estimated here by a rule that anybody can
work out by hand, as the sum of

    0.35 * min(1, words / 150)           how much there is to read
    0.30 * min(1, askings / 3)           words that ask for reasoning: why, how, compare, explain, …
    0.20 * min(1, (questions - 1) / 2)   more than one question at once
    0.15 if there is code, a table or a list in it

over the last message of the user. It is a rule of thumb, not a judgement: what it sends where is in the trace.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from exitramp.errors import UsageError
from exitramp.orchestration.stack_file.values import RoutingSpec, Tier
from exitramp.ports import ChatRequest

_ASKING: Final = frozenset(
    {
        "why",
        "how",
        "compare",
        "explain",
        "analyse",
        "analyze",
        "derive",
        "prove",
        "design",
        "evaluate",
        "difference",
        "trade-off",
        "versus",
        "justify",
        "plan",
        "summarise",
        "summarize",
        "refactor",
        "optimise",
        "optimize",
        "implications",
    }
)
_WORD: Final = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
_STRUCTURE: Final = re.compile(r"```|^\s*(?:[-*|]|\d+[.)])\s|^ {4,}\S|[{};]\s*$", re.MULTILINE)
_SIZES: Final = (Tier.SMALL, Tier.MEDIUM, Tier.LARGE)


@dataclass(frozen=True, slots=True)
class Routed:
    """Who may be asked, in this order, and why."""

    order: tuple[str, ...]
    tier: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What a classifier says of a question. `tier` None: it is not sure enough, or could not say; `said` is for the
    trace."""

    tier: Tier | None
    said: str


def complexity_of(text: str) -> float:
    """The estimate that this module's page describes, in [0, 1]."""
    words = [word.lower() for word in _WORD.findall(text)]
    askings = sum(word in _ASKING for word in words)
    questions = max(1, text.count("?"))
    return round(
        0.35 * min(1.0, len(words) / 150)
        + 0.30 * min(1.0, askings / 3)
        + 0.20 * min(1.0, (questions - 1) / 2)
        + (0.15 if _STRUCTURE.search(text) else 0.0),
        4,
    )


def asked_text(request: ChatRequest) -> str:
    """The last message of the user, which is what a request is about."""
    return next((message.content for message in reversed(request.messages) if message.role == "user"), "")


def route(
    spec: RoutingSpec | None,
    order: Sequence[str],
    tiers: Mapping[str, Tier | None],
    *,
    text: str,
    complexity: float | None = None,
    pii: bool = False,
    small_only: bool = False,
    judge: Callable[[str], Judged] | None = None,
) -> Routed:
    """The tier of a question, and those of `order` that may answer it: its own tier first, then larger ones, then
    smaller ones. What is personal goes to its tier alone; `small_only` (a budget's wish) yields to that. `judge` is
    asked for neither, nor where the caller says how complex it is; where it is not sure the written rule decides.
    Raises `UsageError` for what is personal where no tier is named for it.
    """
    if spec is None and pii:
        raise UsageError(
            "the stack file names no tier for what is personal, so it goes to nobody",
            hint="write routing: {pii: TIER}, and a tier under each model",
        )
    if spec is not None and pii:
        return Routed(tuple(name for name in order if tiers[name] is spec.pii), spec.pii.value, "pii")
    if small_only:
        return Routed(tuple(name for name in order if tiers[name] is Tier.SMALL), Tier.SMALL.value, "budget")
    if spec is None:
        return Routed(tuple(order))
    judged = judge(text) if judge is not None and complexity is None else None
    if judged is not None and judged.tier is not None:
        tier, reason = judged.tier, judged.said
    else:
        tier, reason = by_rule(spec, text, complexity)
        if judged is not None:
            reason = f"{judged.said}; {reason}"
    size = _SIZES.index(tier)
    ranked = [tier, *_SIZES[size + 1 :], *reversed(_SIZES[:size])]
    return Routed(tuple(name for each in ranked for name in order if tiers[name] is each), tier.value, reason)


def by_rule(spec: RoutingSpec, text: str, complexity: float | None = None) -> tuple[Tier, str]:
    """The tier by the written rule alone, and why."""
    value = complexity_of(text) if complexity is None else complexity
    said = f"complexity {value:g}" + ("" if complexity is not None else " (estimated)")
    if value < spec.small_below:
        return Tier.SMALL, f"{said} < {spec.small_below:g}"
    if value < spec.medium_below:
        return Tier.MEDIUM, f"{said} < {spec.medium_below:g}"
    return Tier.LARGE, f"{said} >= {spec.medium_below:g}"
