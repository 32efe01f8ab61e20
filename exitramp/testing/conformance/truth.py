"""The exact truth of a search, computed here in numpy, and how an answer stands to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from exitramp.errors import UsageError
from exitramp.filters import Filter
from exitramp.ports import Hits, Query, SearchSettings, SinkLimits
from exitramp.records import CollectionSpec, DType, Metric, RecordKey, VectorField
from exitramp.testing.conformance.harness import StoreHarness
from exitramp.testing.conformance.steps import limits_of, write
from exitramp.testing.data import ordinary_matrix
from exitramp.testing.reference import matches
from exitramp.testing.rows import Row
from exitramp.testing.within import rows_within, spec_within

ROWS = 300
QUERIES = 20
K = 10
LEAST_RECALL = 0.95
EXACT = SearchSettings(exact=True)


@dataclass(frozen=True, slots=True)
class Seeded:
    """A collection that was written, and what was written into it."""

    spec: CollectionSpec
    rows: list[Row]
    limits: SinkLimits

    @property
    def field(self) -> VectorField:
        return self.spec.vectors[0]

    def queries(self, count: int = QUERIES) -> list[Query]:
        matrix = ordinary_matrix(self.field, count, np.random.default_rng(99))
        return [Query(self.field.name, dense=vector) for vector in matrix]

    def truth(self, query: Query, *, where: Filter | None = None) -> tuple[list[RecordKey], npt.NDArray[np.float64]]:
        """All matching records, nearest first, and how far each is (a similarity turned round)."""
        return self.truths([query], where=where)[0]

    def truths(
        self, queries: Sequence[Query], *, where: Filter | None = None
    ) -> list[tuple[list[RecordKey], npt.NDArray[np.float64]]]:
        """`truth` of each: which records match is asked once, which of all that is done here takes most."""
        rows = [row for row in self.rows if where is None or matches(where, row.payload)]
        matrix = np.array([row.vectors[self.field.column] for row in rows]).reshape(len(rows), self.field.item_count)
        found = []
        for query in queries:
            distance = distances(self.field, np.asarray(query.dense), matrix)
            order = np.argsort(distance, kind="stable")
            found.append(([rows[place].key for place in order], distance[order]))
        return found


def distances(field: VectorField, query: npt.NDArray[Any], matrix: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """float64[rows]: smaller is nearer, similarities being negated."""
    if field.dtype is DType.BINARY:
        query, matrix = np.unpackbits(query), np.unpackbits(matrix, axis=1)
    one, many = query.astype(np.float64), matrix.astype(np.float64)
    found: npt.NDArray[np.float64]
    match field.metric:
        case Metric.DOT:
            found = -(many @ one)
        case Metric.COSINE:
            found = -(many @ one) / (np.linalg.norm(many, axis=1) * np.linalg.norm(one))
        case Metric.EUCLIDEAN:
            found = np.sqrt(((many - one) ** 2).sum(axis=1))
        case Metric.MANHATTAN:
            found = np.abs(many - one).sum(axis=1)
        case Metric.HAMMING:
            found = (many != one).sum(axis=1).astype(np.float64)
    return found


def seed_searchable(
    harness: StoreHarness, name: str, pair: tuple[DType, Metric] | None = None, *, count: int = ROWS
) -> Seeded:
    limits = limits_of(harness)
    seeded = searchable_rows(spec_within(limits, name, pair=pair), limits, count)
    write(harness, seeded.spec, seeded.rows, encoded=False)
    return seeded


def searchable_rows(spec: CollectionSpec, limits: SinkLimits, count: int = ROWS) -> Seeded:
    """Ordinary vectors of differing norm, and payloads to filter by as far as the store keeps them natively."""
    kept = limits.payload
    rows = []
    for number, row in enumerate(rows_within(spec, limits, count, 31)):
        payload: dict[str, Any] = {"group": "odd" if number % 2 else "even", "number": number, "flag": number % 3 == 0}
        payload["score"] = number / 8
        payload |= {"sometimes": "here" if number % 4 else "there"} if number % 5 else {}
        payload |= {"rarely": number} if number % 7 == 0 else {}
        payload["tags"] = ["first", "third" if number % 3 == 0 else "second", "fifth" if number % 5 == 0 else "fourth"]
        payload["inside"] = {"group": "odd" if number % 2 else "even"}
        names = {bool: "bool", int: "int", float: "float", str: "string", list: "list", dict: "object"}
        native = {key: value for key, value in payload.items() if names[type(value)] in kept.types}
        if not kept.nested:
            native.pop("inside", None)
        if "string" not in kept.item_types:
            native.pop("tags", None)
        rows.append(replace(row, payload=native or (None if kept.absent_payload else {})))
    return Seeded(spec, rows, limits)


def assert_recall(
    seeded: Seeded,
    ask: Callable[[Query, int, SearchSettings], Hits],
    *,
    where: Filter | None = None,
    what: str = "",
    queries: int = QUERIES,
    least: float = LEAST_RECALL,
) -> None:
    """Exactly the truth where the store honours `exact`; otherwise a mean recall@10 of at least `least`.

    A hit counts when it is no further than the truth's last by more than rounding, so that ties are nobody's fault.
    """
    what = f"{seeded.field.dtype} under {seeded.field.metric}: {what}"
    asked = seeded.queries(queries)
    truths = seeded.truths(asked, where=where)
    for settings, demanded in ((EXACT, 1.0), (SearchSettings(), least)):
        recalls: list[float] = []
        for query, (keys, far) in zip(asked, truths, strict=True):
            try:
                hits = ask(query, K, settings)
            except UsageError:
                break  # it has no exact search and says so
            wanted = min(K, len(keys))
            assert len(hits.keys) == wanted, f"{what}: {len(hits.keys)} hits of {wanted}"
            assert len(set(hits.keys)) == len(hits.keys), f"{what}: a record is among the hits twice"
            distance = dict(zip(keys, far, strict=True))
            wrong = [key for key in hits.keys if key not in distance]
            assert not wrong, f"{what}: {len(wrong)} hits do not match, e.g. {wrong[0]!r}"
            if wanted:
                recalls.append(_recall(hits.keys, distance, far, wanted))
                _assert_order(hits.keys, distance, what)
        mean = float(np.mean(recalls)) if recalls else 1.0
        assert mean >= demanded, f"{what}: recall@{K} is {mean:.3f}, of at least {demanded} (exact={settings.exact})"


def _recall(
    keys: Sequence[RecordKey], distance: dict[RecordKey, float], far: npt.NDArray[np.float64], wanted: int
) -> float:
    last = float(far[wanted - 1])
    allowed = last + 1e-5 * max(1.0, abs(last))
    return sum(distance[key] <= allowed for key in keys) / wanted


def _assert_order(keys: Sequence[RecordKey], distance: dict[RecordKey, float], what: str) -> None:
    far = [distance[key] for key in keys]
    for nearer, further in pairwise(far):
        assert nearer <= further + 1e-5 * max(1.0, abs(further)), f"{what}: the hits are not in the order of nearness"
