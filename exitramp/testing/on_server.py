"""The suite on somebody's own server: in scratch collections that it makes and removes, and dated evidence of it.

What the harness of a store's own tests does through the raw SDK is done through the adapter here, opened anew for each
step, since nothing else is at hand: the suite then shows that what was written comes back, and not that another client
sees the same. Names, kills and stops are left out: nobody's server is filled with strange names or cut off.
"""

from __future__ import annotations

import glob
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from exitramp import __version__
from exitramp.clock import Clock, SystemClock, iso_utc
from exitramp.codec.ids import fits_rule
from exitramp.errors import CollectionExists, CollectionMissing, ExitrampError, UsageError
from exitramp.ports import (
    DropsCollection,
    NameRule,
    Origin,
    Store,
    StoreAdapter,
    StoreIdentity,
    TransferAccount,
    VectorSearch,
    VectorSink,
    VectorSource,
)
from exitramp.ports.reading import WIRE_MOCKED
from exitramp.records import CollectionSpec
from exitramp.registry import open_store, store_adapter
from exitramp.testing.conformance.harness import Feature, StoreHarness
from exitramp.testing.conformance.steps import origin_of, upsert_rows
from exitramp.testing.rows import Row, rows_from_batch
from exitramp.testing.runner import Outcome, run_suite
from exitramp.testing.within import spec_within
from exitramp.urls import Address, Network, path_address
from exitramp.wrappers.around import SinkAround, SourceAround, Stacked

