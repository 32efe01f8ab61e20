"""What leaving an embedding model costs in quality: every ordered pair of the packaged models, on the corpus `pydocs`.

    python -m benchmarks.embedding_pairs [--keep FOLDER] [MODEL …]

With --keep vectors and times are kept by the model's weights, and a second run embeds nothing anew. Prints the table of
docs/embedding-models.md. For each pair the documents were embedded by the old model. Three ways out answer the same
golden questions over the same documents: embedding everything anew, mapping the documents into the new space, and
mapping the new questions into the old one. The mapping is fitted on documents that are not searched.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import sys
import time
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exitramp.evals.golden import load_golden
from exitramp.ports import Embedder, Purpose, embed_all
from exitramp.records import Metric, Verdict
from exitramp.registry import corpus, open_embedder
from exitramp.reindex.judging import judge_questions, scores_of
from exitramp.reindex.mapping import fit

MODELS = ("wordllama:", "minilm:", "use:", "glove:")
FITTED, OTHERS, MARGIN, SEED = 1500, 1500, 0.05, 0
Vectors = npt.NDArray[np.float32]


def main(models: tuple[str, ...], keep: Path | None = None) -> None:
    cases = load_golden(files("exitramp_fixtures.golden") / "pydocs.jsonl")
    documents = {document.id: document.text for document in corpus("pydocs").documents()}
    wanted = {name for case in cases for name in case.relevant if name in documents}
    others = random.Random(SEED).sample(sorted(documents.keys() - wanted), FITTED + OTHERS)
    fitting, pool = others[:FITTED], sorted([*wanted, *others[FITTED:]])
    grades = {case.id: case.relevant for case in cases}
    print(
        f"{datetime.now(UTC):%d %B %Y}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; {len(pool):,} documents searched, {len(cases)} golden questions, "
        f"fitted on {FITTED:,} others; margin {MARGIN}\n"
    )
    embedded: dict[str, tuple[Vectors, Vectors, Vectors]] = {}
    print("| model | dimensions | seconds for 1,000 documents | nDCG@10 |\n|---|---|---|---|")
    for address in models:
        embedder = open_embedder(address)
        texts = [[documents[name] for name in names] for names in (fitting, pool)]
        made = _embedded(embedder, *texts, [case.question for case in cases], keep)
        two, questions, seconds = made[:2], made[2], made[3]
        embedded[address] = (two[0], two[1], questions)
        scores = scores_of(questions, two[1], Metric.COSINE)
        own = judge_questions("same", grades, scores, scores, pool, margin=MARGIN, seed=SEED)
        print(f"| `{address}` | {two[1].shape[1]} | {seconds:.1f} | {own.ndcg.primary:.3f} |", flush=True)
    print(
        "\n| from | to | before | re-embedded | documents mapped | questions mapped | fit, seconds | kind | "
        "recommended |\n|---|---|---|---|---|---|---|---|---|"
    )
    for old in models:
        for new in models:
            if old != new:
                print(_row(old, new, embedded[old], embedded[new], grades, pool), flush=True)


def _embedded(
    embedder: Embedder, fitting: list[str], pool: list[str], questions: list[str], keep: Path | None
) -> tuple[Vectors, Vectors, Vectors, float]:
    """Vectors of the three, and seconds for a thousand documents."""
    told = json.dumps([embedder.model().to_json(), fitting, pool, questions])
    kept = None if keep is None else keep / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.npz"
    if kept is not None and kept.exists():
        with np.load(kept) as held:
            return held["fitting"], held["pool"], held["questions"], float(held["seconds"])
    began = time.monotonic()
    one, other = (embed_all(embedder, texts, purpose=Purpose.DOCUMENT) for texts in (fitting, pool))
    seconds = (time.monotonic() - began) / (len(fitting) + len(pool)) * 1000
    asked = embed_all(embedder, questions, purpose=Purpose.QUERY)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, fitting=one, pool=other, questions=asked, seconds=seconds)
    return one, other, asked, seconds


def _row(
    old: str,
    new: str,
    before: tuple[Vectors, Vectors, Vectors],
    after: tuple[Vectors, Vectors, Vectors],
    grades: dict[str, Any],
    pool: list[str],
) -> str:
    began = time.monotonic()
    forth, back = fit(before[0], after[0], None, seed=SEED), fit(after[0], before[0], None, seed=SEED)
    seconds = time.monotonic() - began
    anew = scores_of(after[2], after[1], Metric.COSINE)
    found = {}
    for way, scores in (
        ("documents", scores_of(after[2], forth.apply(before[1]), Metric.COSINE)),
        ("questions", scores_of(back.apply(after[2]), before[1], Metric.COSINE)),
    ):
        found[way] = judge_questions(way, grades, anew, scores, pool, margin=MARGIN, seed=SEED).ndcg
    told = ", ".join(way for way, each in found.items() if each.verdict is Verdict.PASS) or "no"
    kinds = {forth.kind.value, back.kind.value}
    own = scores_of(before[2], before[1], Metric.COSINE)
    left = judge_questions("left", grades, own, anew, pool, margin=MARGIN, seed=SEED).ndcg
    cells = [f"{each.substitute:.3f} ({_signed(each.lower)} … {_signed(each.upper)})" for each in
             (left, found["documents"], found["questions"])]  # fmt: skip
    return (
        f"| `{old}` | `{new}` | {left.primary:.3f} | {cells[0]} | {cells[1]} | {cells[2]} | "
        f"{seconds:.1f} | {', '.join(sorted(kinds))} | {told} |"
    )


def _signed(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.3f}".replace("-", "−")


if __name__ == "__main__":
    given = sys.argv[1:]
    folder = Path(given[1]) if given[:1] == ["--keep"] else None
    main(tuple(given[2:] if folder is not None else given) or MODELS, folder)
