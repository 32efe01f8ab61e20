"""The conformance suite for rerankers: one class that an adapter's test file subclasses.

class TestMyReranker(RerankerConformance):
    @pytest.fixture
    def harness(self):
        return MyHarness()

For a reranker behind HTTP the test class takes `RerankWireConformance` too, whose harness has a `wire`.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import pytest

from exitramp.errors import ExitrampError
from exitramp.ports import Reranked, Reranker

QUESTION: Final = "How do I join two parts of a file path?"
TEXTS: Final = (
    "The orchestra played a symphony for the mayor.",
    "Join two or more parts of a file path, with a separator between them.",
    "x",
    "Grüße aus Zürich, 世界 और दुनिया 👩‍🚀.",
    "word " * 60,
    "a\u0301 \u202eright to left\u202c \u0000 nul",
)
_ANSWER: Final = 1
_NEAR: Final = 1e-3
"""How far apart a text's scores may be that stood beside other texts: models compute in narrow types."""


class RerankerHarness(abc.ABC):
    """One reranker. `rank_by_set` says that a score depends on what else was given, as shares of a whole do."""

    seconds: float = 60.0
    rank_by_set: bool = False

    @abc.abstractmethod
    def open(self) -> Reranker: ...


@contextmanager
def opened(harness: RerankerHarness) -> Iterator[Reranker]:
    reranker = harness.open()
    try:
        yield reranker
    finally:
        reranker.close()


def _ask(reranker: Reranker, harness: RerankerHarness, texts: Sequence[str] = TEXTS) -> Reranked:
    return reranker.rerank(QUESTION, texts, timeout_seconds=harness.seconds)


class RerankerConformance:
    """Everything that a reranker is held to."""

    def test_every_text_has_one_finite_score(self, harness: RerankerHarness) -> None:
        with opened(harness) as reranker:
            given = _ask(reranker, harness)
            assert len(given.scores) == len(TEXTS)
            assert all(isinstance(score, float) and math.isfinite(score) for score in given.scores)
            assert given.latency_ms > 0
            assert given.model_id
            assert given.usage.gen_tokens == 0
            assert given.usage.prompt_tokens > 0

    def test_the_text_that_answers_is_above_one_that_does_not(self, harness: RerankerHarness) -> None:
        with opened(harness) as reranker:
            scores = _ask(reranker, harness).scores
            assert scores[_ANSWER] > scores[0], "higher is better"

    def test_scores_stand_in_the_order_of_the_texts(self, harness: RerankerHarness) -> None:
        with opened(harness) as reranker:
            together = _ask(reranker, harness).scores
            backwards = _ask(reranker, harness, TEXTS[::-1]).scores
            assert backwards[::-1] == pytest.approx(together, abs=_NEAR)

    def test_a_text_that_is_given_twice_has_the_same_score_twice(self, harness: RerankerHarness) -> None:
        with opened(harness) as reranker:
            scores = _ask(reranker, harness, (TEXTS[_ANSWER], TEXTS[0], TEXTS[_ANSWER])).scores
            assert scores[0] == pytest.approx(scores[2], abs=_NEAR)
            assert scores[0] > scores[1]

    def test_a_text_alone_has_a_score(self, harness: RerankerHarness) -> None:
        with opened(harness) as reranker:
            [alone] = _ask(reranker, harness, TEXTS[_ANSWER : _ANSWER + 1]).scores
            assert math.isfinite(alone)
            if not harness.rank_by_set:
                assert alone == pytest.approx(_ask(reranker, harness).scores[_ANSWER], abs=_NEAR)

    def test_asked_again_it_says_the_same(self, harness: RerankerHarness) -> None:
        with opened(harness) as reranker:
            assert _ask(reranker, harness).scores == pytest.approx(_ask(reranker, harness).scores, abs=_NEAR)

    def test_a_text_that_is_no_unicode_is_refused_and_not_repeated(self, harness: RerankerHarness) -> None:
        """Half a surrogate pair is a character of Python's and of no encoding."""
        with opened(harness) as reranker:
            with pytest.raises(ExitrampError) as caught:
                _ask(reranker, harness, ("fine", "half \ud83d of a face"))
            assert getattr(caught.value, "error_class", "invalid_request") == "invalid_request"
            assert "of a face" not in str(caught.value), "an error repeats the text"

    def test_it_says_which_model_it_is(self, harness: RerankerHarness) -> None:
        with opened(harness) as reranker:
            identity = reranker.identity()
            assert identity.provider
            assert identity.model

    def test_many_threads_get_each_their_own_scores(self, harness: RerankerHarness) -> None:
        with opened(harness) as reranker:

            def ask(row: int) -> tuple[float, ...]:
                return _ask(reranker, harness, (TEXTS[row], TEXTS[_ANSWER], TEXTS[(row + 1) % len(TEXTS)])).scores

            alone = [ask(row) for row in range(len(TEXTS))]
            with ThreadPoolExecutor(4) as pool:
                together = list(pool.map(ask, range(len(TEXTS))))
        for one, other in zip(alone, together, strict=True):
            assert one == pytest.approx(other, abs=_NEAR)

    def test_it_can_be_closed_twice_and_opened_again(self, harness: RerankerHarness) -> None:
        reranker = harness.open()
        first = _ask(reranker, harness).scores
        reranker.close()
        reranker.close()
        with opened(harness) as again:
            assert _ask(again, harness).scores == pytest.approx(first, abs=_NEAR)

    def test_a_deadline_that_has_passed_is_a_timeout(self, harness: RerankerHarness) -> None:
        with opened(harness) as reranker:
            _ask(reranker, harness)
            with pytest.raises(ExitrampError) as caught:
                reranker.rerank(QUESTION, TEXTS, timeout_seconds=1e-6)
        assert getattr(caught.value, "error_class", None) == "timeout"
