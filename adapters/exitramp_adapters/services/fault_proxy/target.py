"""What a fault proxy stands in front of: a host and a port, and the address that leads through the proxy instead."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

from exitramp.errors import AddressError, UsageError
from exitramp.urls import Address

_PLAIN = re.compile(r"(?P<host>[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})")
_USUAL_PORTS: Final = {"http": 80, "https": 443, "pgvector": 5432, "redis": 6379}
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Target:
    """`host` and `port` to connect to; `address` is what was given, None for HOST:PORT."""

    host: str
    port: int
    address: Address | None

    @classmethod
    def parse(cls, text: str, *, allow_remote: bool = False) -> Self:
        """From `HOST:PORT`, a URL, a store's address, or a model's with `base_url`. Raises `UsageError`.

        A target beyond this machine must be allowed: through the proxy its address looks like one of this machine,
        and whatever protects the other ones from being written to no longer knows it.
        """
        plain = _PLAIN.fullmatch(text)
        if plain:
            found = cls(plain["host"].strip("[]"), int(plain["port"]), None)
        else:
            address = Address.parse(text)
            base_url = address.options.get("base_url")
            url = urlsplit(base_url if base_url is not None else f"{address.scheme}:{address.location}")
            scheme = url.scheme.rpartition("+")[2]
            try:
                port = url.port or _USUAL_PORTS.get(scheme)
            except ValueError:
                port = None
            if url.hostname is None or port is None:
                raise UsageError(
                    f"a fault proxy finds no host and port in {address}",
                    hint="give it HOST:PORT, a server's address, or a model's with ?base_url=",
                )
            found = cls(url.hostname, port, address)
        if not 0 < found.port < 65536:
            raise UsageError(f"{found.port} is no port", hint="ports are 1 to 65535")
        if found.host not in _LOOPBACK and not allow_remote:
            raise UsageError(
                f"the target {found.host} is not on this machine, and through the proxy it would look as if it were",
                hint="allow it with --allow-remote, and mind that --allow-writes no longer guards it",
            )
        return found

    def through(self, port: int) -> Address:
        """The same address with the proxy's port of this machine in the place of the target's."""
        if self.address is None:
            return Address("tcp", f"//127.0.0.1:{port}")
        base_url = self.address.options.get("base_url")
        if base_url is not None:
            return replace(self.address, options={**self.address.options, "base_url": _replaced(base_url, port)})
        found = _replaced(f"x:{self.address.location}", port).partition(":")[2]
        return replace(self.address, location=found)


def _replaced(url: str, port: int) -> str:
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    if "@" in user:
        raise AddressError("the address holds a user that cannot be read")
    return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{port}"))
