"""A scan of Pinecone's: ids are listed and records fetched at the same time, several lists side by side.

Listing is a chain, since a page's token comes with the page before. So each range of ids has a lane that lists it a few
pages ahead, and what the lanes have listed is fetched in turn, several requests in flight. A cursor says for each lane
behind which id it goes on, and which ranges are still to be begun.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from exitramp.errors import StoreProtocolError, StoreRejected
from exitramp_adapters.stores.pinecone.budget import PAGE_IDS
from exitramp_adapters.stores.pinecone.reading import (
    Flights,
    IdFile,
    Range,
    Ranges,
    Reader,
    Stopped,
    parts_of,
)

_AHEAD: Final = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a lane stands: behind the id `behind` of its range; `token` is that of the page that goes on from there."""

    range: Range
    behind: str | None = None
    token: str | None = None

    def to_json(self) -> list[Any]:
        return [*self.range.to_json(), self.behind, self.token]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Place:
        return cls(Range(*data[:5]), data[5], data[6])


@dataclass(frozen=True, slots=True)
class Listed:
    """Ids to fetch at once, where their lane stands behind them, and the token of the page that they are of."""

    ids: list[str]
    place: Place
    own: str | None = None


class Lane:
    """One range on its way: a thread lists its ids, a few pages ahead of those that are fetched."""

    def __init__(self, reader: Reader, place: Place, ids: IdFile | None, rows: int) -> None:
        self.place = place
        """Behind what was sent for last."""
        self._reader, self._start, self._ids, self._rows = reader, place, ids, rows
        self._ready: queue.Queue[Listed | BaseException | None] = queue.Queue(_AHEAD)
        self._stopped = threading.Event()
        threading.Thread(target=self._work, name="exitramp-pinecone-list", daemon=True).start()

    def next(self) -> Listed | None:
        """None at the end of the range. Raises what listing raised."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def stop(self) -> None:
        self._stopped.set()

    def _work(self) -> None:
        try:
            for listed in self._listed():
                self._put(listed)
            self._put(None)
        except BaseException as error:  # noqa: BLE001  (raised again where the ids are awaited)
            with suppress(Stopped):
                self._put(error)

    def _put(self, item: Any) -> None:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=0.2)
                return
            except queue.Full:
                continue
        raise Stopped("")

    def _listed(self) -> Iterator[Listed]:
        range_, behind, most = self._start.range, self._start.behind, min(self._rows, PAGE_IDS)
        if self._ids is not None:
            for part in parts_of(self._ids.between(range_, behind), most):
                yield Listed(part, Place(range_, part[-1]))
        elif range_.exact:
            if behind is None:
                yield Listed([range_.prefix], Place(range_, range_.prefix))
        else:
            for page, own, following in self._pages(range_, behind):
                parts = parts_of(page, most)
                for part in parts:
                    # Behind a page's last id the next page is asked for; within it, the same one again.
                    yield Listed(part, Place(range_, part[-1], following if part is parts[-1] else own), own)

    def _pages(self, range_: Range, behind: str | None) -> Iterator[tuple[list[str], str | None, str | None]]:
        """Ids behind `behind`, with the token of their own page and of the next."""
        token, last = self._start.token, behind
        while not self._stopped.is_set():
            try:
                ids, following = self._reader.page(range_, token)
            except StoreRejected:
                if token is None or token != self._start.token:
                    raise
                token = None  # a token of an older run that is no longer taken: from the beginning, and skip
                continue
            fresh = [id_ for id_ in ids if behind is None or id_ > behind]
            for id_ in fresh:
                if last is not None and id_ <= last:
                    raise StoreProtocolError(f"ids are listed in no order: {id_!r} after {last!r}")
                last = id_
            if fresh:
                yield fresh, token, following
            if following is None:
                return
            token = following


@dataclass(frozen=True, slots=True)
class Step:
    """Records of one namespace and what a cursor behind them holds."""

    namespace: str
    vectors: list[Any]
    key: dict[str, Any]
    last: bool


class Steps:
    """All records, some of each lane in turn, so that two scans of an unchanged index agree.

    The first step asks for no more than it gives: whoever looks at a page alone does not pay for others.
    """

    def __init__(
        self, reader: Reader, ranges: Ranges, places: Sequence[Place], ids: IdFile | None, *, rows: int, lanes: int
    ) -> None:
        self._reader, self._ranges, self._ids, self._rows, self._most = reader, ranges, ids, rows, lanes
        self._flights = Flights(reader.in_flight)
        self._running = [self._lane(place) for place in places]
        self._parked: list[Lane] = []  # a limit stopped them: they stay in the cursor
        self._turn = 0
        self._limit: str | None = None
        self._sent: deque[tuple[Future[list[Any]], Place, dict[str, Any]]] = deque()
        self._peeked: tuple[Lane, Listed] | None = None

    def __iter__(self) -> Iterator[Step]:
        """Raises `SpendExceeded` behind all that was paid for."""
        window, place = 1, None
        try:
            while True:
                self._send(window)
                if not self._sent:
                    break
                future, place, key = self._sent.popleft()
                vectors = future.result()
                if not self._sent and self._limit is None:
                    self._peeked = self._following()
                last = not self._sent and self._peeked is None and self._limit is None
                yield Step(place.range.namespace, vectors, key, last)
                if last:
                    return
                window = self._reader.in_flight + 2  # what is decoded meanwhile keeps nobody waiting
            if self._limit is not None:
                raise self._reader.budget.exceeded(self._limit, _at(place))
            yield Step("", [], self._key(), last=True)
        finally:
            for lane in self._running:
                lane.stop()
            self._flights.close()

    def _send(self, window: int) -> None:
        """Ask for records until so many requests are under way."""
        while self._limit is None and len(self._sent) < window:
            found, self._peeked = self._peeked or self._following(), None
            if found is None:
                return
            lane, listed = found
            room, self._limit = self._reader.budget.reserve_fetch(len(listed.ids))
            if not room:
                return
            ids, namespace = listed.ids[:room], listed.place.range.namespace
            lane.place = listed.place if room == len(listed.ids) else Place(listed.place.range, ids[-1], listed.own)
            future = self._flights.send(partial(self._reader.fetch, namespace, ids))
            self._sent.append((future, lane.place, self._key()))

    def _following(self) -> tuple[Lane, Listed] | None:
        """The next ids, of the lane whose turn it is."""
        while True:
            try:
                while self._limit is None and len(self._running) < self._most:
                    range_ = self._ranges.take()
                    if range_ is None:
                        break
                    self._running.append(self._lane(Place(range_)))
            except Stopped as error:
                self._limit = error.limit
            if not self._running:
                return None
            self._turn %= len(self._running)
            lane = self._running[self._turn]
            try:
                listed = lane.next()
            except Stopped as error:
                self._limit = self._limit or error.limit
                self._parked.append(self._running.pop(self._turn))
                continue
            if listed is not None:
                self._turn += 1
                return lane, listed
            self._running.pop(self._turn)

    def _lane(self, place: Place) -> Lane:
        return Lane(self._reader, place, self._ids, self._rows)

    def _key(self) -> dict[str, Any]:
        places = [lane.place.to_json() for lane in (*self._running, *self._parked)]
        return {"lanes": places, **self._ranges.state()}


def _at(place: Place | None) -> str:
    if place is None:
        return "no record was read"
    return f"the last page ended at '{place.behind}' of the namespace '{place.range.namespace}'"
