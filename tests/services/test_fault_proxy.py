"""The fault proxy in front of a plain echo, a mock vendor and a real Chroma: every toxic, counted and taken back."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from exitramp.errors import ModelError, RemoteError, StoreError, UsageError
from exitramp.faults import PROXY_FAULTS, Fault
from exitramp.ports import ChatMessage, ChatRequest
from exitramp.registry import open_chat, open_store, service_adapter
from exitramp_adapters.services.fault_proxy.adapter import ADAPTER, FaultProxy
from exitramp_adapters.services.fault_proxy.target import Target
from exitramp_adapters.services.fault_proxy.toxics import ATTRIBUTES, Toxic

PATIENCE_SECONDS = 10.0


class Echo:
    """Sends back what it gets, and ends its side when the other one does."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    @staticmethod
    def _serve(client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(65536):
                    client.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self._server.close()


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def make(tmp_path: Path, echo: Echo) -> Iterator[Callable[..., FaultProxy]]:
    started: list[FaultProxy] = []

    def start(*toxics: dict[str, Any], seed: int = 7, target: str | None = None, **options: Any) -> FaultProxy:
        options = {"target": target or f"127.0.0.1:{echo.port}", "toxics": list(toxics)} | options
        proxy = FaultProxy(str(tmp_path / f"proxy{len(started)}"), seed, options)
        started.append(proxy)
        proxy.start()
        return proxy

    yield start
    for proxy in started:
        proxy.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, echo: Echo) -> Iterator[FaultProxy]:
    proxy = FaultProxy(str(tmp_path_factory.mktemp("proxy")), 7, {"target": f"127.0.0.1:{echo.port}"})
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.fixture
def proxy(shared: FaultProxy) -> FaultProxy:
    shared.reset()
    return shared


def dial(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_SECONDS)


def read(client: socket.socket, count: int) -> bytes:
    """`count` bytes, or what came before the end."""
    data = b""
    while len(data) < count and (piece := client.recv(count - len(data))):
        data += piece
    return data


def turn(proxy: FaultProxy, data: bytes = b"hello") -> float:
    """Seconds that `data` takes there and back."""
    with dial(proxy) as client:
        began = time.monotonic()
        client.sendall(data)
        assert read(client, len(data)) == data
        return time.monotonic() - began


def is_silent(client: socket.socket, seconds: float = 0.15) -> bool:
    client.settimeout(seconds)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENCE_SECONDS)
    return False


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_without_toxics_everything_passes_and_is_counted(make: Callable[..., FaultProxy]) -> None:
    proxy = make()
    data = bytes(range(256)) * 4096
    with dial(proxy) as client:
        threading.Thread(target=client.sendall, args=(data,)).start()
        assert read(client, len(data)) == data
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""  # the end of one side goes through to the other
    until(lambda: proxy.counters()["open"] == 0)
    counted = proxy.counters()
    assert (counted["connections"], counted["bytes_upstream"], counted["bytes_downstream"]) == (1, 2**20, 2**20)


@pytest.mark.parametrize("direction", ["upstream", "downstream"])
def test_latency_delays_each_piece_in_its_direction(proxy: FaultProxy, direction: str) -> None:
    proxy.add("latency", latency_ms=200, direction=direction)
    assert turn(proxy) >= 0.2
    proxy.reset()
    assert min(turn(proxy) for _ in range(5)) < 0.2


def test_delays_of_pieces_do_not_add_up_and_order_is_kept(proxy: FaultProxy) -> None:
    proxy.add("jitter", jitter_ms=100, direction="upstream")
    proxy.add("slicer", average_bytes=100, variation_bytes=50)
    data = b"".join(b"%06d" % number for number in range(2000))
    assert turn(proxy, data) < 5.0


def test_bandwidth_paces(proxy: FaultProxy) -> None:
    proxy.add("bandwidth", kilobytes_per_second=100)
    assert turn(proxy, b"x" * 30_000) >= 0.25


def test_a_slicer_cuts_into_pieces_that_come_apart(proxy: FaultProxy) -> None:
    proxy.add("slicer", average_bytes=10, delay_ms=20)
    assert turn(proxy, b"x" * 100) >= 0.18


def test_a_timeout_lets_nothing_pass_and_what_it_held_goes_on_when_it_is_removed(proxy: FaultProxy) -> None:
    with dial(proxy) as client:
        client.sendall(b"one")
        assert read(client, 3) == b"one"
        proxy.add("timeout", name="silence")
        client.sendall(b"two")
        assert is_silent(client)
        proxy.remove("silence")
        assert read(client, 3) == b"two"


