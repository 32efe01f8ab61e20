"""Policy around a port: deadlines, retries, counting, rate limits, faults, dry runs. None of it enters an adapter.

A policy runs one call of a port; `SourceAround`, `SinkAround` and `SearchAround` put it around every call. The usual
order, outermost first, and why:

    Retrying      sees every failure below it, also a deadline's
    RateLimited   so that retries spend the allowance too
    Metered       so that every try is counted, and waiting is not counted as the store's time
    Deadline      ends the single try
    Faulty        stands where the network would fail
"""

from exitramp.wrappers.around import Policy, SearchAround, SinkAround, SourceAround, Stacked
from exitramp.wrappers.deadline import Deadline
from exitramp.wrappers.dry_run import DryRunSink
from exitramp.wrappers.faulty import Faulty
from exitramp.wrappers.metered import Meter, Metered
from exitramp.wrappers.opening import (
    Endpoint,
    OpenSettings,
    metric_overrides,
    open_endpoint,
    require_write_allowed,
)
from exitramp.wrappers.rate_limited import RateLimited
from exitramp.wrappers.retrying import Retrying

__all__ = [
    "Deadline",
    "DryRunSink",
    "Endpoint",
    "Faulty",
    "Meter",
    "Metered",
    "OpenSettings",
    "Policy",
    "RateLimited",
    "Retrying",
    "SearchAround",
    "SinkAround",
    "SourceAround",
    "Stacked",
    "metric_overrides",
    "open_endpoint",
    "require_write_allowed",
]
