"""A broken answer of real vendors of our own: never half an answer, and the substitute answers within a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from exitramp.faults import Fault
from exitramp.orchestration import Question, RenderedPrompt, Router, Stack
from exitramp.ports import ChatMessage, ChatRequest, Service
from exitramp.registry import open_chat, service_adapter

TEXT = "[passage a]\nParis is a big city on the Seine. It has two million people.\n[/passage]\nQuestion: Is Paris big?"
NAMES = ("mock-openai", "mock-anthropic")


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Service, str]]]:
    started: dict[str, tuple[Service, str]] = {}
    for name in NAMES:
        service = service_adapter(name).make(str(tmp_path_factory.mktemp(name)), 7, {"quality": "good"})
        started[name] = (service, service.start().text)
    yield started
    for service, _ in started.values():
        service.stop()


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]], ids=["openai first", "anthropic first"])
@pytest.mark.parametrize("kind", ["truncate", "reset", "malformed", "unavailable"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_other_vendor_answers_whole(
    vendors: dict[str, tuple[Service, str]], order: tuple[str, str], kind: str, stream: bool
) -> None:
    with ExitStack() as opened:
        models = {name: opened.enter_context(closing(open_chat(vendors[name][1]))) for name in order}
        stacks = [
            Stack(name, lambda text, k: (), lambda q, p: RenderedPrompt(()), models[name], "none") for name in order
        ]
        request = ChatRequest((ChatMessage("user", TEXT),), stream=stream)
        vendors[order[0]][0].inject(Fault(kind))
        try:
            outcome = Router(stacks, seed=1).ask(Question("q", TEXT, "x", stream=stream, request=request))
        finally:
            vendors[order[0]][0].inject(Fault("none"))
        whole = models[order[1]].answer(request, timeout_seconds=5)
    assert outcome.stack == order[1]
    assert outcome.answer is not None
    assert outcome.answer.text == whole.text
    assert {attempt.stack for attempt in outcome.attempts} == set(order)
    assert outcome.duration_seconds < 5.0  # far below what the attempt that broke off might have taken
