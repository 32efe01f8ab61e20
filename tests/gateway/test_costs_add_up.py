"""What the traces and the budget say was spent, held against what the vendors' own accounts say they did, over HTTP:
hedged, retried, failed over, kept, cut off, asked again under one key, sixty-four at once."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from exitramp.gateway.wire import chat_request
from exitramp.orchestration import read_traces
from exitramp.orchestration.supposed_tokens import supposed_tokens
from exitramp.records import TraceRecord
from tests.gateway.running import RunningGateway
from tests.orchestration.libraries import price_book
from tests.orchestration.vendors import PROMPT, Vendors, write

AT_ONCE = 64
MOST_TOKENS = 64
USD = Decimal("0.001")
"""Of every token, of either vendor."""
PRICES = [(provider, model, f"usd_per_million_{kind}_tokens", "1000")
          for provider, model in (("openai", "mock-large"), ("anthropic", "mock-medium"), ("openai", "mock-embed"))
          for kind in ("input", "output")]  # fmt: skip
PRICES.append(("own", "orchestration", "usd_per_request_orchestration", "0"))
SLOW = {"kind": "slow_first_token", "probability": 0.2, "options": {"delay_seconds": 0.4}}
FAULTS = [SLOW, *({"kind": kind, "probability": 0.08} for kind in ("truncate", "reset", "malformed", "error_500"))]
HEDGED: dict[str, Any] = {"hedge": {"after_ms": 60}}
SHOWN_AT_ONCE: dict[str, Any] = {"stream": {"commit": "first_token"}}


class Place:
    """A gateway in front of two vendors that fail by chance, and what they and it wrote down."""

    def __init__(self, folder: Path, order: Sequence[str], **more: Any) -> None:
        faulty = {"schedule": FAULTS, "latency_ms_median": 5}
        self.vendors = Vendors(folder, main=faulty, backup=faulty)
        self.traces = folder / "traces.jsonl"
        (folder / "prices.yaml").write_text(price_book(PRICES))
        base = self.vendors.addresses["main"].options["base_url"]
        document = self.vendors.document(
            *order,
            embedders={"hosted": {"address": f"openai:mock-embed?base_url={base}&mock=true"}},
            prices="prices.yaml",
            budget={"daily_usd": "100000"},
            trace={"path": str(self.traces)},
            idempotency={"path": "journal.jsonl"},
            cache={"exact": {}, "semantic": {"embedder": "hosted", "thresholds": {"hosted": 0.999}}},
            retry={"tries": 2, "base_seconds": 0.01, "cap_seconds": 0.02},
            breaker={"failures": 1000, "sample": 1000},
            **more,
        )
        self.gateway = RunningGateway(write(folder / "stack.yaml", document))

    def end(self) -> None:
        self.gateway.stop()
        self.vendors.stop()

    def ask(self, bodies: Iterable[tuple[Mapping[str, Any], Mapping[str, str]]]) -> Counter[int]:
        """All of them at once; how many answers came with which status."""

        def one(asked: tuple[Mapping[str, Any], Mapping[str, str]]) -> int:
            body, headers = asked
            return client.post(f"{self.gateway.address}/chat/completions", json=body, headers=headers).status_code

        limits = httpx.Limits(max_connections=AT_ONCE)
        with httpx.Client(timeout=60, limits=limits) as client, ThreadPoolExecutor(AT_ONCE) as pool:
            return Counter(pool.map(one, bodies))

    def budget(self) -> dict[str, Decimal]:
        """What is spent and held today, once nobody holds anything: a hedge's loser ends after its request."""
        end = time.monotonic() + 20
        while True:
            lines = httpx.get(f"{self.gateway.root}/metrics").text.splitlines()
            found = {
                kind: Decimal(line.rpartition(" ")[2])
                for kind in ("spent", "held")
                for line in lines
                if line.startswith("exitramp_budget_usd{") and f'kind="{kind}"' in line
            }
            if found["held"] == 0:
                return found
            assert time.monotonic() < end, found

    def account(self) -> list[Mapping[str, Any]]:
        return [entry for vendor in self.vendors.vendors.values() for entry in vendor.account()]


