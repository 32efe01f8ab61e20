"""What the author of a chat adapter supplies, so that the adapter cannot vouch for itself.

A harness opens the adapter on a model that answers (a real one, or a mock that keeps the published contract), and its
`ChatWire` writes the vendor's shape from that contract, never with the adapter's code. What either cannot do stands in
`lacks` with the reason, which becomes the reason of the skipped tests; a feature that is not listed there is tested.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol, runtime_checkable

import pytest

from exitramp.faults import Fault
from exitramp.ports import ChatMessage, ChatModel, ChatRequest, ToolCall
from exitramp.records import Usage
from exitramp.testing.scripted import Arrived


class ChatFeature(StrEnum):
    """What a vendor's API, or the model that answers, may lack.

    The first kind is what a request can ask for: an adapter whose API lacks it must refuse such a request, naming it.
    The second kind, `answers_…` and below, is of the model that `open` gives.
    """

    STREAMING = "streaming"
    TOOLS = "tools"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    STOP = "stop"
    TEMPERATURE = "temperature"
    TOP_P = "top_p"
    CACHE_WRITES = "cache_writes"  # the vendor counts what it put into its cache
    REASONING = "reasoning"  # the vendor counts what the model thought, and tells it apart
    THOUGHTS = "thoughts"  # the vendor may show what the model thought, beside the answer
    FILTER = "filter"  # the vendor may withhold an answer, and says so where it says why it ended

    ANSWERS_TOOLS = "answers_tools"  # it calls a tool when it must
    ANSWERS_JSON_OBJECT = "answers_json_object"  # it answers a JSON object when it must
    ANSWERS_JSON_SCHEMA = "answers_json_schema"  # and one of a schema
    ANSWERS_STOP = "answers_stop"  # it ends where a stop sequence would begin
    SAME_AGAIN = "same_again"  # the same question gets the same answer
    COUNTED = "counted"  # the vendor counts tokens
    KEYS = "keys"  # the harness can tell which idempotency keys arrived
    SERVICE = "service"  # the vendor is a service that can be made to fail


ASKED: Final = {
    ChatFeature.TOOLS: "tool",
    ChatFeature.JSON_OBJECT: "JSON",
    ChatFeature.JSON_SCHEMA: "JSON",
    ChatFeature.STOP: "stop",
    ChatFeature.TEMPERATURE: "temperature",
    ChatFeature.TOP_P: "top_p",
}
"""What a request can ask for, and the word by which a refusal names it."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a vendor is to answer. `finish` is in the port's words, and content_filter where the answer is withheld;
    any other is a word that the vendor has come up with since, and stands as it is; None leaves it away, as a broken
    answer does.

    usage: what it counts, in the port's way of counting: `gen_tokens` hold the `reasoning_tokens`. None: it counts
        nothing. thought: what the model thought, shown beside the text where the shape has a place for that.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish: str | None = "stop"
    usage: Usage | None = Usage(21, 8, cache_read_tokens=5)
    thought: str = ""


@dataclass(frozen=True, slots=True)
class WireError:
    """A vendor's error answer. `retry_after_seconds` is what its body says of waiting, if it says it there."""

    status: int
    body: Mapping[str, Any]
    headers: tuple[tuple[str, str], ...] = ()
    retry_after_seconds: float | None = None


class ChatWire(Protocol):
    """A vendor's shape, written down from its published contract."""

    path: str
    """Where its chat requests arrive, under the URL that `open_at` was given, with the query if there is one."""

    def asked(self, arrived: Arrived) -> ChatRequest:
        """What was asked, in the port's words; without an idempotency key where none arrived, and with the name "" for
        a schema in a shape that has no room for its name."""
        ...

    def key(self, arrived: Arrived) -> str | None:
        """The API key that came with it."""
        ...

    def whole(self, said: Said) -> Mapping[str, Any]:
        """The body of an answer that is not streamed."""
        ...

    def stream(self, said: Said, pieces: Sequence[str]) -> Sequence[bytes]:
        """The events of a streamed answer, each with its closing empty line; `pieces` are the text's, and the
        arguments of each call come in at least two where the shape has pieces of them. Counts that grow while it
        answers are lower in earlier events, as the vendor's are."""
        ...

    def error(self, error_class: str) -> Sequence[WireError]:
        """Answers of the vendor that are of this class; none where it has no such answer."""
        ...

    def error_event(self) -> bytes | None:
        """What the vendor sends within a stream when it is overloaded; None where it sends nothing like it."""
        ...


@runtime_checkable
class StreamsElsewhere(Protocol):
    """A `ChatWire` whose streams are asked for at a path of their own."""

    stream_path: str


class ChatHarness(abc.ABC):
    """One adapter and something that answers it. One harness may serve many tests: `heal` puts it right again.

    answer_seconds: how long an answer of the model may take.
    """

    wire: ChatWire
    lacks: Mapping[ChatFeature, str] = {}
    faults: frozenset[str] = frozenset()
    answer_seconds: float = 10.0

    @abc.abstractmethod
    def open(self) -> ChatModel:
        """The adapter on a model that answers."""

    @abc.abstractmethod
    def open_at(self, base_url: str, *, key: str | None = None, **options: str) -> ChatModel:
        """The adapter on whatever listens at `base_url`, such as http://127.0.0.1:8080, with options of its address.

        `key` is a reference such as `env:NAME`. Options that the suite sets: `connect_seconds`, `first_token_seconds`.
        """

    def question(self, number: int = 0) -> ChatRequest:
        """A question that the model answers in at least two words. Different for each number."""
        return ChatRequest(
            (
                ChatMessage("system", "Be brief."),
                ChatMessage("user", f"Count from {number + 1} to {number + 5} in words."),
            ),
            maximum_tokens=24,
        )

    def fail(self, fault: Fault) -> None:
        """Make the vendor behind `open` fail that way from now on. Only for what `faults` names."""
        raise NotImplementedError(f"{type(self).__name__}.fail: write it, or put SERVICE into `lacks`")

    def heal(self) -> None:  # noqa: B027  (a vendor that cannot be made to fail has nothing to heal)
        """End whatever `fail` began."""

    def keys(self) -> Sequence[str]:
        """Of every request that arrived so far, a text that is the same for the same idempotency key."""
        raise NotImplementedError(f"{type(self).__name__}.keys: write it, or put KEYS into `lacks`")


def need(harness: ChatHarness, *features: ChatFeature) -> None:
    """Skip the test, with the harness's own reason, if one of these is lacking."""
    for feature in features:
        if feature in harness.lacks:
            pytest.skip(f"{feature.value}: {harness.lacks[feature]}")
