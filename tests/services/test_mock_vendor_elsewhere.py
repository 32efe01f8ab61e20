"""Mock vendors that answer from a cassette, by forwarding, and under schedules that are files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from exitramp.errors import DataInvalid, ModelError, UsageError
from exitramp.faults import Fault, ScheduledFault
from exitramp.ports import (
    ChatAnswer,
    ChatMessage,
    ChatRequest,
    ModelIdentity,
    Purpose,
    ResponseFormat,
    ToolCall,
    ToolSpec,
)
from exitramp.ports.cassette import Cassette, CassetteWriter, Exchange, request_key
from exitramp.records import Usage
from exitramp.registry import open_chat, open_embedder
from exitramp.wrappers.recording import RecordingChat
from exitramp_adapters.services.mock_vendor.adapter import ANTHROPIC, OPENAI, MockVendor

TOOL = ToolSpec("clock", "The hour", {"type": "object", "properties": {"zone": {"type": "string"}}})
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def ask(text: str, **changes: Any) -> ChatRequest:
    messages = (ChatMessage("system", "Be brief."), ChatMessage("user", text))
    return ChatRequest(messages, **{"maximum_tokens": 100} | changes)


REQUESTS = (
    ask("Question: Who?"),
    ask("Use the clock", tools=(TOOL,), tool_choice="auto"),
    ChatRequest(
        (
            ChatMessage("user", "Use the clock"),
            ChatMessage("assistant", "", (ToolCall("x1", "clock", '{"zone": "UTC"}'),)),
            ChatMessage("tool", "noon", tool_call_id="x1"),
        ),
        100,
        tools=(TOOL,),
    ),
    ask("As a form", response_format=ResponseFormat("json_schema", "form", SCHEMA), stop=("END",)),
)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., MockVendor]]:
    started: list[MockVendor] = []

    def start(adapter: Any = OPENAI, **options: Any) -> MockVendor:
        vendor: MockVendor = adapter.make(str(tmp_path / f"vendor{len(started)}"), 7, options)
        started.append(vendor)
        vendor.start()
        return vendor

    yield start
    for vendor in started:
        vendor.stop()


class Scripted:
    """A model that answers what it is told to, in turn."""

    def __init__(self, *answers: ChatAnswer) -> None:
        self._answers = list(answers)

    def identity(self) -> ModelIdentity:
        return ModelIdentity("openai", "real-1", "openai:real-1")

    def answer(self, request: ChatRequest, *, timeout_seconds: float, on_delta: object = None) -> ChatAnswer:
        return self._answers.pop(0)

    def close(self) -> None:
        pass


def said(text: str, *calls: ToolCall) -> ChatAnswer:
    return ChatAnswer(text, "tool_calls" if calls else "stop", "real-1-0101", Usage(11, 3), 5.0, tool_calls=calls)


def _text(exchange: Exchange | None) -> str:
    assert exchange is not None
    assert exchange.answer is not None
    return exchange.answer.text


def recorded(path: Path, *pairs: tuple[ChatRequest, ChatAnswer], **options: Any) -> Path:
    cassette = CassetteWriter(path, **options)
    model = RecordingChat(Scripted(*(answer for _, answer in pairs)), cassette)
    for request, _ in pairs:
        model.answer(request, timeout_seconds=1)
    cassette.close()
    return path


@pytest.mark.parametrize("adapter", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_was_recorded_is_played_in_either_shape(
    make: Callable[..., MockVendor], tmp_path: Path, adapter: Any, stream: bool
) -> None:
    answers = (said("Me."), said("", ToolCall("c9", "clock", '{"zone":"CET"}')), said("Noon."), said('{"a":"b"}'))
    path = recorded(tmp_path / "c.jsonl", *zip(REQUESTS, answers, strict=True))
    vendor = make(adapter, cassette=str(path))
    assert vendor.address.location == "real-1"
    model = open_chat(str(vendor.address))
    for request, answer in zip(REQUESTS, answers, strict=True):
        streamed = ChatRequest(**{n: getattr(request, n) for n in request.__slots__} | {"stream": stream})
        played = model.answer(streamed, timeout_seconds=5)
        assert (played.text, played.tool_calls) == (answer.text, answer.tool_calls)
        assert (played.usage.prompt_tokens, played.usage.gen_tokens) == (11, 3)
    assert model.identity().is_mock
    model.close()


def test_a_request_that_was_not_recorded_is_refused_with_its_key(
    make: Callable[..., MockVendor], tmp_path: Path
) -> None:
    vendor = make(cassette=str(recorded(tmp_path / "c.jsonl", (REQUESTS[0], said("Me.")))))
    model = open_chat(str(vendor.address))
    with pytest.raises(ModelError, match=request_key("real-1", ask("Else"))) as caught:
        model.answer(ask("Else"), timeout_seconds=5)
    assert caught.value.error_class == "invalid_request"
    assert vendor.counters()["failed.not_recorded"] == 1
    model.close()


def test_repeats_are_played_in_order_and_the_last_from_then_on(tmp_path: Path) -> None:
    request = REQUESTS[0]
    path = recorded(tmp_path / "c.jsonl", (request, said("One.")), (request, said("Two.")))
    cassette, key = Cassette.read(path), request_key("real-1", request)
    assert [_text(cassette.play(key)) for _ in range(3)] == ["One.", "Two.", "Two."]
    assert cassette.play("0" * 64) is None


def test_keys_tell_requests_apart_by_what_decides_the_answer_and_by_nothing_else() -> None:
    base = ask("x", temperature=0.0)
    key = request_key("m", base)
    for same in (
        ask("x", temperature=None),
        ask("x", stream=True, idempotency_key="k"),
        ask("x", tool_choice="auto"),
    ):
        assert request_key("m", same) == key
    for other in (
        ask("y"),
        ask("x", temperature=0.5),
        ask("x", maximum_tokens=99),
        ask("x", stop=("a",)),
        ask("x", top_p=0.5),
        ask("x", tools=(TOOL,)),
        ask("x", tools=(TOOL,), tool_choice="none"),
        ask("x", response_format=ResponseFormat("json_object")),
    ):
        assert request_key("m", other) != key
    assert request_key("n", base) != key


def test_a_cassette_holds_no_secret_and_no_request_unless_asked(tmp_path: Path) -> None:
    secret = "sk-abcdefgh12345678"
    request = ask(f"My key is {secret}")
    plain = recorded(tmp_path / "a.jsonl", (request, said(f"It is {secret}."))).read_text()
    kept = recorded(tmp_path / "b.jsonl", (request, said("x")), keep_requests=True).read_text()
    assert secret not in plain + kept
    assert "My key is" not in plain
    assert "My key is [secret]" in kept
    assert (tmp_path / "a.jsonl").stat().st_mode & 0o077 == 0


def test_a_killed_recorders_last_line_is_left_out_and_recording_goes_on(tmp_path: Path) -> None:
    path = recorded(tmp_path / "c.jsonl", (REQUESTS[0], said("One.")))
    with path.open("ab") as file:
        file.write(b'{"cassette":1,"ke')
    assert len(Cassette.read(path)) == 1
    recorded(path, (REQUESTS[1], said("Two.")))
    assert len(Cassette.read(path)) == 2


@pytest.mark.parametrize("line", ["{}", "[]", "hello", '{"cassette": 2}', '{"cassette": 1, "key": 5}'])
def test_what_is_no_cassette_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    path = recorded(tmp_path / "c.jsonl", (REQUESTS[0], said("One.")))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataInvalid, match="line 2"):
        Cassette.read(path)
    with pytest.raises(DataInvalid, match="line 2"):
        CassetteWriter(path)


def test_a_cassette_without_exchanges_and_two_sources_at_once_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").touch()
    with pytest.raises(UsageError, match="no exchange"):
        OPENAI.make(str(tmp_path), 0, {"cassette": str(tmp_path / "c.jsonl")})
    with pytest.raises(UsageError, match="not both"):
        OPENAI.make(str(tmp_path), 0, {"cassette": "x", "forward": "http://127.0.0.1:1/v1"})
    with pytest.raises(UsageError, match="this machine"):
        OPENAI.make(str(tmp_path), 0, {"forward": "http://example.com/v1"})


# -- forwarding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_forwarding_vendor_gives_what_the_model_behind_it_says(
    make: Callable[..., MockVendor], adapter: Any, stream: bool
) -> None:
    behind = make()
    front = make(adapter, forward=behind.address.options["base_url"])
    direct, through = open_chat(str(behind.address)), open_chat(str(front.address))
    for request in (*REQUESTS[:2], REQUESTS[3], ask("[passage a]\nMe too.\n[/passage]\nQuestion: me?", stop=("too",))):
        asked = ChatRequest(**{n: getattr(request, n) for n in request.__slots__} | {"stream": stream})
        ours, theirs = through.answer(asked, timeout_seconds=5), direct.answer(asked, timeout_seconds=5)
        assert (ours.text, ours.finish_reason, ours.usage) == (theirs.text, theirs.finish_reason, theirs.usage)
        assert [call.arguments for call in ours.tool_calls] == [call.arguments for call in theirs.tool_calls]
    front.inject(Fault("unavailable"))
    with pytest.raises(ModelError):
        through.answer(REQUESTS[0], timeout_seconds=5)
    front.inject(Fault("none"))
    behind.inject(Fault("refuse"))
    with pytest.raises(ModelError) as caught:
        through.answer(REQUESTS[0], timeout_seconds=5)
    assert caught.value.error_class == "overloaded"
    direct.close()
    through.close()


def test_embeddings_are_forwarded_too(make: Callable[..., MockVendor]) -> None:
    behind = make()
    front = make(forward=behind.address.options["base_url"], forward_model="mock-embed")
    found = [
        open_embedder(str(vendor.address).replace("mock-large", "mock-embed")).embed(
            ["two paths"], purpose=Purpose.QUERY
        )
        for vendor in (behind, front)
    ]
    assert found[0].vectors.tolist() == found[1].vectors.tolist()
    shorter = open_embedder(f"{front.address}&dimensions=8".replace("mock-large", "mock-embed"))
    with pytest.raises(ModelError, match="dimensions"):  # which the model behind may leave away
        shorter.embed(["two paths"], purpose=Purpose.QUERY)


# -- schedules -----------------------------------------------------------------------------------------------------


def statuses(vendor: MockVendor, headers: list[dict[str, str]]) -> list[int]:
    body = {"model": "mock-large", "messages": [{"role": "user", "content": "x"}]}
    url = vendor.address.options["base_url"] + "/chat/completions"
    with httpx.Client(trust_env=False) as client:
        return [client.post(url, json=body, headers={"authorization": "Bearer k"} | h).status_code for h in headers]


def test_a_key_is_revoked_after_some_calls_and_a_model_retired_at_a_time(make: Callable[..., MockVendor]) -> None:
    revoked = make(schedule=[{"kind": "auth", "from_call": 3}])
    assert statuses(revoked, [{}] * 4) == [200, 200, 401, 401]
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert statuses(make(schedule=[{"kind": "model_gone", "from_time": soon}]), [{}]) == [200]
    assert statuses(make(schedule=[{"kind": "model_gone", "from_time": past}]), [{}]) == [404]


def test_part_of_a_region_fails_for_the_same_share_of_keys_every_time(make: Callable[..., MockVendor]) -> None:
    keys = [{"authorization": f"Bearer k{number}"} for number in range(40)]
    vendor = make()
    vendor.inject(Fault("partial_region", {"share": 0.3}))
    first = statuses(vendor, keys)
    assert first == statuses(vendor, keys)
    assert 4 <= first.count(503) <= 20
    assert set(first) == {200, 503}
    vendor.inject(Fault("partial_region", {"share": 0.5, "by": "X-Region", "fault": "rate_limit"}))
    regions = [{"x-region": name} for name in ("eu-1", "eu-2", "us-1", "us-2", "ap-1", "ap-2")]
    by_region = statuses(vendor, regions)
    assert by_region == statuses(vendor, regions)
    assert set(by_region) == {200, 429}
    for share, status in ((0, 200), (1, 503)):
        vendor.inject(Fault("partial_region", {"share": share}))
        assert statuses(vendor, keys[:3]) == [status] * 3


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"kind": "hang", "calls": "3"}, "calls"),
        ({"kind": "hang", "calls": [0]}, "calls"),
        ({"kind": "hang", "from_call": 1.5}, "from_call"),
        ({"kind": "hang", "probability": 2}, "probability"),
        ({"kind": "hang", "from_seconds": "soon"}, "from_seconds"),
        ({"kind": "hang", "from_time": "tomorrow"}, "from_time"),
        ({"kind": "hang", "from_time": "2030-01-01", "from_seconds": 1}, "exclude"),
        ({"kind": "hang", "when": 3}, "when"),
        ({"calls": [3]}, "no kind"),
        ("hang", "mapping"),
    ],
)
def test_a_schedules_mistakes_are_named(entry: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ScheduledFault.parse(entry)


def test_what_is_scheduled_for_a_time_is_counted_from_now() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    parsed = ScheduledFault.parse(
        {"kind": "hang", "from_time": "2030-01-01T00:00:30Z", "to_time": "2029-01-01"}, now=now
    )
    assert (parsed.from_seconds, parsed.to_seconds) == (30.0, 0.0)
    assert not parsed.applies(call=1, elapsed_seconds=40.0)
    assert parsed.is_window
