"""A request's head has a limit, and what passes it, or is no request, is told in the shape of every error."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from exitramp.gateway.heads import HEAD_LIMIT_BYTES
from tests.gateway.running import RunningGateway
from tests.orchestration.vendors import Vendors, write


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("heads")
    vendors = Vendors(folder)
    made = RunningGateway(write(folder / "stack.yaml", vendors.document()))
    yield made
    made.stop()
    vendors.stop()


def answered(gateway: RunningGateway, *parts: bytes) -> tuple[int, dict[str, str]]:
    """Status and error of what is sent as it is."""
    with socket.create_connection(("127.0.0.1", int(gateway.root.rpartition(":")[2])), timeout=10) as client:
        for part in parts:
            client.sendall(part)
        said = b""
        while piece := client.recv(65536):
            said += piece
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def test_a_head_without_an_end_is_refused_when_it_is_too_long(gateway: RunningGateway) -> None:
    start = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx-long: "
    status, error = answered(gateway, start + b"a" * (HEAD_LIMIT_BYTES - len(start)), b"a")
    assert (status, error["code"], error["type"]) == (431, "invalid_request", "invalid_request_error")
    assert "64 KiB" in error["message"]


def test_a_whole_head_that_is_too_long_is_refused_and_one_that_is_not_is_answered(gateway: RunningGateway) -> None:
    with httpx.Client() as client:
        for _ in range(3):  # on one connection, whose requests are counted each by itself
            assert client.get(f"{gateway.root}/healthz", headers={"x-long": "a" * 60_000}).status_code == 200
        answer = client.get(f"{gateway.root}/healthz", headers={"x-long": "a" * HEAD_LIMIT_BYTES})
    assert (answer.status_code, answer.json()["error"]["code"]) == (431, "invalid_request")


def test_a_long_body_is_no_long_head(gateway: RunningGateway) -> None:
    body = {"model": "main", "messages": [{"role": "user", "content": "a" * 3 * HEAD_LIMIT_BYTES}], "max_tokens": 5}
    assert httpx.post(f"{gateway.address}/chat/completions", json=body).status_code == 200


def test_what_is_no_request_is_told_so_in_the_shape_of_every_error(gateway: RunningGateway) -> None:
    status, error = answered(gateway, b"\x00\x01 nothing\r\n\r\n")
    assert (status, error["code"]) == (400, "invalid_request")
