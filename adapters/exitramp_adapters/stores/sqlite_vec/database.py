"""One SQLite file: which module opens it, how it is opened to be read or written, and what its refusals mean."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from exitramp import durable
from exitramp.errors import (
    CollectionMissing,
    DataInvalid,
    DependencyMissing,
    ExitrampError,
    IntegrityError,
    PathUnusable,
    StoreProtocolError,
    StoreRejected,
    StoreUnavailable,
)
from exitramp.urls import Address

_BUSY_SECONDS: Final = 5.0
# A chunk of 1024 vectors of 768 numbers is 3 MiB, more than SQLite's own cache of 2 MB: every row would read it anew.
_CACHE_KIBIBYTES: Final = 65_536
# A vector lies in pages chained to one another. At 384 numbers a load into pages of 16 kB took 0.8 of the time of one
# into the usual 4 kB, and reading row by row half; still larger ones gave a tenth more.
_PAGE_BYTES: Final = 16_384


class _Code:
    """What SQLite calls its refusals; the higher bits of a code say more."""

    BUSY, LOCKED, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB = 5, 6, 8, 10, 11, 13, 14, 26
    READONLY_ROLLBACK = 776


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def sdk() -> Any:
    """A module of Python's database interface whose SQLite loads extensions. Raises `DependencyMissing`."""
    for name in ("sqlite3", "pysqlite3.dbapi2"):
        with suppress(ImportError):
            module = import_module(name)
            if hasattr(module.Connection, "enable_load_extension"):
                return module
    raise DependencyMissing("sqlite-vec", "sqlite-vec", module="pysqlite3")


def versions() -> tuple[str, str]:
    """Of sqlite-vec and, beside it, of SQLite itself."""
    try:
        extension = version("sqlite-vec")
    except PackageNotFoundError:
        extension = "unknown"
    return extension, f"sqlite-vec {extension}, SQLite {sdk().sqlite_version}"


