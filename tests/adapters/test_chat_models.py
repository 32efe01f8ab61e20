"""The chat adapters against the conformance suite, with the mock vendors as the models that answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from exitramp.faults import Fault
from exitramp.ports import ChatMessage, ChatModel, ChatRequest, ServiceAdapter
from exitramp.registry import open_chat
from exitramp.testing.conformance.chat import ChatConformance, ChatFeature, ChatHarness
from exitramp.urls import Address
from exitramp_adapters.services.mock_vendor.adapter import ANTHROPIC, OPENAI, MockVendor
from tests.adapters.chat_wires import AnthropicWire, OpenAIWire

PASSAGES = (
    ("paths", "Join two or more pathname components, inserting a slash as needed."),
    ("times", "The current time of day, in seconds since the epoch."),
    ("texts", "A copy of the string with its first character in upper case."),
    ("heaps", "Push the value onto the heap, and keep the heap invariant."),
)


class MockHarness(ChatHarness):
    """An adapter with a mock vendor behind it, and with whatever listens at a URL."""

    service: ServiceAdapter

    def __init__(self, folder: Path) -> None:
        vendor = self.service.make(str(folder), 3, {"quality": "good"})
        assert isinstance(vendor, MockVendor)
        self.vendor = vendor
        self.address = vendor.start()
        self.faults = frozenset(self.service.faults) - {"sigcont", "restart"}

    def open(self) -> ChatModel:
        return open_chat(self.address)

    def open_at(self, base_url: str, *, key: str | None = None, **options: str) -> ChatModel:
        base_url += "/v1" if self.address.scheme == "openai" else ""
        given = {"base_url": base_url, **options, **({"key": key} if key is not None else {})}
        return open_chat(Address(self.address.scheme, "m", None, given))

    def question(self, number: int = 0) -> ChatRequest:
        name, text = PASSAGES[number % len(PASSAGES)]
        asked = f"[passage {name}]\n{text}\n[/passage]\nQuestion: {text}"
        return ChatRequest((ChatMessage("system", "Be brief."), ChatMessage("user", asked)), maximum_tokens=64)

    def fail(self, fault: Fault) -> None:
        self.vendor.inject(fault)

    def heal(self) -> None:
        self.vendor.inject(Fault("none"))

    def keys(self) -> Sequence[str]:
        return [str(entry["request_sha256"]) for entry in self.vendor.account()]


class OpenAIHarness(MockHarness):
    service = OPENAI
    wire = OpenAIWire()


class AnthropicHarness(MockHarness):
    service = ANTHROPIC
    wire = AnthropicWire()
    lacks = {
        ChatFeature.JSON_OBJECT: "the messages shape has JSON by a schema alone",
        ChatFeature.TEMPERATURE: "the API has none since its version 2026-10-21",
        ChatFeature.TOP_P: "the API has none since its version 2026-10-21",
        ChatFeature.REASONING: "the shape counts what was thought with what was said, and does not tell them apart",
    }


def _harnesses(kind: type[MockHarness], factory: pytest.TempPathFactory) -> Iterator[MockHarness]:
    made = kind(factory.mktemp(kind.__name__))
    yield made
    made.vendor.stop()


class TestOpenAI(ChatConformance):
    @pytest.fixture(scope="class")
    def harness(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockHarness]:
        yield from _harnesses(OpenAIHarness, tmp_path_factory)


class TestAnthropic(ChatConformance):
    @pytest.fixture(scope="class")
    def harness(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockHarness]:
        yield from _harnesses(AnthropicHarness, tmp_path_factory)
