"""Every ordered pair of the real stores: 2,000 records copied and compared, one command each, with the times.

`python -m tests.tour.matrix [--out FILE] [KIND …]` prints the matrix and writes what was measured as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exitramp import __version__
from exitramp.arrow import dense_array
from exitramp.ports import Origin, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.data import hard_records
from exitramp.wrappers import open_endpoint
from tests.tour.places import ALL, Place, command, places

ROWS = 2000
FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.EUCLIDEAN, 64)
SPEC = CollectionSpec("articles", IdKind.STRING, (FIELD,), has_documents=True)


def like_a_models(rows: int, number: int) -> npt.NDArray[np.float32]:
    """Vectors of 64 numbers that vary in few directions, as embeddings do; on noise no index finds everything."""
    rng = np.random.default_rng([rows, number])
    few = rng.standard_normal((rows, 8)) @ np.random.default_rng(1).standard_normal((8, 64))
    return (few + 0.05 * rng.standard_normal((rows, 64))).astype(np.float32)


def seed(address: str, rows: int = ROWS) -> None:
    """The first collection: hard payloads and documents, float32 vectors of differing length."""
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(SPEC, Origin(SPEC, __version__))
        for number, batch in enumerate(hard_records(SPEC, rows, 5)):
            spot = batch.schema.get_field_index("vector")
            vectors = dense_array(like_a_models(batch.num_rows, number), FIELD)
            sink.upsert(batch.set_column(spot, batch.schema.field(spot), vectors))
        sink.flush()
        sink.finish(TransferAccount())


def travel(source: Place, target: Place, name: str, first: str, *more: str) -> dict[str, Any]:
    """Copy and compare one pair, with `more` options of compare; what went wrong is told and ends nothing."""
    there = target.address(name)
    copied = command("copy", first, there)
    told: dict[str, Any] = {"source": source.kind, "target": target.kind, "copy_seconds": round(copied.seconds, 2)}
    told |= {"copied": copied.code, "compare_seconds": None, "compared": None, "said": copied.said.strip()[:300]}
    if copied.code == 0:
        compared = command("compare", first, there, "--no-filters", *more)
        told |= {"compare_seconds": round(compared.seconds, 2), "compared": compared.code}
        told |= {"said": compared.said.strip()[:300], "findings": compared.findings()}
    return told


def tour(folder: Path, kinds: list[str]) -> list[dict[str, Any]]:
    """All ordered pairs of `kinds`, each from a collection that was itself copied from the first one."""
    start = f"memory:{folder.name}#articles"
    seed(start)
    pairs = []
    with places(folder, kinds) as found:
        for one in found.values():
            first = one.address("first")
            begun = command("copy", start, first)
            if begun.code:
                print(f"{one.kind}: cannot hold it: {begun.said}", file=sys.stderr)
                continue
            for other in found.values():
                if other is not one:
                    pairs.append(travel(one, other, f"from_{one.kind.replace('+', '_').replace('-', '_')}", first))
                    print(line(pairs[-1]), file=sys.stderr, flush=True)
    return pairs


def line(pair: dict[str, Any]) -> str:
    verdict = {0: "pass", 1: "FAIL", 3: "inconclusive"}.get(pair["compared"], f"copy ended with {pair['copied']}")
    seconds = f"{pair['copy_seconds']:.1f} + {pair['compare_seconds'] or 0:.1f} s"
    more = f" {pair.get('findings')} {pair['said']}" if pair["compared"] != 0 else ""
    return f"{pair['source']} → {pair['target']}: {verdict}, {seconds}{more}"


def matrix(pairs: list[dict[str, Any]]) -> str:
    """Seconds of copy and compare together, sources down and targets across; a word where a pair did not pass."""
    kinds = list(dict.fromkeys(pair["source"] for pair in pairs))
    by_pair = {(pair["source"], pair["target"]): pair for pair in pairs}
    rows = [["from \\ to", *kinds]]
    for one in kinds:
        rows.append([one, *(cell(by_pair.get((one, other))) for other in kinds)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows)


def cell(pair: dict[str, Any] | None) -> str:
    if pair is None:
        return "·"
    if pair["copied"] or pair["compared"]:
        return "copy?" if pair["copied"] else {1: "FAIL", 3: "?"}.get(pair["compared"], "error")
    return f"{pair['copy_seconds'] + pair['compare_seconds']:.1f}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("kinds", nargs="*", default=list(ALL))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="exitramp-tour-") as folder:
        os.chmod(folder, 0o755)  # a PostgreSQL that must not run as root has to get through
        os.chdir(folder)
        pairs = tour(Path(folder), given.kinds)
    print(matrix(pairs))
    good = sum(pair["compared"] == 0 for pair in pairs)
    print(f"{good} of {len(pairs)} pairs pass; seconds of copy and compare together, {ROWS:,} records")
    if given.out is not None:
        about = {"measured_at": datetime.now(UTC).strftime("%Y-%m-%d"), "rows": ROWS, "cpus": os.cpu_count()}
        about |= {"python": platform.python_version(), "exitramp": __version__, "dimensions": FIELD.dimensions}
        given.out.write_text(json.dumps(about | {"pairs": pairs}, indent=1, ensure_ascii=False) + "\n")
    return 0 if good == len(pairs) else 1


if __name__ == "__main__":
    sys.exit(main())
