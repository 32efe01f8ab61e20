"""For every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exitramp import secrets


@pytest.fixture(autouse=True)
def _secrets_are_those_of_the_test() -> Iterator[None]:
    """A process remembers every secret it was given, so as to mask it; one test's `word` is another's plain text."""
    before = set(secrets._fetched)
    yield
    secrets._fetched.clear()
    secrets._fetched.update(before)
