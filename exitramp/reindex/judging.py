"""What a mapping costs in quality: what it finds, held against what embedding everything anew would find.

Judged on documents that the mapping was not fitted on. Without golden questions a document's own nearest neighbours are
the question: which ten the new vectors find, and how many of them the mapping finds. With golden questions both ways
answer those, over the held-out documents and the relevant ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exitramp.evals.retrieval import RetrievalScore, score_retrieval
from exitramp.evals.verdicts import NonInferiority, by_question, non_inferiority, pair_values
from exitramp.records import Metric, Verdict

K = 10
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One way of mapping, judged. `by` is `golden questions` or `neighbours`; `questions` are the different ones, and
    `pool` documents were searched."""

    way: str
    by: str
    questions: int
    pool: int
    ndcg: NonInferiority
    recall: NonInferiority

    @property
    def verdict(self) -> Verdict:
        """Of nDCG alone, as was said before."""
        return self.ndcg.verdict

    def to_json(self) -> dict[str, Any]:
        return {
            "way": self.way,
            "by": self.by,
            "questions": self.questions,
            "pool": self.pool,
            "ndcg_at_10": self.ndcg.to_json(),
            "recall_at_10": self.recall.to_json(),
        }


def scores_of(questions: Vectors, documents: Vectors, metric: Metric) -> npt.NDArray[np.float64]:
    """float64[questions, documents]; greater is nearer."""
    a, b = questions.astype(np.float64), documents.astype(np.float64)
    if metric is Metric.COSINE:
        a = a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12)
        b = b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-12)
    if metric is Metric.EUCLIDEAN:
        found: npt.NDArray[np.float64] = 2 * a @ b.T - (b * b).sum(axis=1)[None, :]
        return found
    return np.asarray(a @ b.T, np.float64)


def ranked(scores: npt.NDArray[np.float64], names: Sequence[str], k: int = K) -> list[list[tuple[str, float]]]:
    """The best `k` of each row; -inf is none."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [
        [(names[column], float(scores[row, column])) for column in best[row] if np.isfinite(scores[row, column])]
        for row in range(len(scores))
    ]


def judge_neighbours(
    way: str,
    truth: npt.NDArray[np.float64],
    mapped: npt.NDArray[np.float64],
    rows: Sequence[int],
    names: Sequence[str],
    *,
    margin: float,
    seed: int,
) -> Judgement:
    """`truth` and `mapped` are scores [questions, documents], each question being the document at `rows`, left out."""
    for scores in (truth, mapped):
        scores[np.arange(len(rows)), list(rows)] = -np.inf
    wanted = {names[row]: {name: 1 for name, _ in found} for row, found in zip(rows, ranked(truth, names), strict=True)}
    got = dict(zip((names[row] for row in rows), ranked(mapped, names), strict=True))
    scored = score_retrieval(wanted, got, k=K)
    whole = {name: RetrievalScore(name, K, 1.0, 1.0, 1.0) for name in scored}
    return _judged(way, "neighbours", whole, scored, len(names), margin, seed)


def judge_questions(
    way: str,
    relevant: Mapping[str, Mapping[str, int]],
    anew: npt.NDArray[np.float64],
    mapped: npt.NDArray[np.float64],
    names: Sequence[str],
    *,
    asked: Mapping[str, str],
    margin: float,
    seed: int,
) -> Judgement:
    """`anew` and `mapped` are scores [questions, documents] in the order of `relevant` and of `names`.

    `asked`: the question of each case; cases that ask the same are one observation.
    """
    before = score_retrieval(relevant, dict(zip(relevant, ranked(anew, names), strict=True)), k=K)
    after = score_retrieval(relevant, dict(zip(relevant, ranked(mapped, names), strict=True)), k=K)
    return _judged(way, "golden questions", before, after, len(names), margin, seed, asked)


def _judged(
    way: str,
    by: str,
    before: Mapping[str, RetrievalScore],
    after: Mapping[str, RetrievalScore],
    pool: int,
    margin: float,
    seed: int,
    asked: Mapping[str, str] | None = None,
) -> Judgement:
    asked = {case: case for case in before} if asked is None else asked

    def bounded(metric: str, name: str) -> NonInferiority:
        one, other = ({case: getattr(score, name) for case, score in side.items()} for side in (before, after))
        return non_inferiority(by_question(pair_values(one, other), asked), metric=metric, margin=margin, seed=seed)

    return Judgement(
        way, by, len({asked[case] for case in before}), pool, bounded("ndcg@10", "ndcg"), bounded("recall@10", "recall")
    )
