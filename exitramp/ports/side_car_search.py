"""Asking an index file for nearest records, and the comparison with every vector that needs no index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.arrow import empty_batch
from exitramp.errors import DataInvalid, UsageError
from exitramp.filters import Filter, matches
from exitramp.payloads import decoded_payloads
from exitramp.ports.searching import DEFAULT_SETTINGS, Hits, IndexCoverage, IndexState, Query, SearchSettings
from exitramp.ports.side_car_records import Held, batch_of, keys_in
from exitramp.records import DType, Metric, VectorField

if TYPE_CHECKING:
    from exitramp.ports.side_car_store import SideCarStore

_BLOCK_ROWS: Final = 4096
_FILTERS_KEPT: Final = 16


class SideCarSearch:
    """Asks the index. A filter becomes a selection of rows, looked through exactly: a graph's walk would lose hits."""

    def __init__(self, store: SideCarStore) -> None:
        self._store = store
        self._passing: tuple[Held, dict[str, npt.NDArray[np.int64]]] | None = None

    def index_state(self) -> IndexState:
        self._store.opened()
        return IndexState.READY

    def coverage(self) -> IndexCoverage:
        return self._store.engine.coverage(self._store.opened().held)

    def search_options(self) -> Mapping[str, Any]:
        return self._store.engine.search_options(self._store.opened().held)

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        opened = self._store.opened()
        held = opened.held
        field = held.spec.vector(query.field)
        if held.content.lists is not None:
            raise UsageError(f"{self._store.address} holds several vectors for each id, which is read and not searched")
        if query.dense is None or query.multi is not None or query.sparse is not None:
            raise UsageError(f"{self._store.address} is searched with one dense vector")
        if len(query.dense) != field.item_count:
            raise DataInvalid(f"a query of {len(query.dense)} numbers for {field.item_count} dimensions")
        if k < 1:
            raise UsageError(f"the {k} nearest records cannot be found")
        rows = None
        if where is not None:
            rows = self._rows(held, where)
        k = min(k, len(held.labels) if rows is None else len(rows))
        if not k:
            return Hits((), (), empty_batch(held.spec) if with_records else None)
        vector = np.asarray(query.dense, held.matrix.dtype)
        scores, labels = self._store.engine.ask(held, vector, k, rows, settings)
        found = opened.rows_of(labels)
        return Hits(
            tuple(keys_in(held.keys.take(found))),
            tuple(float(score) for score in scores),
            batch_of(held, found) if with_records else None,
        )

    def _rows(self, held: Held, where: Filter) -> npt.NDArray[np.int64]:
        """The rows that pass, looked for once for each filter as long as the files are the same: comparisons ask a
        filter hundreds of times, and 2,000 records take 25 ms."""
        if self._passing is None or self._passing[0] is not held or len(self._passing[1]) > _FILTERS_KEPT:
            self._passing = held, {}
        known = self._passing[1]
        name = repr(where)  # not the filter itself: to Python, 1 and True and 1.0 are the same key
        if name not in known:
            texts, passing, count = held.texts.forward(["payload"]), [], len(held.labels)
            for start in range(0, count, _BLOCK_ROWS):
                rows = np.arange(start, min(count, start + _BLOCK_ROWS))
                payloads = decoded_payloads(texts.take(rows).column("payload"))
                passing += [row for row, payload in enumerate(payloads, start) if matches(where, payload)]
            known[name] = np.array(passing, np.int64)
        return known[name]


def effort_of(settings: SearchSettings, option: str, own: int, what: str) -> int:
    """The one search option that `what` has, a number from 1 on; `own` where nothing is said. Raises `UsageError`."""
    for name in settings.options:
        if name != option:
            raise UsageError(f"{what} has no search option '{name}'", hint=f"it has {option}" if option else None)
    effort = settings.options.get(option, own)
    if type(effort) is not int or effort < 1:
        raise UsageError(f"{option} is a whole number from 1 on, not {effort!r}")
    return effort


def compare_all(
    held: Held, vector: npt.NDArray[Any], k: int, rows: npt.NDArray[np.int64] | None
) -> tuple[list[float], npt.NDArray[Any]]:
    """Distances and labels of the `k` nearest among these rows (None: all), by comparing each original.

    A distance is 1 - the inner product, 1 - the cosine, the square of the Euclidean one, or a count of bits. What
    cannot be compared (NaN) is left out. In float64, so that no square overflows: 20,000 x 384 took 0.03 s.
    """
    count = len(held.matrix) if rows is None else len(rows)
    distances = np.empty(count, np.float64)
    for start in range(0, count, _BLOCK_ROWS):
        chosen = slice(start, start + _BLOCK_ROWS) if rows is None else rows[start : start + _BLOCK_ROWS]
        distances[start : start + _BLOCK_ROWS] = _distances(held.field, vector, held.matrix[chosen])
    order = np.argsort(distances, kind="stable")[:k]  # NaN sorts behind everything
    order = order[~np.isnan(distances[order])]
    return distances[order].tolist(), held.labels[order if rows is None else rows[order]]


def _distances(field: VectorField, vector: npt.NDArray[Any], block: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64]
    if field.dtype is DType.BINARY:
        found = np.unpackbits(block ^ vector, axis=1).sum(axis=1).astype(np.float64)
        return found
    one, many = vector.astype(np.float64), block.astype(np.float64)
    with np.errstate(all="ignore"):
        match field.metric:
            case Metric.DOT:
                found = 1 - many @ one
            case Metric.COSINE:
                lengths = np.sqrt(np.einsum("ij,ij->i", many, many)) * np.linalg.norm(one)
                found = 1 - np.divide(many @ one, lengths, out=np.zeros(len(many)), where=lengths != 0)
            case Metric.EUCLIDEAN:
                many -= one
                found = np.einsum("ij,ij->i", many, many)
            case Metric.MANHATTAN:
                found = np.abs(many - one).sum(axis=1)
            case _:
                raise UsageError(f"numbers are not compared by {field.metric}")
    return found


def unit_rows(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of length one; a row of zeros stays. In float64, scaled first, lest a square overflow or vanish."""
    unit = np.empty_like(matrix)
    for start in range(0, len(matrix), 4096):  # in float64 the whole would take twice the memory again, and thrice
        wide = matrix[start : start + 4096].astype(np.float64)
        with np.errstate(all="ignore"):
            for measure in (np.abs(wide).max(axis=1, keepdims=True, initial=0.0), None):
                length = np.linalg.norm(wide, axis=1, keepdims=True) if measure is None else measure
                np.divide(wide, length, out=wide, where=length != 0)
            unit[start : start + 4096] = wide
    return unit
