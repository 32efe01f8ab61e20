"""The grand tour: one hard collection through every store that can hold it by plan, in a ring, back to a dump.

`python -m tests.tour.ring [KIND …]` prints each hop with what its plan announced. At the end ids and payloads must have
the digests of the beginning, and vectors too, but for what a plan on the way had announced.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exitramp import __version__
from exitramp.ports import Origin, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.data import hard_records
from exitramp.wrappers import open_endpoint
from tests.tour.places import ALL, command, places

ROWS = 5000
SPEC = CollectionSpec(
    "grand tour",
    IdKind.STRING,
    (
        VectorField("title", VectorKind.DENSE, DType.FLOAT32, Metric.EUCLIDEAN, 32),
        VectorField("body", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 48),
        VectorField("words", VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None),
    ),
    has_namespaces=True,
    has_documents=True,
)


@dataclass
class Hop:
    """One leg of the way. `announced` are the plan's lines that are not exact: class and what."""

    kind: str
    announced: list[str] = field(default_factory=list)
    refused: str = ""
    verdict: str = ""
    seconds: float = 0.0
    digests: dict[str, Any] = field(default_factory=dict)


def seed(address: str, rows: int = ROWS) -> None:
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(SPEC, Origin(SPEC, __version__))
        for batch in hard_records(SPEC, rows, 9):
            sink.upsert(batch)
        sink.flush()
        sink.finish(TransferAccount())


def hop(source: str, target: str, kind: str) -> Hop:
    """Plan, and where nothing would be lost, copy."""
    planned = command("plan", source, target)
    found = Hop(kind)
    if planned.code:
        found.refused = planned.said.strip().splitlines()[0] if planned.said.strip() else f"exit code {planned.code}"
        return found
    lines = planned.told["plan"]
    found.announced = [
        f"{each['class']} {each['subject']}"
        for each in lines
        if each["class"] != "exact" and not each["subject"].startswith("payload.")
    ]
    keys = sum(each["class"] != "exact" for each in lines if each["subject"].startswith("payload."))
    found.announced += [f"reversible {keys} payload keys"] * bool(keys)
    lossy = [each["subject"] for each in lines if each["class"] == "lossy"]
    # What a store has no place for is kept beside the record, where nothing searches it: the plan calls that lossy, and
    # takes it along. Anything else that is lossy would not come back.
    # So it does where a store wants a vector for every record, and searches can find the one that stands in for none.
    kept = ("marker", "placeholder")
    detour = [
        each["subject"] for each in lines if each["class"] == "lossy" and any(word in each["how"] for word in kept)
    ]
    if set(lossy) - set(detour):
        found.refused = f"the plan announces a loss of {', '.join(lossy)}"
        return found
    copied = command("copy", source, target, *(word for each in detour for word in ("--accept-loss", each)))
    found.seconds = copied.seconds
    found.verdict = copied.told["verdict"] if copied.told and "verdict" in copied.told else copied.said.strip()
    found.digests = (copied.told or {}).get("target_digests") or {}
    return found


def tour(folder: Path, kinds: list[str], rows: int = ROWS) -> tuple[dict[str, Any], list[Hop], dict[str, Any]]:
    """The digests of the beginning, every hop, and the digests of the dump at the end."""
    start = f"memory:{folder.name}-ring#grand tour"
    seed(start, rows)
    first = command("inspect", start).told["digests"]
    hops = []
    with places(folder, kinds) as found:
        here = start
        for place in found.values():
            there = place.address("grand_tour")
            hops.append(hop(here, there, place.kind))
            print(line(hops[-1]), flush=True)
            if not hops[-1].refused:
                if hops[-1].verdict != "pass":
                    break
                here = there
        ended = command("dump", here, folder / "end")
        verified = command("verify", folder / "end")
    if ended.code or verified.code:
        raise SystemExit(f"the last dump: {ended.said} {verified.said}")
    return first, hops, verified.told["digests"]


def line(found: Hop) -> str:
    if found.refused:
        return f"  {found.kind}: passed by, {found.refused}"
    announced = ", ".join(found.announced) or "everything exact"
    return f"→ {found.kind}: {found.verdict}, {found.seconds:.1f} s; announced: {announced}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("kinds", nargs="*", default=list(ALL))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="exitramp-tour-") as folder:
        os.chmod(folder, 0o755)  # a PostgreSQL that must not run as root has to get through
        os.chdir(folder)
        first, hops, last = tour(Path(folder), given.kinds, given.rows)
    same = {name: first[name] == last[name] for name in ("rows", "ids", "payloads")}
    same |= {column: first["vectors"][column] == last["vectors"].get(column) for column in first["vectors"]}
    for name, equal in same.items():
        print(f"{name}: {'the same as at the beginning' if equal else 'DIFFERS'}")
    travelled = [found.kind for found in hops if not found.refused]
    print(f"{len(travelled)} stores travelled: {', '.join(travelled)}")
    return 0 if all(same.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
