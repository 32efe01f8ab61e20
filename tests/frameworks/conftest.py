"""A Qdrant for the whole folder: each test has collections of its own names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exitramp.registry import service_adapter


@pytest.fixture(name="qdrant", scope="session")
def _qdrant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    service = service_adapter("qdrant-shim").make(str(tmp_path_factory.mktemp("qdrant")), 0, {})
    try:
        yield str(service.start())
    finally:
        service.stop()
