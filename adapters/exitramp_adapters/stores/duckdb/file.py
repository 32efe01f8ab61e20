"""One DuckDB file as this process has it open: to be read, or to be written once a sink needs it.

DuckDB lets one process write a file, or several read it; within a process it is open in one way only. So whoever has
it open here shares it, and the first sink opens it anew to be written. Scans are told to let go before that (a result
that is still being read would hang the second opening for good), and go on behind their last key.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from exitramp import durable
from exitramp.errors import (
    CollectionMissing,
    DataInvalid,
    DependencyMissing,
    ExitrampError,
    PathUnusable,
    StoreRejected,
    StoreUnavailable,
)

# What DuckDB holds before it goes to the disk. A load of 300,000 x 384 peaked at 380 MB with it, libraries and all, and
# at 580 MB with twice as much, in the same time; scans and searches were as fast too.
_MEMORY: Final = "128MiB"
_HOLDER: Final = re.compile(r"PID (\d+)")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def sdk() -> Any:
    """DuckDB's module. Raises `DependencyMissing`."""
    try:
        return import_module("duckdb")
    except ImportError:
        raise DependencyMissing("duckdb", "duckdb", module="duckdb") from None


class Reader(Protocol):
    """Whatever holds a result that is not read to its end."""

    def let_go(self) -> None: ...


class SharedFile:
    """The one opening of a file in this process. `opened` counts how often it was: a cursor of before is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.users = 0
        self.opened = 0
        self.writable = False
        self.readers: set[Reader] = set()
        self._connection: Any = None

    def cursor(self, where: str, *, write: bool = False) -> Any:
        """A connection of its own to the file. Raises `CollectionMissing` where there is no file to be read."""
        with self.lock:
            if self._connection is None or (write and not self.writable):
                self._open(where, write)
            return self._connection.cursor()

    def _open(self, where: str, write: bool) -> None:
        if self.path.is_dir():
            raise PathUnusable(f"{where}: {self.path} is a folder", hint="a DuckDB database is a file: name that")
        if not write and not self.path.exists():
            raise CollectionMissing(f"{where}: there is no file {self.path}")
        self.shut()
        duckdb = sdk()
        if write:
            durable.make_folder(self.path.parent)
        with translated(where):
            connection = duckdb.connect(str(self.path), read_only=not write)
        try:
            with translated(where):
                _settle(connection, self.path, write)
                if write and has_hnsw(connection):
                    load_vss(connection, where)
        except BaseException:
            connection.close()
            raise
        self._connection, self.writable = connection, write
        self.opened += 1

    def shut(self) -> None:
        """Close it, whoever reads."""
        with self.lock:
            for reader in list(self.readers):
                reader.let_go()
            connection, self._connection = self._connection, None
            self.writable = False
            if connection is not None:
                connection.close()


_FILES: dict[Path, SharedFile] = {}
_LOCK: Final = threading.Lock()


def acquire(path: Path) -> SharedFile:
    """The file as this process shares it, opened when it is first asked for a cursor; give it back with `release`."""
    with _LOCK:
        file = _FILES.setdefault(path.resolve(), SharedFile(path.resolve()))
        file.users += 1
        return file


def release(file: SharedFile) -> None:
    with _LOCK:
        file.users -= 1
        if not file.users:
            _FILES.pop(file.path, None)
            file.shut()


def _settle(connection: Any, path: Path, write: bool) -> None:
    """Nothing is fetched from anywhere, moments are told in UTC, and what does not fit into memory goes to a disk."""
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    connection.execute(f"SET memory_limit = '{_MEMORY}'")
    if not write:  # beside the file nothing is to be made, and perhaps cannot be
        folder = os.path.join(tempfile.gettempdir(), f"exitramp-duckdb-{os.getpid()}")
        connection.execute("SET temp_directory = ?", [folder])


def has_hnsw(connection: Any) -> bool:
    # A result that is not read to its end is an open transaction, which would keep every checkpoint away.
    return bool(connection.execute("SELECT 1 FROM duckdb_indexes() WHERE sql ILIKE '%USING HNSW%'").fetchall())


def vss_path() -> Path | None:
    """Where the wheel `duckdb-extension-vss` has brought the extension for this DuckDB; None without it."""
    try:
        home = import_module("duckdb_extension_vss")
    except ImportError:
        return None
    path = Path(str(home.__file__)).parent / "extensions" / f"v{sdk().__version__}" / "vss.duckdb_extension"
    return path if path.exists() else None


def load_vss(connection: Any, where: str) -> None:
    """Load the extension from the wheel; nothing is downloaded. Raises `StoreRejected` where it is not installed.

    Without it DuckDB 1.5.5 reads a table with an HNSW index well, refuses to insert, and never ends a deletion.
    """
    path = vss_path()
    if path is None:
        raise StoreRejected(
            f"{where}: the file has an HNSW index, for which DuckDB needs its extension vss",
            hint=f"pip install 'duckdb-extension-vss=={sdk().__version__}'",
        )
    connection.execute(f"LOAD '{str(path).replace(chr(39), chr(39) * 2)}'")


@contextmanager
def translated(where: str) -> Iterator[None]:
    """DuckDB's errors in words of ours. Its own words are shown only where they hold no value of a record."""
    duckdb = sdk()
    try:
        yield
    except ExitrampError:
        raise
    except duckdb.Error as error:
        raise _meaning(error, where, duckdb) from error


def _meaning(error: Exception, where: str, duckdb: Any) -> ExitrampError:
    first = str(error).split("\n", 1)[0]
    if isinstance(error, duckdb.OutOfMemoryException):
        return StoreRejected(
            f"{where}: DuckDB has more to hold at once than {_MEMORY}",
            hint="take fewer rows at once",
        )
    if isinstance(error, duckdb.IOException):
        if "Could not set lock" in first:
            holder = _HOLDER.search(first)
            who = f"the process {holder[1]}" if holder else "another process"
            return StoreUnavailable(
                f"{where}: {who} has the file open, and DuckDB lets one process write it, or several read it",
                hint="wait until it is done or end it, or read a copy of the file",
            )
        if "not a valid DuckDB database" in first or "not a DuckDB database" in first:
            return DataInvalid(f"{where}: this is no DuckDB file")
        if "Permission denied" in first or "Read-only file system" in first:
            return PathUnusable(f"{where}: cannot be opened: {first}", hint="allow yourself to read or write it")
        return StoreRejected(f"{where}: {first}", hint="make room on that disk" if "No space" in first else None)
    if "different configuration" in first or "Unique file handle conflict" in first:
        return StoreUnavailable(
            f"{where}: this process has the file open in another way already", hint="close that connection first"
        )
    if isinstance(error, duckdb.ConnectionException | duckdb.InterruptException):
        return StoreUnavailable(f"{where}: the connection was closed", hint="open it again")
    if isinstance(error, duckdb.TransactionException):
        return StoreRejected(f"{where}: somebody else in this process wrote the same rows at the same time")
    if isinstance(error, duckdb.CatalogException | duckdb.BinderException | duckdb.NotImplementedException):
        return StoreRejected(f"{where}: {first}")
    return StoreRejected(f"{where}: DuckDB refused it ({type(error).__name__})")


def close_quietly(cursor: Any) -> None:
    with suppress(sdk().Error):
        cursor.close()
