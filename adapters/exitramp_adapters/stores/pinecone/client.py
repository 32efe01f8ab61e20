"""The way to Pinecone: its own client, made from an address, and its errors, translated once.

Two forms of an address lead to an index. `pinecone:INDEX#NAMESPACE` is the short one; `?base_url=` says where the
control plane is if not at api.pinecone.io. `pinecone://HOST#INDEX` names the control plane as other servers are named,
with `?namespace=`; what makes or fills several collections (`--all`, `stores check`) needs this one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from exitramp.errors import (
    AddressError,
    CollectionExists,
    CollectionMissing,
    ExitrampError,
    RequestTooLarge,
    StoreProtocolError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
    UsageError,
)
from exitramp.ports.transport import status_error, transport_error
from exitramp.secrets import redact
from exitramp.urls import Address, Network

CLOUD: Final = "https://api.pinecone.io"
DEFAULT_NAMESPACE: Final = "__default__"
OPTIONS: Final = (
    *("api_key", "base_url", "host", "namespace", "tls", "cloud", "region", "type", "ids", "metric"),
    *("limit", "max_read_units", "max_usd", "max_minutes", "usd_per_million_read_units"),
    *("in_flight", "fetches_per_second", "metadata_bytes"),
)
NAMES: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_MOST_NAME: Final = 45
_PORT: Final = 443
# A namespace that Pinecone cannot name, spelt so that it can; see `native_namespace`.
_SPELT: Final = "exitramp-ns-"
_ASCII: Final = re.compile(r"[\x01-\x7f]{1,512}")
_MOST_NAMESPACE: Final = 512
_MONTHLY: Final = re.compile(r"for the (current )?month", re.IGNORECASE)


class Connection:
    """One opened address: the clients, made when they are first needed, and what the control plane says."""

    def __init__(self, address: Address, network: Network) -> None:
        address.only_options(*OPTIONS)
        if network.client_certificate is not None:
            raise UsageError("Pinecone's client takes no client certificate", hint="leave it out for this address")
        self.address = address
        self._network = network
        self.base = _base(address)
        self.is_local = Address("pinecone", "//" + urlsplit(self.base).netloc).is_loopback
        self._place = Address("pinecone", "//" + urlsplit(self.base).netloc, address.collection, address.options)
        self._control: Any = None
        self._data: Any = None
        self._model: Any = None
        self._closed = False
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        """The index. Raises `AddressError` for a name that no index has."""
        named = self.address.require_collection() if self.address.host else unquote(self.address.location)
        if not re.fullmatch(NAMES, named) or len(named) > _MOST_NAME:
            hint = f"1 to {_MOST_NAME} of a-z 0-9 -, a letter or digit at both ends"
            raise AddressError(f"{self.address}: Pinecone has no index called {named!r}", hint=hint)
        return named

    @property
    def namespace(self) -> str | None:
        """The one namespace, in Pinecone's spelling, that the address narrows everything to; None: all there are."""
        told = self.address.option("namespace") if self.address.host else self.address.collection
        if told is None:
            return None
        return DEFAULT_NAMESPACE if told in ("", DEFAULT_NAMESPACE) else native_namespace(told)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for client in (self._control, self._data):
                if client is not None:
                    client.close()
            self._control = self._data = self._model = None

    @contextmanager
    def control(self) -> Iterator[Any]:
        """The client of the control plane."""
        with self._translated():
            with self._lock:
                if self._control is None:
                    self._control = _without_retries(self._made())
                client = self._control
            yield client

    @contextmanager
    def data(self) -> Iterator[Any]:
        """The client of the index. Raises `CollectionMissing`."""
        if self._data is None:
            host = self.address.option("host") or self.model().host
            if not host:
                raise StoreUnavailable(f"{self.address} is still being made: it has no host yet")
            with self.control() as control, self._lock:
                self._data = self._data or _without_retries(control.index(host=host))
        with self._translated():
            client = self._data
            if client is None:
                raise StoreUnavailable(f"{self.address} was closed", hint="open it again")
            yield client

    def _made(self) -> Any:
        from pinecone import Pinecone

        key = self.address.secret("api_key")
        if key is None and not self.is_local:
            hint = "write ?api_key=env:PINECONE_API_KEY"
            raise UsageError(f"{self.address} names no API key, and Pinecone asks for one", hint=hint)
        proxy = None if self.is_local or urlsplit(self.base).hostname in self._network.no_proxy else self._network.proxy
        bundle = self._network.ca_bundle
        return Pinecone(
            api_key=key or "none",
            host=self.base,
            timeout=self._network.timeout_seconds,
            proxy_url=proxy,
            ssl_ca_certs=None if bundle is None else str(bundle),
            additional_headers={"x-exitramp": "1"},  # or the client takes headers out of the environment
        )

    def model(self, *, fresh: bool = False) -> Any:
        """What the control plane says of the index. Raises `CollectionMissing`; asked for once, unless `fresh`."""
        if self._model is None or fresh:
            name = self.name
            try:
                with self.control() as control:
                    self._model = control.indexes.describe(name)
            except CollectionMissing as error:
                names = ", ".join(self.names()[:20]) or "none"
                raise CollectionMissing(error.message, hint=f"the indexes there are: {names}") from error
        return self._model

    def forget(self) -> None:
        """The index is another one now, or none."""
        with self._lock:
            client, self._data, self._model = self._data, None, None
            if client is not None:
                client.close()

    def names(self) -> tuple[str, ...]:
        with self.control() as control:
            return tuple(sorted(index.name for index in control.indexes.list()))

    def stats(self) -> Any:
        """Records by namespace, as the index counts them at the moment: writes show with a delay.

        Of an address that names no index those of any there is, for what they tell of who answers.
        """
        if self.address.host and self.address.collection is None:
            return self._stats_of_any()
        with self.data() as index:
            return index.describe_index_stats()

    def _stats_of_any(self) -> Any:
        with self.control() as control:
            hosts = [index.host for index in control.indexes.list() if index.host]
            if not hosts:
                raise CollectionMissing(f"{self.address} has no index")
            with closing(_without_retries(control.index(host=hosts[0]))) as index:
                return index.describe_index_stats()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import httpx
        from pinecone.errors import exceptions as sdk

        if self._closed:
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again")
        try:
            yield
        except ExitrampError:
            raise
        except sdk.ApiError as error:
            raise self._refusal(error) from error
        except (sdk.PineconeConnectionError, sdk.PineconeTimeoutError, httpx.TransportError) as error:
            cause = error if isinstance(error, httpx.TransportError) else error.__cause__
            if isinstance(cause, httpx.TransportError):
                raise transport_error(self._place, cause, default_port=_PORT) from error
            raise StoreTimeout(f"{self.address} did not answer in time ({type(error).__name__})") from error
        except RuntimeError as error:  # what httpx says of a client that was closed in the meantime
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again") from error
        except sdk.ResponseParsingError as error:
            raise StoreProtocolError(f"{self.address}: its client cannot make sense of the answer") from error
        except (sdk.PineconeError, ValueError, TypeError) as error:
            raise StoreRejected(f"{self.address}: its client refuses this: {_brief(str(error))}") from error

    def _refusal(self, error: Any) -> ExitrampError:
        status, said = error.status_code, _brief(str(error.message))
        if status == 404:
            return CollectionMissing(f"{self.address}: there is no index {self.name!r}")
        if status == 409:
            return CollectionExists(f"{self.address} is there already", hint="choose another name")
        if status == 429 and not _MONTHLY.search(said):
            wait = getattr(error, "retry_after", None)
            text = f"{self.address} asks to slow down" + (f" for {wait:g} s" if wait is not None else "")
            return StoreUnavailable(f"{text}: {said}", retry_after_seconds=wait)
        if status == 429:
            hint = "wait for the next month, or raise the plan's limit"
            return StoreRejected(f"{self.address} has used up its units: {said}", hint=hint)
        if status in (413, 414) or (status == 400 and "exceeds the limit" in said):
            return RequestTooLarge(f"{self.address} takes no request that large ({status}): {said}")
        known = status_error(self._place, status, secret="api_key", said=said)
        if known is not None:
            return known
        if status >= 500 and status != 501:
            return StoreUnavailable(f"{self.address} failed ({status}): {said}")
        return StoreRejected(f"{self.address} refuses this ({status}): {said}")


