"""`dump:FOLDER`: a dump as a kind of store."""

from __future__ import annotations

from typing import NoReturn

from exitramp.dump.reader import DumpSource
from exitramp.dump.writer import DumpSink
from exitramp.errors import AddressError, RoleUnsupported
from exitramp.ports import StoreAdapter
from exitramp.urls import Address, Network


class DumpStore:
    """One folder: a source when it holds a finished dump, a sink when it does not."""

    def __init__(self, address: Address) -> None:
        address.only_options("check")
        check = address.option("check", "yes")
        if check not in {"yes", "no"}:
            raise AddressError(f"{address}: 'check' is yes or no")
        self._address = address
        self._check_shards = check == "yes"
        self._payloads_checked: set[str] = set()
        self._opened: list[DumpSource | DumpSink] = []

    def source(self) -> DumpSource:
        """Raises `CollectionMissing` where there is no finished dump, or one of another collection."""
        source = DumpSource(
            self._address.path,
            address=str(self._address),
            check_shards=self._check_shards,
            payloads_checked=self._payloads_checked,
        )
        held, wanted = source.describe().name, self._address.collection
        if wanted is not None and wanted != held:
            raise AddressError(
                f"{self._address.path} holds the collection {held!r}, not {wanted!r}",
                hint=f"a dump holds one collection: write dump:{self._address.location}",
            )
        self._opened.append(source)
        return source

    def sink(self) -> DumpSink:
        sink = DumpSink(self._address.path)
        self._opened.append(sink)
        return sink

    def search(self) -> NoReturn:
        raise RoleUnsupported(
            "a dump has no index and cannot be searched", hint="restore it into a store, e.g. memory:, and ask that"
        )

    def close(self) -> None:
        for port in self._opened:
            port.close()
        self._opened.clear()


def _open(address: Address, network: Network) -> DumpStore:
    return DumpStore(address)


ADAPTER = StoreAdapter(
    scheme="dump",
    summary="a folder of Parquet shards with a manifest, digests and hashes",
    address_form="dump:FOLDER",
    open=_open,
    roles=("source", "sink"),
    vector_kinds=("dense", "multi", "sparse"),
    fidelity="bit-exact",
)
