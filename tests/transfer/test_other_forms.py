"""Payload keys that come back as they were and stand in another form for other readers: reversible, without consent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from exitramp.ports import TAGGED_TYPES, Origin, PayloadLimits
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing import Row, batch_from_rows
from exitramp.testing.memory import LIMITS, MemoryStore
from exitramp.transfer.plan import Fidelity, Plan, make_plan, payload_summary
from exitramp.transfer.survey import survey_source

SPEC = CollectionSpec("articles", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2),))
PRICE, MOMENT = Decimal("1.00"), datetime(2024, 1, 1, tzinfo=UTC)


def planned(name: str, payloads: list[dict[str, Any]], **forms: frozenset[str]) -> Plan:
    payload: PayloadLimits = replace(LIMITS.payload, **forms)  # type: ignore[arg-type]
    limits = replace(LIMITS, payload=payload)
    store = MemoryStore(name, "articles")
    sink = store.sink()
    sink.create(SPEC, Origin(SPEC, "test"))
    vector = np.ones(2, np.float32)
    rows = [Row(str(number), None, None, each, {"vector": vector}) for number, each in enumerate(payloads)]
    sink.upsert(batch_from_rows(rows, SPEC))
    return make_plan(survey_source(store.source(), limits, batch_rows=10), limits)


def test_only_keys_with_a_tagged_value_are_reversible_and_they_are_counted() -> None:
    payloads = [{"price": PRICE, "lang": "en", "deep": {"a": [MOMENT]}}, {"price": 1, "lang": "de", "deep": {}}]
    plan = planned("tagged", payloads, tagged_types=TAGGED_TYPES)
    lines = {line.subject: line for line in plan.lines}
    assert lines["payload.lang"].fidelity is Fidelity.EXACT
    assert lines["payload.price"].fidelity is lines["payload.deep"].fidelity is Fidelity.REVERSIBLE
    assert "1 of 2 values: for other readers decimals stand as tagged JSON" in lines["payload.price"].how
    assert "timestamps" in lines["payload.deep"].how
    assert [row[:2] for row in payload_summary(plan.lines)] == [
        (Fidelity.EXACT, "payload: 1 key"),
        (Fidelity.REVERSIBLE, "payload: 2 keys"),
    ]
    plan.require_consent([])


@pytest.mark.parametrize(
    ("value", "form", "said"),
    [
        (2**60, {"tagged_types": frozenset({"int"})}, "integers beyond 2^53"),
        (float("nan"), {"tagged_types": frozenset({"nonfinite"})}, "NaN and infinities"),
        ([{"$exitramp:x": 1}], {"tagged_types": frozenset({"key"})}, "keys like a tag"),
        ([MOMENT], {"tagged_items": frozenset({"timestamp"})}, "timestamps stand as tagged JSON"),
        (PRICE, {"text_types": frozenset({"decimal"})}, "decimals stand as text"),
        (None, {"apart_types": frozenset({"null"})}, "nulls stand apart"),
        ([PRICE], {"apart_types": frozenset({"decimal"})}, "decimals stand apart"),
        ([1, "a"], {"apart_types": frozenset({"list"})}, "lists of several types or none stand apart"),
    ],
)
def test_each_form_is_named_in_words(value: Any, form: dict[str, frozenset[str]], said: str) -> None:
    [line] = [each for each in planned(said, [{"k": value}], **form).lines if each.subject == "payload.k"]
    assert line.fidelity is Fidelity.REVERSIBLE
    assert said in line.how


@pytest.mark.parametrize("value", [2**53, 1.5, ["a"], {"a": 1}, "$exitramp:x"])
def test_what_stands_as_it_was_stays_exact(value: Any) -> None:
    plan = planned(f"plain {value}", [{"k": value}], tagged_types=TAGGED_TYPES)
    [line] = [each for each in plan.lines if each.subject == "payload.k"]
    assert (line.fidelity, line.how) == (Fidelity.EXACT, "kept as it is")


def test_a_moment_alone_is_no_item() -> None:
    plan = planned("alone", [{"k": MOMENT}], tagged_items=frozenset({"timestamp"}))
    assert [line.fidelity for line in plan.lines if line.subject == "payload.k"] == [Fidelity.EXACT]
