"""The golden questions asked of a store, each embedded when it is asked: what was found, what failed, what it took."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.drill.costing import price_book
from exitramp.drill.embedder import DrilledEmbedder
from exitramp.drill.run import DrillRun
from exitramp.drill.stacks import StoreRetriever
from exitramp.embedding_identity import WEIGHTS
from exitramp.errors import ModelError
from exitramp.evals.retrieval import RetrievalScore, score_retrieval
from exitramp.evals.verdicts import by_question, non_inferiority, pair_values
from exitramp.finops.prices import MissingPrice, Unit, plain, round_usd
from exitramp.reindex.costing import NOBODY_BILLS
from exitramp.wrappers import Endpoint

USUAL_MARGIN: Final = 0.05
"""Where the drill file promises no quality."""


@dataclass(slots=True)
class Asked:
    """Every golden question in one state. `first_good` is when the first one found something, on the monotonic clock;
    `errors` counts those that nobody could embed, by class."""

    k: int
    got: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    scores: Mapping[str, RetrievalScore] = field(default_factory=dict)
    vectors: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    first_good: float | None = None
    tokens: int = 0
    price: dict[str, Any] = field(default_factory=dict)


def ask_in_state(
    run: DrillRun,
    endpoint: Endpoint,
    embed: Callable[[str], npt.NDArray[np.generic]],
    embedder: DrilledEmbedder,
) -> Asked:
    """Ask `endpoint` every golden question that has relevant documents; `embedder` is who `embed` asks in the end."""
    found = Asked(run.spec.orchestration.depth_k)

    def vector(text: str) -> npt.NDArray[np.generic]:
        found.vectors[text] = embed(text)
        return found.vectors[text]

    retrieve = StoreRetriever(endpoint, vector)
    before = embedder.tokens
    for case in run.golden:
        run.check_stop()
        began = run.clock.monotonic()
        try:
            passages = retrieve(case.text, found.k)
        except ModelError as error:
            found.errors[error.error_class] += 1
            found.got[case.id] = []
            continue
        # By place: the retriever has ordered them, and a distance is smaller where it is better.
        found.got[case.id] = [(passage.id, float(-place)) for place, passage in enumerate(passages)]
        ended = run.clock.monotonic()
        found.latencies_ms.append((ended - began) * 1000.0)
        if passages and found.first_good is None:
            found.first_good = ended
    found.tokens = embedder.tokens - before
    found.scores = score_retrieval({case.id: case.relevant for case in run.golden}, found.got, k=found.k)
    found.price = told_price(run, embedder, found.tokens)
    return found


def state_json(run: DrillRun, found: Asked, before: Asked) -> dict[str, Any]:
    """What was found, in figures, and nDCG paired with `before` against the margin."""
    margin = run.spec.objectives.quality_margin
    pairs = pair_values(*({case: score.ndcg for case, score in each.scores.items()} for each in (before, found)))
    ndcg = non_inferiority(
        by_question(pairs, {case.id: case.text_sha256 for case in run.golden}),
        metric=f"ndcg@{found.k}",
        margin=USUAL_MARGIN if margin is None else margin,
        seed=run.seed,
    )
    recalls = [score.recall for score in found.scores.values() if score.recall is not None]
    return {
        "k": found.k,
        "asked": len(found.got),
        "embedded": len(found.got) - sum(found.errors.values()),
        "errors": dict(found.errors),
        "ndcg": ndcg.to_json(),
        "recall": statistics.fmean(recalls) if recalls else None,
        "latency_ms_median": statistics.median(found.latencies_ms) if found.latencies_ms else None,
        "question_tokens": found.tokens,
        "question_price": found.price,
    }


def told_price(run: DrillRun, embedder: DrilledEmbedder, tokens: int) -> dict[str, Any]:
    """`usd` (None is unknown) of so many input tokens, by the drill's price book, and where the price is from."""
    identity, book = embedder.identity(), price_book(run)
    free = embedder.model().revision.startswith(WEIGHTS)
    day = run.clock.now().date()
    row = None if book is None else book.look_up(identity.provider, identity.model, Unit.INPUT_TOKENS, day=day)
    if row is None or isinstance(row, MissingPrice):
        told = NOBODY_BILLS if free else "no price book was given" if row is None else str(row)
        return {"usd": "0" if free else None, "price": told, "price_id": None, "illustrative": False}
    usd = round_usd(row.cost(Decimal(tokens)))
    return {"usd": plain(usd), "price": row.source, "price_id": row.id, "illustrative": row.illustrative}
