"""`dump:FOLDER`: a dump as a kind of store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from exitramp import __version__
from exitramp.dump.reader import DumpSource
from exitramp.dump.server import FORMAT_VERSION, folder_in, is_server_dump, read_server
from exitramp.dump.writer import DumpSink
from exitramp.errors import AddressError, RoleUnsupported
from exitramp.ports import Cursor, Partition, StoreAdapter, StoreIdentity, VectorSource
from exitramp.records import RecordKey
from exitramp.urls import Address, Network
from exitramp.wording import counted


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
        self._opened: list[VectorSource | DumpSink] = []

    def source(self) -> VectorSource:
        """Raises `CollectionMissing` where there is no finished dump, or one of another collection."""
        source: VectorSource
        source = self._source_of_all() if self._holds_server() else self._source_of_one()
        self._opened.append(source)
        return source

    def _holds_server(self) -> bool:
        return is_server_dump(self._address.path)

    def _source_of_all(self) -> DumpSource | WholeServer:
        if self._address.collection is None:
            return WholeServer(self._address.path, str(self._address))
        return self._read(folder_in(self._address.path, self._address.collection))

    def _source_of_one(self) -> DumpSource:
        source = self._read(self._address.path)
        held, wanted = source.describe().name, self._address.collection
        if wanted is not None and wanted != held:
            raise AddressError(
                f"{self._address.path} holds the collection {held!r}, not {wanted!r}",
                hint=f"a dump holds one collection: write dump:{self._address.location}",
            )
        return source

    def _read(self, folder: Path) -> DumpSource:
        return DumpSource(
            folder,
            address=str(self._address),
            check_shards=self._check_shards,
            payloads_checked=self._payloads_checked,
        )

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


class WholeServer:
    """The dump of a whole server as long as none of its collections is chosen: it says which there are."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder
        self._address = address
        self._manifest = read_server(folder)

    def identity(self) -> StoreIdentity:
        names = tuple(entry.name for entry in self._manifest.collections)
        version = f"format {FORMAT_VERSION}"
        return StoreIdentity("dump", self._address, version, __version__, can_write=False, collections=names)

    def _choose(self) -> NoReturn:
        names = [entry.name for entry in self._manifest.collections]
        raise AddressError(
            f"{self._folder} holds {counted(len(names), 'collection')}, and none of them is named",
            hint=f"write dump:{self._folder}#{names[0] if names else 'NAME'}, or take them all with --all",
        )

    def describe(self) -> NoReturn:
        self._choose()

    def origin(self) -> NoReturn:
        self._choose()

    def count(self) -> NoReturn:
        self._choose()

    def partitions(self, wanted: int) -> NoReturn:
        self._choose()

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> NoReturn:
        self._choose()

    def fetch(self, keys: Sequence[RecordKey]) -> NoReturn:
        self._choose()

    def close(self) -> None:
        """Nothing is held here."""


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
