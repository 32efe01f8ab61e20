"""A Qdrant and a PostgreSQL for the whole folder: each test has collections of its own names."""

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


@pytest.fixture(name="postgres", scope="session")
def _postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("postgres")
    for each in (folder, *folder.parents[:3]):
        each.chmod(each.stat().st_mode | 0o011)  # a PostgreSQL that must not run as root has to get through
    service = service_adapter("postgres").make(str(folder), 0, {})
    try:
        yield service.start().text
    finally:
        service.stop()
