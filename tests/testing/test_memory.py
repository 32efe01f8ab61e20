"""The reference store passes the suite that all others are held to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import pytest

from exitramp.records import CollectionSpec
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness
from exitramp.testing.memory_records import MemoryCollection, batch_of, collections_of, records_of
from exitramp.testing.rows import batch_from_rows, rows_from_batch

_NUMBERS = itertools.count()


class MemoryHarness(StoreHarness):
    lacks = {
        Feature.NEW_PROCESS: "nothing in it outlives the process",
        Feature.SERVER_KILL: "it is no server",
        Feature.SERVER_STOP: "it is no server",
    }

    def __init__(self) -> None:
        self.name = f"conformance-{next(_NUMBERS)}"

    def address(self, collection: str) -> str:
        return f"memory:{self.name}#{quote(collection, safe='')}"

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        made = collections_of(self.name)[collection] = MemoryCollection(spec.renamed(collection), None)
        for record in records_of(batch_from_rows(rows, spec), spec):
            made.put(record)

    def raw_read(self, collection: str) -> list[Row]:
        held = collections_of(self.name)[collection]
        return rows_from_batch(batch_of(list(held.records.values()), held.spec), held.spec)

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        [row] = [row for row in self.raw_read(collection) if row.id == id_]
        edited = Row(row.id, row.namespace, row.document, dict(row.payload or {}) | {key: value}, row.vectors)
        held = collections_of(self.name)[collection]
        held.put(records_of(batch_from_rows([edited], held.spec), held.spec)[0])

    def raw_collections(self) -> list[str]:
        return list(collections_of(self.name))


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def harness(self) -> MemoryHarness:
        return MemoryHarness()