def native_namespace(namespace: str | None) -> str:
    """How Pinecone calls the namespace. None is its default one; what it has no name for is spelt in hex.

    A name is 1 to 512 ASCII characters. The empty one means the default, so it, others that are longer or not ASCII,
    and names that look as if they were spelt so, are `exitramp-ns-` and the hex digits of their UTF-8.
    Raises `UsageError` for one that is too long for that.
    """
    if namespace is None:
        return DEFAULT_NAMESPACE
    if _is_plain(namespace):
        return namespace
    spelt = _SPELT + namespace.encode("utf-8").hex()
    if len(spelt) > _MOST_NAMESPACE:
        raise UsageError(f"Pinecone has no room for a namespace of {len(namespace)} characters: {namespace[:40]!r}…")
    return spelt


def namespace_of(native: str) -> str | None:
    """The namespace that Pinecone calls so: the other way of `native_namespace`, for any name there is."""
    if native in ("", DEFAULT_NAMESPACE):
        return None
    if native.startswith(_SPELT):
        try:
            named = bytes.fromhex(native.removeprefix(_SPELT)).decode("utf-8")
        except ValueError:
            return native
        if not _is_plain(named) and native_namespace(named) == native:
            return named
    return native


def _is_plain(namespace: str) -> bool:
    if not _ASCII.fullmatch(namespace) or namespace == DEFAULT_NAMESPACE:
        return False
    if not namespace.startswith(_SPELT):
        return True
    # It only looks as if it were spelt if something that must be spelt would come out.
    return namespace_of(namespace) == namespace


