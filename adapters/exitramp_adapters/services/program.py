"""A program of the user's own as a service: started on a loopback port, and ended with the run that started it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.errors import RemoteError, UsageError
from exitramp.faults import Fault
from exitramp.ports import ServiceAdapter
from exitramp.urls import Address
from exitramp_adapters.services.process import FAULTS, HOST, LoopbackProcess

PYTHON: Final = "{python}"
"""Stands in a command for the Python that runs this program: `python` may be another one, without its packages."""
PORT_VARIABLE: Final = "EXITRAMP_PORT"

# The process that dies with its parent is a Python; it goes to the program's folder and becomes the program.
_EXEC: Final = (
    "import os,sys\nos.chdir(sys.argv[1])\n"
    "try: os.execvp(sys.argv[2],sys.argv[2:])\nexcept OSError as error: sys.exit(f'{sys.argv[2]}: {error.strerror}')"
)
_OPTIONS: Final = ("command", "folder", "listen", "environment", "seconds", "name")
_READY_SECONDS: Final = 30.0


class Program:
    """A command without a shell, ready as soon as its port accepts connections.

    options: `command` (words; `{python}` and `{port}` are filled in), `folder` (where it runs; the service's own if
    left away), `listen` (the port it takes, 0 for a free one, told as `EXITRAMP_PORT`; it must set SO_REUSEADDR, as
    servers do), `environment` (on top of this process's), `seconds` (how long it may take until it is ready), `name`
    (of its log and in what is said of it).
    """

    def __init__(self, folder: str, options: Mapping[str, Any]) -> None:
        for name in options:
            if name not in _OPTIONS:
                raise UsageError(f"program has no option {name!r}", hint=f"its options are: {', '.join(_OPTIONS)}")
        command = options.get("command")
        if not isinstance(command, list | tuple) or not command or not all(isinstance(each, str) for each in command):
            raise UsageError("program needs the option 'command': a list of words")
        listen, environment = options.get("listen", 0), options.get("environment", {})
        if not isinstance(listen, int) or isinstance(listen, bool) or not 0 <= listen < 65536:
            raise UsageError("program: the option 'listen' is a port, or 0 for a free one")
        if not isinstance(environment, Mapping):
            raise UsageError("program: the option 'environment' holds names and texts")
        self.folder = Path(folder).resolve()
        place = Path(options.get("folder") or self.folder).resolve()
        if place != self.folder and not place.is_dir():
            raise UsageError(f"program: there is no folder {place}")
        self._command = tuple(command)
        self._name = str(options.get("name", "program"))
        self._process = LoopbackProcess(
            self._name,
            ("-c", _EXEC, str(place), *(sys.executable if word == PYTHON else word for word in self._command)),
            folder=self.folder,
            environment={**environment},
            port=listen,
            port_variable=PORT_VARIABLE,
            start_timeout_seconds=float(options.get("seconds", _READY_SECONDS)),
        )

    def start(self) -> Address:
        """`tcp://127.0.0.1:PORT`: what it speaks there is its own affair. Raises `RemoteError` with its last words."""
        try:
            self._process.start()
        except RemoteError as error:
            hint = f"what it printed is in {self._process.log_path}"
            if os.strerror(errno.EADDRINUSE).lower() in error.message.lower():
                hint = (
                    f"let it set SO_REUSEADDR before it binds: the port is held for it, and nobody else has it; {hint}"
                )
            raise RemoteError(error.message, hint=hint) from error
        return self.address

    @property
    def address(self) -> Address:
        return Address("tcp", f"//{HOST}:{self._process.port}")

    @property
    def port(self) -> int:
        return self._process.port

    @property
    def pid(self) -> int:
        return self._process.pid

    def inject(self, fault: Fault) -> None:
        """`sigstop`, `sigcont`, `sigkill`, `restart` on the same port, or `none`, which heals."""
        self._process.inject(fault)

    def counters(self) -> Mapping[str, int]:
        """Nothing: nobody knows what it counts."""
        return {}

    def stop(self) -> None:
        self._process.stop()


def _make(folder: str, seed: int, options: Mapping[str, Any]) -> Program:
    return Program(folder, options)


ADAPTER: Final = ServiceAdapter(
    name="program",
    summary="A program of your own on a loopback port",
    faults=FAULTS,
    make=_make,
)