def body_of(number: int, *, stream: bool, swapped: bool = False) -> dict[str, Any]:
    """All as long as each other; `swapped` has the same words, which the mock embedder takes for the same."""
    begins = f"how {number:05d}" if swapped else f"{number:05d} how"
    message = {"role": "user", "content": PROMPT.replace("How", begins)}
    return {"model": "any", "messages": [message], "max_tokens": MOST_TOKENS, "stream": stream}


def bodies(*, stream: bool, swapped: bool) -> list[tuple[Mapping[str, Any], Mapping[str, str]]]:
    """Questions of their own, the same one under the same key again, and the same one without a key again."""
    asked: list[tuple[Mapping[str, Any], Mapping[str, str]]] = []
    for number in range(96):
        key = {"idempotency-key": f"key-{number // 2}-{swapped}"} if number % 4 < 2 else {}
        asked.append((body_of(number // 2, stream=stream, swapped=swapped), key | {"x-exitramp-use-case": "a"}))
    return asked


def of_known_usage(records: Iterable[TraceRecord]) -> list[TraceRecord]:
    return [record for record in records if record.status in ("ok", "cancelled") and not record.cache_hit]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("order", [("main", "backup"), ("backup", "main")], ids=["openai first", "anthropic first"])
@pytest.mark.parametrize("more", [HEDGED, SHOWN_AT_ONCE], ids=["hedged", "shown at once"])
def test_traces_budget_and_the_vendors_own_accounts_agree(
    tmp_path: Path, order: tuple[str, str], stream: bool, more: dict[str, Any]
) -> None:
    place = Place(tmp_path, order, **more)
    try:
        statuses = Counter[int]()
        for swapped in (False, False, True):
            statuses += place.ask(bodies(stream=stream, swapped=swapped))
        assert statuses[200] > sum(statuses.values()) // 2
        budget, account = place.budget(), place.account()
    finally:
        place.end()
    records = list(read_traces(place.traces))
    chats = [record for record in records if record.operation == "chat"]
    embeds = [record for record in records if record.operation == "embed"]
    if "hedge" in more:
        assert any(record.status == "cancelled" for record in chats), "a hedge lost"
    assert {record.cache_hit_kind for record in chats} >= {"exact", "semantic"}
    assert any(record.attempt > 1 for record in chats)

    # Every answer that a vendor gave is in the traces, with its tokens, and no other.
    answered = [entry for entry in account if entry["outcome"] == "answered"]
    assert Counter(
        (record.idempotency_key_sha256, record.prompt_tokens, record.gen_tokens) for record in of_known_usage(chats)
    ) == Counter(
        (entry["request_sha256"], entry["prompt_tokens"], entry["gen_tokens"])
        for entry in answered
        if entry["operation"] == "chat"
    )
    assert sum(record.prompt_tokens for record in of_known_usage(embeds)) == sum(
        entry["prompt_tokens"] for entry in answered if entry["operation"] == "embeddings"
    )

    # What may have been billed without an answer: each of it stands there, and none has a cost.
    doubtful = [record for record in records if record.possibly_billed and record.status == "error"]
    cut = Counter(entry["operation"] for entry in account if entry["outcome"] in ("cut", "abandoned", "hung"))
    assert Counter("embeddings" if record.operation == "embed" else "chat" for record in doubtful) == cut
    assert cut["chat"]
    assert cut["embeddings"]
    assert {record.unit_cost_usd for record in doubtful} == {None}

    # Money: what was answered at its price, and at most what each doubtful one could have cost.
    costs = [record.unit_cost_usd for record in of_known_usage(records)]
    assert None not in costs
    traced = sum((cost for cost in costs if cost is not None), Decimal(0))
    assert traced == USD * sum(entry["prompt_tokens"] + entry["gen_tokens"] for entry in answered)
    body = body_of(0, stream=stream)
    sent = asdict(replace(chat_request(body, key=None), idempotency_key=None))
    a_chat = USD * (supposed_tokens(json.dumps(sent, ensure_ascii=False)) + MOST_TOKENS)
    an_embedding = USD * supposed_tokens(body["messages"][0]["content"])
    assert budget["spent"] == traced + a_chat * cut["chat"] + an_embedding * cut["embeddings"]
