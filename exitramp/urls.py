"""Addresses: `SCHEME:LOCATION?OPTION=VALUE#COLLECTION`, the way database URLs work.

`chroma:./db#articles`, `qdrant+http://127.0.0.1:6333#articles`, `faiss:./articles.faiss`, `dump:./my-dump`. A secret
is never part of an address; an option whose value begins with `env:`, `file:` or `cmd:` says where it is.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from exitramp.errors import AddressError
from exitramp.secrets import MASK, redact, remember, resolve

_SCHEME = re.compile(r"^[a-z][a-z0-9+_-]*$")
# In a collection's name: what a terminal would act on, what breaks a line, and what would be read as an escape.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]|%(?=[0-9A-Fa-f]{2})")
REFERENCE_KINDS = ("env:", "file:", "cmd:")
_SERVICES = frozenset({"pinecone"})
"""Schemes of stores that are nowhere but at their vendor, and need no host in an address."""


def is_scheme(text: str) -> bool:
    """Whether an address may begin with it."""
    return _SCHEME.match(text) is not None


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address. `location` is a path for embedded stores and `//host:port/…` for servers.

    `options` are the query's keys and values as written; a secret in them is still a reference.
    """

    scheme: str
    location: str
    collection: str | None = None
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `AddressError` saying what is wrong; a password in the address is one of those things."""
        scheme, separator, rest = text.partition(":")
        if not separator or not is_scheme(scheme):
            raise AddressError(
                f"'{redact(text)}' is not an address",
                hint="write SCHEME:LOCATION#COLLECTION, e.g. chroma:./db#articles, or dump:./articles-dump for a dump",
            )
        rest, has_fragment, fragment = rest.partition("#")
        location, _, query = rest.partition("?")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError as error:
            raise AddressError(f"the options of '{redact(text)}' are not KEY=VALUE&…") from error
        if len({key for key, _ in pairs}) != len(pairs):
            raise AddressError(f"an option stands twice in '{redact(text)}'")
        address = cls(scheme, location, unquote(fragment) if has_fragment and fragment else None, dict(pairs))
        if location.startswith("//"):
            address._check_network(text)
        elif not location and scheme not in {"memory", "mock", "wordllama", "minilm", "use", "glove"}:
            raise AddressError(f"'{redact(text)}' names no place", hint=f"write {scheme}:PATH")
        return address

    def _check_network(self, text: str) -> None:
        try:
            parts = urlsplit(self.location)
            parts.port  # noqa: B018  (raises on a port that is none)
        except ValueError as error:
            # urlsplit quotes what it took for the port, which may be half of a password.
            raise AddressError(f"'{redact(text)}' holds no host and port that can be read") from error
        if parts.password is not None:
            remember(unquote(parts.password))
            raise AddressError(
                f"'{redact(text)}' holds a password",
                hint="leave it out, and give it by reference: ?OPTION=env:NAME ('exitramp stores' shows which option)",
            )
        if not parts.hostname:
            raise AddressError(f"'{redact(text)}' names no host")

    @property
    def host(self) -> str | None:
        return urlsplit(self.location).hostname if self.location.startswith("//") else None

    @property
    def port(self) -> int | None:
        return urlsplit(self.location).port if self.location.startswith("//") else None

    @property
    def path(self) -> Path:
        """The location as a path of this machine. Raises `AddressError` for a network address."""
        if self.location.startswith("//"):
            raise AddressError(f"{self} is a network address, not a path")
        plain = Path(unquote(self.location, errors="surrogateescape"))
        # Only a ~ that was written as one means the home folder; one that was escaped is part of a name.
        return plain.expanduser() if self.location.startswith("~") else plain

    @property
    def is_loopback(self) -> bool:
        """Whether nothing outside this machine can be reached through it: a path, or a loopback host."""
        host = self.host
        if host is None and self.scheme in _SERVICES and not self.options.get("base_url"):
            return False  # its location is a name at the vendor's, and no path
        if host is None:
            return not self.options.get("base_url") or _loopback_url(self.options["base_url"])
        return _loopback_host(host)

    def option(self, name: str, default: str | None = None) -> str | None:
        return self.options.get(name, default)

    def secret(self, name: str) -> str | None:
        """The value behind the option `name`, fetched from where its reference says; None if it is not given."""
        reference = self.options.get(name)
        return None if reference is None else resolve(reference, what=f"option '{name}' of '{self.scheme}'")

    def require_collection(self) -> str:
        if self.collection is None:
            raise AddressError(f"{self} names no collection", hint=f"write {self}#COLLECTION")
        return self.collection

    def only_options(self, *known: str) -> None:
        """Raises `AddressError` if an option stands here that is none of `known`."""
        for name in self.options:
            if name not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise AddressError(f"{self.scheme}: has no option '{name}'", hint=f"its options are: {listed}")

    def with_collection(self, collection: str | None) -> Self:
        return replace(self, collection=collection)

    @property
    def text(self) -> str:
        """The address again, nothing masked: for whoever opens it, never for showing. `parse` reads it back."""
        query = "&".join(f"{quote(key)}={quote(value, safe=':/.,~-_')}" for key, value in self.options.items())
        text = f"{self.scheme}:{self.location}" + (f"?{query}" if query else "")
        return text + (f"#{_UNSEEN.sub(_escaped, self.collection)}" if self.collection is not None else "")

    @property
    def place(self) -> tuple[str, ...]:
        """What tells this place from others: everything but the values of secrets, and those options' names.

        Two addresses that differ in the user's name are two places, and `str` shows them alike. Another key to the
        same place, or one that was changed since, makes no other place of it.
        """
        location = self.location
        if self.host is not None:
            parts = urlsplit(location)
            location = f"//{parts.username or ''}@{parts.hostname}:{parts.port or ''}{parts.path.rstrip('/')}"
        options = [f"{name}={value}" for name, value in sorted(self.options.items()) if not _names_secret(name)]
        collection = "" if self.collection is None else f"#{self.collection}"
        return (self.scheme, location, collection, *options)

    def __str__(self) -> str:
        """The address again, with anything that looks like a secret masked."""
        return redact(self.text)


@dataclass(frozen=True, slots=True)
class Network:
    """How to reach the outside: the one value that every adapter gets. None means the system's own setting."""

    proxy: str | None = None
    no_proxy: tuple[str, ...] = ()
    ca_bundle: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    timeout_seconds: float = 30.0


