"""Requests that read an index of Pinecone's, and how all of its ids are divided.

Listing is a chain, a page's token coming with the page before, so that 40 million ids one page after another take seven
hours of 60 ms. A large namespace is therefore divided by the first characters of its ids, and its parts are listed side
by side.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from exitramp.durable import READ, storage_errors
from exitramp.errors import DataInvalid, StoreRejected
from exitramp_adapters.stores.pinecone.budget import (
    FETCHES_PER_SECOND,
    LISTS_PER_SECOND,
    PAGE_IDS,
    QUERIES_PER_SECOND,
    Budget,
    number,
    units_of_fetch,
)
from exitramp_adapters.stores.pinecone.client import Connection, native_namespace

T = TypeVar("T")

LANES: Final = 6
IN_FLIGHT: Final = 6
"""Six of 60 ms are the 100 fetches a second that an index lets through."""
DIVIDED_FROM: Final = 200_000
"""Records of a namespace from which on it is divided. Its list takes 2,000 pages, two minutes of 60 ms each; to divide
it takes some 700 requests, six at a time, where ids begin with `doc-0000`: seven seconds."""
_PROBES: Final = 1500
_LINE: Final = 6000
"""Characters of ids in one request. Nothing says how long one may be; 8 kB is what servers commonly take."""
_LETTERS: Final = [chr(code) for code in range(33, 128)]
"""What may follow in an id but for a space, with which a list takes no prefix, and what stands below it."""


@dataclass(frozen=True, slots=True)
class Range:
    """Ids of one namespace that begin with `prefix`; `exact`: the prefix itself alone. Of a file of ids: those above
    `above` up to `upto`."""

    namespace: str
    prefix: str = ""
    exact: bool = False
    above: str | None = None
    upto: str | None = None

    def to_json(self) -> list[Any]:
        return [self.namespace, self.prefix, self.exact, self.above, self.upto]


class Stopped(Exception):
    """A limit would be exceeded by the next request."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit


