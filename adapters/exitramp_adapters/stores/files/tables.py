"""Plain files as a source: `file:./articles.parquet?id=url&vectors=emb&document=body&metric=cosine`.

Parquet, Arrow, CSV and JSON, one file, a folder of them or a pattern, read in the order of their names. Nothing is
guessed from the name of a column: the address says which one holds the ids and by which metric vectors are compared;
every other column is a key of the payload with just the value that stands there. Lists of numbers of one fixed size
are vectors; any other column is one where `?vectors=` names it.

Files are only read. They are looked through once when they are opened, and again to be read: together 20,000 x 384 took
0.1 s of Parquet, 1.7 s of CSV and 4 s of JSON lines. 200,000 rows of Parquet take no more memory than 20,000.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from exitramp.errors import AddressError, RoleUnsupported
from exitramp.ports import StoreAdapter
from exitramp.urls import Address, Network
from exitramp_adapters.stores.files.cells import Part
from exitramp_adapters.stores.files.formats import SUFFIXES, open_rows
from exitramp_adapters.stores.files.layouts import LAYOUTS, about_layout, laid_out, recognised
from exitramp_adapters.stores.files.options import TABLE_OPTIONS, files_meant
from exitramp_adapters.stores.files.plain import plain_table
from exitramp_adapters.stores.files.rows import TableSnapshot
from exitramp_adapters.stores.files.search import FilesSearch
from exitramp_adapters.stores.files.store import FilesStore, Snapshot, stamp_of


class FileStore(FilesStore):
    """The files of one address."""

    scheme = "file"

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        address.only_options(*TABLE_OPTIONS, "layout", "times")
        layout = address.option("layout")
        if layout is not None and layout not in LAYOUTS:
            raise AddressError(f"{address}: the layout '{layout}' is not known", hint=f"known are {', '.join(LAYOUTS)}")
        self._layout = layout

    def sink(self) -> NoReturn:
        raise RoleUnsupported(
            "plain files are only read: their columns have no place for all that a record may hold",
            hint="write to dump: (Parquet that any reader opens), vdf:, npy: or hdf5:",
        )

    def search(self) -> FilesSearch:
        self.require_open()
        return FilesSearch(self)

    def _paths(self) -> list[Path]:
        path = self.address.path
        return files_meant(path, SUFFIXES, deep=self._layout == "pinecone" or _has_folders_alone(path))

    def stamp(self) -> object:
        return stamp_of(self._paths())

    def open_snapshot(self) -> Snapshot:
        parts = [Part(open_rows(path)) for path in self._paths()]
        schema = parts[0].file.schema
        layout = self._layout or ("plain" if schema is None or _says_columns(self.address) else recognised(schema))
        if layout == "plain":
            return TableSnapshot(plain_table(self.address, parts, self.address.path.stem))
        table = laid_out(layout, self.address, parts, self.address.path)
        about = about_layout(layout, said=self._layout is not None)
        return TableSnapshot(replace(table, findings=[about, *table.findings]))


def _has_folders_alone(path: Path) -> bool:
    """Whether the files stand one floor below: in folders, each of which is a namespace."""
    if not path.is_dir():
        return False
    return not any(each.suffix.lower() in SUFFIXES for each in path.iterdir())


def _says_columns(address: Address) -> bool:
    return any(address.option(name) is not None for name in ("id", "vectors", "document", "payload", "namespace"))


def _open(address: Address, network: Network) -> FileStore:
    return FileStore(address)


ADAPTER = StoreAdapter(
    scheme="file",
    summary="plain Parquet, Arrow, CSV and JSON-lines files; Parquet exports of Pinecone, Qdrant and Weaviate",
    address_form="file:PATH?id=COLUMN&vectors=COLUMN&metric=METRIC",
    open=_open,
    roles=("source", "search"),
    vector_kinds=("dense", "multi", "sparse"),
    metric=True,
)
