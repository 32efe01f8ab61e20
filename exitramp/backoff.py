"""How long to wait before the next try: the one place where that is worked out."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter.

    The wait before try n (n = 1 is the first retry) is uniform in [0, min(cap, base * 2^(n-1))]; see
    M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015). What a vendor asks for with
    Retry-After is the least that is waited; more than `retry_after_cap_seconds` is not obeyed but given up on.
    """

    tries: int = 3
    base_seconds: float = 0.2
    cap_seconds: float = 8.0
    retry_after_cap_seconds: float = 120.0

    def wait_seconds(self, retry: int, rng: random.Random, *, retry_after_seconds: float | None = None) -> float | None:
        """Seconds to wait before retry number `retry` (from 1), or None if there should be none."""
        if retry >= self.tries:
            return None
        jittered = rng.uniform(0.0, min(self.cap_seconds, self.base_seconds * 2.0 ** (retry - 1)))
        if retry_after_seconds is None:
            return jittered
        if retry_after_seconds > self.retry_after_cap_seconds:
            return None
        return max(jittered, retry_after_seconds)


def parse_retry_after(
    value: str | None, *, milliseconds: str | None = None, now: datetime | None = None
) -> float | None:
    """Seconds asked for by `retry-after-ms` (first), or `Retry-After` (seconds or date); None if neither."""
    if milliseconds is not None:
        found = _seconds(milliseconds)
        if found is not None:  # a garbled header is no header: fall through to the standard one
            return found / 1000.0
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def _seconds(text: str) -> float | None:
    """A number that can be waited for. `inf` and `nan` are words to Python alone, and no time can be told of them."""
    try:
        found = float(text)
    except ValueError:
        return None
    return max(0.0, found) if math.isfinite(found) else None