class Reader:
    """Requests that read, each within the budget, and no more fetches a second than the index lets through."""

    def __init__(self, connection: Connection, budget: Budget) -> None:
        self._connection = connection
        self.budget = budget
        address = connection.address
        self.in_flight = int(number(address, "in_flight") or IN_FLIGHT)
        free = address.option("fetches_per_second") == "0"
        fetches = 0.0 if free else number(address, "fetches_per_second") or FETCHES_PER_SECOND
        self._turns = {"fetch": Turns(fetches), "list": Turns(0.0 if free else LISTS_PER_SECOND)}
        self._turns["query"] = Turns(0.0 if free else QUERIES_PER_SECOND)
        self._lock = threading.Lock()
        self._missing = 0

    def turn(self, kind: str) -> None:
        """Wait until another `fetch`, `list` or `query` may be sent."""
        self._turns[kind].wait()

    @property
    def missing(self) -> int:
        """Ids that were asked for, and that nothing came back for."""
        return self._missing

    def page(self, range_: Range, token: str | None) -> tuple[list[str], str | None]:
        """One page of ids and the token of the next, None behind the last. Raises `Stopped`."""
        refused = self.budget.reserve_list()
        if refused is not None:
            raise Stopped(refused)
        self.turn("list")
        page, seconds = self._asked(
            lambda index: index.list_paginated(
                prefix=range_.prefix or None,
                limit=PAGE_IDS,
                pagination_token=token,
                namespace=range_.namespace,
            ),
            units=1,
            rows=0,
        )
        self.budget.settle(page, units=1, rows=0, found=0, seconds=seconds)
        ids = [item.id for item in page.vectors if item.id is not None]
        return ids, None if page.pagination is None else page.pagination.next

    def fetch(self, namespace: str, ids: Sequence[str]) -> list[Any]:
        """The records with these ids in their order; what is not there is left out. Room for them was reserved."""
        self.turn("fetch")
        units = units_of_fetch(len(ids))
        try:
            answer, seconds = self._asked(
                lambda index: index.fetch(ids=list(ids), namespace=namespace), units=units, rows=len(ids)
            )
        except StoreRejected as error:
            spaced = next((id_ for id_ in ids if " " in id_), None)
            if spaced is None:
                raise
            raise StoreRejected(f"{error.message}; the record {spaced!r} has a space in its id") from error
        found = [answer.vectors[id_] for id_ in ids if id_ in answer.vectors]
        self.budget.settle(answer, units=units, rows=len(ids), found=len(found), seconds=seconds)
        with self._lock:
            self._missing += len(ids) - len(found)
        return found

    def _asked(self, request: Callable[[Any], T], *, units: int, rows: int) -> tuple[T, float]:
        began = time.monotonic()
        try:
            with self._connection.data() as index:
                answer = request(index)
        except BaseException as error:
            self.budget.fail(error, units=units, rows=rows)
            raise
        return answer, time.monotonic() - began

    def divided(self, namespace: str, wanted: int) -> list[Range]:
        """Ranges of a namespace, disjoint and together everything, until `wanted` of them have more than a page.

        A range's first page says what its least ids have in common. Since ids are listed in order, none is below it, so
        that only prefixes above, at each character of what is common, and those of one more have to be looked at.
        """
        whole = Range(namespace)
        ids, token = self.page(whole, None)
        large: list[tuple[Range, list[str]]] = [(whole, ids)]
        done: list[Range] = []
        probes = 0
        while token is not None and large and len(large) < wanted and probes < _PROBES:
            range_, ids = large.pop(min(range(len(large)), key=lambda place: len(large[place][0].prefix)))
            common = _in_common(ids[0], ids[-1])
            low = [id_ for id_ in ids if len(id_) > len(common) and id_[len(common)] <= " "]
            if any(letter <= " " for letter in common) or (low and low[-1] == ids[-1]):
                done.append(range_)  # these ids cannot be told apart by prefixes
                continue
            # What stands below all letters is listed first, so that all of it is here.
            done += [replace(range_, prefix=id_, exact=True) for id_ in low]
            above = [
                common[:depth] + letter
                for depth in range(len(range_.prefix), len(common))
                for letter in _LETTERS
                if letter > common[depth]
            ]
            children = [replace(range_, prefix=prefix) for prefix in [*above, *(common + each for each in _LETTERS)]]
            probes += len(children)
            for child, (found, more) in zip(children, self._first_pages(children), strict=True):
                if found and more is not None:
                    large.append((child, found))
                elif found:
                    done.append(child)
            if ids[0] == common:
                done.append(replace(range_, prefix=common, exact=True))
        ranges = [*done, *(range_ for range_, _ in large)]
        return sorted(ranges, key=lambda each: (each.prefix, not each.exact))

    def _first_pages(self, ranges: Sequence[Range]) -> list[tuple[list[str], str | None]]:
        return self.all_of([partial(self.page, range_, None) for range_ in ranges])

    def all_of(self, requests: Sequence[Callable[[], T]]) -> list[T]:
        """The answers to requests, several at a time, in their order; the first error that one met."""
        flights = Flights(self.in_flight)
        try:
            return [future.result() for future in [flights.send(request) for request in requests]]
        finally:
            flights.close()


class Turns:
    """Spreads requests evenly: one too many in a second is refused, and all of them wait then. `most` 0 is any number.

    At nine tenths of what is let through, since they do not arrive as evenly as they are sent.
    """

    def __init__(self, most: float) -> None:
        self._spacing_seconds = 1 / (0.9 * most) if most else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + self._spacing_seconds
        if at > now:
            time.sleep(at - now)