LEFT_OUT = (
    "names_that_the_store",
    "a_name_outside",
    "rule_for_names",
    "longest_name",
    "addresss_name",
    "described_as_it_was_made",
)
"""Parts of the names of tests that need a raw SDK, or make collections of names which nobody chose."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """What the collections of a check are called, and where they are: NAME, NAME_2 and so on at the address, or each a
    file of its own beside the one that the address names."""

    base: Address
    name: str
    ending: str = ""
    joiner: str = "_"

    def named(self, number: int) -> str:
        return self.name if number == 0 else f"{self.name}{self.joiner}{number + 1}"

    def address(self, name: str) -> Address:
        if not self.ending:
            return self.base.with_collection(name)
        path = self.base.path
        folder = path.parent if path.suffix == self.ending and not path.is_dir() else path
        location = path_address(self.base.scheme, folder / f"{name}{self.ending}").partition(":")[2]
        return replace(self.base, location=location)

    def require_free(self, name: str) -> None:
        """Raises `CollectionExists` where any file is called like that one or what is kept beside it, whoever made it:
        writing would replace it, and dropping remove it."""
        if self.ending:
            path = self.address(name).path
            there = sorted(path.parent.glob(f"{glob.escape(path.name)}*")) if path.parent.is_dir() else []
            if there:
                raise _exists(str(there[0]))

    def within(self, rule: NameRule) -> Scratch:
        """With further names that the store takes too. Raises `UsageError` for a name that it does not take."""
        for joiner in ("_", "-", ""):
            if all(fits_rule(f"{self.name}{tail}", rule) for tail in ("", f"{joiner}2", f"{joiner}99")):
                return replace(self, joiner=joiner)
        other = next((each for each in _spelt_otherwise(self.name) if fits_rule(f"{each}_99", rule)), None)
        hint = f"this store takes from {rule.minimum} to {rule.maximum} characters that {rule.pattern} matches"
        raise UsageError(
            f"{self.base} takes no collection called '{self.name}', with a number behind it",
            hint=hint if other is None else f"give it one that it takes: --scratch {other}",
        )


def _spelt_otherwise(name: str) -> Iterator[str]:
    words = re.sub("[^A-Za-z0-9]+", "_", name).strip("_")
    yield from (
        words,
        words.lower(),
        words[:1].upper() + words[1:],
        words.lower().replace("_", "-"),
        f"scratch_{words}",
    )


class ScratchHarness(StoreHarness):
    """Collections of scratch names; every one that was named is dropped at the end.

    Tests go on calling them what they do. Raises `CollectionExists` where one is there before it was made here.
    """

    lacks = {
        Feature.SERVER_KILL: "nobody's server is killed",
        Feature.SERVER_STOP: "nobody's server is stopped",
        Feature.RAW_EDIT: "nothing but the adapter itself is at hand",
        Feature.RAW_COLLECTIONS: "a server may hold collections of others",
    }

    def __init__(self, scratch: Scratch, network: Network, mark: str) -> None:
        self._scratch, self._network = scratch, network
        self.tool_version = mark
        self._named: dict[str, str] = {}
        if scratch.base.scheme == "memory":
            self.lacks = {**self.lacks, Feature.NEW_PROCESS: "it lives in this process alone"}

    def address(self, collection: str) -> str:
        """Whoever is given it may make the collection, such as a process of its own: from now on it is dropped."""
        if collection not in self._named:
            name = self._scratch.named(len(self._named))
            self._scratch.require_free(name)
            store = open_store(self._scratch.address(name), self._network)
            try:
                _require_absent(store, self._scratch.address(name))
            finally:
                store.close()
            self._named[collection] = name
        return self._scratch.address(self._named[collection]).text

    def adapter(self) -> StoreAdapter:
        return store_adapter(self._scratch.base.scheme)

    def open(self, collection: str) -> Store:
        store = open_store(Address.parse(self.address(collection)), self._network)
        return _Renamed(store, collection, self._named[collection], self.tool_version)

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        store = self.open(collection)
        try:
            sink = store.sink()
            sink.create(spec, origin_of(spec))
            upsert_rows(sink, spec, rows)
            sink.flush()
            sink.finish(TransferAccount())
        finally:
            store.close()

    def raw_read(self, collection: str) -> list[Row]:
        store = self.open(collection)
        try:
            source = store.source()
            spec = source.describe()
            [partition] = source.partitions(1)
            return [row for page in source.scan(partition, batch_rows=500) for row in rows_from_batch(page.batch, spec)]
        finally:
            store.close()

    def remove(self) -> None:
        """Drop every collection that was named. Raises `CollectionExists` for those that somebody else made."""
        others: list[str] = []
        for name in self._named.values():
            store = open_store(self._scratch.address(name), self._network)
            try:
                if not drop(store, self.tool_version):
                    others.append(str(self._scratch.address(name)))
            finally:
                store.close()
        self._named.clear()
        if others:
            raise _somebody_elses(others)


class _Renamed:
    """A store whose collection `native` is called `shown` by whoever reads or makes it."""

    def __init__(self, store: Store, shown: str, native: str, mark: str) -> None:
        self._store, self._shown, self._native, self._mark = store, shown, native, mark

    def source(self) -> VectorSource:
        return _RenamedSource(self._store.source(), self._shown, self._mark)

    def sink(self) -> VectorSink:
        return _RenamedSink(self._store.sink(), self._native, self._mark)

    def search(self) -> VectorSearch:
        return self._store.search()

    def close(self) -> None:
        self._store.close()


class _RenamedSource(SourceAround):
    def __init__(self, source: VectorSource, shown: str, mark: str) -> None:
        super().__init__(source, Stacked())
        self._shown, self._mark = shown, mark

    def describe(self) -> CollectionSpec:
        return super().describe().renamed(self._shown)

    def origin(self) -> Origin | None:
        found = super().origin()
        ours = found is not None and found.tool_version == self._mark
        return replace(found, tool_version=__version__) if found is not None and ours else found


class _RenamedSink(SinkAround):
    def __init__(self, sink: VectorSink, native: str, mark: str) -> None:
        super().__init__(sink, Stacked())
        self._native, self._mark = native, mark

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        super().create(spec.renamed(self._native), replace(origin, tool_version=self._mark))


def new_mark() -> str:
    """What this check's collections say that made them, and nobody else's do."""
    return f"{__version__}+check.{secrets.token_hex(8)}"


def drop(store: Store, mark: str) -> bool:
    """Remove a store's collection, and say whether that was done, or there was none: one that says that something else
    than this check made it stays. Where a store has no room for that, all that tells is that none was there before."""
    with suppress(CollectionMissing):
        if store.sink().limits().keeps_origin:
            origin = store.source().origin()
            if origin is None or origin.tool_version != mark:
                return False
    with suppress(CollectionMissing):
        if isinstance(store, DropsCollection):
            store.drop()
    return True


def _somebody_elses(addresses: Sequence[str]) -> CollectionExists:
    return CollectionExists(
        f"{', '.join(addresses)}: what is there now does not say that this check made it, and is left alone",
        hint="look whose it is: somebody made it meanwhile, or the check was cut off while it did; then choose another "
        "name with --scratch",
    )


def _require_absent(store: Store, address: Address) -> None:
    try:
        store.source().describe()
    except CollectionMissing:
        return
    raise _exists(str(address))


def _exists(what: str) -> CollectionExists:
    return CollectionExists(
        f"{what} is there already, and the check would remove it", hint="give another name with --scratch"
    )


def _try_out(store: Store, spec: CollectionSpec, mark: str) -> StoreIdentity:
    """Make the collection, which is not there, ask who answers, and remove it: some tell only of what is there."""
    try:
        sink = store.sink()
        sink.create(spec, replace(origin_of(spec), tool_version=mark))
        sink.finish(TransferAccount())
        identity = store.source().identity()
    except CollectionExists:
        raise
    except BaseException:  # an interruption, too
        with suppress(ExitrampError):
            drop(store, mark)
        raise
    if not drop(store, mark):
        raise _somebody_elses([identity.address])
    return identity


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a check found, of which server, and when."""

    identity: StoreIdentity
    checked_at: str
    outcomes: tuple[Outcome, ...]

    @property
    def tested_against(self) -> str:
        """`wire mocked` and `engine real, wire emulated` where the server says so of itself, else `real`."""
        evidence = self.identity.evidence
        return "real" if evidence == WIRE_MOCKED and not self.identity.is_mock else evidence

    def count(self, outcome: str) -> int:
        return sum(each.outcome == outcome for each in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": "exitramp-store-check",
            "format_version": 1,
            "tool": {"name": "exitramp", "version": __version__},
            "checked_at": self.checked_at,
            "adapter": self.identity.adapter,
            "address": self.identity.address,
            "server_version": self.identity.server_version,
            "client_version": self.identity.client_version,
            "tested_against": self.tested_against,
            "passed": self.count("passed"),
            "failed": self.count("failed"),
            "skipped": self.count("skipped"),
            "tests": [{"test": each.test, "outcome": each.outcome, "reason": each.reason} for each in self.outcomes],
        }


