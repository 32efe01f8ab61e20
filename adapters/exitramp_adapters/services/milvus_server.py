"""A real Milvus standalone as a service: a process of its own, to be stopped, killed and restarted.

The package `milvus` starts its server through a Python that leaves it behind when it is ended by SIGTERM. So the
server's own program is started here, on a configuration of ours: unpacked in 5 s, 250 MB, and up after 2.5 s.

Its parts hold a session of `session_seconds`, 30 as Milvus has it. After a SIGKILL it answers again after 5 s, but
loads what was loaded only when the session of its former self has run out. And one that was stopped for longer than
that ends by itself when it goes on: it then needs a `restart`.

**It listens on every interface.** Milvus 2.3 has no setting for that: `ip` is what its parts tell each other, not what
they bind to. Only etcd inside it is bound to loopback.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import lzma
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from exitramp.errors import DependencyMissing, RemoteError, UsageError
from exitramp.faults import Fault
from exitramp.ports import ServiceAdapter
from exitramp.urls import Address
from exitramp_adapters.services.process import FAULTS, HOST, PORT, LoopbackProcess

# The process that dies with its parent is a Python; it writes the port, known only now, and becomes the server.
_EXEC: Final = (
    "import os,pathlib,sys;made,port,*command=sys.argv[1:];made=pathlib.Path(made);"
    "made.with_name('milvus.yaml').write_text(made.read_text().replace('@PORT@',port));os.execv(command[0],command)"
)
_COMPONENTS: Final = ("rootCoord", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")
_START_SECONDS: Final = 90.0
_POLL_SECONDS: Final = 0.05
# Milvus looks round once in 0.2 to 5 s for what has changed, which is right for large collections on many machines. On
# one machine and small ones a strong read takes 0.2 s by that and a load 3 s; so it takes 0.03 s and up to 1 s.
_BRISK: Final[Mapping[str, Mapping[str, Any]]] = {
    "proxy": {"timeTickInterval": 5, "http": {"enabled": False}},
    "queryCoord": {
        **dict.fromkeys(("checkInterval", "distPullInterval", "checkSegmentInterval", "checkChannelInterval"), 50),
        "checkHandoffInterval": 100,
        "checkIndexInterval": 200,
        "heartbeatAvailableInterval": 3000,
        "UpdateNextTargetInterval": 0.5,
        "leaderViewUpdateInterval": 0.05,
        "task": {"retryinterval": 50},
    },
    "indexCoord": {"scheduler": {"interval": 50}},
}
USER_TOKEN: Final = "root:Milvus"
"""The name and password of the first user, who may do everything; asked for only with the option `authorization`."""


class MilvusServer:
    """A Milvus with its files in `folder`/data, which `stop` removes; its log stays beside it. 300 MB of memory.

    Options: `authorization`, true or false (the default), whether it asks who calls; `session_seconds`, see above.
    """

    def __init__(self, folder: str, options: Mapping[str, Any]) -> None:
        unknown = sorted(set(options) - {"authorization", "session_seconds"})
        if unknown:
            hint = "its options: authorization, session_seconds"
            raise UsageError(f"service milvus-server: unknown option {unknown[0]!r}", hint=hint)
        seconds = options.get("session_seconds", 30)
        if type(seconds) is not int or seconds < 2:
            raise UsageError("service milvus-server: session_seconds is a whole number, at least 2")
        asks = options.get("authorization", False)
        if not isinstance(asks, bool):
            raise UsageError("service milvus-server: authorization is true or false")
        self.folder = Path(folder).resolve()
        self.data = self.folder / "data"
        self._programs = self.folder / "bin"
        self._asks = asks
        self._session_seconds = seconds
        self._health_port = 0
        self._process: LoopbackProcess | None = None

    def start(self) -> Address:
        """`milvus+http://127.0.0.1:PORT`, without a collection."""
        _unpack(self._programs)
        configured = self._configure()
        environment = {
            "DEPLOY_MODE": "STANDALONE",
            "LD_LIBRARY_PATH": str(self._programs),
            "METRICS_PORT": str(self._health_port),
            "MILVUSCONF": str(configured.parent),
            "MILVUS_RUN_DIR": str(self.folder / "run"),
        }
        command = (str(self._programs / "milvus"), "run", "standalone")
        self._process = LoopbackProcess(
            "milvus-server",
            ("-c", _EXEC, str(configured), PORT, *command),
            folder=self.folder,
            environment=environment,
            start_timeout_seconds=_START_SECONDS,
        )
        try:
            self._process.start()
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self.address

    @property
    def address(self) -> Address:
        return Address("milvus+http", f"//{HOST}:{self._running().port}")

    @property
    def pid(self) -> int:
        return self._running().pid

    def inject(self, fault: Fault) -> None:
        """`sigstop`, `sigcont`, `sigkill`, `restart` on the same port and files, or `none`, which heals."""
        self._running().inject(fault)
        if fault.kind in ("restart", "none"):
            self._wait_until_healthy()

    def counters(self) -> Mapping[str, int]:
        """Nothing: what a server counts is lost when it is killed."""
        return {}

    def stop(self) -> None:
        if self._process is not None:
            if self._process.is_alive:
                self._process.inject(Fault("sigkill"))  # asked to end it takes half a minute, and its files go anyway
            self._process.stop()
        for made in (self.data, self._programs, self.folder / "run"):
            shutil.rmtree(made, ignore_errors=True)

    def _running(self) -> LoopbackProcess:
        if self._process is None:
            raise RemoteError("milvus-server was not started")
        return self._process

    def _configure(self) -> Path:
        """The file that becomes the configuration once the port is known. JSON is YAML."""
        client, peer, health, inner, *ports = _free_ports(4 + len(_COMPONENTS))
        self._health_port = health
        configured = self.folder / "configs"
        configured.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(exist_ok=True)
        etcd = {
            "name": "default",
            "data-dir": str(self.data / "etcd"),
            "listen-client-urls": f"http://{HOST}:{client}",
            "advertise-client-urls": f"http://{HOST}:{client}",
            "listen-peer-urls": f"http://{HOST}:{peer}",
            "initial-advertise-peer-urls": f"http://{HOST}:{peer}",
            "initial-cluster": f"default=http://{HOST}:{peer}",
            "log-level": "error",
            "unsafe-no-fsync": True,
        }
        settings: dict[str, Any] = {
            "etcd": {
                "endpoints": f"{HOST}:{client}",
                "use": {"embed": True},
                "data": {"dir": str(self.data / "etcd")},
                "config": {"path": str(configured / "etcd.yaml")},
            },
            "metastore": {"type": "etcd"},
            "localStorage": {"path": str(self.data)},
            "mq": {"type": "rocksmq"},
            "rocksmq": {"path": str(self.data / "rocksmq")},
            "log": {"level": "error", "file": {"rootPath": ""}, "stdout": True},
            "common": {
                "storageType": "local",
                "security": {"authorizationEnabled": self._asks},
                "session": {"ttl": self._session_seconds, "retryTimes": 60},
                "gracefulStopTimeout": 3,
            },
            "quotaAndLimits": {"enabled": False},
        }
        for name, port in zip(_COMPONENTS, ports, strict=True):
            settings[name] = {"ip": HOST, "port": port, **_BRISK.get(name, {})}
        settings["proxy"] = {"ip": HOST, "port": "@PORT@", "internalPort": inner, **_BRISK["proxy"]}
        settings["indexCoord"] = _BRISK["indexCoord"]
        (configured / "etcd.yaml").write_text(json.dumps(etcd))
        (configured / "glog.conf").write_text("--logtostderr=false\n--minloglevel=3\n--log_dir=.\n")
        made = configured / "milvus.made"
        made.write_text(json.dumps(settings).replace('"@PORT@"', "@PORT@"))
        return made

    def _wait_until_healthy(self) -> None:
        """The port accepts connections before the parts behind it have found one another."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            asking = http.client.HTTPConnection(HOST, self._health_port, timeout=1.0)
            with contextlib.suppress(OSError, http.client.HTTPException):
                asking.request("GET", "/healthz")
                if asking.getresponse().status == 200:
                    return
            asking.close()
            if not self._running().is_alive:
                raise RemoteError("milvus-server ended before it was ready")
            time.sleep(_POLL_SECONDS)
        raise RemoteError(f"milvus-server was not ready within {_START_SECONDS:g} s")


def _unpack(programs: Path) -> None:
    found = importlib.util.find_spec("milvus")
    if found is None or found.origin is None or sys.platform != "linux":
        raise DependencyMissing("milvus-server", "dev", module="milvus")
    programs.mkdir(parents=True, exist_ok=True)

    def unpack(packed: Path) -> None:
        with lzma.open(packed) as source, (programs / packed.stem).open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        (programs / packed.stem).chmod(0o755)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(unpack, sorted((Path(found.origin).parent / "data" / "bin").glob("*.lzma"))))


def _free_ports(count: int) -> list[int]:
    """All held until all are known, so that no two are the same."""
    with contextlib.ExitStack() as held:
        found = []
        for _ in range(count):
            taken = held.enter_context(socket.socket())
            taken.bind((HOST, 0))
            found.append(int(taken.getsockname()[1]))
        return found


def _make(folder: str, seed: int, options: Mapping[str, Any]) -> MilvusServer:
    return MilvusServer(folder, options)


ADAPTER: Final = ServiceAdapter(
    name="milvus-server",
    summary="A real Milvus 2.3 standalone; it listens on every interface",
    faults=FAULTS,
    make=_make,
    extra="dev",
    requires=("milvus",),
)