def _base(address: Address) -> str:
    """The control plane's URL."""
    if address.host is not None:
        for name in ("base_url",):
            if address.option(name) is not None:
                raise AddressError(f"{address}: {name} goes with pinecone:INDEX, and this form names the host itself")
        tls = address.option("tls", "false" if address.is_loopback else "true")
        if tls not in ("true", "false"):
            raise UsageError(f"{address}: tls is true or false")
        if urlsplit(address.location).path.strip("/"):
            hint = "write pinecone://api.pinecone.io#INDEX"
            raise AddressError(f"{address}: nothing stands behind the host", hint=hint)
        port = "" if address.port is None else f":{address.port}"
        return f"http{'s' if tls == 'true' else ''}://{address.host}{port}"
    if address.option("namespace") is not None:
        raise AddressError(f"{address}: the namespace stands behind the #", hint="write pinecone:INDEX#NAMESPACE")
    base = address.option("base_url", CLOUD) or CLOUD
    if urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).hostname:
        raise AddressError(f"{address}: base_url is no URL", hint="write e.g. base_url=http://127.0.0.1:5080")
    return base.rstrip("/")


def _without_retries(client: Any) -> Any:
    """The client with one try for each request: trying again is not its business here, nor an adapter's.

    It has a setting for that, but not for the client of an index (10.2); one of another make is left as it is.
    """
    transport = getattr(getattr(getattr(client, "_http", None), "_client", None), "_transport", None)
    config: Any = getattr(transport, "_config", None)
    if transport is not None and hasattr(config, "max_retries"):
        transport._config = replace(config, max_retries=0)
    return client


def said_headers(answer: Any) -> Mapping[str, str]:
    """The headers of an answer of the data plane."""
    info = getattr(answer, "response_info", None)
    return {} if info is None else dict(info.raw_headers)


def _brief(text: str) -> str:
    return redact(" ".join(text.split()))[:200]
