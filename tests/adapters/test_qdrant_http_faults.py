"""Qdrant over REST against servers that fail or answer oddly, and what address and network setting do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from exitramp.errors import (
    AddressError,
    CollectionMissing,
    DataInvalid,
    StoreProtocolError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
    UsageError,
)
from exitramp.ports import IndexState, Origin, Partition
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.urls import Address, Network

DENSE = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2)
PLAIN = CollectionSpec("c", IdKind.UINT64, (DENSE,))
ORIGIN = Origin(CollectionSpec("c", IdKind.STRING, (DENSE,), has_documents=True), "0")
VECTOR = np.array([1.0, 2.0], np.float32)


@contextmanager
def opened(base: str, collection: str = "c", **network: Any) -> Iterator[Any]:
    store = open_store(Address.parse(f"{base}#{collection}"), Network(**network))
    try:
        yield store
    finally:
        store.close()


Answer = Callable[[str, str], tuple[int, bytes]]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """A server that answers `answer(method, path)`; a status of 0 is a connection cut without an answer."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            status, body = answer(self.command, self.path)
            if not status:
                self.connection.close()
                return
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _serve

        def log_message(self, format: str, *args: Any) -> None:
            pass

    held = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=held.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"qdrant+http://127.0.0.1:{held.server_port}"
    finally:
        held.shutdown()
        thread.join()
        held.server_close()


def enveloped(result: Any) -> bytes:
    return json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()


def failure(text: str) -> bytes:
    return json.dumps({"status": {"error": text}, "time": 0.0}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error", "retryable"),
    [
        (404, failure("Not found: Collection `c` doesn't exist!"), CollectionMissing, False),
        (400, failure("Wrong input: something"), StoreRejected, False),
        (422, failure("Validation error"), StoreRejected, False),
        (401, b"no key", StoreRejected, False),
        (403, b"forbidden", StoreRejected, False),
        (501, failure("not here"), StoreRejected, False),
        (408, b"", StoreTimeout, True),
        (504, b"<html>", StoreTimeout, True),
        (429, failure("slow down"), StoreUnavailable, True),
        (500, failure("Service internal error"), StoreUnavailable, True),
        (503, b"", StoreUnavailable, True),
        (200, b"<html>no JSON</html>", StoreProtocolError, False),
        (200, enveloped({"amount": 3}), StoreProtocolError, False),
        (200, enveloped(None), StoreProtocolError, False),
        (0, b"", StoreUnavailable, True),
    ],
)
def test_each_way_of_failing_is_one_error(status: int, body: bytes, error: type[Exception], retryable: bool) -> None:
    def answer(method: str, path: str) -> tuple[int, bytes]:
        return (200, enveloped({"collections": []})) if path == "/collections" else (status, body)

    with server(answer) as base, opened(base) as store, pytest.raises(error) as caught:
        store.source().count()
    assert type(caught.value) is error
    assert caught.value.retryable is retryable  # type: ignore[attr-defined]


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with server(lambda method, path: (200, b"")) as base:
        pass
    with opened(base) as store, pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.source().count()


def test_a_server_that_does_not_answer_ends_in_a_timeout() -> None:
    over = threading.Event()

    def answer(method: str, path: str) -> tuple[int, bytes]:
        over.wait(30)
        return 0, b""

    with server(answer) as base, opened(base, timeout_seconds=0.5) as store:
        with pytest.raises(StoreTimeout):
            store.source().count()
        over.set()


@pytest.mark.parametrize(
    ("title", "version", "evidence", "keeps_origin"),
    [
        ("qdrant - vector search engine", "1.16.0", "real", True),
        ("qdrant - vector search engine", "1.12.4", "real", False),
        ("qdrant - vector search engine", "2.0.0-dev", "real", True),
    ],
)
def test_evidence_and_room_for_the_origin_are_the_servers_own_word(
    title: str, version: str, evidence: str, keeps_origin: bool
) -> None:
    def answer(method: str, path: str) -> tuple[int, bytes]:
        said = json.dumps({"title": title, "version": version}).encode()
        return 200, said if path == "/" else enveloped({"collections": []})

    with server(answer) as base, opened(base) as store:
        assert store.source().identity().evidence == evidence
        assert store.sink().limits().keeps_origin is keeps_origin


