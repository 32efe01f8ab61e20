"""Payload columns of a dump, whatever somebody put into them."""

from __future__ import annotations

import pyarrow as pa

from exitramp.dump.limits import not_objects
from exitramp.payloads import canonical_faults


def payload_faults(payloads: pa.Array) -> list[int]:
    """The numbers of the rows whose payload is no JSON object in canonical form; null is in order.

    One that is nested too deeply for this program to read is among them.
    """
    try:
        faults = canonical_faults(payloads)
    except RecursionError:
        faults = [row for row in range(len(payloads)) if not _is_sound(payloads.slice(row, 1))]
    return sorted({*faults, *not_objects(payloads)})


def _is_sound(payload: pa.Array) -> bool:
    try:
        return not canonical_faults(payload)
    except RecursionError:
        return False
