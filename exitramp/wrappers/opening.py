"""Opening an address with everything around it that a command needs: deadline, retries, counting, codec."""

from __future__ import annotations

import os
import random
import shlex
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from exitramp.backoff import Backoff
from exitramp.clock import Clock, SystemClock
from exitramp.codec import Arrangement, DecodingSearch, DecodingSource, IdMap, View
from exitramp.errors import AddressError, RoleUnsupported, StoreTimeout, WriteRefused
from exitramp.ports import DEFAULT_SETTINGS, SearchSettings, Store, VectorSink, VectorSource
from exitramp.ports.estimating import Estimates, ReadingSpent, TellsSpending
from exitramp.ports.reading import ReadsNamespaces
from exitramp.records import Metric, parse_metric
from exitramp.registry import STORES, listed, open_store, store_adapter
from exitramp.urls import Address, Network, is_scheme, path_address
from exitramp.wrappers.around import Policy, SearchAround, SinkAround, SourceAround, Stacked
from exitramp.wrappers.arranged import ArrangedSink, ArrangedSource
from exitramp.wrappers.deadline import Deadline
from exitramp.wrappers.guarded import Guarded
from exitramp.wrappers.metered import Meter, Metered
from exitramp.wrappers.namespaced import NamespacedSource, Namespaces
from exitramp.wrappers.rate_limited import RateLimited
from exitramp.wrappers.retrying import Retrying
from exitramp.wrappers.sized import SizedSink

_MANIFEST = "manifest.json"
"""What a dump's folder is known by."""


@dataclass(frozen=True, slots=True)
class OpenSettings:
    """How stores are called. `timeout_seconds` is the deadline of one call; `calls_per_second` None is unlimited."""

    timeout_seconds: float = 30.0
    backoff: Backoff = Backoff(tries=3)
    calls_per_second: float | None = None
    network: Network = Network()
    clock: Clock = field(default_factory=SystemClock)
    seed: int = 0


class Endpoint:
    """One opened address. Roles are wrapped when asked for; closing it closes the store once."""

    def __init__(self, address: Address, store: Store, settings: OpenSettings, extra: Policy | None = None) -> None:
        self.address = address
        self.meter = Meter()
        self._store = store
        self._raw_sink: VectorSink | None = None
        self.namespaces: Namespaces | None = None
        self.ids: IdMap | None = None  # by which its records have other ids
        self.arrangement: Arrangement | None = None  # in which a framework keeps its records
        self._metrics = metric_overrides(address)
        self._standing = standing_settings(address)
        clock = settings.clock
        self.retrying = Retrying(settings.backoff, clock, random.Random(settings.seed))
        policies: list[Policy] = [self.retrying]
        if settings.calls_per_second is not None:
            policies.append(RateLimited(settings.calls_per_second, clock))
        self._deadline = Deadline(settings.timeout_seconds, what=str(address))
        self._closing = Deadline(settings.timeout_seconds, what=str(address))
        policies += [Metered(self.meter, clock), Guarded(str(address)), self._deadline]
        if extra is not None:
            policies.append(extra)
        self._policy = Stacked(*policies)

    def estimates(self) -> Estimates | None:
        """What tells beforehand what reading costs, of the chosen namespaces where it can be read without the others;
        None where it costs nothing but time."""
        found = self._store.source()
        if self.namespaces is not None and isinstance(found, ReadsNamespaces) and self.tells_namespaces():
            found = found.within(self.namespaces)
        return found if isinstance(found, Estimates) else None

    def spent(self) -> ReadingSpent | None:
        """What reading has cost so far, by the store's own answers; None where it costs nothing but time."""
        found = self._store.source()
        return found.spent() if isinstance(found, TellsSpending) else None

    def native_source(self) -> VectorSource:
        """The source as the store shows it, not decoded."""
        return SourceAround(self._store.source(), self._policy)

    def source(self) -> DecodingSource:
        verbatim, native = self._verbatim(), self.native_source()
        if self.namespaces is not None:
            return self._namespaced(self.namespaces)
        return DecodingSource(native, verbatim=verbatim, views=self._views(), peeks=self._peeks())

    def _namespaced(self, namespaces: Namespaces) -> NamespacedSource:
        """Read by the store's own way where it has one, which costs what is in these namespaces and no more."""
        source, counts = self._store.source(), None
        if isinstance(source, ReadsNamespaces) and self.tells_namespaces():
            counts = partial(self._policy.run, "count", source.rows_by_namespace)
            source = source.within(namespaces)
        return NamespacedSource(
            SourceAround(source, self._policy),
            namespaces,
            verbatim=self._verbatim(),
            views=self._views(),
            peeks=self._peeks(),
            counts=counts,
        )

    def tells_namespaces(self) -> bool:
        """Whether the store tells what its namespaces hold, and reads one without the others. Where it has none of its
        own they stand in the records, and only reading tells."""
        source = self._store.source()
        return isinstance(source, ReadsNamespaces) and self.native_source().describe().has_namespaces

    def rows_by_namespace(self) -> Mapping[str | None, int]:
        """How many records each namespace holds; a scan, where the store does not tell."""
        return self._namespaced(frozenset()).by_namespace()

    def _peeks(self) -> bool:
        """Whether records may be read that nobody asked for."""
        return not isinstance(self._store.source(), Estimates)

    def _views(self) -> tuple[View, ...]:
        return tuple(view for view in (self.arrangement, self.ids) if view is not None)

    def within(self, namespaces: Namespaces | None) -> None:
        """From now on only the records of these namespaces are read; None: of all."""
        self.namespaces = namespaces

    def keep_metrics(self, metrics: Mapping[str, Metric]) -> None:
        """From now on what is written is searched by these metrics, by field, whatever the source has: a collection
        that is there keeps its own."""
        self._metrics = {**(self._metrics or {}), **metrics}

    def require_records(self) -> None:
        """Raises `UsageError` where one of the namespaces that are to be read has no record."""
        source = self.source()
        if isinstance(source, NamespacedSource):
            source.require_records()

    def raw_sink(self) -> VectorSink:
        """The adapter's own sink, the same each time: for its limits, and for what only that kind of sink can do."""
        if self._raw_sink is None:
            self._raw_sink = self._store.sink()
        return self._raw_sink

    def sink(self) -> VectorSink:
        sink = SizedSink(SinkAround(self.raw_sink(), self._policy), metrics=self._metrics)
        return sink if self.arrangement is None else ArrangedSink(sink, self.arrangement)

    def as_written(self, source: VectorSource) -> VectorSource:
        """`source` with its records as they are when they come to be encoded for this store."""
        return source if self.arrangement is None else ArrangedSource(source, self.arrangement)

    def search(self) -> DecodingSearch:
        return DecodingSearch(
            self.native_search(),
            self.native_source(),
            verbatim=self._verbatim(),
            views=self._views(),
            peeks=self._peeks(),
        )

    def _verbatim(self) -> bool:
        try:
            return self.raw_sink().limits().verbatim
        except RoleUnsupported:
            return False

    def native_search(self) -> SearchAround:
        return SearchAround(self._store.search(), self._policy, self._standing)

    def close(self) -> None:
        """Close the store; one that is stuck in a call that a deadline left behind is left behind as well."""
        try:
            with suppress(StoreTimeout):
                self._closing.run("close", self._store.close)
        finally:
            self._closing.let_go()
            self._deadline.let_go()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def parse_address(text: str) -> Address:
    """`Address.parse`, with what only the installed stores and the files of this machine tell of a text that is none.

    Raises `AdapterUnknown` for a kind of store that is not installed, whatever else is wrong with its address.
    """
    try:
        return Address.parse(text)
    except AddressError as error:
        scheme, separator, _ = text.partition(":")
        if separator and is_scheme(scheme) and scheme not in {each.name for each in listed(STORES)}:
            store_adapter(scheme)
        if not separator and os.path.isfile(os.path.join(text, _MANIFEST)):
            error.hint = f"it is the folder of a dump: write {path_address('dump', Path(text))}"
        raise