def described(**changes: Any) -> bytes:
    params = {"vectors": {"size": 2, "distance": "Dot"}}
    hnsw = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000}
    optimizers = {"default_segment_number": 0, "flush_interval_sec": 5}
    config = {"params": params, "hnsw_config": hnsw, "optimizer_config": optimizers}
    whole = {"status": "green", "optimizer_status": "ok", "segments_count": 1, "config": config, "payload_schema": {}}
    return enveloped(whole | changes)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, IndexState.READY),
        ({"status": "yellow"}, IndexState.BUILDING),
        ({"status": "grey"}, IndexState.BUILDING),
        ({"status": "red"}, IndexState.UNKNOWN),
        ({"optimizer_status": {"error": "no space"}}, IndexState.UNKNOWN),
    ],
)
def test_the_index_is_ready_only_when_the_server_says_so(changes: dict[str, Any], state: IndexState) -> None:
    with server(lambda method, path: (200, described(**changes))) as base, opened(base) as store:
        assert store.search().index_state() is state


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"points_count": 9, "indexed_vectors_count": 0}, (0, 9)),
        ({"points_count": 9_000_000, "indexed_vectors_count": 8_000_000}, (8_000_000, 1_000_000)),
        ({"points_count": 9}, (None, None)),
        ({"points_count": 9, "indexed_vectors_count": None}, (None, None)),
    ],
)
def test_how_much_is_indexed_is_told_by_the_servers_own_count(
    changes: dict[str, Any], told: tuple[int | None, int | None]
) -> None:
    with server(lambda method, path: (200, described(**changes))) as base, opened(base) as store:
        found = store.search().coverage()
    assert (found.indexed, found.compared) == told


@pytest.mark.parametrize(
    "result",
    [
        {"points": [{"id": 5, "payload": {}, "vector": [1.0, 2.0]}], "next_page_offset": 5},
        {"points": [{"id": 5, "payload": {}, "vector": [1.0, 2.0]}], "next_page_offset": 3},
        {"points": [], "next_page_offset": 7},
    ],
    ids=["the same id again", "back to an earlier id", "an empty page that goes on"],
)
def test_a_scroll_that_goes_round_in_circles_is_an_error(result: dict[str, Any]) -> None:
    def answer(method: str, path: str) -> tuple[int, bytes]:
        return 200, enveloped(result) if path.endswith("/scroll") else described()

    with server(answer) as base, opened(base) as store, pytest.raises(StoreProtocolError):
        list(store.source().scan(Partition(), batch_rows=10))


def test_a_number_that_json_could_not_carry_is_named_by_its_record() -> None:
    result = {"points": [{"id": 8, "payload": {}, "vector": [1.0, None]}], "next_page_offset": None}

    def answer(method: str, path: str) -> tuple[int, bytes]:
        return 200, enveloped(result) if path.endswith("/scroll") else described()

    with server(answer) as base, opened(base) as store, pytest.raises(DataInvalid, match="record 8"):
        list(store.source().scan(Partition(), batch_rows=10))


def test_an_option_that_is_not_known_is_an_error_of_the_address() -> None:
    with pytest.raises(AddressError, match="'grpc'"):
        open_store("qdrant+http://127.0.0.1:1?grpc=true#c")
    with pytest.raises(UsageError, match="tls"):
        open_store("qdrant+http://127.0.0.1:1?tls=perhaps#c")


def test_proxy_and_certificates_reach_the_client() -> None:
    import certifi

    from exitramp_adapters.stores.qdrant.client import make_client

    network = Network(proxy="http://127.0.0.1:9", no_proxy=("internal.example",), ca_bundle=Path(certifi.where()))
    client = make_client(Address.parse("qdrant+http://db.example:6333/behind/a/path?tls=true#c"), network)
    http = client.http.client._client
    assert http._transport_for_url(httpx.URL("https://internal.example")) is http._transport
    assert http._transport_for_url(httpx.URL("https://db.example")) is not http._transport
    assert client._client.rest_uri == "https://db.example:6333/behind/a/path"
    client.close()
