"""What the address of a model behind HTTP says: where it is, with which key, and how long to wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import urlsplit

from exitramp.errors import AddressError, ConfigError
from exitramp.urls import Address

OPTIONS: Final = ("base_url", "key", "mock", "connect_seconds", "first_token_seconds", "connections")
DUMMY_KEY: Final = "no-key"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model vendor's endpoint. `key` never shows in a repr; on loopback it may be a dummy.

    connect_seconds, first_token_seconds: limits within the timeout of a call; None leaves them to it.
    connections: how many are open at once at most; a call beyond that waits within its timeout.
    """

    base_url: str
    key: str = field(repr=False)
    is_mock: bool
    connect_seconds: float | None
    first_token_seconds: float | None
    connections: int

    @classmethod
    def of(cls, address: Address, *, known_options: tuple[str, ...] = (), example_url: str) -> Self:
        """Raises `AddressError` or `ConfigError` naming the option that is wrong."""
        address.only_options(*OPTIONS, *known_options)
        mock = address.option("mock", "false")
        if mock not in ("true", "false"):
            raise AddressError(f"{address.scheme}: option 'mock' is true or false")
        base_url = _base_url(address, example_url)
        return cls(
            base_url,
            _key(address, base_url),
            mock == "true",
            _seconds(address, "connect_seconds"),
            _seconds(address, "first_token_seconds"),
            int(_seconds(address, "connections") or 64),
        )


def _base_url(address: Address, example: str) -> str:
    url = address.option("base_url")
    if not url:
        raise AddressError(f"{address} names no server", hint=f"add ?base_url={example}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AddressError(f"{address.scheme}: option 'base_url' has no host or no port that can be") from None
    if port == 0 or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise AddressError(f"{address.scheme}: option 'base_url' is not http://HOST… or https://HOST…")
    if parts.username or parts.password:
        raise AddressError(f"{address.scheme}: option 'base_url' holds a user or a password", hint="use ?key=env:NAME")
    return url.rstrip("/")


def _key(address: Address, base_url: str) -> str:
    key = address.secret("key")
    if key is None:
        if not address.is_loopback:
            raise ConfigError(
                f"{address.scheme}: {urlsplit(base_url).hostname} needs a key", hint="add ?key=env:NAME to the address"
            )
        return DUMMY_KEY
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"{address.scheme}: the key holds characters that no header can carry")
    return key


def _seconds(address: Address, name: str) -> float | None:
    text = address.option(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise AddressError(f"{address.scheme}: option '{name}' must be a number above 0")
    return value
