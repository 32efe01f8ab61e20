"""A connection to a Qdrant server: the real client over REST, made from an address and the network setting, and its
errors, translated once."""

from __future__ import annotations

import base64
import json
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from exitramp.errors import (
    CollectionMissing,
    DataInvalid,
    ExitrampError,
    StoreProtocolError,
    StoreRejected,
    StoreUnavailable,
    UsageError,
)
from exitramp.ports import Origin
from exitramp.ports.collection_metadata import KEY
from exitramp.ports.transport import client_options, status_error, transport_error, uses_tls
from exitramp.records import CollectionSpec, IdKind
from exitramp.secrets import redact
from exitramp.urls import Address, Network
from exitramp_adapters.stores.qdrant import forms
from exitramp_adapters.stores.qdrant import settings as own_settings

OPTIONS: Final = ("api_key", "tls")
_PORT: Final = 6333
ORIGIN_KEY: Final = "exitramp_origin"
"""The key of a collection's metadata under which is kept what `create` was told."""


class Connection:
    """One opened address: the client, made when it is first needed, and what the server says of the collection."""

    def __init__(self, address: Address, network: Network) -> None:
        address.only_options(*OPTIONS)
        if address.host is None:
            raise UsageError(f"{address} names no host", hint="write qdrant+http://HOST:PORT#COLLECTION")
        uses_tls(address)
        self.address = address
        self.network = network
        self._client: Any = None
        self._info: Any = None
        self._spec: CollectionSpec | None = None
        self._closed = False
        self._lock = threading.RLock()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
            if client is not None:
                client.close()

    @contextmanager
    def calling(self) -> Iterator[Any]:
        """The client, its errors translated; a missing collection is said together with those there are."""
        try:
            with translated(self.address, closed=self._closed):
                yield self._made_client()
        except CollectionMissing as error:
            names = ", ".join(repr(name) for name in self.names()[:20]) or "none"
            raise CollectionMissing(error.message, hint=f"the collections there are: {names}") from error

    def _made_client(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = make_client(self.address, self.network)
            return self._client

    @property
    def name(self) -> str:
        name = self.address.require_collection()
        if name in (".", ".."):
            raise UsageError(f"{self.address}: Qdrant takes no collection named {name!r}")
        return name

    def info(self) -> Any:
        """Title and version of the server, asked for once."""
        if self._info is None:
            with self.calling() as client:
                self._info = client.info()
        return self._info

    def names(self) -> tuple[str, ...]:
        with translated(self.address, closed=self._closed):
            return tuple(sorted(each.name for each in self._made_client().get_collections().collections))

    def drop(self) -> None:
        """Remove the collection. Raises `CollectionMissing`."""
        self.described()
        with self.calling() as client:
            client.delete_collection(self.name)
        self._spec = None

    def described(self) -> dict[str, Any]:
        """What the server says of the collection, in its own JSON. Raises `CollectionMissing`."""
        with self.calling() as client:
            found: dict[str, Any] = client.get_collection(self.name).model_dump(mode="json", exclude_none=True)
        return found

    def spec(self, *, fresh: bool = False) -> CollectionSpec:
        """The collection; its ids' kind is left to whoever looks at the records. Asked for once, unless `fresh`."""
        if self._spec is None or fresh:
            found = self.described()
            config = found["config"]
            fields = forms.fields_from_params(config["params"], where=str(self.address))
            told = config.pop(KEY, None)  # a server before 1.16 has none, and then there is no place for it
            own = None if told is None else {key: value for key, value in told.items() if key != ORIGIN_KEY}
            index = own_settings.index_of(config, found.get(own_settings.SCHEMA) or {}, own)
            self._spec = CollectionSpec(self.name, IdKind.UINT64, fields, index=index)
        return self._spec

    def noted(self) -> tuple[Origin, IdKind] | None:
        """What `create` was told, from the collection's metadata."""
        text = self.described()["config"].get("metadata", {}).get(ORIGIN_KEY)
        if text is None:
            return None
        try:
            found = json.loads(text)
            return Origin.from_json(found["origin"]), IdKind(found["id_kind"])
        except (ValueError, KeyError, TypeError, DataInvalid) as error:
            raise StoreProtocolError(
                f"{self.address}: the collection's metadata {ORIGIN_KEY!r} does not say where the records came from"
            ) from error


def can_write(address: Address) -> bool | None:
    """False with a token (JWT) that says of itself that it may only read; a plain key does not tell, nor does a server
    without one."""
    key = address.secret("api_key")
    parts = (key or "").split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        access = claims["access"]
    except (ValueError, KeyError, TypeError):
        return None
    if isinstance(access, list):
        own = [each for each in access if isinstance(each, dict) and each.get("collection") == address.collection]
        access = own[0].get("access") if own else None
    return False if access == "r" else None


def make_client(address: Address, network: Network) -> Any:
    """A `QdrantClient` over REST. Nothing is sent yet, and nothing is ever sent but what we ask for."""
    from qdrant_client import QdrantClient

    scheme = "https" if uses_tls(address) else "http"
    host = address.host or ""
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{address.port or _PORT}"
    prefix = address.location.removeprefix("//").partition("/")[2].strip("/")
    with warnings.catch_warnings():
        # It warns of a key over plain HTTP; that the address says `http` is the user's own choice and in the report.
        warnings.simplefilter("ignore", UserWarning)
        return QdrantClient(
            url=url,
            prefix=prefix or None,
            api_key=address.secret("api_key"),
            prefer_grpc=False,
            check_compatibility=False,
            # The client rounds it up to whole seconds; finer deadlines are enforced around the adapter.
            timeout=network.timeout_seconds,
            **client_options(address, network),
        )


@contextmanager
def translated(address: Address, *, closed: bool = False) -> Iterator[None]:
    """The client's errors as ours. A collection that is missing is named as such."""
    import httpx
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if closed:
        raise StoreUnavailable(f"{address} was closed", hint="open it again")
    try:
        yield
    except ExitrampError:
        raise
    except UnexpectedResponse as error:
        raise _refusal(address, error.status_code or 0, error.content) from error
    except ResponseHandlingException as error:
        raise transport_error(address, error.source, default_port=_PORT) from error
    except ResourceExhaustedResponse as error:
        wait = error.retry_after_s
        raise StoreUnavailable(f"{address} asks to slow down for {wait} s", retry_after_seconds=float(wait)) from error
    except httpx.HTTPError as error:
        raise transport_error(address, error, default_port=_PORT) from error
    except (AssertionError, ValueError) as error:  # what the client says to an answer without a result
        raise StoreProtocolError(f"{address}: the client cannot make sense of it: {_brief(str(error))}") from error


def _refusal(address: Address, status: int, content: bytes) -> ExitrampError:
    said = _said(content)
    if status == 404 and "ollection" in said:
        return CollectionMissing(f"{address}: there is no collection {address.collection!r}")
    known = status_error(address, status, secret="api_key", said=said)
    if known is not None:
        return known
    if status >= 500 and status != 501:
        return StoreUnavailable(f"{address} failed ({status}): {said}")
    return StoreRejected(f"{address} refuses this ({status}): {said}")


def _said(content: bytes) -> str:
    try:
        answer = json.loads(content)
        return _brief(str(answer["status"]["error"]))
    except (ValueError, KeyError, TypeError):
        return "it does not say why"


def _brief(text: str) -> str:
    return redact(" ".join(text.split()))[:200]
