"""The end of a gateway whose vendor does not answer: what is cut off stands in traces, budget and journal, as asked of
the vendor as it says itself."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from exitramp.faults import Fault
from exitramp.gateway.wire import chat_request
from exitramp.orchestration import IdempotencyJournal, read_traces
from exitramp.orchestration.budget import Ledger
from exitramp.orchestration.idempotency import key_sha256
from exitramp.orchestration.supposed_tokens import supposed_tokens
from tests.gateway.running import RunningGateway
from tests.gateway.test_costs_add_up import MOST_TOKENS, PRICES, USD, body_of
from tests.orchestration.libraries import price_book
from tests.orchestration.vendors import Vendors, write

EACH = 8
TEXT = "How do I join two paths?"


@pytest.fixture
def vendors(tmp_path: Path) -> Any:
    made = Vendors(tmp_path)
    yield made
    made.stop()


def started(folder: Path, vendors: Vendors, **more: Any) -> RunningGateway:
    (folder / "prices.yaml").write_text(price_book(PRICES))
    base = vendors.addresses["main"].options["base_url"]
    document = vendors.document(
        "main",
        embedders={"hosted": {"address": f"openai:mock-embed?base_url={base}&mock=true"}},
        prices="prices.yaml",
        budget={"daily_usd": "100000", "path": "budget.sqlite"},
        trace={"path": "traces.jsonl"},
        idempotency={"path": "journal.jsonl"},
        **more,
    )
    return RunningGateway(write(folder / "stack.yaml", document), "--stop-seconds", "1")


def wait_for(vendors: Vendors, count: int) -> None:
    end = time.monotonic() + 20
    while vendors["main"].counters()["requests"] < count:
        assert time.monotonic() < end


def asks(gateway: RunningGateway, client: httpx.Client) -> list[Any]:
    """8 streams, 8 whole answers, each under a key of its own, and 8 vectors."""

    def chat(number: int, stream: bool) -> None:
        headers = {"idempotency-key": f"key-{stream}-{number}", "x-exitramp-use-case": "a"}
        client.post(f"{gateway.address}/chat/completions", json=body_of(number, stream=stream), headers=headers)

    def embed(number: int) -> None:
        client.post(f"{gateway.address}/embeddings", json={"model": "hosted", "input": TEXT})

    return [lambda n=number, call=call: call(n) for number in range(EACH)
            for call in (lambda n: chat(n, True), lambda n: chat(n, False), embed)]  # fmt: skip


def quietly(work: Any) -> None:
    try:
        work()
    except httpx.HTTPError:
        return  # it was cut off


@pytest.mark.parametrize("signals", [1, 2])
def test_every_call_that_is_cut_off_at_the_end_is_in_the_traces_and_counted(
    tmp_path: Path, vendors: Vendors, signals: int
) -> None:
    gateway = started(tmp_path, vendors)
    try:
        with (
            httpx.Client(timeout=30, limits=httpx.Limits(max_connections=64)) as client,
            ThreadPoolExecutor(32) as pool,
        ):
            answered = client.post(f"{gateway.address}/chat/completions", json=body_of(99, stream=False)).json()
            vendors["main"].inject(Fault("hang"))
            under_way = [pool.submit(quietly, ask) for ask in asks(gateway, client)]
            wait_for(vendors, 1 + 3 * EACH)
            began = time.monotonic()
            for _ in range(signals - 1):
                gateway.process.send_signal(signal.SIGTERM)
            code, said = gateway.stop()
            took = time.monotonic() - began
            for each in under_way:
                each.result(30)
    finally:
        gateway.stop()
    assert (code, "Traceback" in said) == (0, False), said
    assert took < 8, "the end is not as long as the vendor is silent"

    records = list(read_traces(tmp_path / "traces.jsonl"))
    assert len(records) == vendors["main"].counters()["requests"] == 1 + 3 * EACH
    assert Counter((each.operation, each.status, each.error_class, each.possibly_billed) for each in records) == {
        ("chat", "ok", None, False): 1,
        ("chat", "error", "cut_off", True): 2 * EACH,
        ("embed", "error", "cut_off", True): EACH,
    }
    assert {each.unit_cost_usd for each in records if each.error_class} == {None}

    # What was held is counted as spent: it may have been billed.
    today = records[0].ts.date().isoformat()
    spent, held = Ledger(tmp_path / "budget.sqlite").sums(today)
    an_embedding = USD * supposed_tokens(TEXT)
    chats = [USD * (supposed_tokens(sent_text(stream)) + MOST_TOKENS) for stream in (True, False)]
    usage = answered["usage"]
    a_whole_one = USD * (usage["prompt_tokens"] + usage["completion_tokens"])
    assert held == 0
    assert Decimal(spent) / 10**9 == a_whole_one + EACH * (sum(chats) + an_embedding)

    # A key that is asked again is named as one that may have been billed twice.
    with IdempotencyJournal(tmp_path / "journal.jsonl", keys_are_hashes=True) as journal:
        doubts = journal.billing_doubts()
        assert Counter((each.doubtful, each.is_answered, each.vendors) for each in doubts) == {
            (1, False, ("openai",)): 2 * EACH
        }
    vendors.heal()
    again = started(tmp_path, vendors)
    try:
        headers = {"idempotency-key": "key-False-0", "x-exitramp-use-case": "a"}
        answer = httpx.post(f"{again.address}/chat/completions", json=body_of(0, stream=False), headers=headers)
    finally:
        again.stop()
    assert answer.status_code == 200
    with IdempotencyJournal(tmp_path / "journal.jsonl", keys_are_hashes=True) as journal:
        twice = [each.key_sha256 for each in journal.billing_doubts() if each.possibly_billed_twice]
    assert twice == [key_sha256("key-False-0")]


def sent_text(stream: bool) -> str:
    sent = replace(chat_request(body_of(0, stream=stream), key=None), idempotency_key=None)
    return json.dumps(asdict(sent), ensure_ascii=False)