def metric_overrides(address: Address) -> Mapping[str, Metric] | None:
    """`?metric=dot` (the unnamed field) or `?metric=title:dot,body:cosine` as a mapping by field name."""
    text = address.option("metric")
    if text is None:
        return None
    found: dict[str, Metric] = {}
    for part in text.split(","):
        name, separator, metric = part.rpartition(":")
        found[name if separator else ""] = parse_metric(metric, where="option 'metric'")
    return found


def standing_settings(address: Address) -> SearchSettings:
    """`?search=ef:128,exact`: with what every search at this address is asked, unless it says something else.

    Numbers become numbers, `true` and `false` truths; the store refuses an option that it does not know.
    """
    text = address.option("search")
    if text is None:
        return DEFAULT_SETTINGS
    exact, options = False, dict[str, Any]()
    for part in text.split(","):
        name, separator, value = part.partition(":")
        if part == "exact":
            exact = True
        elif not separator or not name or name == "exact" or name in options:
            raise AddressError(
                f"{address}: search={text} is not NAME:VALUE,…", hint="write e.g. ?search=ef:128 or ?search=exact"
            )
        else:
            options[name] = _plain(value)
    return SearchSettings(exact, options)


def _plain(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def open_endpoint(
    address: Address | str,
    settings: OpenSettings | None = None,
    *,
    opener: Callable[[Address, Network], Store] = open_store,
    extra: Policy | None = None,
) -> Endpoint:
    """Open `address`; `extra` is a policy put innermost (faults). The caller closes what it gets."""
    settings = settings or OpenSettings()
    parsed = parse_address(address) if isinstance(address, str) else address
    # What is for the layout or for searches, whatever the store; the adapter gets to see its own options only.
    ours = {"search"} if opener is open_store and store_adapter(parsed.scheme).metric else {"search", "metric"}
    options = {name: value for name, value in parsed.options.items() if name not in ours}
    return Endpoint(parsed, opener(replace(parsed, options=options), settings.network), settings, extra)


def require_write_allowed(address: Address, allowed: Collection[str]) -> None:
    """Raises `WriteRefused` for an address that is not loopback and that nobody allowed to be written or cut."""
    if address.is_loopback or address.place in {Address.parse(text).place for text in allowed}:
        return
    shown = str(address)
    again = f"add --allow-writes {shlex.quote(shown)}"
    if shown != address.text:  # what is masked here cannot be copied from here
        again = "add --allow-writes and the address as you wrote it"
    raise WriteRefused(
        f"{address} is not on this machine, and this step writes to it or cuts it off",
        hint=f"if that is meant, {again}",
    )
