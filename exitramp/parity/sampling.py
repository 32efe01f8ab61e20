"""Queries drawn from the data itself: a sample that depends on seed and ids alone, not on the order of a scan."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exitramp.parity.alignment import read_all
from exitramp.parity.scoring import kind_of
from exitramp.ports import VectorSource
from exitramp.records import RecordKey, VectorField

PAYLOADS_SAMPLED = 1000


@dataclass(frozen=True, slots=True)
class Sample:
    """Records to ask with. `vectors` are theirs, as stored, in the order of `keys`.

    population: how many records could have been drawn. payloads: those of a sample of all records, for proposing
    filters. rows: records read.
    """

    keys: tuple[RecordKey, ...]
    vectors: tuple[Any, ...]
    population: int
    rows: int
    payloads: tuple[str | None, ...] = ()


def sample_queries(
    source: VectorSource,
    vector: VectorField,
    *,
    queries: int,
    seed: int,
    payloads: int = 0,
    batch_rows: int = 1000,
    progress: Callable[[int], None] = lambda rows: None,
) -> Sample:
    """Draw `queries` records of the field `vector` without repetition, in one scan; all if there are fewer.

    Every record gets a number from a keyed hash of its id, and the lowest win: each record is as likely as any other,
    and the same ones win on another day, in another scan order and in a copy of the collection. Records without a
    vector, with a zero vector or with a number that is not finite are no queries.
    """
    kind, winners = kind_of(vector.kind), _Lowest(queries)
    texts = _Lowest(payloads)
    key = hashlib.sha256(f"exitramp queries {seed}".encode()).digest()
    population = rows = 0
    for batch in read_all(source, batch_rows=batch_rows):
        column = batch.column(vector.column)
        fit = kind.askable(column)
        population += int(fit.sum())
        ids = batch.column("id").to_pylist()
        spaces = batch.column("namespace").to_pylist() if "namespace" in batch.schema.names else [None] * len(ids)
        numbers = [_number(key, id_, space) for id_, space in zip(ids, spaces, strict=True)]
        for row in texts.winning(numbers):
            texts.add(numbers[row], batch.column("payload")[row].as_py())
        rows_won = [row for row in winners.winning(numbers) if fit[row]]
        for row, taken in zip(rows_won, kind.vectors(column, rows_won), strict=True):
            winners.add(numbers[row], (RecordKey(ids[row], spaces[row]), taken))
        rows += len(ids)
        progress(rows)
    drawn = winners.values()
    vectors = tuple(taken for _, taken in drawn)
    return Sample(tuple(key for key, _ in drawn), vectors, population, rows, tuple(texts.values()))


def _number(key: bytes, id_: str, space: str | None) -> int:
    name = id_ if space is None else f"{space}\0{id_}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, key=key).digest(), "big")


class _Lowest:
    """The values that stand at the `room` lowest numbers so far; an id that comes again has its number already."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._held: dict[int, Any] = {}
        self._highest: list[int] = []  # a heap of the numbers held, negated

    def winning(self, numbers: list[int]) -> list[int]:
        """The places of numbers that would get in now."""
        if len(self._held) < self._room:
            return list(range(len(numbers)))
        most = -self._highest[0] if self._room else 0
        return [place for place, number in enumerate(numbers) if number < most]

    def add(self, number: int, value: Any) -> None:
        if number in self._held:
            return
        self._held[number] = value
        heapq.heappush(self._highest, -number)
        if len(self._held) > self._room:
            del self._held[-heapq.heappop(self._highest)]

    def values(self) -> list[Any]:
        """In the order of their numbers."""
        return [self._held[number] for number in sorted(self._held)]
