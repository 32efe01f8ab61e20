"""An independent referee of our client: llmock plays the vendors, breaks by its own scripts, and judges what it saw.

Its verdicts (retry_after_ignored, retried_non_retryable, retry_storm, truncated_stream_accepted, no_backoff, gave_up,
no_read_timeout, malformed_chunk_ignored) stand at the end of the test run, and none of them may be bad: warnings count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import pytest
from llmock.pytest_plugin import LLMock
from llmock.verdict import judge

from exitramp.backoff import Backoff
from exitramp.orchestration import Outcome, Policy, Question, RenderedPrompt, Router, Stack
from exitramp.ports import ChatMessage, ChatRequest
from exitramp.registry import open_chat

# Patient enough for the scripts on a busy machine. The seed of the waits is the router's own: with full jitter a wait
# may by chance be shorter than the one before it, which the referee takes for none in growth. With this one the first
# wait is some 0.3 s, in which the referee notices the end of what was broken off, and the second 0.6 s longer.
SEED = 763
POLICY = Policy(
    deadline_seconds=30.0,
    attempt_seconds=3.0,
    backoff=Backoff(tries=3, base_seconds=0.5, cap_seconds=2.0),
    retry_timeouts=True,
)
ADDRESSES = {
    "openai": "openai:gpt-4o-mini?base_url={}&key=env:OPENAI_API_KEY",
    "anthropic": "anthropic:claude-sonnet-4-5?base_url={}&key=env:ANTHROPIC_API_KEY",
}


class Refereed:
    """Our adapters behind our router, with the referee for a vendor."""

    def __init__(
        self, referee: LLMock, providers: tuple[str, ...], opened: ExitStack, *, policy: Policy = POLICY
    ) -> None:
        self.referee = referee
        self._asked = 0
        stacks: list[Stack] = []
        for provider in providers:
            address = ADDRESSES[provider].format(referee.base_url(provider))
            model = opened.enter_context(closing(open_chat(address)))
            name = provider if provider not in {stack.name for stack in stacks} else f"{provider} 2"
            stacks.append(Stack(name, lambda text, k: (), lambda q, p: RenderedPrompt(()), model, "none"))
        self._router = Router(stacks, policy=policy, seed=SEED)

    def ask(self, *, stream: bool = False) -> Outcome:
        self._asked += 1
        said = ChatMessage("user", f"Tell me of exit ramps, please, in a sentence or two ({self._asked}).")
        request = ChatRequest((said,), 200, stream=stream)
        return self._router.ask(Question(f"q{self._asked}", said.content, "referee", stream=stream, request=request))


@pytest.fixture
def refereed(llmock: LLMock, record_property: Callable[[str, object], None]) -> Iterator[Callable[..., Refereed]]:
    with ExitStack() as opened:
        yield lambda *providers, **how: Refereed(llmock, providers, opened, **how)
        verdict = llmock.verdict()
        record_property("referee", verdict.render())
        print(verdict.render())
        # A slow first token is no fault to the referee; that it was asked again shows that something was broken.
        assert verdict.faults or verdict.attempts > len(verdict.calls), "nothing was broken, so nothing was judged"
        verdict.assert_ok(strict=True)


@pytest.fixture(params=["openai", "anthropic"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("retry_after", [0.2, 0.7])
def test_a_rate_limit_is_waited_for(
    refereed: Callable[..., Refereed], provider: str, stream: bool, retry_after: float
) -> None:
    client = refereed(provider)
    client.referee.rate_limit(times=2, retry_after=retry_after)
    assert client.ask(stream=stream).is_answered


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_a_passing_failure_is_tried_again(refereed: Callable[..., Refereed], provider: str, status: int) -> None:
    client = refereed(provider)
    client.referee.fail(status, times=2 if status == 503 else 1)
    assert client.ask().is_answered


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_no_retry_mends_is_not_tried_again(refereed: Callable[..., Refereed], provider: str, status: int) -> None:
    client = refereed(provider)
    client.referee.fail(status, times=None)
    outcome = client.ask()
    assert not outcome.is_answered
    assert len(outcome.attempts) == 1


def test_an_outage_ends_in_bounded_tries(refereed: Callable[..., Refereed], provider: str) -> None:
    client = refereed(provider)
    client.referee.outage()
    outcome = client.ask()
    assert not outcome.is_answered
    assert len(outcome.attempts) == POLICY.backoff.tries


# So long that a client which stops reading at the third piece has hung up before the last one is sent: the referee
# takes a stream that was sent to its end for one that was read to its end.
LONG = " ".join(["Leaving was rehearsed, so it was boring, and nobody noticed it at all."] * 100)
BREAKS: dict[str, Callable[[LLMock], Any]] = {
    "truncate": lambda referee: referee.truncate(after_chunks=3),
    "truncate at once": lambda referee: referee.truncate(after_chunks=1),
    "disconnect": lambda referee: referee.disconnect(after_chunks=3),
    "corrupt": lambda referee: referee.corrupt(after_chunks=3),
    "stall": lambda referee: referee.stall(after_chunks=2, seconds=8.0),
    "slow first token": lambda referee: referee.slow_first_token(8.0),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_stream_is_never_taken_for_an_answer(
    refereed: Callable[..., Refereed], provider: str, broken: str
) -> None:
    client = refereed(provider)
    client.referee.reply(LONG, times=None)
    BREAKS[broken](client.referee)
    outcome = client.ask(stream=True)
    assert outcome.answer is not None
    assert outcome.answer.text == LONG
    assert len(outcome.attempts) == 2


@pytest.mark.parametrize("order", [("openai", "anthropic"), ("anthropic", "openai")])
@pytest.mark.parametrize("broken", ["503", "disconnect"])
def test_what_gateways_get_wrong_ends_with_the_other_vendor(
    refereed: Callable[..., Refereed], order: tuple[str, str], broken: str
) -> None:
    client = refereed(*order)
    client.referee.reply("Whole and sound, from the first word to the last.", times=None)
    if broken == "503":
        client.referee.outage(provider=order[0])
    else:
        client.referee.disconnect(times=None, after_chunks=2, provider=order[0])
    outcome = client.ask(stream=True)
    assert outcome.stack == order[1]
    assert outcome.answer is not None
    assert outcome.answer.text == "Whole and sound, from the first word to the last."


@pytest.mark.parametrize("shape", ["openai", "anthropic"])
def test_a_stream_without_a_finish_ends_with_a_second_vendor_of_the_shape(
    refereed: Callable[..., Refereed], shape: str
) -> None:
    """The third thing that gateways get wrong. Two vendors of one shape are one path to the referee, so that its own
    rules see the second one's request for what it is: the same call, asked again."""
    client = refereed(shape, shape, policy=replace(POLICY, backoff=replace(POLICY.backoff, tries=1)))
    client.referee.reply(LONG, times=None)
    client.referee.truncate(after_chunks=3)
    outcome = client.ask(stream=True)
    assert outcome.stack == f"{shape} 2"
    assert [attempt.error_class for attempt in outcome.attempts] == ["truncated", None]
    assert outcome.answer is not None
    assert outcome.answer.text == LONG


