"""A connection to Weaviate: the official client makes it, and what is sent goes through its own session and stubs.

The client's convenience classes are not used for records, for three reasons, each seen in weaviate-client 4.23: they
wait by themselves up to a minute when a server is gone (`weaviate.retry`), cut dates to microseconds, and make a Python
float of every number of a vector. The messages underneath are the published contract; the client ships them.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from exitramp.errors import (
    CollectionMissing,
    ExitrampError,
    RequestTooLarge,
    StoreError,
    StoreProtocolError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
    UsageError,
)
from exitramp.ports.transport import client_options, status_error, transport_error, uses_tls
from exitramp.secrets import redact
from exitramp.urls import Address, Network

OPTIONS: Final = ("grpc_port", "grpc_host", "api_key", "tls")
_PORTS: Final = {False: (8080, 50051), True: (443, 443)}
_QUOTED: Final = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`""")


class Connection:
    """One opened address: the client, connected when it is first needed."""

    def __init__(self, address: Address, network: Network) -> None:
        address.only_options(*OPTIONS)
        if address.host is None:
            raise UsageError(
                f"{address} names no host", hint="write weaviate+http://HOST:PORT?grpc_port=50051#Collection"
            )
        uses_tls(address)
        self.address, self.network = address, network
        self.grpc_port = _grpc_port(address)
        self._client: Any = None
        self._lock = threading.RLock()
        self._closed = False

    def close(self) -> None:
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                client = make_client(self.address, self.network, self.grpc_port)
                try:
                    client.connect()
                except BaseException:
                    client.close()
                    raise
                self._client = client
            return self._client

    def rest(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of a request below `/v1`; those that mean the same everywhere are raised."""
        with self._translated():
            connection = self._connected()._connection
            arguments = {} if method == "get" else {"weaviate_object": body}
            answer = getattr(connection, method)(path=path, **arguments)
        status = int(answer.status_code)
        try:
            told = answer.json() if answer.content else None
        except ValueError as error:
            raise StoreProtocolError(f"{self.address}: its answer ({status}) is no JSON") from error
        raised = status_error(self.address, status, secret="api_key", said=_said_in(told))
        if raised is not None:
            raise raised
        if status >= 500 and status != 501:
            raise StoreUnavailable(f"{self.address} failed ({status}): {_said_in(told)}")
        return status, told

    def expect(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a request that must succeed."""
        status, told = self.rest(method, path, body)
        if status >= 300:
            raise StoreRejected(f"{self.address} refuses this ({status}): {_said_in(told)}")
        return told

    def call(self, name: str, request: Any) -> Any:
        """The reply to one gRPC message, asked for once."""
        with self._translated():
            connection = self._connected()._connection
            method = getattr(connection.grpc_stub, name)
            return method(request, metadata=connection.grpc_headers(), timeout=self.network.timeout_seconds)

    def version(self) -> str:
        with self._translated():
            return str(self._connected()._connection.server_version)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if self._closed:
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again")
        import grpc
        import httpx
        from weaviate.exceptions import UnexpectedStatusCodeError, WeaviateBaseError

        try:
            yield
        except ExitrampError:
            raise
        except grpc.RpcError as error:
            raise self._refusal(error) from error
        except UnexpectedStatusCodeError as error:
            known = status_error(self.address, error.status_code, secret="api_key", said=_said_in(error.error))
            raise known or StoreRejected(f"{self.address} refuses this ({error.status_code})") from error
        except (WeaviateBaseError, httpx.HTTPError) as error:
            seen: BaseException | None = error
            while seen is not None and not isinstance(seen, httpx.HTTPError):
                seen = seen.__cause__ or seen.__context__
            if seen is not None:
                raise transport_error(self.address, seen, default_port=_PORTS[uses_tls(self.address)][0]) from error
            if "closed" in str(error):
                raise StoreUnavailable(f"{self.address}: the connection was closed") from error
            raise StoreRejected(f"{self.address}: the client refuses this: {brief(str(error))}") from error

    def _refusal(self, error: Any) -> StoreError | CollectionMissing:
        """What a gRPC status means; the server gives most refusals as `UNKNOWN`, with words."""
        code, said = error.code().name, str(error.details() or "")
        where = f"{self.address} (gRPC port {self.grpc_port})"
        if code in ("DEADLINE_EXCEEDED", "CANCELLED"):
            return StoreTimeout(f"{where} did not answer in time ({code})", hint="is it stopped or overloaded?")
        if code == "UNAVAILABLE":
            return StoreUnavailable(
                f"{where} cannot be reached ({code})", hint="is grpc_port right, and the server up?"
            )
        if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            hint = "give the api key with ?api_key=env:NAME, one that may do this"
            return StoreRejected(f"{where} refuses access ({code})", hint=hint)
        if code == "RESOURCE_EXHAUSTED":
            if "larger than max" in said or "message" in said:
                return RequestTooLarge(f"{where}: a message is larger than it may be ({code})")
            return StoreUnavailable(f"{where} asks to slow down ({code})")
        if "could not find class" in said or "class not found" in said.lower():
            return CollectionMissing(f"{self.address}: there is no collection {self.address.collection!r}")
        return StoreRejected(f"{where} refuses this ({code}): {brief(said)}")


def make_client(address: Address, network: Network, grpc_port: int) -> Any:
    """The official client, not yet connected. Its start-up checks are left away, since one of them asks PyPI."""
    import httpx
    from weaviate import WeaviateClient
    from weaviate.classes.init import AdditionalConfig, Auth, Timeout
    from weaviate.config import GrpcConfig
    from weaviate.connect import ConnectionParams

    secure = uses_tls(address)
    host = address.host or ""
    key = address.secret("api_key")
    seconds = network.timeout_seconds
    channel: list[tuple[str, Any]] = [
        # It waits up to two minutes before it looks again for a server that was down, unless told otherwise.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if address.is_loopback:
        channel.append(("grpc.enable_http_proxy", 0))
    elif network.proxy is not None:
        channel.append(("grpc.http_proxy", network.proxy))
    client = WeaviateClient(
        connection_params=ConnectionParams.from_params(
            http_host=host,
            http_port=address.port or _PORTS[secure][0],
            http_secure=secure,
            grpc_host=address.option("grpc_host") or host,
            grpc_port=grpc_port,
            grpc_secure=secure,
        ),
        auth_client_secret=None if key is None else Auth.api_key(key),
        additional_config=AdditionalConfig(
            timeout=Timeout(init=seconds, query=seconds, insert=seconds),
            trust_env=not address.is_loopback,
            grpc_config=GrpcConfig(channel_options=channel, credentials=_credentials(network) if secure else None),
        ),
        skip_init_checks=True,
    )
    # The client has no way to be told of certificates for REST; so its session is made here, with its own headers.
    connection = client._connection
    connection._make_client = lambda colour: httpx.Client(
        headers=connection._headers, **client_options(address, network)
    )
    return client


def _credentials(network: Network) -> Any:
    import grpc

    def content(path: Any) -> bytes | None:
        return None if path is None else path.read_bytes()

    return grpc.ssl_channel_credentials(
        content(network.ca_bundle), content(network.client_key), content(network.client_certificate)
    )


def _grpc_port(address: Address) -> int:
    given = address.option("grpc_port", str(_PORTS[uses_tls(address)][1])) or ""
    if not given.isdecimal() or not 0 < int(given) < 65_536:
        raise UsageError(f"{address}: grpc_port is the number of a port", hint="50051 where nobody changed it")
    if int(given) == address.port and address.option("grpc_host") in (None, address.host):
        raise UsageError(f"{address}: REST and gRPC have different ports", hint="say the other one with ?grpc_port=")
    return int(given)


def _said_in(told: Any) -> str:
    try:
        return brief("; ".join(str(each["message"]) for each in told["error"])) or "it does not say why"
    except (KeyError, TypeError):
        return "it does not say why"


def brief(text: str) -> str:
    """The server's words without what stands in quotes there, which may be a record's values."""
    return redact(_QUOTED.sub("…", " ".join(text.split())))[:200]


def json_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
