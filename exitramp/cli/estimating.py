"""What reading a collection will take, reckoned from the store's own counts: nothing is read."""

from __future__ import annotations

from typing import Any

from exitramp.cli import output
from exitramp.cli.moving import Moved
from exitramp.errors import ExitCode, UsageError
from exitramp.ports.estimating import ReadingEstimate
from exitramp.records import Verdict
from exitramp.wording import counted
from exitramp.wrappers import Endpoint


def estimated(one: Endpoint, other: Endpoint) -> Moved:
    """What reading `one` takes. The verdict is inconclusive: what is in the records nobody has looked at."""
    found = reckoned(one)
    told: dict[str, Any] = {"verdict": "inconclusive", "source": str(one.address), "target": str(other.address)}

    def say() -> None:
        say_reading(found)
        output.say_findings(found.findings)
        output.say(
            "INCONCLUSIVE  nothing was read: --measure reads it, and says what becomes of each field; until then no "
            f"plan has been made, and the exit code is {int(ExitCode.INCONCLUSIVE)}"
        )

    whole = told | {"rows": found.rows, "digests": None, "plan": None, "reading": found.to_json()}
    return Moved(Verdict.INCONCLUSIVE, whole, say)


def reckoned(endpoint: Endpoint) -> ReadingEstimate:
    """What reading it takes, or reading the chosen namespaces where the store keeps them apart. Reads no record.

    Raises `UsageError` for a store that does not reckon that, and where a chosen namespace is known to have no record.
    """
    source = endpoint.estimates()
    if source is None:
        raise UsageError(
            f"{endpoint.address}: this store does not reckon what reading takes",
            hint="leave out --estimate: it is read",
        )
    if endpoint.namespaces is not None and endpoint.tells_namespaces():
        endpoint.require_records()
    return source.estimate()


def say_reading(found: ReadingEstimate) -> None:
    """What it takes by kind of request, in money, and what was reckoned with."""
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


def _hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e8 else output.megabytes(size)
