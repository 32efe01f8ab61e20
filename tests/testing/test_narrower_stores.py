"""Stores that keep hardly anything natively pass the suite as well, filters included: all else is the codec's."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from exitramp.ports import DocumentRoom, NameRule, PayloadLimits, SinkLimits, Store
from exitramp.records import IdKind, Metric
from exitramp.testing import Row, StoreConformance
from exitramp.testing.memory import MemoryStore
from tests.testing.test_narrow_stores import NarrowHarness, NarrowSink, _refuse_unless

WORDS_STORE = SinkLimits(
    id_kinds=frozenset({IdKind.STRING}),
    id_bytes=64,
    id_pattern=r"[!-~]+",
    metrics=frozenset({Metric.COSINE}),
    payload=PayloadLimits(
        types=frozenset({"bool", "int", "float", "string", "list"}),
        item_types=frozenset({"string"}),
        key_pattern=r"[A-Za-z_][A-Za-z0-9_-]{0,63}",
        absent_payload=False,
    ),
    names=NameRule(r"[a-z][a-z0-9-]*", 3, 40),
    documents=DocumentRoom.PAYLOAD,
    zero_vectors=False,
    keeps_origin=True,
    batch_rows=64,
    durable=False,
)
TEXTS_STORE = replace(
    WORDS_STORE,
    payload=PayloadLimits(types=frozenset({"string"}), key_pattern=r"[a-z_]{1,16}", absent_payload=False),
    keeps_origin=False,
    batch_rows=10,
)


class AsciiSink(NarrowSink):
    def _changed(self, row: Row, spec: Any) -> Row:
        _refuse_unless(re.fullmatch(self.limits().id_pattern or "", row.id) is not None, "the id")
        return super()._changed(row, spec)


class _AsciiStore(MemoryStore):
    def sink(self) -> AsciiSink:
        return AsciiSink(self)


class WordsHarness(NarrowHarness):
    limits = WORDS_STORE

    def open(self, collection: str) -> Store:
        return _AsciiStore(self.name, collection, limits=self.limits)


class TextsHarness(WordsHarness):
    limits = TEXTS_STORE


class TestWordsStore(StoreConformance):
    """Its keys are identifiers and its ids of ASCII, so the suite's own have to do without a space too."""

    @pytest.fixture
    def harness(self) -> WordsHarness:
        return WordsHarness()


class TestTextsStore(StoreConformance):
    """It keeps texts under short keys and nothing else, ten records at a time."""

    @pytest.fixture
    def harness(self) -> TextsHarness:
        return TextsHarness()
