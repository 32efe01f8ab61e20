"""nDCG@k, recall@k and reciprocal rank per case, by ir-measures, with ties broken first.

The nDCG of ir-measures (trec_eval underneath) uses *linear* gain: DCG@k = sum of grade / log2(rank + 1), divided by
that of the ideal order of all judged ids (Järvelin and Kekäläinen 2002); the exponential form, 2^grade - 1, gives
other numbers. Recall@k counts ids of grade 1 and above among the first k over all of them. The reciprocal rank is
1 / rank of the first such id, looked for among the first k only, else 0; its mean over cases is the MRR@k.

Evaluators break ties by document name, so renaming documents moved a reciprocal rank from 0.5 to 1.0. Here hits
are ordered by score, then id, before the evaluator sees them, and it sees only ranks.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from exitramp.errors import DataInvalid, DependencyMissing
from exitramp.wording import counted


class Unmeasured(StrEnum):
    """Why a case has no retrieval values. It is never a zero: a zero is something that was measured."""

    NO_RELEVANT_IDS = "no_relevant_ids"
    NO_SEARCH = "no_search"


@dataclass(frozen=True, slots=True)
class RetrievalScore:
    """One case's values, each from 0 to 1, or all None with the reason in `unmeasured`."""

    case_id: str
    k: int
    ndcg: float | None = None
    recall: float | None = None
    reciprocal_rank: float | None = None
    unmeasured: Unmeasured | None = None


@dataclass(frozen=True, slots=True)
class RetrievalMeans:
    """Means over the measured cases; None where none was. `unmeasured` names the others."""

    k: int
    cases: int
    ndcg: float | None
    recall: float | None
    mrr: float | None
    unmeasured: tuple[str, ...]


def order_hits(hits: Iterable[tuple[str, float]]) -> tuple[str, ...]:
    """The ids from best to worst: score descending, then id ascending. A higher score is nearer.

    Raises `DataInvalid` for an id that stands twice or a score that is not a number.
    """
    listed = list(hits)
    seen: set[str] = set()
    for document, score in listed:
        if math.isnan(score):
            raise DataInvalid(f"the score of hit {document!r} is not a number")
        if document in seen:
            raise DataInvalid(f"the hit {document!r} stands twice in one result")
        seen.add(document)
    return tuple(document for document, _ in sorted(listed, key=lambda hit: (-hit[1], hit[0])))


def orient_hits(ids: Sequence[str], scores: Sequence[float]) -> list[tuple[str, float]]:
    """A store's hits, nearest first, as pairs whose higher score is nearer; rising scores are distances and negated.

    Raises `DataInvalid` where the scores neither fall nor rise: then their direction cannot be told.
    """
    if len(ids) != len(scores):
        raise DataInvalid(f"{counted(len(ids), 'hit')} with {counted(len(scores), 'score')}")
    steps = [after - before for before, after in pairwise(scores)]
    if all(step <= 0 for step in steps):
        return list(zip(ids, scores, strict=True))
    if all(step >= 0 for step in steps):
        return [(document, -score) for document, score in zip(ids, scores, strict=True)]
    raise DataInvalid("the scores of the hits neither fall nor rise from the nearest on")


def score_retrieval(
    relevant: Mapping[str, Mapping[str, int]],
    hits: Mapping[str, Sequence[tuple[str, float]]],
    *,
    k: int = 10,
) -> dict[str, RetrievalScore]:
    """Every case of `relevant` with its values, in that order.

    `relevant`: case id to document id to grade; `hits`: case id to (document id, score) pairs in any order. A case
    with no relevant ids, or without an entry in `hits`, is unmeasured; an empty result that was really returned
    scores 0. Raises `DataInvalid` for hits of a case that `relevant` does not know, `DependencyMissing` without
    ir-measures.
    """
    if k < 1:
        raise DataInvalid(f"k is {k}; it is at least 1")
    strangers = sorted(set(hits) - set(relevant))
    if strangers:
        raise DataInvalid(f"hits for the case {strangers[0]!r}, which is not in the golden set")
    scores: dict[str, RetrievalScore] = {}
    ranked: dict[str, tuple[str, ...]] = {}
    for case_id, grades in relevant.items():
        if case_id not in hits:
            scores[case_id] = RetrievalScore(case_id, k, unmeasured=Unmeasured.NO_SEARCH)
        elif not grades:
            scores[case_id] = RetrievalScore(case_id, k, unmeasured=Unmeasured.NO_RELEVANT_IDS)
        else:
            ranked[case_id] = order_hits(hits[case_id])[:k]
            scores[case_id] = RetrievalScore(case_id, k, 0.0, 0.0, 0.0)
    scores.update(_evaluate({case: relevant[case] for case in ranked}, ranked, k))
    return scores


def mean_retrieval(scores: Iterable[RetrievalScore], *, k: int = 10) -> RetrievalMeans:
    """Means of the measured cases; it does not hide how many were not."""
    listed = list(scores)
    measured = [score for score in listed if score.unmeasured is None]
    return RetrievalMeans(
        k=k,
        cases=len(measured),
        ndcg=_mean([score.ndcg for score in measured]),
        recall=_mean([score.recall for score in measured]),
        mrr=_mean([score.reciprocal_rank for score in measured]),
        unmeasured=tuple(score.case_id for score in listed if score.unmeasured is not None),
    )


def _evaluate(
    relevant: Mapping[str, Mapping[str, int]], ranked: Mapping[str, tuple[str, ...]], k: int
) -> dict[str, RetrievalScore]:
    answered = {case: documents for case, documents in ranked.items() if documents}
    if not answered:
        return {}
    measures = _ir_measures()
    ndcg, recall, rank = measures.nDCG @ k, measures.R @ k, measures.RR
    # Cases and documents go in under numbers: ids may hold anything, and the evaluator is C that expects names.
    cases = list(answered)
    qrels, run = [], []
    for number, case in enumerate(cases):
        documents = dict.fromkeys([*relevant[case], *answered[case]])
        names = {document: f"d{index}" for index, document in enumerate(documents)}
        qrels += [measures.Qrel(str(number), names[document], grade) for document, grade in relevant[case].items()]
        run += [
            measures.ScoredDoc(str(number), names[document], float(-position))
            for position, document in enumerate(answered[case])
        ]
    values: dict[str, dict[Any, float]] = {case: {} for case in cases}
    for metric in measures.iter_calc([ndcg, recall, rank], qrels, run):
        values[cases[int(metric.query_id)]][metric.measure] = float(metric.value)
    return {case: RetrievalScore(case, k, found[ndcg], found[recall], found[rank]) for case, found in values.items()}


def _ir_measures() -> Any:
    try:
        return importlib.import_module("ir_measures")
    except ImportError:
        raise DependencyMissing("retrieval metrics", "evals", module="ir_measures") from None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
