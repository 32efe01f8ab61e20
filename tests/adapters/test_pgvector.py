"""PostgreSQL with pgvector over TCP, a real server: the suite that every store is held to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exitramp.faults import Fault
from exitramp.testing import StoreConformance
from exitramp_adapters.services.postgres import Postgres
from tests.adapters.pgvector_harness import PgvectorHarness, served


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with served(tmp_path_factory.mktemp("postgres")) as made:
        yield made


@pytest.fixture
def harness(service: Postgres) -> PgvectorHarness:
    service.inject(Fault("none"))  # alive, whatever the test before did to it
    fresh = PgvectorHarness(service)
    fresh.clear()
    return fresh


class TestPgvector(StoreConformance):
    """The suite; `harness` is the module's."""
