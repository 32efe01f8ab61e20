"""What leaving an embedding model costs in quality: every ordered pair of the packaged models, on the corpus `pydocs`.

    python -m benchmarks.embedding_pairs [MODEL …]

Prints the table of docs/embedding-models.md. For each pair the documents were embedded by the old model. Three ways out
answer the same golden questions over the same documents: embedding everything anew, mapping the documents into the new
space, and mapping the new model's questions into the old one. The mapping is fitted on documents that are not searched.
"""

from __future__ import annotations

import os
import platform
import random
import sys
import time
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from exitramp.evals.golden import load_golden
from exitramp.ports import Purpose, embed_all
from exitramp.records import Metric, Verdict
from exitramp.registry import corpus, open_embedder
from exitramp.reindex.judging import judge_questions, scores_of
from exitramp.reindex.mapping import fit

MODELS = ("wordllama:", "minilm:", "use:")
FITTED, OTHERS, MARGIN, SEED = 1500, 1500, 0.05, 0
Vectors = npt.NDArray[np.float32]


def main(models: tuple[str, ...]) -> None:
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
        began = time.monotonic()
        two = [
            embed_all(embedder, [documents[name] for name in names], purpose=Purpose.DOCUMENT)
            for names in (fitting, pool)
        ]
        seconds = (time.monotonic() - began) / (len(fitting) + len(pool)) * 1000
        questions = embed_all(embedder, [case.question for case in cases], purpose=Purpose.QUERY)
        embedded[address] = (two[0], two[1], questions)
        scores = scores_of(questions, two[1], Metric.COSINE)
        own = judge_questions("same", grades, scores, scores, pool, margin=MARGIN, seed=SEED)
        print(f"| `{address}` | {two[1].shape[1]} | {seconds:.1f} | {own.ndcg.primary:.3f} |", flush=True)
    print(
        "\n| from | to | before | documents mapped | questions mapped | re-embedded | fit, seconds | "
        "recommended |\n|---|---|---|---|---|---|---|---|"
    )
    for old in models:
        for new in models:
            if old != new:
                print(_row(old, new, embedded[old], embedded[new], grades, pool), flush=True)


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
    cells = [f"{each.substitute:.3f} ({forth.kind if way == 'documents' else back.kind}, ≥ {each.lower:+.3f})"
             for way, each in found.items()]  # fmt: skip
    primary = found["documents"].primary
    own = scores_of(before[2], before[1], Metric.COSINE)
    was = judge_questions("before", grades, own, own, pool, margin=MARGIN, seed=SEED).ndcg.primary
    return f"| `{old}` | `{new}` | {was:.3f} | {cells[0]} | {cells[1]} | {primary:.3f} | {seconds:.1f} | {told} |"


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or MODELS)
