"""What an HTTP client is made with: checks are left away for loopback without TLS, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from exitramp.ports.transport import client_options
from exitramp.urls import Address, Network

PROXY = Network(proxy="http://proxy.example:3128", no_proxy=("direct.example",))


@pytest.mark.parametrize(
    "address", ["qdrant+http://127.0.0.1:6333#a", "openai:m?base_url=http://127.0.0.1:8080/v1", "chroma+http://[::1]#a"]
)
def test_on_this_machine_nothing_is_verified_and_no_proxy_asked(address: str) -> None:
    assert client_options(Address.parse(address), PROXY) == {"verify": False, "trust_env": False}


@pytest.mark.parametrize(
    "address", ["qdrant+http://127.0.0.1:6333?tls=true#a", "openai:m?base_url=https://127.0.0.1:8080/v1"]
)
def test_tls_on_this_machine_is_verified(address: str) -> None:
    assert client_options(Address.parse(address), PROXY) == {"trust_env": False}


@pytest.mark.parametrize("address", ["acme:index#a", "gemini:some-model?key=env:NAME", "acme://api.acme.example#a"])
def test_elsewhere_or_nobody_knows_where_it_is_verified_and_by_the_proxy(address: str) -> None:
    found: dict[str, Any] = client_options(Address.parse(address), PROXY)
    assert found == {"proxy": "http://proxy.example:3128", "mounts": {"all://direct.example": None}}
