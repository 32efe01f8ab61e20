"""What an adapter raises that its port has no word for, told under the port's words; what is on purpose passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from exitramp.errors import DataInvalid, ModelError, StoreProtocolError, StoreRejected
from exitramp.ports import (
    ChatAnswer,
    ChatDelta,
    ChatMessage,
    ChatModel,
    ChatRequest,
    Embedder,
    ModelAdapter,
    ModelIdentity,
    Purpose,
    Reranker,
    TellsRefusals,
)
from exitramp.ports.embedding import Embedded, HoldsStaticWeights
from exitramp.ports.unforeseen import guarded
from exitramp.records import Usage
from exitramp.registry import open_chat, open_embedder
from exitramp.urls import Address, Network
from exitramp.wrappers.guarded import Guarded

ASKED = ChatRequest((ChatMessage("user", "the secret question"),), stream=True)


class Odd:
    """A model of every role that does what it was given."""

    dimensions = 2

    def __init__(self, does: Callable[[], Any]) -> None:
        self._does = does

    def identity(self) -> ModelIdentity:
        return ModelIdentity("odd", "odd-1", "odd:x")

    def answer(self, request: ChatRequest, *, timeout_seconds: float, on_delta: Any = None) -> ChatAnswer:
        if on_delta is not None:
            on_delta(ChatDelta("piece"))
        self._does()
        return ChatAnswer("whole", "stop", "odd-1", Usage(1, 1), 1.0)

    def embed(self, texts: Sequence[str], **_: Any) -> Any:
        return self._does()

    def rerank(self, question: str, texts: Sequence[str], **_: Any) -> Any:
        return self._does()

    def close(self) -> None: ...


def _raises(error: Exception) -> Callable[[], Any]:
    def work() -> Any:
        raise error

    return work


def _opened(does: Callable[[], Any]) -> tuple[ChatModel, Embedder, Reranker]:
    def opens(address: Address, network: Network) -> Any:
        return Odd(does)

    adapter = guarded(ModelAdapter("odd", "odd", "odd:x", ("chat",), opens, opens, open_reranker=opens))
    address = Address.parse("odd:x")
    assert adapter.open_chat is not None
    assert adapter.open_embedder is not None
    assert adapter.open_reranker is not None
    return (
        adapter.open_chat(address, Network()),
        adapter.open_embedder(address, Network()),
        adapter.open_reranker(address, Network()),
    )


def _calls(does: Callable[[], Any]) -> list[Callable[[], Any]]:
    chat, embedder, reranker = _opened(does)
    return [
        lambda: chat.answer(ASKED, timeout_seconds=1.0),
        lambda: embedder.embed(["x"], purpose=Purpose.QUERY),
        lambda: reranker.rerank("q", ["x"]),
    ]


@pytest.mark.parametrize("role", [0, 1, 2])
@pytest.mark.parametrize(
    ("raised", "error_class", "again"),
    [
        (KeyError("sk-secret"), "malformed", False),
        (ConnectionResetError("sk-secret"), "connection", True),
        (TimeoutError("sk-secret"), "timeout", True),
    ],
)
def test_an_exception_that_nobody_foresaw_is_a_vendors_failure_without_its_words(
    role: int, raised: Exception, error_class: str, again: bool
) -> None:
    with pytest.raises(ModelError) as caught:
        _calls(_raises(raised))[role]()
    error = caught.value
    assert (error.error_class, error.retryable, error.maybe_billed) == (error_class, again, True)
    assert f"{type(raised).__name__} at test_unforeseen.py:" in error.message
    assert "secret" not in f"{error} {error.hint}"
    assert error.__cause__ is raised


@pytest.mark.parametrize("role", [0, 1, 2])
@pytest.mark.parametrize("raised", [ModelError("no", error_class="auth"), DataInvalid("text 3"), MemoryError()])
def test_what_is_raised_on_purpose_passes_as_it_is(role: int, raised: Exception) -> None:
    with pytest.raises(type(raised)) as caught:
        _calls(_raises(raised))[role]()
    assert caught.value is raised


def test_what_a_listener_raises_is_the_listeners() -> None:
    chat, *_ = _opened(lambda: None)
    gone = KeyError("the listener's own")

    def hear(delta: ChatDelta) -> None:
        raise gone

    with pytest.raises(KeyError) as caught:
        chat.answer(ASKED, timeout_seconds=1.0, on_delta=hear)
    assert caught.value is gone


def test_what_a_model_tells_beside_its_port_is_told_on() -> None:
    anthropic = open_chat("anthropic:claude-x?base_url=http://127.0.0.1:9&key=env:HOME")
    openai = open_chat("openai:gpt-x?base_url=http://127.0.0.1:9/v1&key=env:HOME")
    assert isinstance(anthropic, TellsRefusals)
    assert anthropic.refuses()
    assert not isinstance(openai, TellsRefusals)
    assert isinstance(open_embedder("wordllama:"), HoldsStaticWeights)
    assert not isinstance(open_embedder("openai:e?base_url=http://127.0.0.1:9/v1"), HoldsStaticWeights)


def test_a_stores_exception_is_told_with_its_place_and_without_its_words() -> None:
    policy = Guarded("odd:./x#y")
    with pytest.raises(StoreProtocolError) as caught:
        policy.run("count", _raises(KeyError("sk-secret")))
    assert "KeyError at test_unforeseen.py:" in caught.value.message
    assert "in count" in caught.value.message
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    for raised in (StoreRejected("no"), FileNotFoundError("x"), MemoryError()):
        with pytest.raises(type(raised)) as passed:
            policy.run("count", _raises(raised))
        assert passed.value is raised


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [[1.0, 0.0], [0.0, 0.0]],
            "odd: odd-1 sent a vector of zeros and nothing else for 1 of 2 texts, first for",
        ),
        (
            [[0.0, 0.0], [-0.0, 0.0]],
            "odd: odd-1 sent a vector of zeros and nothing else for 2 of 2 texts, first for",
        ),
        ([[1.0, 0.0], [float("nan"), 0.0]], "odd: odd-1 sent a vector of numbers that are none for 1 of 2 texts"),
        ([[float("inf"), 0.0], [1.0, 0.0]], "odd: odd-1 sent a vector of numbers that are none for 1 of 2 texts"),
        ([[1.0, 0.0]], "odd: odd-1 answered 2 texts with an array of shape [1, 2]"),
    ],
)
def test_what_is_no_vector_of_each_text_is_a_malformed_answer_of_its_model(rows: list[list[float]], said: str) -> None:
    """Zeros are as near to one text as to any other: a search by them finds whatever stands first."""
    made = Embedded(np.array(rows, np.float32), Usage(1, 0), 1.0, "odd-1")
    _, embedder, _ = _opened(lambda: made)
    with pytest.raises(ModelError) as caught:
        embedder.embed(["a", "b"], purpose=Purpose.QUERY)
    assert (caught.value.error_class, caught.value.maybe_billed) == ("malformed", True)
    assert caught.value.message.startswith(said)


def test_a_vector_with_one_number_is_one() -> None:
    made = Embedded(np.array([[0.0, 1e-30]], np.float32), Usage(1, 0), 1.0, "odd-1")
    assert _opened(lambda: made)[1].embed(["a"], purpose=Purpose.QUERY) is made
