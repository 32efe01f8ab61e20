"""The questions that both indexes are asked, and an index as something that may be unready or refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exitramp.clock import Clock
from exitramp.errors import StoreRejected, UsageError
from exitramp.filters import Filter
from exitramp.parity.filters import propose_filters
from exitramp.parity.recall import Hits, Judged, ask, judge
from exitramp.parity.sampling import PAYLOADS_SAMPLED, sample_queries
from exitramp.parity.truth import Ranking, Truth, exact_neighbours
from exitramp.ports import IndexState, SearchSettings, VectorSearch, VectorSource
from exitramp.records import RecordKey, VectorField

POLL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class NamedFilter:
    """What one part of the comparison is asked under. `asked_for` by the user, not proposed from the data."""

    name: str
    where: Filter | None
    asked_for: bool = True


@dataclass(frozen=True, slots=True)
class Questions:
    """Query vectors of the field `vector`, as stored, and the data they are judged by.

    ids: what each query is called. own: the record that each query is the vector of, if it is. population: how many
    records the queries were drawn from, if they were drawn.
    """

    source: VectorSource
    vector: VectorField
    vectors: Sequence[Any]
    ids: tuple[str, ...]
    own: tuple[RecordKey | None, ...]
    population: int | None
    filters: tuple[NamedFilter, ...]
    batch_rows: int

    def truths(
        self, rankings: Sequence[Ranking], k: int, progress: Callable[[int], None] = lambda rows: None
    ) -> list[Truth]:
        """The exact neighbours of every query by every ranking, from one scan."""
        more = {"k": k, "exclude": self.own, "batch_rows": self.batch_rows, "progress": progress}
        return exact_neighbours(self.source, self.vector, self.vectors, rankings, **more)  # type: ignore[arg-type]

    def judge(self, truth: Truth, answers: Sequence[Hits]) -> Judged:
        return judge(self.source, self.vector, self.vectors, truth, answers)

    def agreement(self, first: Truth, second: Truth) -> float | None:
        """The mean share of the k nearest on which two rankings agree, ties aside; None for nothing to compare."""
        one, other = (
            self.judge(by, [keys[: of.wanted(query)] for query, keys in enumerate(of.keys)]).mean
            for by, of in ((first, second), (second, first))
        )
        return None if one is None or other is None else (one + other) / 2


def draw_questions(
    source: VectorSource,
    vector: VectorField,
    queries: int | Sequence[Any],
    *,
    seed: int,
    filters: Sequence[tuple[str, Filter]] = (),
    proposed: int = 0,
    batch_rows: int = 1000,
    progress: Callable[[int], None] = lambda rows: None,
) -> Questions:
    """Draw `queries` records of `source` to ask with, or take the vectors that are given.

    Up to `proposed` filters are worked out from a sample of the payloads, besides the `filters` that are given.
    """
    wanted = queries if isinstance(queries, int) else 0
    if wanted < 0 or proposed < 0:
        raise UsageError(f"{wanted} queries with {proposed} filters cannot be asked")
    named = [NamedFilter(name, where) for name, where in filters]
    if wanted or proposed:
        texts = PAYLOADS_SAMPLED if proposed else 0
        sample = sample_queries(
            source, vector, queries=wanted, seed=seed, payloads=texts, batch_rows=batch_rows, progress=progress
        )
        names = {each.name for each in named}
        found = propose_filters(sample.payloads, seed=seed, wanted=proposed) if proposed else []
        named += [NamedFilter(name, where, asked_for=False) for name, where in found if name not in names]
    if isinstance(queries, int):
        vectors, keys = (sample.vectors, sample.keys) if wanted else ((), ())
        ids, population = tuple(str(key) for key in keys), sample.population if wanted else 0
        return Questions(source, vector, vectors, ids, keys, population, tuple(named), batch_rows)
    ids = tuple(f"query {number}" for number in range(len(queries)))
    return Questions(source, vector, queries, ids, (None,) * len(ids), None, tuple(named), batch_rows)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The store will not answer a search like this; `reason` holds no value of a payload."""

    reason: str


class Side:
    """One of the two indexes: waited for when made, then asked."""

    def __init__(
        self,
        name: str,
        search: VectorSearch,
        settings: SearchSettings,
        vector: VectorField,
        *,
        wait_seconds: float,
        clock: Clock,
    ) -> None:
        self.name = name
        self._search, self._settings, self._vector = search, settings, vector
        self.state = _waited(search, wait_seconds, clock)

    @property
    def ready(self) -> bool:
        return self.state is IndexState.READY

    def answers(
        self, questions: Questions, *, k: int, where: Filter | None, progress: Callable[[], None]
    ) -> list[Hits] | Refusal:
        """What the index returns for every question. A store that failed raises; one that says no is a refusal."""
        try:
            return ask(
                self._search,
                self._vector,
                questions.vectors,
                k=k,
                own=questions.own,
                settings=self._settings,
                where=where,
                progress=progress,
            )
        except UsageError as error:
            return Refusal(error.message)
        except StoreRejected as error:
            return Refusal(type(error).__name__)  # a vendor's own words may quote the filter's values


def _waited(search: VectorSearch, wait_seconds: float, clock: Clock) -> IndexState:
    """`ready` as soon as the index says so, or what it says after `wait_seconds`."""
    until = clock.monotonic() + wait_seconds
    while True:
        state = search.index_state()
        left = until - clock.monotonic()
        if state is IndexState.READY or left <= 0:
            return state
        clock.sleep(min(POLL_SECONDS, left))
