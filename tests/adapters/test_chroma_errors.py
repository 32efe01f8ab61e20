"""What Chroma's adapter makes of errors, proxies, addresses and filters, without a Chroma."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import httpx
import pytest
from chromadb import errors

from exitramp.errors import (
    CollectionMissing,
    DataInvalid,
    StoreError,
    StoreProtocolError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
    UsageError,
)
from exitramp.filters import And, Eq, Exists, Filter, Not, Or, Range
from exitramp.records import EmbeddingModel
from exitramp.registry import open_store
from exitramp.urls import Address, Network
from exitramp_adapters.stores.chroma.client import translated
from exitramp_adapters.stores.chroma.filters import where_json
from exitramp_adapters.stores.chroma.opened import OpenedChroma
from exitramp_adapters.stores.chroma.records import embedding_model


@pytest.mark.parametrize(
    ("where", "named"),
    [
        (Exists(("a",)), "'exists'"),
        (Not(Exists(("a",))), "'exists'"),
        (Not(Range(("a",), gt=1)), "'not' around a 'range'"),
        (Not(Or((Eq(("a",), 1), Range(("a",), lt=0)))), "'not' around a 'range'"),
        (Eq(("a", "b"), 1), "nested field"),
        (Eq(("$and",), 1), r"key '\$and'"),
        (Eq(("",), 1), "key ''"),
        (Eq(("chroma:document",), "x"), "key 'chroma:document'"),
        (Eq(("a",), 0.1 + 0.2), "this number"),
        (Eq(("a",), 2**63), "this number"),
        (Range(("a",), lt=math.inf), "this number"),
        (Range(("a",), gt=math.nan), "this number"),
        (And(()), "without any condition"),
    ],
    ids=str,
)
def test_a_filter_that_cannot_be_honoured_exactly_is_refused_by_name(where: Filter, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        where_json(where)


def test_a_distance_without_a_name_is_an_error_and_not_cosine() -> None:
    chroma = OpenedChroma(Address.parse("chroma:/nowhere#articles"), Network())
    with pytest.raises(DataInvalid, match="'manhattan'"):
        chroma.metric(SimpleNamespace(configuration_json={"hnsw": {"space": "manhattan"}}))


def test_the_model_is_known_only_where_somebody_named_it() -> None:
    named = {"type": "known", "name": "sentence_transformer", "config": {"model_name": "all-MiniLM-L6-v2"}}
    assert embedding_model(named) == EmbeddingModel(provider="sentence_transformer", name="all-MiniLM-L6-v2")
    assert embedding_model({"type": "known", "name": "default", "config": {}}) == EmbeddingModel()
    assert embedding_model({"type": "legacy"}) == embedding_model({}) == EmbeddingModel()


class Gate(BaseHTTPRequestHandler):
    """Answers each request with a status, and keeps its headers."""

    status = 401
    seen: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self.seen.append({key.lower(): value for key, value in self.headers.items()})
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"<html>not chroma</html>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gate() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Gate)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Gate.seen.clear()
    yield f"chroma+http://127.0.0.1:{server.server_port}/behind"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (200, StoreProtocolError),
        (401, StoreRejected),
        (403, StoreRejected),
        (404, StoreProtocolError),
        (429, StoreUnavailable),
        (500, StoreProtocolError),
        (503, StoreUnavailable),
        (504, StoreTimeout),
    ],
)
def test_what_stands_before_a_server_is_told_from_it(
    gate: str, status: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "status", status)
    store = open_store(f"{gate}#articles")
    with pytest.raises(error):
        store.source().count()
    store.close()


def test_a_token_is_sent_in_the_header_asked_for_and_shown_nowhere(gate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_TEST_TOKEN", "t0ken-of-the-test")
    for options, header, value in (
        ("", "authorization", "Bearer t0ken-of-the-test"),
        ("&token_header=X-Chroma-Token", "x-chroma-token", "t0ken-of-the-test"),
    ):
        store = open_store(f"{gate}?token=env:CHROMA_TEST_TOKEN{options}#articles")
        with pytest.raises(StoreRejected, match="does the token allow this") as caught:
            store.source().count()
        store.close()
        assert Gate.seen[-1][header] == value
        assert "t0ken" not in str(caught.value)


def test_options_and_addresses_that_mean_nothing_are_refused() -> None:
    for address in (
        "chroma:./db?token=env:X#a",
        "chroma:./db?dimensions=many#a",
        "chroma+http:./db#a",
        "chroma+http://127.0.0.1:1?nope=1#a",
        "chroma+http://127.0.0.1:1?tls=perhaps#a",
        "chroma://127.0.0.1:1#a",
    ):
        with pytest.raises(UsageError):
            open_store(address)


RETRYABLE = {"RateLimitError"}


@pytest.mark.parametrize("kind", list(errors.error_types.values()))
def test_every_error_of_chromadb_becomes_one_of_ours(kind: type[Exception]) -> None:
    address = Address.parse("chroma+http://127.0.0.1:1#articles")
    with pytest.raises((StoreError, CollectionMissing)) as caught, translated(address):
        raise kind("what it said")
    assert caught.value.retryable == (kind.__name__ in RETRYABLE)
    assert isinstance(caught.value, CollectionMissing) == (kind is errors.NotFoundError)


@pytest.mark.parametrize(
    ("raised", "error", "shown"),
    [
        (httpx.ReadTimeout("a secret value"), StoreTimeout, False),
        (httpx.ConnectError("a secret value"), StoreUnavailable, False),
        (httpx.RemoteProtocolError("a secret value"), StoreUnavailable, False),
        (ValueError("Expected metadata value, got a secret value"), StoreRejected, False),
        (TypeError("cannot convert a secret value"), StoreRejected, False),
        (KeyError("ids"), StoreProtocolError, False),
        (Exception("Payload too odd"), StoreProtocolError, True),
        (errors.InternalError("database is locked"), StoreUnavailable, False),
        (type("PanicException", (BaseException,), {})("unreachable"), StoreError, True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_else_a_call_raises_is_translated_without_values(
    raised: BaseException, error: type[Exception], shown: bool
) -> None:
    with pytest.raises(error) as caught, translated(Address.parse("chroma+http://127.0.0.1:1#articles")):
        raise raised
    assert "secret value" not in str(caught.value)
    assert (str(raised) in str(caught.value)) == shown


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(3), MemoryError(), UsageError("ours")])
def test_what_is_not_chromas_passes(raised: BaseException) -> None:
    with pytest.raises(type(raised)) as caught, translated(Address.parse("chroma:/nowhere#articles")):
        raise raised
    assert caught.value is raised


def test_importing_the_adapter_loads_no_sdk_and_leaves_logging_alone() -> None:
    code = (
        "import logging, sys\n"
        "before = (logging.root.level, list(logging.root.handlers))\n"
        "import exitramp_adapters.stores.chroma.adapter\n"
        "assert (logging.root.level, list(logging.root.handlers)) == before\n"
        "loaded = {'chromadb', 'httpx', 'chromadb_rust_bindings'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_opening_a_store_leaves_logging_alone_and_asks_nobody_else(tmp_path: Path) -> None:
    """No embedding function is loaded, no other host is asked, and no `.env` file about the place is read."""
    (tmp_path / ".env").write_text("CHROMA_SERVER_HOST=elsewhere.invalid\nANONYMIZED_TELEMETRY=true\n")
    code = (
        "import logging, socket, sys\n"
        "before = (logging.root.level, list(logging.root.handlers))\n"
        "def refuse(self, address): raise AssertionError(f'connects to {address}')\n"
        "socket.socket.connect = refuse\n"
        "import numpy as np\n"
        "from exitramp.ports import Origin, Query\n"
        "from exitramp.records import *\n"
        "from exitramp.registry import open_store\n"
        "spec = CollectionSpec('articles', IdKind.STRING, (VectorField('', VectorKind.DENSE, DType.FLOAT32, "
        "Metric.COSINE, 2),), has_documents=True)\n"
        "store = open_store('chroma:./db#articles')\n"
        "store.sink().create(spec, Origin(spec, 'test'))\n"
        "assert store.search().search(Query(dense=np.ones(2)), k=1).keys == ()\n"
        "store.source().identity()\n"
        "assert (logging.root.level, list(logging.root.handlers)) == before\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "store.close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
