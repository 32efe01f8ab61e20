"""How patient a router is, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from exitramp.backoff import Backoff
from exitramp.orchestration.breaker import BreakerSettings


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the router is.

    deadline_seconds: for a whole request; a stack with others behind it gets at most its share of what is left.
    attempt_seconds, retrieve_seconds: for one call of a model and one retrieval.
    backoff: tries on one stack and the waits between them. While another stack is there to be asked, a Retry-After
        of more than `retry_after_cap_seconds` is not waited for; on the last stack all that remains may be waited.
    retry_timeouts: whether a call that timed out is tried again on the same stack before the next is asked.
    """

    deadline_seconds: float = 30.0
    attempt_seconds: float = 10.0
    retrieve_seconds: float = 5.0
    backoff: Backoff = Backoff(tries=2, base_seconds=0.1, cap_seconds=1.0, retry_after_cap_seconds=1.0)
    retry_timeouts: bool = False
    breaker: BreakerSettings = BreakerSettings()
