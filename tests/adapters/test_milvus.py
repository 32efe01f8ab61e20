"""A real Milvus 2.3 server and milvus-lite 3, one suite for both, seeded and read back by `MilvusClient` alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from exitramp.faults import Fault
from exitramp.ports import Service
from exitramp.registry import service_adapter
from exitramp.testing import StoreConformance
from tests.adapters.milvus_harness import LiteHarness, MilvusHarness, ServerHarness

TOKEN = "root:Milvus"
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    """One for the module: it takes 7 s to unpack and start. It asks who calls."""
    options = {"authorization": True, "session_seconds": 6}
    service = service_adapter("milvus-server").make(str(tmp_path_factory.mktemp("milvus")), 0, options)
    try:
        yield service, str(service.start())
    finally:
        service.stop()


@pytest.fixture
def server_harness(server: tuple[Service, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerHarness]:
    service, base = server
    monkeypatch.setenv("MILVUS_TEST_TOKEN", TOKEN)
    service.inject(Fault("none"))  # alive, whatever the test before did to it
    fresh = ServerHarness(service, base, TOKEN, f"test{next(NUMBERS)}")
    yield fresh
    service.inject(Fault("none"))
    fresh.remove()


class TestMilvusLite(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> MilvusHarness:
        return LiteHarness(tmp_path)


class TestMilvusServer(StoreConformance):
    @pytest.fixture
    def harness(self, server_harness: ServerHarness) -> MilvusHarness:
        return server_harness
