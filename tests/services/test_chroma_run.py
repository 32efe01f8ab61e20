"""The Chroma server as a service, and the process under every service: ports, faults by signal, and a sure end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import chromadb
import httpx
import psutil
import pytest
from chromadb.config import Settings

from exitramp.errors import RemoteError, RoleUnsupported, UsageError
from exitramp.faults import Fault
from exitramp.registry import service_adapter
from exitramp_adapters.services.chroma_run import ADAPTER, ChromaRun
from exitramp_adapters.services.process import FAULTS, HOST, PORT, LoopbackProcess

WEB = ("-m", "http.server", PORT, "--bind", HOST)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ChromaRun]:
    made = ChromaRun(str(tmp_path / "service"), {})
    made.start()
    yield made
    made.stop()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[LoopbackProcess]:
    with LoopbackProcess("web", WEB, folder=tmp_path, ready_path="/") as process:
        yield process


def raw(service: ChromaRun) -> chromadb.api.ClientAPI:
    return chromadb.HttpClient(HOST, service.address.port or 0, settings=Settings(anonymized_telemetry=False))


def answers(port: int, *, timeout_seconds: float = 0.3) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/", timeout=timeout_seconds, trust_env=False).status_code < 500
    except httpx.TransportError:
        return False


def poll(condition: Callable[[], bool], *, within_seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_the_address_is_that_of_a_chroma_that_answers(service: ChromaRun) -> None:
    assert str(service.address) == f"chroma+http://127.0.0.1:{service.address.port}"
    raw(service).create_collection("articles", embedding_function=None).add(ids=["a"], embeddings=[[1.0, 2.0]])
    assert raw(service).get_collection("articles", embedding_function=None).count() == 1
    assert service.counters() == {}, "a server without an account of its own must not be given one"


@pytest.mark.parametrize("fault", ["sigkill", "none", "restart"])
def test_records_survive_a_kill_and_come_back_on_the_same_port(service: ChromaRun, fault: str) -> None:
    collection = raw(service).create_collection("articles", embedding_function=None)
    collection.add(ids=["a", "b"], embeddings=[[1.0, 2.0], [3.0, 4.0]], documents=["x", "y"])
    address, pid = service.address, service.pid
    service.inject(Fault("sigkill"))
    assert not psutil.pid_exists(pid)
    service.inject(Fault("restart" if fault == "sigkill" else fault))
    assert service.address == address
    assert sorted(raw(service).get_collection("articles", embedding_function=None).get()["ids"]) == ["a", "b"]


def test_a_stopped_server_does_not_answer_until_it_is_continued(service: ChromaRun) -> None:
    port = service.address.port or 0
    assert answers(port, timeout_seconds=5)
    service.inject(Fault("sigstop"))
    assert psutil.Process(service.pid).status() == psutil.STATUS_STOPPED
    assert not answers(port)
    service.inject(Fault("sigcont"))
    assert answers(port, timeout_seconds=5)
    service.inject(Fault("sigstop"))
    service.inject(Fault("none"))
    assert answers(port, timeout_seconds=5)


def test_stopping_ends_the_process_and_removes_its_files(tmp_path: Path) -> None:
    service = ADAPTER.make(str(tmp_path), 0, {})
    service.start()
    assert (tmp_path / "data").exists()
    service.inject(Fault("sigstop"))
    pid = service.pid  # type: ignore[attr-defined]
    service.stop()
    service.stop()
    assert not psutil.pid_exists(pid)
    assert not (tmp_path / "data").exists()


def test_unknown_options_and_faults_are_refused(service: ChromaRun, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="workers"):
        ADAPTER.make(str(tmp_path), 0, {"workers": 2})
    with pytest.raises(RoleUnsupported, match="rate_limit"):
        service.inject(Fault("rate_limit"))
    assert service_adapter("chroma-run") is ADAPTER
    assert ADAPTER.faults == FAULTS
    assert not ADAPTER.is_mock


def test_a_port_is_refused_but_nobody_elses_while_the_server_is_down(web: LoopbackProcess) -> None:
    web.inject(Fault("sigkill"))
    with pytest.raises(httpx.ConnectError):
        httpx.get(web.base_url, timeout=5, trust_env=False)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, web.port))
    port = web.port
    web.restart()
    assert web.port == port
    assert answers(port, timeout_seconds=5)


def test_signals_to_a_dead_process_are_an_error_and_not_a_signal_to_somebody_else(web: LoopbackProcess) -> None:
    web.inject(Fault("sigkill"))
    web.inject(Fault("sigkill"))
    with pytest.raises(RemoteError, match="not running"):
        web.inject(Fault("sigstop"))


def test_a_server_that_ends_at_once_says_so_with_its_last_words(tmp_path: Path) -> None:
    words = "import sys; print('cannot open sk-abcdefghijklmnopqrstuvwxyz0123456789abcd'); sys.exit(3)"
    process = LoopbackProcess("broken", ("-c", words), folder=tmp_path)
    with pytest.raises(RemoteError, match=r"status 3.*cannot open") as caught:
        process.start()
    assert "abcdefghijklmnop" not in str(caught.value)
    process.stop()


def test_a_server_that_is_never_ready_is_given_up_and_killed(tmp_path: Path) -> None:
    process = LoopbackProcess(
        "slow", ("-c", "import time; time.sleep(600)"), folder=tmp_path, start_timeout_seconds=0.3
    )
    with pytest.raises(RemoteError, match=r"within 0\.3 s"):
        process.start()
    assert not process.is_alive
    process.stop()


def test_stopping_kills_the_whole_group_even_when_it_ignores_being_asked(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, http.server\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('child', 'w').write(str(child.pid))\n"
        "http.server.test(port=int(sys.argv[1]), bind='127.0.0.1')"
    )
    process = LoopbackProcess("stubborn", ("-c", code, PORT), folder=tmp_path, grace_seconds=0.2)
    process.start()
    pids = [process.pid, int((tmp_path / "child").read_text())]
    process.stop()
    assert poll(lambda: not any(is_running(pid) for pid in pids))


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("fault", ["none", "sigstop"])
def test_the_server_dies_with_a_parent_that_was_killed(tmp_path: Path, fault: str) -> None:
    code = (
        "import sys, time\n"
        "from exitramp.faults import Fault\n"
        "from exitramp_adapters.services.process import HOST, PORT, LoopbackProcess\n"
        f"web = LoopbackProcess('web', ('-m', 'http.server', PORT, '--bind', HOST), folder={str(tmp_path)!r})\n"
        "web.start()\n"
        f"web.inject(Fault({fault!r}))\n"
        "print(web.pid, flush=True)\n"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert poll(lambda: not is_running(pid)), "the server outlived the process that started it"


def test_a_server_started_by_a_thread_outlives_the_thread(tmp_path: Path) -> None:
    """Linux ties the death signal to the thread that forked, not to the process."""
    process = LoopbackProcess("web", WEB, folder=tmp_path)
    thread = threading.Thread(target=process.start)
    thread.start()
    thread.join()
    died = poll(lambda: not process.is_alive, within_seconds=0.3)
    assert not died, "the server died with the thread that started it"
    process.stop()


def test_the_log_is_kept_over_a_restart(web: LoopbackProcess) -> None:
    answers(web.port, timeout_seconds=5)
    before = web.log_path.read_text()
    web.restart()
    assert web.log_path.read_text().startswith(before)
