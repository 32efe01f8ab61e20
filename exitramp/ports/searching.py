"""Asking a store for nearest records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

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
class IndexCoverage:
    """How a store finds neighbours, by its own count of vectors (of all dense and multi fields together).

    indexed: those that an approximate index answers for; it may miss some. compared: those that every search compares
    one by one, and so never misses. None is not known. note: why it is so, as the rest of a sentence; "" for nothing.
    fields: how many fields those vectors are of; no store has to say, whoever asks knows.

    A store may well be `ready` and have no index at all: its answers are then exact and say nothing about an index.
    """

    indexed: int | None = None
    compared: int | None = None
    note: str = ""
    fields: int = 1

    @property
    def is_exact(self) -> bool | None:
        """Whether no approximate index takes part; None where nobody knows."""
        return None if self.indexed is None else self.indexed == 0

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"indexed": self.indexed, "compared": self.compared, "note": self.note}
        return found | ({"fields": self.fields} if self.fields > 1 else {})


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

    def over(self, standing: SearchSettings) -> SearchSettings:
        """These settings where they say something, and the standing ones where they do not."""
        return SearchSettings(self.exact or standing.exact, {**standing.options, **self.options})


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


@runtime_checkable
class TellsCoverage(Protocol):
    """A `VectorSearch` that also tells whether an index answers, or a comparison with every vector. One that does not
    know leaves the method away, and then nobody says that its index was tested."""

    def coverage(self) -> IndexCoverage: ...


@runtime_checkable
class TellsOptions(Protocol):
    """A `VectorSearch` that also tells which options its searches take."""

    def search_options(self) -> Mapping[str, Any]:
        """Each with what the store does where a search says nothing; None where it does not tell."""
        ...
