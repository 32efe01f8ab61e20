"""Run a command where nothing but loopback is in reach, and account for every attempt to reach further.

    python offline.py ACCOUNT.json COMMAND ARGUMENT…

Two watchers, since each is blind where the other sees:

* A network namespace of its own (Linux, where the machine permits it), in which only loopback is up. The kernel counts
  what it had no route for, whoever asked: Python, a native engine, a resolver inside libc.
* An audit hook in every Python process, which knows the address that was meant, and raises as an unplugged cable would.
  It is all there is where namespaces are not permitted, and does not see what native code does by itself.

This file is also the `sitecustomize` of those processes, so it imports the standard library alone.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import ipaddress
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LOG_VARIABLE = "EXITRAMP_TEST_OFFLINE_LOG"
_NEW_NAMESPACES = 0x10000000 | 0x40000000  # CLONE_NEWUSER | CLONE_NEWNET
_SET_FLAGS = 0x8914  # SIOCSIFFLAGS
_UP = 1  # IFF_UP
_WATCHED = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"})
_LOOKUPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})


def main() -> int:
    account, command = Path(sys.argv[1]), sys.argv[2:]
    with tempfile.TemporaryDirectory(prefix="exitramp-offline-") as folder:
        shutil.copy(__file__, Path(folder) / "sitecustomize.py")
        log = Path(folder) / "attempts.jsonl"
        log.touch()
        namespace = enter_namespace()
        before = unroutable() if namespace else 0
        environment = os.environ | {"PYTHONPATH": folder, LOG_VARIABLE: str(log)}
        code = subprocess.run(command, env=environment, check=False).returncode
        account.write_text(
            json.dumps(
                {
                    "namespace": namespace,
                    "packets_without_route": unroutable() - before if namespace else None,
                    "attempts": [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()],
                }
            )
        )
    return code


def enter_namespace() -> bool:
    """Move this process into a network of its own with loopback up; False where that is not permitted."""
    user, group = os.getuid(), os.getgid()
    if sys.platform != "linux" or ctypes.CDLL(None, use_errno=True).unshare(_NEW_NAMESPACES) != 0:
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14s", b"lo", _UP, b""))
    return True


def unroutable() -> int:
    """How many packets of this network namespace the kernel had no route for: each is an attempt to leave it."""
    rows = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")]
    old = dict(zip(rows[0], rows[1], strict=True))
    six = Path("/proc/net/snmp6")
    new = dict(line.split() for line in six.read_text().splitlines()) if six.exists() else {}
    return int(old["OutNoRoutes"]) + int(new.get("Ip6OutNoRoutes", 0))


def watch(log: str) -> None:
    """Write down and refuse whatever this process asks of an address that is not loopback."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _WATCHED:
            address = arguments[-1]
            if isinstance(address, tuple) and not _stays_here(address[0]):
                _refuse(event, address[0])
        elif event in _LOOKUPS and not _stays_here(arguments[0]):
            _refuse(event, arguments[0])

    def _refuse(event: str, host: object) -> None:
        line = json.dumps({"event": event, "host": str(host), "command": sys.argv[:3]}) + "\n"
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)
        raise OSError(errno.ENETUNREACH, "there is no network in this test")

    sys.addaudithook(hook)


def _stays_here(host: object) -> bool:
    if isinstance(host, bytes | bytearray):
        host = host.decode()
    if host is None or host == "localhost":
        return True  # a lookup of no host is one for an address to listen on; where it listens shows in `bind`
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
elif __name__ == "sitecustomize" and LOG_VARIABLE in os.environ:
    watch(os.environ[LOG_VARIABLE])
