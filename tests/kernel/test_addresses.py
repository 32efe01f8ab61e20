"""Addresses parse or say why not, never show a secret, and know what lies on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exitramp.errors import AddressError, ConfigError, WriteRefused
from exitramp.urls import Address, path_address
from exitramp.wrappers import require_write_allowed


@pytest.mark.parametrize(
    ("text", "loopback", "collection"),
    [
        ("chroma:./db#articles", True, "articles"),
        ("chroma+http://127.0.0.1:8000#a%23b", True, "a#b"),
        ("qdrant+http://[::1]:6333#x", True, "x"),
        ("qdrant+http://localhost:6333", True, None),
        ("qdrant+http://db.example.com:6333#x", False, "x"),
        ("qdrant+http://127.0.0.1.example.com#x", False, "x"),
        ("openai:m?base_url=https://api.example.com/v1", False, None),
        ("openai:m?base_url=http://127.0.0.1:1/v1", True, None),
    ],
)
def test_an_address_knows_whether_it_leaves_this_machine(text: str, loopback: bool, collection: str | None) -> None:
    address = Address.parse(text)
    assert address.is_loopback is loopback
    assert address.collection == collection
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "articles", "Chroma:./db", "chroma:", "qdrant+http://:1#x", "a:b?x", "a:b?x=1&x=2"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        Address.parse(text)


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(AddressError) as caught:
        Address.parse("pgvector://me:hunter2secret@db.example.com/x#t")
    assert "hunter2secret" not in str(caught.value)
    assert "?OPTION=env:NAME" in str(caught.value)


def test_a_secret_given_as_a_value_is_refused_and_not_shown() -> None:
    address = Address.parse("qdrant+http://127.0.0.1:1?api_key=plain-secret-value#x")
    with pytest.raises(ConfigError) as caught:
        address.secret("api_key")
    assert "plain-secret-value" not in str(caught.value)


def test_writing_beyond_this_machine_needs_consent_by_address() -> None:
    address = Address.parse("qdrant+http://db.example.com:6333#x")
    with pytest.raises(WriteRefused, match="--allow-writes"):
        require_write_allowed(address, [])
    with pytest.raises(WriteRefused):
        require_write_allowed(address, ["qdrant+http://db.example.com:6333#y"])
    require_write_allowed(address, ["qdrant+http://db.example.com:6333#x"])
    require_write_allowed(Address.parse("qdrant:./db#x"), [])


def test_a_path_that_is_no_utf8_has_an_address_too() -> None:
    path = Path(os.fsdecode(b"/tmp/d\xffmp"))
    assert Address.parse(path_address("dump", path)).path == path


def test_a_vendors_service_is_never_taken_for_this_machine() -> None:
    assert not Address.parse("pinecone:index?api_key=env:KEY#a").is_loopback
    assert not Address.parse("pinecone:index?base_url=https://api.pinecone.io").is_loopback
    assert Address.parse("pinecone:index?base_url=http://127.0.0.1:80").is_loopback