@pytest.mark.parametrize("order", [("openai", "anthropic"), ("anthropic", "openai")])
def test_a_stream_without_a_finish_ends_with_the_other_vendor(
    llmock: LLMock, order: tuple[str, str], record_property: Callable[[str, object], None]
) -> None:
    """Here the verdict is the referee's rules over calls that are grouped by the question. By itself it tells calls
    apart by path and body, and one vendor's request is never another shape's again: it then says that the truncated
    stream was accepted, which is held here too, lest that changes unseen."""
    with ExitStack() as opened:
        client = Refereed(llmock, order, opened)
        llmock.reply(LONG, times=None)
        llmock.truncate(times=None, after_chunks=3, provider=order[0])
        outcome = client.ask(stream=True)
    assert outcome.stack == f"{order[1]}"
    assert outcome.answer is not None
    assert outcome.answer.text == LONG
    assert {attempt.error_class for attempt in outcome.attempts[:-1]} == {"truncated"}
    records = llmock.requests
    assert [finding.code for finding in judge(records).findings] == ["truncated_stream_accepted"]
    verdict = judge(replace(record, fingerprint="the question") for record in records)
    record_property("referee", verdict.render())
    assert (len(verdict.calls), verdict.faults) == (1, len(outcome.attempts) - 1)
    verdict.assert_ok(strict=True)
