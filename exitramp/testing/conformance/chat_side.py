"""An adapter beside a server that says byte by byte what a chat vendor may say, and what is said there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pytest

from exitramp.errors import ModelError
from exitramp.ports import ChatMessage, ChatModel, ChatRequest, ToolCall, ToolSpec
from exitramp.testing.conformance.chat_harness import ChatHarness, Said, WireError
from exitramp.testing.scripted import EVENTS, Reply, ScriptedServer

SECRET: Final = "kingfisher at dawn over the quiet river"
ASK: Final = ChatRequest((ChatMessage("user", SECRET),), temperature=None)
TOOL: Final = ToolSpec("weather", "In a city", {"type": "object", "properties": {"city": {"type": "string"}}})
OTHER_TOOL: Final = ToolSpec("clock", "", {"type": "object", "properties": {}})
SCHEMA: Final = {"type": "object", "properties": {"größe": {"type": "integer"}}, "required": ["größe"]}
CALLS: Final = (ToolCall("call_1", "weather", '{"city":"Zürich 🏔"}'), ToolCall("call_2", "clock", "{}"))
TEXT: Final = 'Grüße, 世界 👩‍🚀: eins\nzwei\t"drei" \\ vier.'
PIECES: Final = ("Grüße, 世", "界 👩‍🚀", ": eins\nzwei\t", '"drei" \\', " vier.")
DEADLINE_SECONDS: Final = 3.0
SLACK_SECONDS: Final = 1.5  # a machine shared with others may wake a thread that late
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


class Side:
    """An adapter and the scripted server that it talks to."""

    def __init__(self, harness: ChatHarness, server: ScriptedServer, model: ChatModel) -> None:
        self.harness, self.server, self.model = harness, server, model

    def says(self, said: Said, *, stream: bool, pieces: Sequence[str] | None = None) -> None:
        self.server.answer(self.reply(said, stream=stream, pieces=pieces))

    def reply(self, said: Said, *, stream: bool, pieces: Sequence[str] | None = None) -> Reply:
        wire = self.harness.wire
        if not stream:
            return Reply((dump(wire.whole(said)),))
        events = wire.stream(said, pieces if pieces is not None else [said.text] if said.text else [])
        return Reply(tuple(events), content_type=EVENTS)

    def fails(self, asked: ChatRequest = ASK, *, seconds: float = DEADLINE_SECONDS) -> ModelError:
        with pytest.raises(ModelError) as caught:
            self.model.answer(asked, timeout_seconds=seconds)
        assert SECRET not in str(caught.value), "an error repeats the prompt"
        return caught.value

    def asked(self) -> ChatRequest:
        """What arrived last, in the port's words."""
        arrived = self.server.arrived[-1]
        assert arrived.path == self.harness.wire.path
        return self.harness.wire.asked(arrived)


@contextmanager
def sides(harness: ChatHarness, **options: str) -> Iterator[Side]:
    with ScriptedServer() as server:
        model = harness.open_at(server.base_url, **options)
        try:
            yield Side(harness, server, model)
        finally:
            model.close()


def error_reply(answer: WireError) -> Reply:
    return Reply((dump(answer.body),), status=answer.status, headers=dict(answer.headers))


def dump(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode()