def test_a_timeout_closes_when_its_time_is_up(proxy: FaultProxy) -> None:
    proxy.add("timeout", timeout_ms=50)
    with dial(proxy) as client:
        client.sendall(b"x")
        assert client.recv(1) == b""


def test_a_reset_resets_connections_that_are_open_already(proxy: FaultProxy) -> None:
    with dial(proxy) as client:
        client.sendall(b"x")
        assert read(client, 1) == b"x"
        before = proxy.counters()["reset"]
        proxy.add("reset")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert proxy.counters()["reset"] == before + 1


def test_limited_data_end_the_connection_after_so_many_bytes(proxy: FaultProxy) -> None:
    proxy.add("limit_data", bytes=7)
    with dial(proxy) as client:
        client.sendall(b"0123456789")
        assert read(client, 10) == b"0123456"


def test_a_slow_close_tells_the_end_later(proxy: FaultProxy) -> None:
    proxy.add("slow_close", delay_ms=200)
    with dial(proxy) as client:
        client.sendall(b"x")
        assert read(client, 1) == b"x"
        began = time.monotonic()
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        assert time.monotonic() - began >= 0.2


def test_down_closes_the_port_and_can_be_taken_back(proxy: FaultProxy) -> None:
    with dial(proxy) as client:
        client.sendall(b"x")
        assert read(client, 1) == b"x"
        proxy.inject(Fault("down"))
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)
    assert proxy.describe()["listening"] is False
    proxy.inject(Fault("none"))
    assert turn(proxy) < 10.0


def survivors(proxy: FaultProxy, count: int = 20) -> list[bool]:
    found = []
    for _ in range(count):
        try:
            with dial(proxy) as client:
                client.sendall(b"x")
                found.append(read(client, 1) == b"x")
        except ConnectionError:
            found.append(False)
    return found


@pytest.mark.parametrize("kind", ["down", "reset"])
def test_toxicity_takes_a_share_of_connections_the_same_ones_for_a_seed(
    make: Callable[..., FaultProxy], kind: str
) -> None:
    toxic = {"kind": kind, "toxicity": 0.5}
    first, again, other = (survivors(make(toxic, seed=seed)) for seed in (3, 3, 4))
    assert first == again != other
    assert 3 <= first.count(True) <= 17


def test_toxics_come_by_numbers_of_connections_and_by_time(make: Callable[..., FaultProxy]) -> None:
    assert survivors(make({"kind": "reset", "calls": [2, 3]}), 4) == [True, False, False, True]
    assert survivors(make({"kind": "reset", "from_call": 3}), 4) == [True, True, False, False]
    timed = make({"kind": "down", "to_seconds": 1.0})

    def listens() -> bool:
        return bool(timed.describe()["listening"])

    until(listens)
    assert timed.describe()["elapsed_seconds"] >= 1.0
    assert survivors(timed, 1) == [True]


def test_the_control_lists_replaces_and_refuses(proxy: FaultProxy) -> None:
    added = proxy.add("latency", latency_ms=5, toxicity=0.25, direction="upstream", name="slow")
    assert proxy.toxics() == [added]
    proxy.add("jitter", jitter_ms=1, name="slow")
    assert [toxic["kind"] for toxic in proxy.toxics()] == ["jitter"]
    with pytest.raises(UsageError, match="fast"):
        proxy.remove("fast")
    with pytest.raises(UsageError, match="latency_ms"):
        proxy.add("latency")
    with httpx.Client(base_url=proxy.control_url, trust_env=False) as control:
        assert control.get("/nothing").status_code == 404
        assert control.post("/toxics", content=b"{").status_code == 400
        assert control.post("/toxics", content=b"[]").status_code == 400
    proxy.remove("slow")
    assert proxy.toxics() == []


