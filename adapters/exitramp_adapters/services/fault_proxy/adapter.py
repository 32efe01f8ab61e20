"""The fault proxy as a service: a TCP proxy on loopback that spoils what passes through it; see docs/fault-proxy.md."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from exitramp.errors import RemoteError, UsageError
from exitramp.faults import PROCESS_FAULTS, PROXY_FAULTS, Fault
from exitramp.ports import ServiceAdapter
from exitramp.urls import Address
from exitramp_adapters.services.fault_proxy.target import Target
from exitramp_adapters.services.fault_proxy.toxics import Toxic
from exitramp_adapters.services.process import HOST, PORT, LoopbackProcess

CONTROL_FILE: Final = "control.json"  # as in the server, which this side does not import: it loads h11 and asyncio
_MODULE: Final = "exitramp_adapters.services.fault_proxy.server"
_CONTROL_TIMEOUT_SECONDS: Final = 5.0
_OPTIONS: Final = ("target", "toxics", "listen", "control", "allow_remote")


class FaultProxy:
    """A proxy in a process of its own.

    options: `target` (HOST:PORT or an address), `toxics` (a list, each with its own times), `listen` and `control`
    (ports, 0 for free ones), `allow_remote` (a target beyond this machine).
    """

    def __init__(self, folder: str, seed: int, options: Mapping[str, Any]) -> None:
        for name in options:
            if name not in _OPTIONS:
                raise UsageError(f"fault-proxy has no option {name!r}", hint=f"its options are: {', '.join(_OPTIONS)}")
        if not isinstance(options.get("target"), str):
            raise UsageError("fault-proxy needs the option 'target': HOST:PORT or an address")
        toxics = options.get("toxics") or []
        if not isinstance(toxics, list):
            raise UsageError("fault-proxy: the option 'toxics' is a list")
        names = [Toxic.parse(each, name=f"toxic_{place}").name for place, each in enumerate(toxics, 1)]
        if len(set(names)) != len(names):
            raise UsageError("fault-proxy: two toxics have one name")
        self.folder = Path(folder).resolve()
        self.target = Target.parse(options["target"], allow_remote=options.get("allow_remote") is True)
        host = f"[{self.target.host}]" if ":" in self.target.host else self.target.host
        listen, control = (_port(name, options.get(name, 0)) for name in ("listen", "control"))
        arguments = (
            "-m", _MODULE, "--target", f"{host}:{self.target.port}", "--port", PORT, "--folder", str(self.folder),
            "--seed", str(seed), "--control-port", str(control), "--toxics", json.dumps(toxics, default=str),
        )  # fmt: skip
        # A proxy that begins as `down` has no port to be ready on, and asking it would count as a connection.
        self._process = LoopbackProcess(
            "fault-proxy", arguments, folder=self.folder, port=listen, is_ready=self._answers
        )

    def _answers(self) -> bool:
        try:
            pid: int = json.loads((self.folder / CONTROL_FILE).read_text("utf-8"))["pid"]
            self.describe()
        except (OSError, ValueError, KeyError, RemoteError):
            return False
        return self._process.is_alive and pid > 0

    def start(self) -> Address:
        """The target's address with this proxy's port in it; `tcp://127.0.0.1:PORT` for a target HOST:PORT."""
        (self.folder / CONTROL_FILE).unlink(missing_ok=True)
        self._process.start()
        return self.address

    @property
    def address(self) -> Address:
        return self.target.through(self._process.port)

    @property
    def port(self) -> int:
        return self._process.port

    @property
    def control_url(self) -> str:
        """Where its control listens. Raises `RemoteError` before `start`."""
        try:
            described = json.loads((self.folder / CONTROL_FILE).read_text("utf-8"))
        except OSError as error:
            raise RemoteError("the fault proxy was not started") from error
        return f"http://{HOST}:{int(described['control_port'])}"

    def inject(self, fault: Fault) -> None:
        """A toxic in the place of all others, or a process fault. `none` removes every toxic and wakes the process; a
        restarted proxy has the toxics that it was made with."""
        if fault.kind in PROCESS_FAULTS - {"none"}:
            self._process.inject(fault)
            return
        if fault.kind == "none":
            self._process.inject(fault)
            self.reset()
            return
        toxic = Toxic.of_fault(fault)
        self.reset()
        self.add(**toxic.to_json())

    def toxics(self) -> list[Mapping[str, Any]]:
        """Every toxic, whether its time has come or not."""
        found: list[Mapping[str, Any]] = self._control("GET", "/toxics")
        return found

    def add(self, kind: str, **attributes: Any) -> Mapping[str, Any]:
        """Add a toxic, or put it in the place of the one that has its name; in force when this returns."""
        added: Mapping[str, Any] = self._control("POST", "/toxics", {"kind": kind, **attributes})
        return added

    def remove(self, name: str) -> None:
        """Raises `UsageError` if there is none of that name."""
        self._control("DELETE", f"/toxics/{quote(name, safe='')}")

    def reset(self) -> None:
        """Remove every toxic."""
        self._control("POST", "/reset")

    def counters(self) -> Mapping[str, int]:
        """Since its process started: connections taken, open, refused and reset by it, targets that were unreachable,
        bytes delivered upstream and downstream, and `hit.KIND`: connections that a toxic took."""
        found: dict[str, int] = self._control("GET", "/counters")
        return found

    def describe(self) -> Mapping[str, Any]:
        found: dict[str, Any] = self._control("GET", "/describe")
        return found

    def require_running(self) -> None:
        """Raises `RemoteError` where its process is gone."""
        self._process.require_running()

    def stop(self) -> None:
        self._process.stop()

    def _control(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        port = int(self.control_url.rpartition(":")[2])
        connection = http.client.HTTPConnection(HOST, port, timeout=_CONTROL_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            status, answer = response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise RemoteError(
                f"the fault proxy's control does not answer ({type(error).__name__})",
                hint="heal it first: inject the fault 'none' or 'restart'",
            ) from error
        finally:
            connection.close()
        if status != 200:
            raise UsageError(str(answer.get("error", status)))
        return answer


def _port(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 65536:
        raise UsageError(f"fault-proxy: the option {name!r} is a port, or 0 for a free one")
    return value


ADAPTER: Final = ServiceAdapter(
    name="fault-proxy",
    summary="TCP proxy on loopback that delays, cuts and resets what passes through it",
    faults=tuple(sorted(PROXY_FAULTS | PROCESS_FAULTS)),
    make=FaultProxy,
)