def check_store(
    address: Address,
    scratch: str,
    network: Network,
    *,
    only: str = "",
    progress: Callable[[int], None] = lambda tests: None,
    clock: Clock | None = None,
) -> Evidence:
    """Run the suite, or those of its tests whose names hold `only`, at an address without a collection.

    Raises `CollectionExists` before anything is written where a scratch collection is there already, and whatever one
    collection that is made to begin with raises: what keeps that from being made or removed would fail every test.
    Whatever was made is removed, also where the suite is interrupted.
    """
    moment = iso_utc((clock or SystemClock()).now())
    adapter = store_adapter(address.scheme)
    ending = adapter.ending
    if "sink" not in adapter.roles:
        raise UsageError(f"{adapter.scheme}: is only read, and the suite writes")
    if ending and Path(scratch).name != scratch:
        raise UsageError(f"'{scratch}' is no name for a file", hint="give one without / to --scratch")
    names = Scratch(address, scratch, ending)
    mark = new_mark()
    store = open_store(names.address(scratch), network)
    try:
        if not isinstance(store, DropsCollection):
            raise UsageError(
                f"{address}: this adapter cannot remove a collection, so it cannot be checked like this",
                hint="the suite runs on such a store in a test of your own: docs/write-an-adapter.md",
            )
        limits = store.sink().limits()
        names = names.within(limits.names)
        names.require_free(scratch)
        _require_absent(store, names.address(scratch))
        identity = _try_out(store, spec_within(limits, scratch), mark)
        identity = replace(identity, address=str(address), collections=(), findings=())
    finally:
        store.close()
    made: list[ScratchHarness] = []

    begun = 0

    def fresh(folder: object) -> ScratchHarness:
        nonlocal begun
        begun += 1
        progress(begun)
        for harness in made:
            harness.remove()
        made[:] = [ScratchHarness(names, network, mark)]
        return made[0]

    try:
        outcomes = run_suite(fresh, only=lambda test: only in test and not any(part in test for part in LEFT_OUT))
    finally:
        for harness in made:
            harness.remove()
    return Evidence(identity, moment, tuple(outcomes))
