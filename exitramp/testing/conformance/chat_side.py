"""An adapter beside a server that says byte by byte what a chat vendor may say, and what is said there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest

from exitramp.errors import ModelError
from exitramp.ports import ChatMessage, ChatModel, ChatRequest, ToolCall, ToolSpec
from exitramp.testing.conformance.chat_harness import ChatHarness, Said, StreamsElsewhere, WireError
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
        before = len(self.server.arrived)
        with pytest.raises(ModelError) as caught:
            self.model.answer(asked, timeout_seconds=seconds)
        assert len(self.server.arrived) <= before + 1, "it tried again, which whoever asks decides"
        assert SECRET not in str(caught.value), "an error repeats the prompt"
        return caught.value

    def asked(self) -> ChatRequest:
        """What arrived last, in the port's words."""
        arrived = self.server.arrived[-1]
        wire = self.harness.wire
        found = wire.asked(arrived)
        assert arrived.path == (wire.stream_path if found.stream and isinstance(wire, StreamsElsewhere) else wire.path)
        return found


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


def quoting(body: Any, words: str) -> Any:
    """A body of JSON with `words` in every text of it that is a sentence, as of a vendor that shows what it did not
    like; codes and types are left as they are."""
    if isinstance(body, Mapping):
        return {name: quoting(value, words) for name, value in body.items()}
    if isinstance(body, list):
        return [quoting(value, words) for value in body]
    return f"{body} It was: '{words}'." if isinstance(body, str) and (" " in body or body.endswith(".")) else body


def shown_errors(ask: Callable[[], object], server: ScriptedServer) -> str:
    """All that is shown of what goes wrong in each way: refused by the vendor, hung up on, silent, no JSON."""
    refused = {"error": {"type": "x", "message": "the key sesame-0123456789 is no good"}}
    ways = (
        Reply((dump(refused),), status=401),
        Reply((dump(refused),), status=500),
        Reply((b"sesame-0123456789",), ending="close"),
        Reply((b"sesame-0123456789",)),
        Reply(silent=True),
    )
    shown = []
    for reply in ways:
        server.answer(reply)
        with pytest.raises(ModelError) as caught:
            ask()
        shown.append(f"{caught.value} {caught.value!r} {caught.value.hint}")
    return " ".join(shown)


def dump(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode()
