"""Asking a store for nearest records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from exitramp.filters import Filter
from exitramp.records import (
    RecordKey,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


class IndexState(StrEnum):
    """Whether an index answers from all of its records; only `ready` says so."""

    READY = "ready"
    BUILDING = "building"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for, in the field `field`: exactly one of dense [dimensions], multi [n, dimensions] or sparse."""

    field: str = ""
    dense: npt.NDArray[np.generic] | None = None
    multi: npt.NDArray[np.generic] | None = None
    sparse: tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]] | None = None


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How hard to look. `exact` asks for a full scan; `options` are the store's own (`ef`, `probes`, …)."""

    exact: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)


DEFAULT_SETTINGS = SearchSettings()


@dataclass(frozen=True, slots=True)
class Hits:
    """The nearest records, nearest first. `scores` are in the store's own units and not comparable between stores.

    `records` holds the hits' whole records (rows in any order) when they were asked for.
    """

    keys: tuple[RecordKey, ...]
    scores: tuple[float, ...]
    records: pa.RecordBatch | None = None


class VectorSearch(Protocol):
    """Something that can be asked for nearest records."""

    def index_state(self) -> IndexState: ...

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        """The `k` nearest records that match `where`; fewer only where there are fewer. Raises `UsageError` for a
        filter or a setting it cannot honour: never a silent approximation of it."""
        ...
