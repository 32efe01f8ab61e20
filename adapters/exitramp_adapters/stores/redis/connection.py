"""A connection to a Redis server: made from an address and the network setting, its errors translated once.

Bulk reading and writing speak the wire protocol themselves, packed here: 11 us of the client's time for a hash of 384
float32 and five short fields, where redis-py's own pipelines take 15 (without hiredis).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from exitramp.errors import (
    CollectionMissing,
    ExitrampError,
    StoreProtocolError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
    UsageError,
)
from exitramp.ports.transport import uses_tls
from exitramp.secrets import redact
from exitramp.urls import Address, Network
from exitramp_adapters.stores.redis.replies import replies

OPTIONS: Final = ("password", "tls", "prefix", "algorithm", "document", "dtype")
_PORT: Final = 6379
_MODULE: Final = "search"
_LEAST_MODULE: Final = 20_800
"""RediSearch 2.8 is the first whose answers in RESP3 are what is read here."""


class Connection:
    """One opened address. Connections to the server are made when they are first needed."""

    def __init__(self, address: Address, network: Network) -> None:
        address.only_options(*OPTIONS)
        if address.host is None:
            raise UsageError(f"{address} names no host", hint="write redis://HOST:PORT/0#INDEX")
        if urlsplit(address.location).path.strip("/") not in ("", "0"):
            raise UsageError(f"{address}: RediSearch indexes the database 0 alone", hint="write redis://HOST:PORT/0")
        self.address = address
        self.network = network
        self._client: Any = None
        self._hello: dict[str, Any] | None = None
        self._own: list[Any] = []
        self._closed = False
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        return self.address.require_collection()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
            own, self._own = self._own, []
            for wire in own:
                wire.disconnect()
            if client is not None:
                client.close()

    def ask(self, *command: Any) -> Any:
        """The server's answer to one command."""
        with self.translated():
            return self._made_client().execute_command(*command)

    @contextmanager
    def wire(self) -> Iterator[Any]:
        """A connection to send packed commands on; one that failed, or was left in the middle, is not used again."""
        with self.translated():
            pool = self._made_client().connection_pool
            taken = pool.get_connection()
            try:
                yield taken
            except BaseException:
                taken.disconnect()
                raise
            finally:
                pool.release(taken)

    def own_wire(self) -> Any:
        """A connection for one caller alone, open as long as the store is."""
        with self.translated():
            pool = self._made_client().connection_pool
            made = pool.connection_class(**pool.connection_kwargs)
            made.connect()
            self._own.append(made)
            return made

    def hello(self) -> dict[str, Any]:
        """What the server says of itself: version, mode, role, modules. Everybody may ask that. Asked once."""
        if self._hello is None:
            found = plain(self.ask("HELLO", 3))
            if found["mode"] == "cluster":
                raise UsageError(
                    f"{self.address} is one node of a cluster, and its keys may be on others",
                    hint="exitramp reads and writes servers that hold all of their keys: restore a backup into one",
                )
            versions = {module["name"]: int(module["ver"]) for module in found["modules"]}
            if versions.get(_MODULE, 0) < _LEAST_MODULE:
                there = version_text(versions[_MODULE]) if _MODULE in versions else "none"
                raise StoreRejected(f"{self.address} has no RediSearch 2.8 or later (it has {there})")
            self._hello = found | {"modules": versions}
        return self._hello

    def server_version(self) -> str:
        found = self.hello()
        return f"{found['version']} with RediSearch {version_text(found['modules'][_MODULE])}"

    def facts(self, section: str) -> dict[str, Any]:
        """A section of INFO, or nothing where this user may not see it."""
        try:
            return dict(self.ask("INFO", section))
        except StoreRejected:
            return {}

    def names(self) -> tuple[str, ...]:
        """The indexes there are."""
        return tuple(sorted(plain(name) for name in self.ask("FT._LIST")))

    @contextmanager
    def translated(self) -> Iterator[None]:
        """The client's errors as ours. An index that is missing is said together with those there are."""
        if self._closed:
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again")
        try:
            yield
        except ExitrampError:
            raise
        except Exception as error:
            found = error_of(self.address, error)
            if found is None:
                raise
            if isinstance(found, CollectionMissing):
                found.hint = self._names_hint()
            raise found from error

    def _names_hint(self) -> str | None:
        try:
            return f"the indexes there are: {', '.join(repr(name) for name in self.names()[:20]) or 'none'}"
        except ExitrampError:
            return None

    def _made_client(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _make_client(self.address, self.network)
            return self._client


def pack(command: Sequence[bytes]) -> bytes:
    """One command as the server reads it."""
    parts = [b"*%d\r\n" % len(command)]
    parts += [b"$%d\r\n%b\r\n" % (len(part), part) for part in command]
    return b"".join(parts)


def exchange(wire: Any, parts: Iterable[bytes], count: int) -> list[Any]:
    """Send each part when it is there, and read as many answers as they hold commands; one that is an error stands
    there as such."""
    # All of them are sent before an answer is read: neither side's buffers hold the other up, since the server reads on
    # while it cannot write.
    for part in parts:
        wire.send_packed_command([part], check_health=False)
    return replies(wire, count)


def plain(value: Any) -> Any:
    """An answer with text for bytes; what is no UTF-8 is kept by lone surrogates, which `bytes_of` turns back."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return value


def bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def version_text(number: int) -> str:
    """Of a module: 20813 is 2.8.13."""
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"


def error_of(address: Address, error: Exception) -> ExitrampError | None:
    """What an error of the client means; None for one that is not the client's."""
    from redis import exceptions

    said = redact(" ".join(str(error).split()))[:200]
    match error:
        case exceptions.AuthenticationError() | exceptions.NoPermissionError() | exceptions.AuthorizationError():
            given = "password" in address.options
            hint = "may this user do that?" if given else "give the password with ?password=env:NAME"
            return StoreRejected(f"{address} refuses access: {said}", hint=hint)
        case exceptions.TimeoutError() | TimeoutError():
            return StoreTimeout(f"{address} did not answer in time", hint="is it stopped or overloaded?")
        case exceptions.BusyLoadingError():
            return StoreUnavailable(f"{address} is still loading its data")
        case exceptions.ConnectionError() | OSError():
            if isinstance(error.__cause__ or error.__context__, socket.gaierror):
                return StoreUnavailable(f"{address} cannot be reached: the name {address.host!r} cannot be resolved")
            hint = f"is it running on {address.host}:{address.port or _PORT}?"
            return StoreUnavailable(f"{address} cannot be reached ({type(error).__name__})", hint=hint)
        case exceptions.ResponseError():
            return _refusal(address, said)
        case exceptions.RedisError():
            return StoreProtocolError(f"{address} gave an answer that is not a store's ({type(error).__name__})")
    return None


def _refusal(address: Address, said: str) -> ExitrampError:
    lower = said.lower()
    if "unknown index name" in lower or "no such index" in lower:
        return CollectionMissing(f"{address}: there is no index {address.collection!r}")
    if "timeout limit was reached" in lower:
        return StoreTimeout(f"{address} gave up: {said}")
    full = "disk" if "misconf" in lower else "memory" if "maxmemory" in lower else None
    hint = None if full is None else f"make room in the server's {full}, and run the same command again"
    return StoreRejected(f"{address} refuses this: {said}", hint=hint)


def _make_client(address: Address, network: Network) -> Any:
    """A client that tries everything once and speaks RESP3. Nothing is sent yet."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    secure: dict[str, Any] = {}
    if uses_tls(address):
        secure = {
            "ssl": True,
            "ssl_ca_certs": str(network.ca_bundle) if network.ca_bundle else None,
            "ssl_certfile": str(network.client_certificate) if network.client_certificate else None,
            "ssl_keyfile": str(network.client_key) if network.client_key else None,
        }
    user = urlsplit(address.location).username
    return redis.Redis(
        host=address.host or "",
        port=address.port or _PORT,
        username=None if user is None else unquote(user),
        password=address.secret("password"),
        protocol=3,
        socket_timeout=network.timeout_seconds,
        socket_connect_timeout=network.timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        **secure,
    )
