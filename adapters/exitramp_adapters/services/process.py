"""A Python module run as a server on a loopback port: a process of its own to stop, kill and restart.

What every service needs and none should write twice: a port that stays ours over a restart, readiness by polling
with a deadline, faults by signal, and an end in every case: the process group is killed on `stop`, and the process
itself dies with the one that started it.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self

from exitramp.errors import RemoteError, RoleUnsupported, UsageError
from exitramp.faults import Fault
from exitramp.secrets import redact

HOST: Final = "127.0.0.1"
PORT: Final = "{port}"
"""Stands in `arguments` for the port's number."""
FAULTS: Final = ("sigstop", "sigcont", "sigkill", "restart")

_POLL_SECONDS = 0.02
# prctl(PR_SET_PDEATHSIG, SIGKILL), the check that the parent did not die before it, then the real program in the same
# process. Between fork and exec (`preexec_fn`) it would be unsafe, since the parent may run threads; it costs 15 ms.
_DIE_WITH_PARENT = (
    "import ctypes,os,sys;ctypes.CDLL(None).prctl(1,9,0,0,0);"
    "os.getppid()==int(sys.argv[1]) or os._exit(1);os.execv(sys.argv[2],sys.argv[2:])"
)


class LoopbackProcess:
    """`sys.executable ARGUMENTS…` as a server on 127.0.0.1.

    arguments: what follows the interpreter, e.g. `("-m", "some.server", "--port", PORT)`.
    folder: made if missing; holds `NAME.log` with what the server prints. Also its working directory.
    ready_path: the server is ready when GET on it answers 200; without one, when the port accepts a connection.
    environment: set on top of this process's own.
    port: the one to listen on; 0 takes one that is free. port_variable: the name in its environment that tells it.
    is_ready: asked in the place of its port.

    The server must set SO_REUSEADDR before it binds (asyncio, uvicorn, http.server and tokio do): on Linux the port
    is held bound, not listening, for as long as this object lives, so that nobody else gets it while the server is
    down, and a client is refused in the meantime.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        folder: str | os.PathLike[str],
        ready_path: str | None = None,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
        port_variable: str | None = None,
        is_ready: Callable[[], bool] | None = None,
        start_timeout_seconds: float = 30.0,
        grace_seconds: float = 3.0,
    ) -> None:
        self.name = name
        self.folder = Path(folder)
        self._arguments = tuple(arguments)
        self._ready_path = ready_path
        self._environment = dict(environment or {})
        self._start_timeout_seconds = start_timeout_seconds
        self._grace_seconds = grace_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._reserved: socket.socket | None = None
        self._port: int | None = None
        self._wanted_port = port
        self._port_variable = port_variable
        self._asked_ready = is_ready

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Its port, the same over restarts. Raises `RemoteError` before `start`."""
        if self._port is None:
            raise RemoteError(f"{self.name} was not started")
        return self._port

    @property
    def pid(self) -> int:
        """Raises `RemoteError` before `start`."""
        if self._process is None:
            raise RemoteError(f"{self.name} was not started")
        return self._process.pid

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def is_alive(self) -> bool:
        """Whether the process is there, stopped by a signal or not."""
        return self._process is not None and self._process.poll() is None

    def require_running(self) -> None:
        """Raises `RemoteError` that says how it ended, with its last words, where it was started and is gone."""
        process = self._process
        if process is None or process.poll() is None:
            return
        status = process.returncode
        how = f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"
        raise RemoteError(f"{self.name} {how}{self._last_words()}", hint="start it again; its files are kept")

    def start(self) -> int:
        """Start it, return its port once it is ready. Raises `RemoteError` if it ends or the deadline passes first."""
        if self.is_alive:
            return self.port
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._port is None:
            self._reserve_port()
        self._process = _spawn(self._popen)
        try:
            self._wait_until_ready()
        except BaseException:
            self._kill()
            raise
        return self.port

    def inject(self, fault: Fault) -> None:
        """`sigstop`, `sigcont`, `sigkill`, `restart` (same port and folder), or `none`, which heals whatever it was."""
        match fault.kind:
            case "sigstop":
                self._freeze()
            case "sigcont":
                self._signal(signal.SIGCONT)
            case "sigkill":
                self._kill()
            case "restart":
                self.restart()
            case "none" if self.is_alive:
                self._signal(signal.SIGCONT)
            case "none":
                self.start()
            case _:
                raise RoleUnsupported(
                    f"{self.name} cannot fail by {fault.kind!r}", hint=f"it can by: {', '.join(FAULTS)}"
                )

    def restart(self) -> None:
        """End it if it runs, and start it again on the same port and folder."""
        self.port  # noqa: B018  (raises if it was never started)
        self._end()
        self.start()

    def stop(self) -> None:
        """End the whole process group and give the port back; calling it again does nothing."""
        self._end()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    def _reserve_port(self) -> None:
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind((HOST, self._wanted_port))
            if self._wanted_port:
                self._require_free(held)
        except OSError as error:
            held.close()
            raise UsageError(
                f"port {self._wanted_port} cannot be listened on ({error.strerror})",
                hint="name another, or none at all",
            ) from error
        self._port = held.getsockname()[1]
        if sys.platform == "linux":
            self._reserved = held
        else:  # elsewhere a second bind to a bound port fails, so a free port can be chosen but not held
            held.close()

    def _require_free(self, held: socket.socket) -> None:
        """Raises `OSError` where somebody listens already: with SO_REUSEADDR a bind alone does not tell."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((HOST, self._wanted_port)) == 0:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    def _popen(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, *(str(self.port) if item == PORT else item for item in self._arguments)]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
        told = {self._port_variable: str(self.port)} if self._port_variable else {}
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | self._environment | told,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, so that it can be killed with all it started
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_timeout_seconds
        while not self._is_ready():
            if not self.is_alive:
                status = self._process.returncode if self._process is not None else None
                raise RemoteError(f"{self.name} ended with status {status} before it was ready{self._last_words()}")
            if time.monotonic() > deadline:
                raise RemoteError(
                    f"{self.name} was not ready within {self._start_timeout_seconds:g} s{self._last_words()}"
                )
            time.sleep(_POLL_SECONDS)

    def _is_ready(self) -> bool:
        if self._asked_ready is not None:
            return self._asked_ready()
        connection = http.client.HTTPConnection(HOST, self.port, timeout=1.0)
        try:
            if self._ready_path is None:
                connection.connect()
                return True
            connection.request("GET", self._ready_path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        lines = self.log_path.read_text("utf-8", "replace").strip().splitlines()[-3:]
        return ": " + redact(" / ".join(lines)) if lines else ""

    def _signal(self, number: signal.Signals) -> None:
        if not self.is_alive:
            raise RemoteError(f"{self.name} is not running", hint="start it again with the fault 'restart'")
        os.killpg(self.pid, number)

    def _freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        # The signal is on its way when killpg returns; the stop is only true when the kernel reports it.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _end(self) -> None:
        """Ask first, so that a server can close its files; then kill what is left of the group."""
        if self._process is not None and self.is_alive:
            os.killpg(self.pid, signal.SIGTERM)
            os.killpg(self.pid, signal.SIGCONT)  # a stopped process acts on nothing but SIGKILL
            with contextlib.suppress(subprocess.TimeoutExpired):  # SIGKILL below does not ask
                self._process.wait(self._grace_seconds)
        self._kill()

    def _kill(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # the group is empty already
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None  # its number may be another process's by the next call


def _signal_name(number: int) -> str:
    """SIGKILL; the number, where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_spawner: ThreadPoolExecutor | None = None
_spawner_lock = threading.Lock()


def _spawn(popen: Any) -> subprocess.Popen[bytes]:
    """Linux ties "dies with its parent" to the *thread* that forked; so only a thread that lasts may do it."""
    if threading.current_thread() is threading.main_thread():
        process: subprocess.Popen[bytes] = popen()
        return process
    global _spawner
    with _spawner_lock:
        if _spawner is None:
            _spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="exitramp-spawner")
    spawned: subprocess.Popen[bytes] = _spawner.submit(popen).result()
    return spawned