class Database:
    """The file of an address, with one connection that only reads and one that writes, each opened when needed."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.path: Path = address.path
        self.lock = threading.RLock()
        self._reading: Any = None
        self._writing: Any = None
        self._closed = False
        self._frozen: tuple[object, ...] | None = None  # what a file looked like that is read as one nobody changes

    def close(self) -> None:
        with self.lock:
            self._closed = True
            for connection in (self._reading, self._writing):
                if connection is not None:
                    with suppress(sdk().Error):  # a statement that a killed call left behind
                        connection.close()
            self._reading = self._writing = None

    def require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again")

    @property
    def exists(self) -> bool:
        with durable.storage_errors(self.path, durable.READ):
            return self.path.exists()

    @property
    def may_write(self) -> bool:
        """As far as the file's and the folder's rights say: a journal stands beside the file while it is written."""
        return os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)

    @contextmanager
    def read(self) -> Iterator[Any]:
        """A connection within one short transaction: what is asked in it is of one moment, and no writer waits long.

        Raises `CollectionMissing` where there is no file; everything SQLite refuses as `translated` says it.
        """
        with self.lock, self.translated():
            connection = self._reader()
            if self._frozen is not None and self._frozen != _signature(self.path):
                raise StoreUnavailable(f"{self.address} was changed while it was read", hint="read it again")
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def write(self, *, make: bool = False) -> Iterator[Any]:
        """A connection within a transaction that is on the disk when the block ends, or undone if it raises."""
        with self.lock, self.translated():
            connection = self._writer(make=make)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _reader(self) -> Any:
        self.require_open()
        if self._reading is None:
            if not self.exists:
                raise CollectionMissing(f"{self.address}: there is no file {self.path}")
            if self.path.is_dir():
                raise PathUnusable(f"{self.path} is a folder", hint="name the SQLite file itself")
            self._reading = self._opened_to_read()
        return self._reading

    def _opened_to_read(self) -> Any:
        try:
            return self._connect("mode=ro")
        except sdk().Error as error:
            code = getattr(error, "sqlite_errorcode", 0) or 0
            stands = {suffix for suffix in ("-wal", "-journal") if Path(f"{self.path}{suffix}").exists()}
            if code == _Code.READONLY_ROLLBACK or "-journal" in stands:
                # A writer was killed: whoever opens the file next must undo what it had not finished, or read nonsense.
                connection = self._connect("mode=rw")
                connection.execute("PRAGMA query_only=ON")
                return connection
            if code & 0xFF in (_Code.READONLY, _Code.CANTOPEN) and not stands and os.access(self.path, os.R_OK):
                # Its last writer kept a log beside it, for which there is no room in a folder that is read only. As
                # none is there, the file is complete.
                self._frozen = _signature(self.path)
                return self._connect("mode=ro&immutable=1")
            raise

    def _writer(self, *, make: bool) -> Any:
        self.require_open()
        if self._writing is None:
            new = not self.exists
            if new and not make:
                raise CollectionMissing(f"{self.address}: there is no file {self.path}")
            if new:
                durable.make_folder(self.path.parent)
            self._writing = self._connect("mode=rwc" if new else "mode=rw", page_bytes=_PAGE_BYTES)
            # EXTRA: the folder too is synced, so that the journal of what was committed does not come back.
            self._writing.execute("PRAGMA synchronous=EXTRA")
        return self._writing

    def _connect(self, how: str, *, page_bytes: int | None = None) -> Any:
        module = sdk()
        try:
            extension = import_module("sqlite_vec")
        except ImportError:
            raise DependencyMissing("sqlite-vec", "sqlite-vec", module="sqlite_vec") from None
        where = f"file:{quote(os.fsencode(self.path.absolute()))}?{how}"
        connection = module.connect(
            where, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.enable_load_extension(True)
            extension.load(connection)
            connection.enable_load_extension(False)
            if page_bytes is not None:
                connection.execute(f"PRAGMA page_size={page_bytes}")  # heard by a file that is empty
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIBIBYTES}")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """SQLite's errors as ours. Its words are passed on but for those that quote a value."""
        module = sdk()
        try:
            yield
        except module.Error as error:
            raise self._meaning(error) from None

    def _meaning(self, error: Exception) -> ExitrampError:
        code = getattr(error, "sqlite_errorcode", 0) or 0
        said = str(error)
        match code & 0xFF:
            case _Code.BUSY | _Code.LOCKED:
                hint = "let it finish, then run this again"
                return StoreUnavailable(f"{self.address} is locked: another program is writing to it", hint=hint)
            case _Code.READONLY:
                return PathUnusable(f"{self.path} may not be written ({said})", hint="allow yourself to write it")
            case _Code.CORRUPT:
                return IntegrityError(f"{self.path} is damaged ({said})", hint="PRAGMA integrity_check tells more")
            case _Code.FULL:
                return StoreRejected(f"{self.path}: its disk is full", hint="make room and run the same command again")
            case _Code.CANTOPEN:
                return PathUnusable(f"{self.path} cannot be opened ({said})", hint="may you read it and its folder?")
            case _Code.NOTADB:
                return StoreRejected(f"{self.path} is no SQLite file", hint="is it encrypted, or another kind of file?")
        if said.startswith("Could not decode"):  # the words go on with the text itself
            return DataInvalid(f"{self.address} holds a text that is not UTF-8")
        if "closed database" in said:
            return StoreUnavailable(f"{self.address} was closed", hint="open it again")
        if code & 0xFF == _Code.IOERR:
            return StoreRejected(f"{self.path}: {said}", hint="is that disk sound?")
        return StoreProtocolError(f"{self.address}: SQLite says: {said}")


def _signature(path: Path) -> tuple[object, ...]:
    with durable.storage_errors(path, durable.READ):
        stat = path.stat()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size, Path(f"{path}-wal").exists()
