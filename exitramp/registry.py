"""Finding adapters, services and corpora by entry point: listed without importing, loaded one at a time."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from exitramp.errors import AdapterUnknown, DependencyMissing, ExitrampError, RoleUnsupported, UsageError
from exitramp.ports import ChatModel, Corpus, Embedder, ModelAdapter, Reranker, ServiceAdapter, Store, StoreAdapter
from exitramp.ports.unforeseen import guarded
from exitramp.urls import Address, Network

STORES = "exitramp.stores"
MODELS = "exitramp.models"
SERVICES = "exitramp.services"
CORPORA = "exitramp.corpora"

_KINDS: dict[str, type] = {STORES: StoreAdapter, MODELS: ModelAdapter, SERVICES: ServiceAdapter}
_WORDS = {STORES: "store", MODELS: "model", SERVICES: "service", CORPORA: "corpus"}


@dataclass(frozen=True, slots=True)
class Listed:
    """A name in a group, and the package that brought it. Nothing of it has been imported."""

    name: str
    group: str
    distribution: str
    entry: EntryPoint


def listed(group: str) -> list[Listed]:
    """Everything registered in `group`, by name. Raises `ExitrampError` if two packages claim one name.

    Looked up once for each state of the import path: reading every package's metadata takes 12 ms.
    """
    return list(_listed(group, tuple(sys.path)))


@lru_cache
def _listed(group: str, path: tuple[str, ...]) -> tuple[Listed, ...]:
    found: dict[str, Listed] = {}
    for entry in entry_points(group=group):
        distribution = entry.dist.name if entry.dist is not None else "unknown"
        other = found.get(entry.name)
        if other is not None and other.entry.value != entry.value:
            raise ExitrampError(
                f"two adapters claim the {_WORDS[group]} '{entry.name}': {other.distribution} and {distribution}",
                hint="uninstall one of the two packages",
            )
        found[entry.name] = Listed(entry.name, group, distribution, entry)
    return tuple(found[name] for name in sorted(found))


def load(group: str, name: str) -> Any:
    """The object behind `name`. Raises `AdapterUnknown` that lists what is installed, `UsageError` for a broken one."""
    for item in listed(group):
        if item.name == name:
            try:
                found = item.entry.load()
                if not isinstance(found, _KINDS.get(group, object)):
                    raise TypeError(f"it is a {type(found).__name__}")
                return found
            except ExitrampError:
                raise
            except Exception as error:
                raise UsageError(
                    f"the {_WORDS[group]} '{name}' of the package '{item.distribution}' cannot be loaded: "
                    f"{type(error).__name__}: {error}",
                    hint="install that package again, or uninstall it",
                ) from error
    known = ", ".join(item.name for item in listed(group)) or "none"
    raise AdapterUnknown(f"no {_WORDS[group]} '{name}' is installed", hint=f"installed are: {known}")


def is_installed(adapter: StoreAdapter | ModelAdapter | ServiceAdapter) -> bool:
    """Whether the SDK behind `adapter` could be imported; looks, but does not import."""
    return next(_missing(adapter), None) is None


def _missing(adapter: StoreAdapter | ModelAdapter | ServiceAdapter) -> Iterator[str]:
    for module in adapter.requires:
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:  # of a dotted name, the part before the dot
            found = False
        if not found:
            yield module


def _require(adapter: StoreAdapter | ModelAdapter | ServiceAdapter, name: str) -> None:
    for module in _missing(adapter):
        raise DependencyMissing(name, adapter.extra or name, module=module)


def store_adapter(scheme: str) -> StoreAdapter:
    """The adapter for addresses that begin with `scheme`, its SDK being there."""
    adapter: StoreAdapter = load(STORES, scheme)
    _require(adapter, scheme)
    return adapter


def model_adapter(scheme: str) -> ModelAdapter:
    """The adapter for models whose addresses begin with `scheme`, what it needs being there; what its models raise is
    `ExitrampError` and nothing else of their own."""
    adapter: ModelAdapter = load(MODELS, scheme)
    _require(adapter, scheme)
    return guarded(adapter)


def service_adapter(name: str) -> ServiceAdapter:
    adapter: ServiceAdapter = load(SERVICES, name)
    _require(adapter, name)
    return adapter


def corpus(name: str) -> Corpus:
    found: Corpus = load(CORPORA, name)
    return found


def open_store(address: Address | str, network: Network | None = None) -> Store:
    """Open the store at `address`. The caller closes it."""
    parsed = Address.parse(address) if isinstance(address, str) else address
    return store_adapter(parsed.scheme).open(parsed, network or Network())


def open_chat(address: Address | str, network: Network | None = None) -> ChatModel:
    """Open the chat model at `address`; nothing is asked of it yet. The caller closes it."""
    parsed = Address.parse(address) if isinstance(address, str) else address
    adapter = model_adapter(parsed.scheme)
    if adapter.open_chat is None:
        raise _no_role(adapter, "answers no messages")
    return adapter.open_chat(parsed, network or Network())


def open_embedder(address: Address | str, network: Network | None = None) -> Embedder:
    """Open the embedder at `address`. The caller closes it."""
    parsed = Address.parse(address) if isinstance(address, str) else address
    adapter = model_adapter(parsed.scheme)
    if adapter.open_embedder is None:
        raise _no_role(adapter, "embeds nothing")
    return adapter.open_embedder(parsed, network or Network())


def open_reranker(address: Address | str, network: Network | None = None) -> Reranker:
    """Open the reranker at `address`. The caller closes it."""
    parsed = Address.parse(address) if isinstance(address, str) else address
    adapter = model_adapter(parsed.scheme)
    if adapter.open_reranker is None:
        raise _no_role(adapter, "reranks nothing")
    return adapter.open_reranker(parsed, network or Network())


def _no_role(adapter: ModelAdapter, what: str) -> RoleUnsupported:
    return RoleUnsupported(f"{adapter.scheme}: {what}; it is: {', '.join(adapter.roles)}")
