"""Scripted models and stores on a clock that moves only when told to: no network, no waiting, no chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from exitramp.backoff import Backoff
from exitramp.clock import ManualClock
from exitramp.errors import ModelError
from exitramp.orchestration import (
    BreakerSettings,
    InlineCalls,
    Outcome,
    Passage,
    Policy,
    Question,
    RenderedPrompt,
    Router,
    RouterEvent,
    Stack,
)
from exitramp.ports import ChatAnswer, ChatMessage, ChatRequest, ModelIdentity
from exitramp.records import Usage


class ScriptedModel:
    """Does what `script` says, call after call, then `default`: an exception is raised, a callable called.

    `takes_seconds` moves the clock on every call; a call that would take longer than it may times out.
    """

    def __init__(self, name: str, clock: ManualClock) -> None:
        self.name = name
        self.clock = clock
        self.script: list[Any] = []
        self.default: Any = None
        self.takes_seconds = 0.0
        self.requests: list[ChatRequest] = []
        self.timeouts: list[float] = []

    def identity(self) -> ModelIdentity:
        return ModelIdentity(f"vendor-{self.name}", f"model-{self.name}", f"scripted:{self.name}", is_mock=True)

    def answer(self, request: ChatRequest, *, timeout_seconds: float) -> ChatAnswer:
        self.requests.append(request)
        self.timeouts.append(timeout_seconds)
        self.clock.advance(min(self.takes_seconds, timeout_seconds))
        if self.takes_seconds > timeout_seconds:
            raise ModelError("too slow", error_class="timeout", maybe_billed=True)
        said = self.script.pop(0) if self.script else self.default
        if isinstance(said, BaseException):
            raise said
        if callable(said):
            said = said()
        if isinstance(said, ChatAnswer):
            return said
        return ChatAnswer(f"answer of {self.name}", "stop", f"model-{self.name}", Usage(10, 5), 1.0)

    def close(self) -> None: ...


class ScriptedStore:
    """Two passages named after the store, or what `script` says."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.script: list[Any] = []
        self.default: Any = None
        self.calls = 0

    def __call__(self, question_text: str, k: int, /) -> Sequence[Passage]:
        self.calls += 1
        said = self.script.pop(0) if self.script else self.default
        if isinstance(said, BaseException):
            raise said
        if callable(said):
            said()
        return [Passage(f"{self.name}-{rank}", f"text {rank} of {self.name}") for rank in range(min(k, 2))]


def render(question: Question, passages: Sequence[Passage], /) -> RenderedPrompt:
    text = "\n".join(
        [*(f"[passage {item.id}]\n{item.text}\n[/passage]" for item in passages), f"Question: {question.text}"]
    )
    return RenderedPrompt((ChatMessage("user", text),), "docs_qa", "1", "ab" * 32)


class World:
    """Two stacks, a clock, and everything the router said."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.models = {name: ScriptedModel(name, self.clock) for name in ("primary", "substitute")}
        self.stores = {name: ScriptedStore(name) for name in ("primary", "substitute")}
        self.events: list[RouterEvent] = []
        self.policy = Policy(
            deadline_seconds=20.0,
            attempt_seconds=4.0,
            retrieve_seconds=2.0,
            backoff=Backoff(tries=3, base_seconds=0.1, cap_seconds=1.0, retry_after_cap_seconds=1.0),
            breaker=BreakerSettings(failures=4, sample=6, window_seconds=10.0, cool_down_seconds=5.0),
        )
        self._asked = 0

    def router(self, names: Sequence[str] = ("primary", "substitute"), **options: Any) -> Router:
        stacks = [
            Stack(
                name, self.stores[name], render, self.models[name], f"store-{name}", options.pop(f"price_{name}", None)
            )
            for name in names
        ]
        given = {"policy": self.policy, "clock": self.clock, "listener": self.events.append}
        return Router(stacks, **{**given, "bounded": lambda name: InlineCalls(), **options})

    def question(self, text: str = "How?", **more: Any) -> Question:
        self._asked += 1
        return Question(**{"id": f"q-{self._asked}", "text": text, "use_case_id": "docs_qa", **more})

    def ask(self, router: Router, times: int = 1) -> list[Outcome]:
        return [router.ask(self.question()) for _ in range(times)]

    def kinds(self) -> list[str]:
        return [f"{event.kind.value} {event.stack}" for event in self.events]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def fails() -> Callable[..., ModelError]:
    def make(error_class: str, **more: Any) -> ModelError:
        return ModelError(f"scripted {error_class}", error_class=error_class, **more)

    return make
