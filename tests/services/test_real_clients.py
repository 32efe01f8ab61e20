"""The vendors' own clients against the mock vendors: a mock that only our client can talk to proves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from exitramp.faults import VENDOR_FAULTS, Fault
from exitramp.records import Usage
from exitramp_adapters.services.extractive import count_tokens
from exitramp_adapters.services.mock_vendor.adapter import ANTHROPIC, OPENAI, MockVendor

openai = pytest.importorskip("openai", reason="the openai SDK is not installed")
anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")

PROMPT: Final = """[passage os.path.join#0]
Join two or more pathname components, inserting a slash as needed.
[/passage]
Question: How do I join pathname components?"""
ANSWER: Final = "Join two or more pathname components, inserting a slash as needed. [os.path.join#0]"
CITY: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TIMEOUT_SECONDS: Final = 5.0


def served(service: Any, factory: pytest.TempPathFactory) -> Iterator[MockVendor]:
    vendor = service.make(str(factory.mktemp("vendor")), 3, {"quality": "good", "prompt_cache": True})
    assert isinstance(vendor, MockVendor)
    vendor.start()
    yield vendor
    vendor.stop()


def asked(vendor: MockVendor) -> int:
    """How many requests arrived so far."""
    return len(list(vendor.account()))


# Which error each fault is to an SDK that does not try again, and its status.
_OPENAI_ERRORS: Final = {
    "rate_limit": ("RateLimitError", 429),
    "quota": ("RateLimitError", 429),
    "error_500": ("InternalServerError", 500),
    "unavailable": ("InternalServerError", 503),
    "overloaded": ("InternalServerError", 529),
    "auth": ("AuthenticationError", 401),
    "model_gone": ("NotFoundError", 404),
    "hang": ("APITimeoutError", None),
    "refuse": ("APIConnectionError", None),
    "partial_region": ("InternalServerError", 503),
}
_ANTHROPIC_ERRORS: Final = _OPENAI_ERRORS | {
    "quota": ("EnforcedSpendLimitReachedError", 429),
    "unavailable": ("ServiceUnavailableError", 503),
    "partial_region": ("ServiceUnavailableError", 503),
    "overloaded": ("OverloadedError", 529),
}
_OPTIONS: Final = {"partial_region": {"share": 1.0, "by": "key"}}
# What breaks within an answer: the SDKs have no error of their own for all of it, but a whole answer it must not be.
_BROKEN: Final = ("truncate", "reset", "malformed")
# Faults that end in a whole answer, late or of another model.
_ANSWERED: Final = {"none", "slow_first_token", "slow_stream", "quality_drift"}


# -- openai --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chat_vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockVendor]:
    yield from served(OPENAI, tmp_path_factory)


@pytest.fixture
def chat(chat_vendor: MockVendor) -> Iterator[Any]:
    chat_vendor.inject(Fault("none"))
    base_url = chat_vendor.address.options["base_url"]
    with openai.OpenAI(base_url=base_url, api_key="any", max_retries=0, timeout=TIMEOUT_SECONDS) as client:
        yield client
    chat_vendor.inject(Fault("none"))


def say(client: Any, **more: Any) -> Any:
    messages = more.pop("messages", [{"role": "user", "content": PROMPT}])
    return client.chat.completions.create(model="mock-large", messages=messages, **more)


def test_openai_takes_a_whole_answer_with_usage(chat: Any) -> None:
    given = say(chat, max_completion_tokens=64, temperature=0)
    [choice] = given.choices
    assert (choice.message.content, choice.finish_reason) == (ANSWER, "stop")
    assert given.model == "mock-large"
    usage = given.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (count_tokens(PROMPT), count_tokens(ANSWER))
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert given._request_id.startswith("req_mock")


def test_openai_takes_a_stream_that_is_the_whole_answer(chat: Any) -> None:
    chunks = list(say(chat, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == count_tokens(ANSWER)
    with chat.chat.completions.stream(
        model="mock-large", messages=[{"role": "user", "content": PROMPT}]
    ) as events:  # the SDK's own putting together
        final = events.get_final_completion()
    assert final.choices[0].message.content == ANSWER


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_openai_calls_a_tool_and_sends_its_result_back(chat: Any, stream: bool) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": CITY, "strict": True}}
    messages: list[Any] = [{"role": "user", "content": "Paris"}]
    if stream:
        with chat.chat.completions.stream(
            model="mock-large", messages=messages, tools=[tool], tool_choice="required"
        ) as events:
            given = events.get_final_completion()
    else:
        given = say(chat, messages=messages, tools=[tool], tool_choice="required")
    [choice] = given.choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
    messages += [
        choice.message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}),
        {"role": "tool", "tool_call_id": call.id, "content": "In Paris it is 21 degrees."},
    ]
    for each in messages[1]["tool_calls"]:
        each["function"].pop("parsed_arguments", None)
    then = say(chat, messages=messages, tools=[tool])
    assert then.choices[0].finish_reason == "stop"
    assert "21 degrees" in then.choices[0].message.content


def test_openai_takes_json_by_mode_and_by_schema(chat: Any) -> None:
    messages = [{"role": "user", "content": f"Answer in JSON.\n{PROMPT}"}]
    free = say(chat, messages=messages, response_format={"type": "json_object"})
    assert isinstance(json.loads(free.choices[0].message.content), dict)
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    bound = say(chat, messages=messages, response_format=wanted)
    assert set(json.loads(bound.choices[0].message.content)) == {"city"}
    pydantic = pytest.importorskip("pydantic")
    city = pydantic.create_model("City", city=(str, ...))
    parsed = chat.chat.completions.parse(model="mock-large", messages=messages, response_format=city)
    assert parsed.choices[0].message.parsed.city


def test_openai_takes_stop_sequences_and_limits(chat: Any) -> None:
    stopped = say(chat, stop=["inserting"])
    assert stopped.choices[0].message.content == ANSWER.partition("inserting")[0]
    assert stopped.choices[0].finish_reason == "stop"
    assert say(chat, max_tokens=3).choices[0].finish_reason == "length"


@pytest.mark.parametrize("form", ["base64", "float"])
def test_openai_embeds_and_lists_models(chat: Any, form: str) -> None:
    texts = ["join paths", "the weather in Paris", "joining a path"]
    given = chat.embeddings.create(model="mock-embed", input=texts, encoding_format=form, dimensions=64)
    assert [row.index for row in given.data] == [0, 1, 2]
    vectors = [row.embedding for row in given.data]
    if form == "base64":
        import base64
        import struct

        vectors = [struct.unpack("<64f", base64.b64decode(vector)) for vector in vectors]
    assert {len(vector) for vector in vectors} == {64}
    near, far = (sum(a * b for a, b in zip(vectors[0], vectors[row], strict=True)) for row in (2, 1))
    assert near > far
    assert given.usage.prompt_tokens == sum(map(count_tokens, texts))
    assert {"mock-large", "mock-embed"} <= {model.id for model in chat.models.list()}


@pytest.mark.parametrize("kind", sorted(_OPENAI_ERRORS))
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_openai_gives_each_fault_its_own_error(chat: Any, chat_vendor: MockVendor, kind: str, stream: bool) -> None:
    name, status = _OPENAI_ERRORS[kind]
    chat_vendor.inject(Fault(kind, _OPTIONS.get(kind, {})))
    client = chat.with_options(timeout=0.4) if kind == "hang" else chat
    with pytest.raises(getattr(openai, name)) as caught:
        list(say(client, stream=stream))
    assert type(caught.value).__name__ == name
    assert getattr(caught.value, "status_code", None) == status
    if kind == "quota":
        assert caught.value.code == "insufficient_quota"


@pytest.mark.parametrize("kind", _BROKEN)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_openai_is_never_given_a_whole_answer_by_what_broke(
    chat: Any, chat_vendor: MockVendor, kind: str, stream: bool
) -> None:
    """The SDK takes a stream that ends early without a word: only the missing finish reason tells."""
    chat_vendor.inject(Fault(kind))
    finish: list[Any] = []
    try:
        if stream:
            finish = [chunk.choices[0].finish_reason for chunk in say(chat, stream=True) if chunk.choices]
        else:
            finish = [choice.finish_reason for choice in say(chat).choices]
    except (openai.OpenAIError, ValueError, OSError, *_transport_errors()):
        return
    assert not any(finish), f"{kind} came as a whole answer"


def test_openai_tries_again_as_it_says_and_is_counted(chat: Any, chat_vendor: MockVendor) -> None:
    before = asked(chat_vendor)
    chat_vendor.inject(Fault("rate_limit", {"retry_after_seconds": 0.01, "retry_after_form": "milliseconds"}))
    with pytest.raises(openai.RateLimitError):
        say(chat.with_options(max_retries=2))
    assert asked(chat_vendor) - before == 3


# -- anthropic -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def message_vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockVendor]:
    yield from served(ANTHROPIC, tmp_path_factory)


@pytest.fixture
def messages(message_vendor: MockVendor) -> Iterator[Any]:
    message_vendor.inject(Fault("none"))
    base_url = message_vendor.address.options["base_url"]
    with anthropic.Anthropic(base_url=base_url, api_key="any", max_retries=0, timeout=TIMEOUT_SECONDS) as client:
        yield client
    message_vendor.inject(Fault("none"))


def tell(client: Any, **more: Any) -> Any:
    said = more.pop("messages", [{"role": "user", "content": PROMPT}])
    return client.messages.create(model="mock-large", max_tokens=more.pop("max_tokens", 64), messages=said, **more)


def test_anthropic_takes_a_whole_answer_with_usage(messages: Any) -> None:
    system = "Be brief, as a test of the cache."
    first, second = (tell(messages, system=system) for _ in range(2))
    [block] = first.content
    assert (block.type, block.text, first.stop_reason) == ("text", ANSWER, "end_turn")
    assert first.model == "mock-large"
    whole = count_tokens(system + "\n" + PROMPT)
    for given, cached in ((first, 0), (second, count_tokens(system))):
        assert given.usage.output_tokens == count_tokens(ANSWER)
        assert given.usage.input_tokens == whole - cached, "this vendor counts cached tokens outside"
        assert (given.usage.cache_read_input_tokens or 0) == cached
    assert first._request_id.startswith("req_mock")


def test_anthropic_takes_a_stream_that_is_the_whole_answer(messages: Any) -> None:
    with messages.messages.stream(
        model="mock-large", max_tokens=64, messages=[{"role": "user", "content": PROMPT}]
    ) as stream:
        assert "".join(stream.text_stream) == ANSWER
        final = stream.get_final_message()
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", count_tokens(ANSWER))
    kinds = [event.type for event in tell(messages, stream=True)]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_anthropic_calls_a_tool_and_sends_its_result_back(messages: Any, stream: bool) -> None:
    tool = {"name": "weather", "description": "In a city", "input_schema": CITY}
    said: list[Any] = [{"role": "user", "content": "Paris"}]
    asking = {"model": "mock-large", "max_tokens": 64, "tools": [tool], "tool_choice": {"type": "any"}}
    if stream:
        with messages.messages.stream(messages=said, **asking) as events:
            given = events.get_final_message()
    else:
        given = messages.messages.create(messages=said, **asking)
    assert given.stop_reason == "tool_use"
    [call] = [block for block in given.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("weather", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "In Paris it is 21 degrees."}
    said += [
        {"role": "assistant", "content": [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}]},
        {"role": "user", "content": [result]},
    ]
    then = tell(messages, messages=said, tools=[tool])
    assert then.stop_reason == "end_turn"
    assert "21 degrees" in then.content[0].text


def test_anthropic_takes_json_by_schema_stop_sequences_and_limits(messages: Any) -> None:
    given = tell(messages, output_config={"format": {"type": "json_schema", "schema": CITY}})
    assert set(json.loads(given.content[0].text)) == {"city"}
    stopped = tell(messages, stop_sequences=["inserting"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "inserting")
    assert stopped.content[0].text.rstrip() == ANSWER.partition("inserting")[0].rstrip()
    assert tell(messages, max_tokens=3).stop_reason == "max_tokens"


@pytest.mark.parametrize("kind", sorted(_ANTHROPIC_ERRORS))
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_anthropic_gives_each_fault_its_own_error(
    messages: Any, message_vendor: MockVendor, kind: str, stream: bool
) -> None:
    name, status = _ANTHROPIC_ERRORS[kind]
    message_vendor.inject(Fault(kind, _OPTIONS.get(kind, {})))
    client = messages.with_options(timeout=0.4) if kind == "hang" else messages
    error = getattr(anthropic, name, None) or getattr(anthropic._exceptions, name)
    with pytest.raises(error) as caught:
        list(tell(client, stream=stream))
    assert type(caught.value).__name__ == name
    assert getattr(caught.value, "status_code", None) == status


@pytest.mark.parametrize("kind", _BROKEN)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_anthropic_is_never_given_a_whole_answer_by_what_broke(
    messages: Any, message_vendor: MockVendor, kind: str, stream: bool
) -> None:
    message_vendor.inject(Fault(kind))
    stop: list[Any] = []
    try:
        if stream:
            stop = [event.delta.stop_reason for event in tell(messages, stream=True) if event.type == "message_delta"]
        else:
            stop = [tell(messages).stop_reason]
    except (anthropic.AnthropicError, ValueError, OSError, *_transport_errors()):
        return
    assert not any(stop), f"{kind} came as a whole answer"


def test_every_fault_of_the_vendors_has_its_test_here() -> None:
    assert set(_OPENAI_ERRORS) | set(_BROKEN) | _ANSWERED >= VENDOR_FAULTS
    assert set(_ANTHROPIC_ERRORS) == set(_OPENAI_ERRORS)


def test_both_clients_usage_is_the_same_in_our_words(chat: Any, messages: Any) -> None:
    """What our adapters make of it: input that holds what was cached."""
    from_chat, from_messages = say(chat).usage, tell(messages).usage
    ours = Usage(from_chat.prompt_tokens, from_chat.completion_tokens)
    cached = from_messages.cache_read_input_tokens or 0
    assert Usage(from_messages.input_tokens + cached, from_messages.output_tokens) == ours


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the SDKs let through of the HTTP client they use, when an answer breaks off."""
    httpx2 = pytest.importorskip("httpx2")
    return (httpx2.HTTPError, httpx2.StreamError)
