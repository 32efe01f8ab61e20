"""The parts of a stack file about answers that are kept and money that is spent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final

from exitramp.orchestration.stack_file.values import (
    Action,
    BudgetSpec,
    BudgetThreshold,
    ExactCacheSpec,
    ModelSpec,
    SemanticCacheSpec,
    Tier,
    UseCaseCap,
)
from exitramp.yaml_reader import Block

LONGEST_TTL_SECONDS: Final = 366 * 86_400.0
_AMOUNT: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def read_exact_cache(cache: Block | None, folder: Path) -> ExactCacheSpec | None:
    block = cache.block("exact", required=False) if cache is not None else None
    if block is None:
        return None
    standing = ExactCacheSpec()
    path = block.text("path", None)
    found = ExactCacheSpec(
        block.number("ttl_seconds", standing.ttl_seconds, minimum=0, maximum=LONGEST_TTL_SECONDS),
        None if path is None else folder / path,
        block.integer("entries", standing.entries, minimum=1),
    )
    block.finish()
    return found


def read_semantic_cache(cache: Block | None, embedders: Mapping[str, object]) -> SemanticCacheSpec | None:
    """The threshold is looked up under the embedder's own name: one that was set for another model means nothing."""
    block = cache.block("semantic", required=False) if cache is not None else None
    if block is None:
        return None
    standing = SemanticCacheSpec("", 1.0)
    embedder = block.text("embedder")
    if embedder not in embedders:
        raise block.error(f"'{block.path}.embedder' is '{embedder}', which this file does not name", "embedder")
    thresholds = block.block("thresholds")
    assert thresholds is not None
    names = thresholds.keys()
    found = {name: thresholds.number(name, minimum=0, maximum=1) for name in names}
    for name in found:
        if name not in embedders:
            raise thresholds.error(f"'{thresholds.path}' names '{name}', which is no embedder of this file", name)
    if embedder not in found:
        raise thresholds.error(
            f"'{thresholds.path}' has none for the embedder '{embedder}'",
            hint="likeness is measured differently by every model: set one for it, see docs/stack.md",
        )
    spec = SemanticCacheSpec(
        embedder,
        found[embedder],
        block.number("ttl_seconds", standing.ttl_seconds, minimum=0, maximum=LONGEST_TTL_SECONDS),
        block.integer("entries", standing.entries, minimum=1),
    )
    block.finish()
    return spec


def read_budget(top: Block, folder: Path, models: Mapping[str, ModelSpec]) -> BudgetSpec | None:
    block = top.block("budget", required=False)
    if block is None:
        return None
    daily, monthly = _usd(block, "daily_usd"), _usd(block, "monthly_usd")
    if daily is None and monthly is None and not block.has("use_cases"):
        raise block.error("'budget' names no cap", hint="write daily_usd, monthly_usd or use_cases")
    thresholds = []
    for item in block.blocks("thresholds", ()):
        at = item.number("at", minimum=0, maximum=1)
        names = item.texts("actions")
        for name in names:
            if name not in tuple(Action):
                raise item.error(f"'{item.path}.actions' holds '{name}'; it can be {', '.join(Action)}", "actions")
        if Action.DEGRADE_TO_SMALL in names and all(model.tier is not Tier.SMALL for model in models.values()):
            raise item.error(f"'{item.path}.actions' goes to the small models, and there is none", "actions",
                             hint="write tier: small under a model")  # fmt: skip
        item.finish()
        thresholds.append(BudgetThreshold(at, tuple(Action(name) for name in names)))
    path = block.text("path", None)
    use_cases = _use_case_caps(block)
    block.finish()
    return BudgetSpec(
        daily,
        monthly,
        tuple(sorted(thresholds, key=lambda each: each.at)),
        None if path is None else folder / path,
        use_cases,
    )


def _use_case_caps(budget: Block) -> tuple[UseCaseCap, ...]:
    block = budget.block("use_cases", required=False)
    found = []
    for name in block.keys() if block is not None else ():
        assert block is not None
        inner = block.block(name)
        assert inner is not None
        cap = UseCaseCap(name, _usd(inner, "daily_usd"), _usd(inner, "monthly_usd"))
        if cap.daily_usd is None and cap.monthly_usd is None:
            raise inner.error(f"'{inner.path}' names no cap", hint="write daily_usd or monthly_usd")
        inner.finish()
        found.append(cap)
    return tuple(found)


def _usd(block: Block, key: str) -> Decimal | None:
    """Money as a text or a number, with all its digits."""
    value = block.anything(key, None)
    if value is None:
        return None
    if isinstance(value, bool) or not _AMOUNT.fullmatch(str(value)):
        raise block.error(f"'{block.path}.{key}' must be an amount such as 12.50", key)
    return Decimal(str(value))
