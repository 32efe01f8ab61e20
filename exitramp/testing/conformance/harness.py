"""What a store's author supplies, so that the store cannot vouch for itself.

A harness makes addresses for the adapter, and seeds, reads and edits collections through the raw SDK, never through
the adapter. What the store or the harness cannot do stands in `lacks` with the reason, which becomes the reason of
the skipped tests; a feature that is not listed there is tested.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NoReturn

import pytest

from exitramp import __version__
from exitramp.ports import SinkLimits, Store, StoreAdapter
from exitramp.records import CollectionSpec
from exitramp.registry import open_store, store_adapter
from exitramp.testing.rows import Row
from exitramp.urls import Address, Network


class Feature(StrEnum):
    """What a store may lack."""

    SEARCH = "search"  # it answers nearest-neighbour queries
    FILTERS = "filters"  # with filters as well
    CHANGES = "changes"  # records can be replaced and deleted after a transfer was finished
    NEW_PROCESS = "new_process"  # its address, opened in another process, shows the same records
    RAW_EDIT = "raw_edit"  # the application may change one payload value of a record
    RAW_COLLECTIONS = "raw_collections"  # the raw SDK lists the collections there are
    SERVER_KILL = "server_kill"  # it is a server that the harness may kill and start again
    SERVER_STOP = "server_stop"  # it is a server that the harness may stop with SIGSTOP and resume


class StoreHarness(abc.ABC):
    """One fresh, empty store for one test. Raw handles are opened and closed within each call, since a store that
    lives in one process may refuse a second handle on the same files.

    `deadline_seconds` is how long a call to a stopped server may take before the deadline ends it.
    """

    lacks: Mapping[Feature, str] = {}
    deadline_seconds: float = 2.0
    tool_version: str = __version__  # what another process says that makes a collection here
    plain_name: str | None = None  # set by the suite: what it calls a collection where any name will do

    @abc.abstractmethod
    def address(self, collection: str) -> str:
        """The address of a collection of this store, whether it is there or not; the same on every call."""

    @abc.abstractmethod
    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        """Make the collection with the raw SDK and put the rows in, as an application would.

        Spec and rows stay within the sink's limits: native ids, payloads and vectors, a namespace or a document only
        where the store has room for them.
        """

    @abc.abstractmethod
    def raw_read(self, collection: str) -> list[Row]:
        """Every record as the raw SDK gives it, in any order: nothing decoded, nothing hidden.

        A document is set only where the store has room for one of its own. Raises anything if the collection is not
        there.
        """

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        """Set one top-level payload key of one record, as an application would. `id_` as `raw_read` gave it."""
        self._not_written("raw_edit", Feature.RAW_EDIT)

    def raw_collections(self) -> list[str]:
        """The names of all collections as the raw SDK lists them."""
        self._not_written("raw_collections", Feature.RAW_COLLECTIONS)

    def open(self, collection: str) -> Store:
        """The store as the adapter opens it."""
        return open_store(Address.parse(self.address(collection)), Network(timeout_seconds=30.0))

    def adapter(self) -> StoreAdapter:
        """What the registry tells users of the store."""
        return store_adapter(Address.parse(self.address("any")).scheme)

    def kill(self) -> None:
        """Send SIGKILL to the server and wait until it is gone."""
        self._not_written("kill", Feature.SERVER_KILL)

    def restart(self) -> None:
        """Start the server again on the same files, at the same addresses; return once it answers."""
        self._not_written("restart", Feature.SERVER_KILL)

    def stop(self) -> None:
        """Send SIGSTOP to the server."""
        self._not_written("stop", Feature.SERVER_STOP)

    def resume(self) -> None:
        """Send SIGCONT to the server."""
        self._not_written("resume", Feature.SERVER_STOP)

    def _not_written(self, method: str, feature: Feature) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__}.{method}: write it, or put Feature.{feature.name} into `lacks` with the reason"
        )


def need_origin(limits: SinkLimits, why: str) -> None:
    """Skip the test if the sink has no room for the origin, which alone knows what is asked for."""
    if not limits.keeps_origin:
        pytest.skip(f"keeps_origin: the sink has no room for the origin, as it declares, so {why}")


def need(harness: StoreHarness, *features: Feature) -> None:
    """Skip the test, with the harness's own reason, if the store lacks one of these."""
    for feature in features:
        if feature in harness.lacks:
            pytest.skip(f"{feature.value}: {harness.lacks[feature]}")