def same_place(one: Address, other: Address) -> bool:
    """Whether two addresses lead to one collection, as far as can be told without opening them.

    Who asks, and for which metric, makes no difference. A port that is left out is not taken for any other.
    """
    if one.collection != other.collection or (one.host is None) != (other.host is None):
        return False
    if one.host is None:
        at = [each.location if each.scheme == "memory" else each.path.resolve() for each in (one, other)]
        return one.scheme == other.scheme and at[0] == at[1]
    served = []
    for each in (one, other):
        host = "localhost" if each.host in {"127.0.0.1", "::1"} else each.host
        options = {
            name: value
            for name, value in each.options.items()
            if name not in ("metric", "search") and not _names_secret(name)
        }
        served.append((host, each.port, urlsplit(each.location).path.rstrip("/"), options))
    return served[0] == served[1]


def path_address(scheme: str, path: Path) -> str:
    """The address of a path of this machine, whatever characters its name has."""
    return f"{scheme}:{quote(os.fsencode(path), safe='/').replace('~', '%7E')}"


def _loopback_host(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _loopback_url(url: str) -> bool:
    host = urlsplit(url).hostname
    return host is not None and _loopback_host(host)


def _names_secret(option: str) -> bool:
    return MASK in redact(f"?{option}=x1y2z3w4v5")


def _escaped(match: re.Match[str]) -> str:
    return quote(match[0], safe="")
