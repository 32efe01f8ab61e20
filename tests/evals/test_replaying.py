"""Golden questions asked of one stack in a drill: what a failing store leaves of them."""

from __future__ import annotations

from exitramp.drill.steps.judging import store_failures
from exitramp.errors import StoreUnavailable
from exitramp.evals.replay import replay
from exitramp.evals.scorers import Outcome
from exitramp.evals.sets.case import parse_case
from exitramp.orchestration import Router
from exitramp.orchestration.stack import Passage, RenderedPrompt, Stack
from exitramp.ports import ChatMessage
from tests.evals.test_runs import Scripted

CASES = tuple(
    parse_case({"id": f"c{n:02}", "question": "Why?", "checks": [{"kind": "exact", "text": "yes"}]}) for n in range(12)
)


def test_a_store_that_fails_is_no_vendors_error_and_behind_the_open_breaker_it_is_the_same_one() -> None:
    def retrieve(question: str, depth_k: int) -> tuple[Passage, ...]:
        raise StoreUnavailable("locked")

    model = Scripted(lambda question: "yes")
    stack = Stack(
        "only", retrieve, lambda asked, found: RenderedPrompt((ChatMessage("user", asked.text),)), model, "qdrant"
    )
    found = replay(CASES, Router([stack]).ask, label="replay", depth_k=3, hash_text=lambda text: text)
    assert model.requests == []
    assert {score.outcome for score in found.scores().values()} == {Outcome.STORE_ERROR}
    assert {result.error_class for result in found.results} == {"store_unavailable"}
    [finding] = store_failures([("substitute", found)])
    assert finding.code == "quality.store_errors"
    assert "12 of 12 golden questions got no answer of the substitute" in finding.message
