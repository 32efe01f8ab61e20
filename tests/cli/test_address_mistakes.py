"""An address that leads nowhere says why, and what to write instead."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from exitramp.errors import AdapterUnknown, AddressError, StoreUnavailable
from exitramp.ports.transport import transport_error
from exitramp.urls import Address
from exitramp.wrappers import open_endpoint
from tests.cli.conftest import Cli
from tests.drill.small_stacks import fill


def test_a_kind_of_store_that_there_is_none_of_is_named_before_anything_else(cli: Cli) -> None:
    for address in ("postgres://u:hunter2345@db.example.com/x#a", "postgres://db.example.com:port#a", "postgres:"):
        ended = cli("inspect", address, code=2)
        assert "no store 'postgres' is installed" in ended.err
        assert "installed are: chroma, " in ended.err
        assert "hunter2345" not in ended.err
        assert "password" not in ended.err
    with pytest.raises(AdapterUnknown):
        open_endpoint("postgres://u:hunter2345@db.example.com/x#a")


def test_a_password_is_refused_with_a_next_step_that_can_be_followed(cli: Cli) -> None:
    ended = cli("inspect", "qdrant+http://u:hunter2345@127.0.0.1:1#a", code=2)
    assert "holds a password" in ended.err
    assert "?OPTION=env:NAME ('exitramp stores' shows which option)" in ended.err
    forms = {each["scheme"]: each["address"] for each in cli("stores", "--json", code=0).json["stores"]}
    assert "?api_key=env:NAME" in forms["qdrant+http"]
    assert "token=env:NAME" in forms["chroma+http"]


def test_the_folder_of_a_dump_says_how_to_write_it(name: str, cli: Cli) -> None:
    source = fill(f"memory:{name}#articles", rows=3)
    cli("dump", source, "d1", code=0)
    cli("dump", source, "with a blank", code=0)
    ended = cli("compare", "d1", source, code=2)
    assert "'d1' is not an address" in ended.err
    assert "next: it is the folder of a dump: write dump:d1" in ended.err
    assert "write dump:with%20a%20blank" in cli("inspect", "with a blank", code=2).err
    cli("inspect", "dump:with%20a%20blank", code=0)
    assert "SCHEME:LOCATION#COLLECTION" in cli("inspect", "d2", code=2).err
    with pytest.raises(AddressError):
        open_endpoint("d2")


@contextmanager
def no_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that knows no names but its own."""

    def refuse(host: Any, *_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host}")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", refuse)
        yield


@pytest.mark.parametrize("kind", ["qdrant+http", "chroma+http"])
def test_a_name_that_cannot_be_resolved_is_told_from_a_server_that_is_not_running(
    kind: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with no_names(monkeypatch):
        ended = cli("inspect", f"{kind}://nowhere.example.com:6333#a", "--retries", "0", code=5)
    assert "cannot be reached: the name 'nowhere.example.com' cannot be resolved" in ended.err
    assert "is it spelled right" in ended.err
    assert "is it running" not in ended.err


def test_a_refused_connection_still_asks_whether_it_is_running() -> None:
    address = Address.parse("qdrant+http://127.0.0.1:1#a")
    found = transport_error(address, httpx.ConnectError("refused"), default_port=6333)
    assert isinstance(found, StoreUnavailable)
    assert found.hint == "is it running on 127.0.0.1:1?"
    try:
        try:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        except OSError as error:
            raise httpx.ConnectError("failed") from error
    except httpx.ConnectError as error:
        found = transport_error(address, error, default_port=6333)
    assert "cannot be resolved" in found.message
