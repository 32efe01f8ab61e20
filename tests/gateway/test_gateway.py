"""The gateway as an existing application meets it: the official client, with nothing changed but its base_url."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from exitramp.faults import Fault
from exitramp.gateway.metrics import Metrics
from exitramp.orchestration import read_traces
from exitramp.orchestration.budget import WindowStanding
from exitramp.orchestration.following import Edits
from tests.gateway.running import RunningGateway
from tests.orchestration.vendors import PROMPT, WHOLE, Vendors, write

MESSAGES: list[Any] = [{"role": "user", "content": PROMPT}]
BODY = {"model": "gpt-of-before", "messages": MESSAGES, "max_tokens": 64}


class Place:
    """Two vendors, a stack file, and a gateway in front of them."""

    def __init__(self, folder: Path) -> None:
        self.vendors = Vendors(folder)
        self.traces = folder / "traces.jsonl"
        self.stack = folder / "stack.yaml"
        self.write()
        self.gateway = RunningGateway(self.stack)
        self.client = openai.OpenAI(base_url=self.gateway.address, api_key="unused", max_retries=0)

    def write(self, *order: str, **more: Any) -> None:
        document = self.vendors.document(
            *order,
            trace={"path": str(self.traces)},
            idempotency={"path": "journal.jsonl"},
            breaker={"cool_down_seconds": 0.05, "probe_successes": 1},
            **more,
        )
        document["embedders"] = {"words": {"address": "wordllama:", "aliases": ["text-embedding-3-small"]}}
        write(self.stack, document)

    def end(self) -> None:
        self.client.close()
        self.gateway.stop()
        self.vendors.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("gateway"))
    yield made
    made.end()


@pytest.fixture
def place(shared: Place) -> Place:
    shared.vendors.heal()
    wait_for(shared, "main")
    return shared


def wait_for(place: Place, model: str) -> None:
    """Until an edit is in force, or a breaker closed again."""
    end = time.monotonic() + 10
    while post(place).headers["x-exitramp-model"] != model:
        assert time.monotonic() < end


def post(place: Place, **more: Any) -> httpx.Response:
    return httpx.post(f"{place.gateway.address}/chat/completions", json=BODY, timeout=30, **more)


def test_the_official_client_is_answered_and_told_who_answered(place: Place) -> None:
    raw = place.client.chat.completions.with_raw_response.create(model="gpt-of-before", messages=MESSAGES)
    answer = raw.parse()
    assert answer.choices[0].message.content == WHOLE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "mock-large"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert raw.headers["x-exitramp-model"] == "main"
    assert raw.headers["x-exitramp-mock"] == "1"
    assert raw.headers["x-exitramp-cache"] == "none"


def test_the_official_client_streams(place: Place) -> None:
    stream = place.client.chat.completions.create(
        model="any", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == WHOLE
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None


@pytest.mark.parametrize(
    "more", [{"temperature": 0.3}, {"response_format": {"type": "json_object"}}], ids=["temperature", "JSON mode"]
)
@pytest.mark.parametrize(("fault", "status"), [("unavailable", 503), ("reset", 502)])
def test_a_backup_that_takes_no_such_request_makes_the_clients_fault_of_no_outage(
    place: Place, more: dict[str, Any], fault: str, status: int
) -> None:
    place.vendors["main"].inject(Fault(fault))
    body = {**BODY, "messages": [{"role": "user", "content": f"As JSON: {PROMPT}"}], **more}
    answer = httpx.post(f"{place.gateway.address}/chat/completions", json=body, timeout=30)
    assert answer.status_code == status, answer.text
    assert "x-should-retry" not in answer.headers
    assert "'backup' cannot stand in for this request" in answer.json()["error"]["message"]


def test_the_official_client_embeds_and_lists_models(place: Place) -> None:
    found = place.client.embeddings.create(model="text-embedding-3-small", input=["one text", "another"])
    assert [len(row.embedding) for row in found.data] == [256, 256]
    plain = place.client.embeddings.create(model="words", input="one text", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(found.data[0].embedding, abs=1e-6)
    assert {model.id for model in place.client.models.list()} == {"main", "backup", "words", "text-embedding-3-small"}


@pytest.mark.parametrize("name", ["word", "text-embedding-3-large", "main", "gpt-of-before"])
def test_no_embedder_stands_in_for_another(place: Place, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        place.client.embeddings.create(model=name, input="one text")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "it names: words" in str(caught.value)


def test_a_model_of_the_stack_file_is_asked_by_its_name_and_no_other(place: Place) -> None:
    answer = place.client.chat.completions.create(model="backup", messages=MESSAGES)
    assert answer.model == "mock-medium"
    place.vendors["backup"].inject(Fault("model_gone"))
    with pytest.raises(openai.APIStatusError) as caught:
        place.client.chat.completions.create(model="backup", messages=MESSAGES)
    assert (caught.value.status_code, caught.value.code) == (502, "model_gone")


@pytest.mark.parametrize("fault", ["unavailable", "error_500", "truncate", "reset", "malformed", "quota", "auth"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_vendor_that_fails_is_not_noticed_by_the_client(place: Place, fault: str, stream: bool) -> None:
    place.vendors["main"].inject(Fault(fault))
    if stream:
        chunks = list(place.client.chat.completions.create(model="any", messages=MESSAGES, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == WHOLE
        assert chunks[-1].choices[0].finish_reason == "stop"
    else:
        answer = place.client.chat.completions.create(model="any", messages=MESSAGES)
        assert (answer.choices[0].message.content, answer.model) == (WHOLE, "mock-medium")


def test_when_all_vendors_fail_the_client_is_told_in_its_own_shape(place: Place) -> None:
    for name in ("main", "backup"):
        place.vendors[name].inject(Fault("quota"))
    with pytest.raises(openai.RateLimitError) as caught:
        place.client.chat.completions.create(model="any", messages=MESSAGES)
    assert caught.value.code == "quota_exhausted"
    assert caught.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.RateLimitError):
        list(place.client.chat.completions.create(model="any", messages=MESSAGES, stream=True))


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"seed": 1}, "seed"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tool_choice": 3}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"stop": [1]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream": True, "stream_options": "x"}, "stream_options"),
        ({"model": ["main"]}, "model"),
        ({"tools": 5}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": "x"}}]}, "tools[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": 5}]}, "messages[0]"),
    ],
)
def test_what_cannot_be_passed_on_is_refused_by_name(place: Place, more: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{place.gateway.address}/chat/completions", json={**BODY, **more})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status"),
    [
        ("POST", "/v1/chat/completions", {"content-type": "application/json"}, b"{", 400),
        ("POST", "/v1/chat/completions", {"content-type": "application/json"}, b"[]", 400),
        ("POST", "/v1/chat/completions", {"content-type": "application/json"}, b"[" * 100_000, 400),
        ("POST", "/v1/chat/completions", {"content-type": "application/json"}, b"\xff", 400),
        ("POST", "/v1/chat/completions", {"content-type": "text/plain"}, b"{}", 415),
        ("POST", "/v1/chat/completions", {"content-type": "application/json", "host": "evil.example"}, b"{}", 421),
        ("POST", "/v1/embeddings", {"content-type": "application/json"}, b'{"input": [1, 2]}', 400),
        ("POST", "/v1/embeddings", {"content-type": "application/json"}, b'{"input": "a", "dimensions": 3}', 400),
        ("GET", "/v1/chat/completions", {}, b"", 405),
        ("GET", "/nowhere", {}, b"", 404),
    ],
)
def test_odd_requests_are_answered_in_the_shape(
    place: Place, method: str, path: str, headers: dict[str, str], content: bytes, status: int
) -> None:
    answer = httpx.request(method, place.gateway.root + path, headers=headers, content=content)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert httpx.get(f"{place.gateway.root}/healthz").status_code == 200


@pytest.mark.parametrize("number", [b"NaN", b"1e999", b"1" + b"0" * 400])
def test_a_number_beyond_any_setting_is_refused_in_the_shape(place: Place, number: bytes) -> None:
    content = b'{"messages": [{"role": "user", "content": "a"}], "temperature": ' + number + b"}"
    answer = httpx.post(
        f"{place.gateway.address}/chat/completions", headers={"content-type": "application/json"}, content=content
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "temperature")


@pytest.mark.parametrize(("said", "status"), [("TRUE", 400), ("1", 400), ("yes", 400), ("", 400), ("0", 200)])
def test_a_request_marked_personal_in_any_way_goes_to_nobody_without_a_tier_for_it(
    place: Place, said: str, status: int
) -> None:
    answer = httpx.post(f"{place.gateway.address}/chat/completions", json=BODY, headers={"x-exitramp-pii": said})
    assert answer.status_code == status


def test_an_idempotency_key_gets_one_answer_however_often_it_is_sent(place: Place) -> None:
    before = place.vendors["main"].counters()["requests"]
    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(post, place, headers={"idempotency-key": "order-7"}) for _ in range(8)]
        answers = [each.result() for each in sent]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["choices"][0]["message"]["content"] for answer in answers} == {WHOLE}
    assert place.vendors["main"].counters()["requests"] == before + 1
    other = {**BODY, "max_tokens": 65}
    reused = httpx.post(f"{place.gateway.address}/chat/completions", json=other, headers={"idempotency-key": "order-7"})
    assert reused.status_code == 400
    assert "used for another request before" in reused.json()["error"]["message"]


def test_an_edit_is_in_force_without_a_restart_and_a_broken_one_shows_in_healthz(place: Place) -> None:
    try:
        place.write("backup")
        wait_for(place, "backup")
        end = time.monotonic() + 5
        place.stack.write_text("version: 1\nmodells: {}\n")
        while (told := httpx.get(f"{place.gateway.root}/healthz").json())["problem"] is None:
            assert time.monotonic() < end
            post(place)
        assert "unknown key 'modells'" in told["problem"]
        assert post(place).status_code == 200
    finally:
        place.write()
        wait_for(place, "main")


def test_a_budget_is_a_gauge_with_all_its_digits() -> None:
    day = WindowStanding("day", None, Decimal("0.015"), Decimal("0.0002"), Decimal("0.01"))
    own = WindowStanding("month", "docs_qa", Decimal(5), Decimal(0), Decimal(0))
    lines = Metrics().text({}, Edits(0, 0, False), (day, own)).splitlines()
    assert 'exitramp_budget_usd{period="day",use_case="",kind="spent"} 0.0002' in lines
    assert 'exitramp_budget_usd{period="month",use_case="docs_qa",kind="cap"} 5.0' in lines
    assert sum(line.startswith("exitramp_budget_usd{") for line in lines) == 6


def test_the_metrics_say_what_the_vendors_say(place: Place) -> None:
    post(place)
    text = httpx.get(f"{place.gateway.root}/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    ok = sum(
        float(value)
        for name, value in values.items()
        if name.startswith("exitramp_calls_total") and 'provider="openai"' in name and 'status="ok"' in name
    )
    assert ok == place.vendors.answered("main")
    assert values['exitramp_breaker_state{model="main"}'] in "012"
    seconds = "exitramp_gateway_request_seconds"
    assert values[f'{seconds}_bucket{{le="+Inf"}}'] == values[f"{seconds}_count"]
    provider = [record for record in read_traces(place.traces) if record.provider == "openai" and record.status == "ok"]
    assert ok == len(provider)


def test_sigterm_lets_what_is_under_way_end_and_takes_nothing_new(tmp_path: Path) -> None:
    vendors = Vendors(tmp_path)
    try:
        stack = write(tmp_path / "stack.yaml", vendors.document("main"))
        gateway = RunningGateway(stack)
        vendors["main"].inject(Fault("slow_first_token", {"delay_seconds": 1.0}))
        port = int(gateway.root.rsplit(":", 1)[1])
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(httpx.post, f"{gateway.address}/chat/completions", json=BODY, timeout=30)
            end = time.monotonic() + 5
            while "under_way 2" not in httpx.get(f"{gateway.root}/metrics").text:
                assert time.monotonic() < end
            gateway.process.send_signal(signal.SIGTERM)
            assert slow.result(10).json()["choices"][0]["message"]["content"] == WHOLE
        code, said = gateway.stop()
        assert (code, said.splitlines()[-1]) == (0, "ended")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=2)
    finally:
        vendors.stop()


def test_with_keys_in_the_file_nobody_else_is_let_in(tmp_path: Path) -> None:
    vendors = Vendors(tmp_path)
    try:
        traces = tmp_path / "traces.jsonl"
        document = vendors.document(
            "main", keys={"shop": "env:SHOP_KEY", "desk": "env:DESK_KEY"}, trace={"path": str(traces)}
        )
        stack = write(tmp_path / "stack.yaml", document)
        gateway = RunningGateway(stack, SHOP_KEY="shop-key-1234", DESK_KEY="desk-key-5678")
        try:
            with pytest.raises(openai.AuthenticationError):
                openai.OpenAI(base_url=gateway.address, api_key="wrong", max_retries=0).models.list()
            client = openai.OpenAI(base_url=gateway.address, api_key="desk-key-5678", max_retries=0)
            assert client.chat.completions.create(model="any", messages=MESSAGES).choices[0].message.content == WHOLE
            assert httpx.get(f"{gateway.root}/healthz").status_code == 200
            assert httpx.get(f"{gateway.root}/metrics").status_code == 401
            assert [record.tenant for record in read_traces(traces)] == ["desk"]
        finally:
            _, said = gateway.stop()
        assert "key-" not in said + traces.read_text()
    finally:
        vendors.stop()


def test_a_break_after_the_first_token_is_an_error_to_the_official_client(tmp_path: Path) -> None:
    vendors = Vendors(tmp_path)
    try:
        stack = write(tmp_path / "stack.yaml", vendors.document(stream={"commit": "first_token"}))
        gateway = RunningGateway(stack)
        try:
            vendors["main"].inject(Fault("truncate"))
            client = openai.OpenAI(base_url=gateway.address, api_key="unused", max_retries=0)
            shown: list[str] = []
            with pytest.raises(openai.APIError) as caught:
                for chunk in client.chat.completions.create(model="any", messages=MESSAGES, stream=True):
                    shown.append(chunk.choices[0].delta.content or "")
                    assert chunk.choices[0].finish_reason is None
            assert 0 < len("".join(shown)) < len(WHOLE)
            assert caught.value.code == "truncated"
        finally:
            gateway.stop()
    finally:
        vendors.stop()


@pytest.mark.parametrize("vendor", ["main", "backup"])
def test_tools_and_formats_pass_through_to_either_vendor(place: Place, vendor: str) -> None:
    parameters = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    tools: Any = [{"type": "function", "function": {"name": "lookup", "parameters": parameters}}]
    create: Any = place.client.chat.completions.create
    said = create(model=vendor, messages=MESSAGES, tools=tools, tool_choice="required").choices[0]
    assert said.finish_reason == "tool_calls"
    assert said.message.tool_calls[0].function.name == "lookup"
    chunks = list(create(model=vendor, messages=MESSAGES, tools=tools, tool_choice="required", stream=True))
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert calls[0].function.name == "lookup"
    arguments = "".join(call.function.arguments for call in calls)
    assert arguments == said.message.tool_calls[0].function.arguments
    schema = {**parameters, "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    answer = create(model=vendor, messages=MESSAGES, response_format=wanted)
    assert answer.choices[0].message.content.startswith('{"name":')


def _said(**more: Any) -> dict[str, Any]:
    return {"role": "user", "content": PROMPT} | more


def _called(**more: Any) -> list[dict[str, Any]]:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}} | more
    return [
        _said(),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "x", "tool_call_id": "c1"},
    ]


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([_said(name="bob")], "'name' cannot be passed on"),
        ([{"role": "assistant", "refusal": "no"}, _said()], "'refusal' cannot be passed on"),
        ([{"role": "user"}], "a message has a content"),
        ([_said(), {"role": "tool", "content": "x"}], "the 'tool_call_id' of its call"),
        ([_said(), {"role": "tool", "content": "x", "tool_call_id": ["c1"]}], "the 'tool_call_id' of its call"),
        ([_said(tool_call_id="c1")], "the 'tool_call_id' of its call"),
        (_called(function={"name": "f", "arguments": {"a": 1}}), "name and arguments, each a text"),
        (_called(id=None), "name and arguments, each a text"),
    ],
)
def test_a_message_that_would_be_changed_on_its_way_is_refused(place: Place, messages: list[Any], said: str) -> None:
    before = [place.vendors[name].counters()["requests"] for name in ("main", "backup")]
    answer = httpx.post(f"{place.gateway.address}/chat/completions", json=BODY | {"messages": messages}, timeout=30)
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["error"]["message"]
    assert [place.vendors[name].counters()["requests"] for name in ("main", "backup")] == before


def test_what_clients_send_back_of_an_answer_and_a_tools_result_is_taken(place: Place) -> None:
    echoed = {"role": "assistant", "content": "A.", "refusal": None, "annotations": [], "audio": None}
    for messages in ([_said(), echoed, _said()], _called()):
        answer = httpx.post(f"{place.gateway.address}/chat/completions", json=BODY | {"messages": messages}, timeout=30)
        assert answer.status_code == 200, answer.text


def test_a_host_that_is_none_is_told_so_and_not_taken_for_a_bad_body(place: Place) -> None:
    answer = httpx.post(f"{place.gateway.address}/chat/completions", json=BODY, headers={"host": "[::bad"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "no_keys")


def test_a_client_that_does_not_read_is_cut_off_at_the_end_and_that_is_said_without_a_traceback(tmp_path: Path) -> None:
    vendors = Vendors(tmp_path)
    gateway = RunningGateway(write(tmp_path / "stack.yaml", vendors.document()), "--stop-seconds", "1")
    vendors["main"].inject(Fault("hang"))
    try:
        with socket.create_connection(("127.0.0.1", int(gateway.root.rpartition(":")[2]))) as client:
            body = json.dumps(BODY).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n"
            client.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
            end = time.monotonic() + 10
            while not vendors["main"].counters()["hung"]:
                assert time.monotonic() < end
            code, said = gateway.stop()
    finally:
        gateway.stop()
        vendors.stop()
    assert code == 0
    assert "Traceback" not in said
    assert "ended, and cut off what was still under way" in said
