"""A small contract's price book and trace records to price with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from exitramp.finops.prices import PriceBook, load_price_book
from exitramp.records import TraceRecord

ROWS = """
vendor model:large usd_per_million_input_tokens 2.50 false
vendor model:large usd_per_million_cache_read_tokens 0.25 false
vendor model:large usd_per_million_output_tokens 10 false
plainvendor model:small usd_per_million_input_tokens 1 false
plainvendor model:small usd_per_million_output_tokens 4 false
mock model:toy usd_per_million_input_tokens 1 true
mock model:toy usd_per_million_output_tokens 2 true
chroma service:vector_store usd_per_query 0.0001 false
chroma service:vector_store usd_per_million_vector_reads 8 false
chroma service:vector_store usd_per_million_vector_writes 4 false
chroma service:vector_store usd_per_gb_egress 0.09 false
chroma service:vector_store usd_per_month 70 false
reranker model:cross usd_per_rerank_candidate 0.00001 false
own service:orchestration usd_per_request_orchestration 0.0004 false
own service:human_review usd_per_hitl_minute 0.75 false
"""


@pytest.fixture(scope="session")
def book() -> PriceBook:
    lines = ["version: 1", "name: contract", "currency: USD", "prices:"]
    for text in ROWS.split("\n"):
        if text:
            provider, item, unit, amount, illustrative = text.split()
            kind, _, name = item.partition(":")
            lines += [
                f"  - id: {provider}-{unit.removeprefix('usd_per_')}",
                f"    provider: {provider}",
                f"    {kind}: {name}",
                f"    unit: {unit}",
                f"    amount: {amount}",
                "    source: annex B",
                "    retrieved: 2026-01-02",
                "    valid_from: 2026-01-01",
                f"    illustrative: {illustrative}",
            ]
    return load_price_book("\n".join(lines))


@pytest.fixture(scope="session")
def record() -> Callable[..., TraceRecord]:
    def make(**changes: Any) -> TraceRecord:
        fields: dict[str, Any] = {
            "record_version": 1,
            "request_id": "r1",
            "attempt": 1,
            "ts": datetime(2026, 5, 6, 12, tzinfo=UTC),
            "use_case_id": "docs_qa",
            "operation": "chat",
            "provider": "vendor",
            "model_id_requested": "large",
            "model_id": "large",
            "status": "ok",
            "latency_ms": 120.0,
            "store": "chroma",
        }
        return TraceRecord(**{**fields, **changes})

    return make