class Flights:
    """Calls on a few threads that end with the process, whatever hangs in them: at most `most` at a time."""

    def __init__(self, most: int) -> None:
        self._inbox: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._most = most
        for _ in range(most):
            threading.Thread(target=self._work, name="exitramp-pinecone", daemon=True).start()

    def send(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._inbox.put((future, call))
        return future

    def close(self) -> None:
        for _ in range(self._most):
            self._inbox.put(None)

    def _work(self) -> None:
        while (item := self._inbox.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001  (whoever waits for it gets it)
                future.set_exception(error)


def _in_common(first: str, last: str) -> str:
    """What all ids begin with that stand between these two."""
    same = next((place for place, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), None)
    return min(first, last, key=len) if same is None else first[:same]


def parts_of(ids: Sequence[str], most: int) -> list[list[str]]:
    """Parts of at most `most` ids, and no longer than a request may be."""
    parts: list[list[str]] = []
    room = 0
    for id_ in ids:
        size = 3 * len(id_) + 5  # should every character have to be escaped
        if not parts or len(parts[-1]) >= most or size > room:
            parts.append([])
            room = _LINE
        parts[-1].append(id_)
        room -= size
    return parts


class Ranges:
    """Which ranges a scan goes through, in their order, begun one after another; `state` is what a cursor keeps."""

    def __init__(
        self,
        reader: Reader,
        counts: dict[str, int],
        lanes: int,
        *,
        fixed: Sequence[Range] | None,
        state: dict[str, Any] | None,
    ) -> None:
        self._reader, self._counts, self._lanes = reader, counts, lanes
        self._fixed = fixed
        self._next = 0 if state is None else state.get("next", 0)
        self._begun: str | None = None if state is None else state.get("ns")
        self._left = [] if state is None else [Range(*each) for each in state.get("left", [])]

    def take(self) -> Range | None:
        if self._fixed is not None:
            self._next += 1
            return self._fixed[self._next - 1] if self._next <= len(self._fixed) else None
        while not self._left:
            namespace = min((each for each in self._counts if self._begun is None or each > self._begun), default=None)
            if namespace is None:
                return None
            self._left = ranges_of(self._reader, namespace, self._counts[namespace], self._lanes)
            self._begun = namespace
        return self._left.pop(0)

    def state(self) -> dict[str, Any]:
        if self._fixed is not None:
            return {"next": min(self._next, len(self._fixed))}
        return {"ns": self._begun, "left": [each.to_json() for each in self._left]}


def ranges_of(reader: Reader, namespace: str, count: int, wanted: int) -> list[Range]:
    """A namespace whole, or divided where it is large."""
    if count < DIVIDED_FROM or wanted < 2:
        return [Range(namespace)]
    return reader.divided(namespace, wanted)


class IdFile:
    """Ids that somebody wrote down, for an index that does not list its own: a line for each, the id as it is, or
    `{"id": …, "namespace": …}`. Held in memory: about 80 bytes an id."""

    def __init__(self, path: Path, namespace: str | None) -> None:
        found: dict[str, set[str]] = {}
        with storage_errors(path, READ):
            lines = path.read_text("utf-8").splitlines()
        for number_, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            id_, named = line, None
            if line.startswith("{"):
                try:
                    told = json.loads(line)
                    id_, named = told["id"], told.get("namespace")
                except (ValueError, KeyError, TypeError) as error:
                    raise DataInvalid(f'{path}:{number_}: neither an id nor {{"id": …}}') from error
            if not isinstance(id_, str) or not id_.isascii() or not 1 <= len(id_) <= 512:
                raise DataInvalid(f"{path}:{number_}: an id is 1 to 512 ASCII characters")
            native = native_namespace(named)
            if namespace is None or named is None or native == namespace:
                found.setdefault(namespace or native, set()).add(id_)
        if not found:
            raise DataInvalid(f"{path} holds no id")
        self._ids = {place: sorted(ids) for place, ids in found.items()}
        self.counts = {place: len(ids) for place, ids in self._ids.items()}

    def between(self, range_: Range, behind: str | None) -> list[str]:
        held = self._ids.get(range_.namespace, [])
        above = max((each for each in (range_.above, behind) if each is not None), default=None)
        return [id_ for id_ in held if (above is None or id_ > above) and (range_.upto is None or id_ <= range_.upto)]

    def ranges(self, wanted: int) -> list[Range]:
        """About `wanted` ranges of equally many ids, at least one for each namespace."""
        whole = sum(self.counts.values())
        made = []
        for namespace, ids in sorted(self._ids.items()):
            parts = max(1, min(len(ids), round(wanted * len(ids) / whole)))
            ends = [None, *(ids[len(ids) * part // parts - 1] for part in range(1, parts)), None]
            made += [Range(namespace, above=ends[part], upto=ends[part + 1]) for part in range(parts)]
        return made
