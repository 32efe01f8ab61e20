"""What reading a collection will take, reckoned from the store's own counts: nothing is read."""

from __future__ import annotations

from typing import Any

from exitramp.cli import output
from exitramp.errors import ExitCode, UsageError
from exitramp.ports.estimating import ReadingEstimate
from exitramp.wording import counted
from exitramp.wrappers import Endpoint


def estimate(one: Endpoint, other: Endpoint, *, as_json: bool) -> int:
    """Print what reading `one` takes. The verdict is inconclusive: what is in the records nobody has looked at."""
    source = one.estimates()
    if source is None:
        raise UsageError(
            f"{one.address}: this store does not reckon what reading takes", hint="leave out --estimate: it is read"
        )
    if one.tells_namespaces():
        one.require_records()
    found = source.estimate()
    if as_json:
        told: dict[str, Any] = {"verdict": "inconclusive", "source": str(one.address), "target": str(other.address)}
        output.emit_json(told | {"rows": found.rows, "digests": None, "plan": None, "reading": found.to_json()})
    else:
        _say(found)
        output.say("nothing was read: --measure reads it, and says what becomes of each field")
    return int(ExitCode.INCONCLUSIVE)


def _say(found: ReadingEstimate) -> None:
    rows = [
        (
            line.what,
            f"{line.requests:,}",
            f"{line.read_units:,}",
            _hours(line.seconds),
            _gigabytes(line.bytes),
            line.note,
        )
        for line in found.lines
    ]
    total = (f"{found.requests:,}", f"{found.read_units:,}", _hours(found.seconds), _gigabytes(found.bytes))
    rows.append(("all", *total, f"{counted(found.rows, 'record')}"))
    output.say(output.table(rows, ("reading", "requests", "units", "time", "size", "how")))
    if found.usd is None or found.price is None:
        output.say("\nmoney: no price is known")
    else:
        price = found.price
        output.say(
            f"\nmoney: {found.usd:,.2f} USD, at {price.usd_per_million_units:g} USD a million {price.unit}s"
            f" ({price.terms}; {price.source}, {price.captured})"
        )
    for name, value in found.assumptions.items():
        output.say(f"  reckoned with {name.replace('_', ' ')}: {value:g}")
    output.say_findings(found.findings)


def _hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e8 else output.megabytes(size)
