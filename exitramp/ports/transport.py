"""What adapters over HTTP have in common: the network setting as httpx takes it, and what its failures mean.

httpx is imported when it is needed; a store that has no server loads none of it.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from exitramp.errors import (
    RequestTooLarge,
    StoreError,
    StoreProtocolError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
    UsageError,
)
from exitramp.urls import Address, Network


def uses_tls(address: Address) -> bool:
    """What `?tls=` says. Raises `UsageError` for anything but true and false."""
    word = address.option("tls", "false")
    if word not in ("true", "false"):
        raise UsageError(f"{address}: tls is true or false")
    return word == "true"


def client_options(address: Address, network: Network) -> dict[str, Any]:
    """The arguments of an `httpx.Client` for this address, but for its timeout."""
    options: dict[str, Any] = {}
    if network.ca_bundle is not None or network.client_certificate is not None:
        context = ssl.create_default_context(cafile=str(network.ca_bundle) if network.ca_bundle else None)
        if network.client_certificate is not None:
            key = str(network.client_key) if network.client_key else None
            context.load_cert_chain(str(network.client_certificate), key)
        options["verify"] = context
    # Where no host stands, nobody knows where an adapter goes: that is treated as the world.
    if address.is_loopback and (address.host is not None or address.options.get("base_url")):
        if not uses_tls(address) and not address.options.get("base_url", "").startswith("https:"):
            options["verify"] = False  # no TLS, no proxy that speaks it, nothing to verify: a context costs 16 ms
        return options | {"trust_env": False}  # a proxy from the environment cannot reach this machine's loopback
    if network.proxy is not None:
        options["proxy"] = network.proxy
        options["mounts"] = {f"all://{host}": None for host in network.no_proxy}
    return options


def transport_error(address: Address, error: Exception, *, default_port: int) -> StoreError:
    """An error of httpx as one of ours."""
    import httpx

    name = type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return StoreTimeout(f"{address} did not answer in time ({name})", hint="is it stopped or overloaded?")
    if isinstance(error, httpx.TransportError) and _is_unresolved(error):
        hint = (
            "is it spelled right, and the name of the proxy, if there is one? does this machine know it (DNS, hosts)?"
        )
        return StoreUnavailable(f"{address} cannot be reached: the name {address.host!r} cannot be resolved", hint=hint)
    if isinstance(error, httpx.TransportError):
        hint = f"is it running on {address.host}:{address.port or default_port}?"
        return StoreUnavailable(f"{address} cannot be reached ({name})", hint=hint)
    return StoreProtocolError(f"{address} gave an answer that is not a store's ({name})")


def _is_unresolved(error: BaseException) -> bool:
    """Whether what failed was looking up a name: httpx says no more than that it could not connect."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, socket.gaierror):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def status_error(address: Address, status: int, *, secret: str, said: str = "") -> StoreError | None:
    """What a proxy, or a server before it looks at a request, means by a status; None where that says nothing.

    `secret` is the option that holds what the server may ask for; `said` are its own words, masked, if it has any.
    """
    what = f"({status})" + (f": {said}" if said else "")
    if status in (401, 403):
        word = secret.replace("_", " ")
        given = secret in address.options
        hint = f"does the {word} allow this?" if given else f"give the {word} with ?{secret}=env:NAME"
        return StoreRejected(f"{address} refuses access {what}", hint=hint)
    if status in (408, 504):
        return StoreTimeout(f"{address} gave up {what}", hint="is it overloaded?")
    if status in (429, 502, 503):
        return StoreUnavailable(f"{address} cannot answer now {what}")
    if status == 413:
        return RequestTooLarge(f"{address} takes no request that large {what}", hint="a record may be too long for it")
    return None
