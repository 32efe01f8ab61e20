"""The conformance suite: one class that a store's test file subclasses, with a harness as its only fixture.

class TestMyStore(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path):
        return MyHarness(tmp_path)
"""

import pytest

# Before the modules are imported, so that a failed assertion shows its values outside the test folders too.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in ("claims", "compare", "durability", "failures", "filters", "ids", "limits", "names", "paging")
    ),
    *(f"{__name__}.{module}" for module in ("many", "payloads", "search", "steps", "truth", "vectors", "writing")),
    *(
        f"{__name__}.{module}"
        for module in ("chat", "chat_side", "chat_asked", "chat_said", "chat_failing", "embedders", "embedding_wire")
    ),
    *(f"{__name__}.{module}" for module in ("rerankers", "rerank_wire")),
)

from exitramp.testing.conformance.claims import ClaimConformance  # noqa: E402
from exitramp.testing.conformance.durability import DurabilityConformance  # noqa: E402
from exitramp.testing.conformance.failures import FailureConformance  # noqa: E402
from exitramp.testing.conformance.filters import FilterConformance  # noqa: E402
from exitramp.testing.conformance.harness import Feature, StoreHarness  # noqa: E402
from exitramp.testing.conformance.ids import IdConformance  # noqa: E402
from exitramp.testing.conformance.limits import LimitConformance  # noqa: E402
from exitramp.testing.conformance.many import ManyConformance  # noqa: E402
from exitramp.testing.conformance.names import NameConformance  # noqa: E402
from exitramp.testing.conformance.paging import PagingConformance  # noqa: E402
from exitramp.testing.conformance.payloads import PayloadConformance  # noqa: E402
from exitramp.testing.conformance.search import SearchConformance  # noqa: E402
from exitramp.testing.conformance.vectors import VectorConformance  # noqa: E402
from exitramp.testing.conformance.writing import WritingConformance  # noqa: E402


class StoreConformance(
    IdConformance,
    PayloadConformance,
    VectorConformance,
    PagingConformance,
    WritingConformance,
    DurabilityConformance,
    FailureConformance,
    SearchConformance,
    FilterConformance,
    NameConformance,
    LimitConformance,
    ManyConformance,
    ClaimConformance,
):
    """Everything that a store is held to."""


__all__ = ["Feature", "StoreConformance", "StoreHarness"]
