"""A whole move: measure, plan, ask consent, copy, read back, compare. What the commands and the drills call."""

from exitramp.migration.comparing import (
    Comparison,
    announced_tolerances,
    asked_fields,
    asked_settings,
    compare_endpoints,
    side_tolerances,
)
from exitramp.migration.losses import excused_metrics, metrics_held
from exitramp.migration.moving import MoveResult, count_or_none, migrate, plan_move, synchronise_endpoints
from exitramp.migration.unmatched import key_text, unmatched

__all__ = [
    "Comparison",
    "MoveResult",
    "announced_tolerances",
    "asked_fields",
    "asked_settings",
    "compare_endpoints",
    "count_or_none",
    "excused_metrics",
    "key_text",
    "metrics_held",
    "migrate",
    "plan_move",
    "side_tolerances",
    "synchronise_endpoints",
    "unmatched",
]
