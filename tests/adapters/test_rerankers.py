"""The reranker over HTTP against the conformance suite, in both shapes that vendors have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exitramp.errors import RoleUnsupported
from exitramp.ports import Reranker
from exitramp.registry import open_reranker
from exitramp.testing.conformance.rerank_wire import RemoteRerankerHarness, RerankWireConformance
from exitramp.testing.conformance.rerankers import RerankerConformance
from exitramp.urls import Address
from exitramp_adapters.services.mock_vendor.adapter import OPENAI, MockVendor
from tests.adapters.rerank_wires import CohereWire, JinaWire


class FirstHarness(RemoteRerankerHarness):
    wire = JinaWire()
    rank_by_set = True  # the mock weighs a term by how many of the documents hold it
    version = "/v1"

    def __init__(self, address: Address) -> None:
        base_url = address.options["base_url"].removesuffix("/v1") + self.version
        self._address = Address("rerank", address.location, None, {**address.options, "base_url": base_url})

    def open(self) -> Reranker:
        return open_reranker(self._address)

    def open_at(self, base_url: str, *, key: str | None = None) -> Reranker:
        given = {"base_url": base_url + self.version, **({"key": key} if key is not None else {})}
        return open_reranker(Address("rerank", "m", None, given))


class SecondHarness(FirstHarness):
    wire = CohereWire()
    version = "/v2"


@pytest.fixture(name="vendor", scope="module")
def _vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    vendor = OPENAI.make(str(tmp_path_factory.mktemp("rerank")), 3, {})
    assert isinstance(vendor, MockVendor)
    vendor.start()
    yield vendor.rerank_address
    vendor.stop()


class TestFirstVersion(RerankerConformance, RerankWireConformance):
    @pytest.fixture
    def harness(self, vendor: Address) -> FirstHarness:
        return FirstHarness(vendor)


class TestSecondVersion(RerankerConformance, RerankWireConformance):
    @pytest.fixture
    def harness(self, vendor: Address) -> SecondHarness:
        return SecondHarness(vendor)


def test_what_does_not_rerank_says_so() -> None:
    with pytest.raises(RoleUnsupported, match="reranks nothing"):
        open_reranker("wordllama:")


def test_a_mock_is_known_for_one(vendor: Address) -> None:
    """By its header, also where the address does not say it."""
    options = {name: value for name, value in vendor.options.items() if name != "mock"}
    reranker = open_reranker(Address("rerank", vendor.location, None, options))
    reranker.rerank("what", ["this"])
    assert reranker.identity().is_mock
    reranker.close()