@pytest.mark.parametrize(
    ("toxic", "said"),
    [
        ({"kind": "lag"}, "unknown toxic"),
        ({"kind": "latency", "latency_ms": "5"}, "number"),
        ({"kind": "latency", "latency_ms": -1}, "number"),
        ({"kind": "latency", "latency_ms": 5, "latency": 5}, "'latency'"),
        ({"kind": "bandwidth", "kilobytes_per_second": 0}, "above 0"),
        ({"kind": "down", "toxicity": 1.5}, "toxicity"),
        ({"kind": "down", "direction": "sideways"}, "direction"),
        ({"kind": "down", "name": "a/b"}, "slash"),
        ({"kind": "down", "calls": "all"}, "calls"),
        ([], "mapping"),
    ],
)
def test_mistakes_in_a_toxic_are_named(toxic: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Toxic.parse(toxic)


def test_a_target_that_is_gone_is_counted_and_looks_like_a_reset(make: Callable[..., FaultProxy]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    proxy = make(target=f"127.0.0.1:{port}")
    assert survivors(proxy, 1) == [False]
    assert proxy.counters()["unreachable"] == 1


def test_targets_are_found_in_addresses_and_led_through() -> None:
    for text, through in (
        ("127.0.0.1:6379", "tcp://127.0.0.1:99"),
        ("chroma+http://localhost:8000#articles", "chroma+http://127.0.0.1:99#articles"),
        ("pgvector://me@127.0.0.1/db#t", "pgvector://me@127.0.0.1:99/db#t"),
        ("openai:m?base_url=http://127.0.0.1:1/v1&mock=true", "openai:m?base_url=http://127.0.0.1:99/v1&mock=true"),
    ):
        assert Target.parse(text).through(99).text == through
    for text, said in (("chroma:./db", "no host"), ("127.0.0.1:99999", "no port"), ("example.com:80", "this machine")):
        with pytest.raises(UsageError, match=said):
            Target.parse(text)
    assert Target.parse("example.com:80", allow_remote=True).host == "example.com"


def test_it_is_killed_and_restarted_on_its_port_and_its_port_can_be_chosen(make: Callable[..., FaultProxy]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=str(port)):
            make(listen=port)
    proxy = make({"kind": "limit_data", "bytes": 3}, listen=port)
    assert proxy.port == port
    proxy.inject(Fault("sigkill"))
    with pytest.raises(RemoteError, match="control"):
        proxy.counters()
    proxy.inject(Fault("restart"))
    assert (proxy.port, proxy.toxics()[0]["kind"]) == (port, "limit_data")


def test_every_toxic_is_offered_as_a_fault() -> None:
    assert set(ATTRIBUTES) == PROXY_FAULTS - {"none"}
    assert set(ADAPTER.faults) >= PROXY_FAULTS
    assert not ADAPTER.is_mock


# -- in front of what we speak to ----------------------------------------------------------------------------------

QUESTION = ChatRequest(
    (ChatMessage("user", "[passage a]\nParis is big.\n[/passage]\nQuestion: Is Paris big?"),), stream=True
)


def test_our_client_takes_every_spoilt_connection_to_a_vendor_for_what_it_is(
    make: Callable[..., FaultProxy], tmp_path: Path
) -> None:
    vendor = service_adapter("mock-openai").make(str(tmp_path / "vendor"), 7, {})
    proxy = make(target=vendor.start().text)
    model = open_chat(proxy.address.text)
    try:
        assert model.answer(QUESTION, timeout_seconds=5).text == "Paris is big. [a]"
        for fault, said in (
            (Fault("down"), {"connection"}),
            (Fault("reset"), {"connection"}),
            (Fault("timeout"), {"timeout"}),
            (Fault("limit_data", {"bytes": 700}), {"truncated"}),
            (Fault("latency", {"latency_ms": 5000}), {"timeout"}),
            (Fault("bandwidth", {"kilobytes_per_second": 0.1}), {"timeout", "truncated"}),
        ):
            proxy.inject(fault)
            with pytest.raises(ModelError) as caught:
                model.answer(QUESTION, timeout_seconds=0.5)
            assert caught.value.error_class in said, fault
            proxy.inject(Fault("none"))
            assert model.answer(QUESTION, timeout_seconds=5).text == "Paris is big. [a]", fault
        proxy.inject(Fault("slicer", {"average_bytes": 3}))
        assert model.answer(QUESTION, timeout_seconds=5).text == "Paris is big. [a]"
    finally:
        model.close()
        vendor.stop()


def test_a_real_store_behind_it_fails_and_heals(make: Callable[..., FaultProxy], tmp_path: Path) -> None:
    chroma = service_adapter("chroma-run").make(str(tmp_path / "chroma"), 7, {})
    address = chroma.start()
    proxy = make(target=address.text)
    assert proxy.address.scheme == "chroma+http"
    try:
        base = f"http://127.0.0.1:{proxy.port}/api/v2/heartbeat"
        assert httpx.get(base, trust_env=False).status_code == 200
        proxy.inject(Fault("down"))
        with pytest.raises(StoreError):
            open_store(f"{proxy.address.text}#articles").source().count()
        proxy.inject(Fault("none"))
        assert httpx.get(base, trust_env=False).status_code == 200
        assert json.loads(httpx.get(base, trust_env=False).text)
    finally:
        chroma.stop()
