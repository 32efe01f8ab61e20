"""Sessions of a PostgreSQL server: made from an address, read-only where only reading is meant, errors translated once.

A value that somebody stored stands in many of the server's own messages ("invalid input syntax for type integer: …"),
so of those that tell of data no word is passed on but the code's name and the table's and column's.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from exitramp.errors import (
    AddressError,
    CollectionMissing,
    DataInvalid,
    ExitrampError,
    RequestTooLarge,
    StoreError,
    StoreProtocolError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
    UsageError,
)
from exitramp.secrets import redact
from exitramp.urls import Address, Network

OPTIONS: Final = ("password", "sslmode", "metric", "dimensions", "id", "namespace", "document", "payload", "vectors")
_PORT: Final = 5432
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# What a value looks like as text depends on these; and a role or database may have other ones set for it.
_SETTINGS: Final = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "xmloption": "content",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}


class Server:
    """One opened address: a session that can only read, one that writes, each made when it is first needed."""

    def __init__(self, address: Address, network: Network) -> None:
        address.only_options(*OPTIONS)
        if address.host is None:
            raise AddressError(f"{address} names no host", hint="write pgvector://USER@HOST:PORT/DATABASE#TABLE")
        if not database_of(address):
            raise AddressError(f"{address} names no database", hint="write pgvector://USER@HOST:PORT/DATABASE#TABLE")
        mode = address.option("sslmode")
        if mode is not None and mode not in _SSL_MODES:
            raise UsageError(f"{address}: sslmode is one of {', '.join(_SSL_MODES)}")
        self.address = address
        self._network = network
        self._sessions: dict[bool, Any] = {}
        self._others: set[Any] = set()
        self._locks = {True: threading.RLock(), False: threading.RLock()}
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """The session that cannot write, with errors translated; each statement by itself, unless a transaction is
        begun."""
        with self._using(read_only=True) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """The session that can."""
        with self._using(read_only=False) as session:
            yield session

    @contextmanager
    def _using(self, *, read_only: bool) -> Iterator[Any]:
        with self._locks[read_only], translated(self.address):
            self._require_open()
            session = self._sessions.get(read_only)
            if session is None or session.closed or session.broken:
                session = self._sessions[read_only] = self._connect(read_only=read_only)
            try:
                yield session
            except BaseException:
                if not session.closed and session.pgconn.transaction_status not in _AT_REST:
                    session.close()  # whatever it was doing: the next call begins anew
                raise
            finally:
                if self._closed:
                    session.close()

    @contextmanager
    def connected_for_reading(self) -> Iterator[Any]:
        """A session of its own that cannot write, for whoever keeps it busy."""
        with translated(self.address):
            self._require_open()
            session = self._connect(read_only=True)
            self._others.add(session)
            try:
                yield session
            finally:
                self._others.discard(session)
                session.close()

    def close(self) -> None:
        """Does not wait for a call that is under way on another thread, and does not take its session from under it
        either: two threads in one session have been seen to steal another one's answers, and to end the process. Its
        connection is hung up, and the thread itself closes what it then finds broken."""
        self._closed = True
        for read_only, session in list(self._sessions.items()):
            lock = self._locks[read_only]
            if lock.acquire(blocking=False):
                try:
                    session.close()
                finally:
                    lock.release()
            else:
                _hang_up(session)
        for session in list(self._others):
            _hang_up(session)

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self.address} was closed", hint="open it again")

    def _connect(self, *, read_only: bool) -> Any:
        import psycopg

        session = psycopg.connect(autocommit=True, **self._parameters())
        try:
            # Not as start-up parameters: a pooler before the server may refuse those.
            settings = _SETTINGS | ({"default_transaction_read_only": "on"} if read_only else {})
            calls = ", ".join("set_config(%s, %s, false)" for _ in settings)
            session.execute(f"SELECT {calls}", [word for pair in settings.items() for word in pair])
            if not read_only:  # what a commit acknowledges must be on the disk, whatever a role has set for itself
                session.execute(
                    "SELECT set_config('synchronous_commit', 'on', false) "
                    "WHERE current_setting('synchronous_commit') = 'off'"
                )
        except BaseException:
            session.close()
            raise
        return session

    def _parameters(self) -> dict[str, Any]:
        address, network = self.address, self._network
        parts = urlsplit(address.location)
        if network.proxy is not None and not address.is_loopback and address.host not in network.no_proxy:
            raise UsageError(
                f"{address}: PostgreSQL's protocol does not go through an HTTP proxy",
                hint=f"name {address.host} among the hosts that need none (no_proxy)",
            )
        given: dict[str, Any] = {
            "host": address.host,
            "port": address.port or _PORT,
            "dbname": database_of(address),
            "user": unquote(parts.username) if parts.username else None,
            "password": address.secret("password"),
            "sslmode": address.option("sslmode"),
            "connect_timeout": max(2, round(network.timeout_seconds)),
            "client_encoding": "UTF8",
            "application_name": "exitramp",
            # A peer that is gone without a word is noticed within a minute, not in two hours.
            "keepalives_idle": 20,
            "keepalives_interval": 10,
            "keepalives_count": 4,
            "tcp_user_timeout": 60_000,
        }
        if network.ca_bundle is not None:
            given["sslrootcert"] = str(network.ca_bundle)
            given["sslmode"] = given["sslmode"] or "verify-full"
        if network.client_certificate is not None:
            given["sslcert"] = str(network.client_certificate)
            given["sslkey"] = None if network.client_key is None else str(network.client_key)
        return {name: value for name, value in given.items() if value is not None}


# pgconn.transaction_status: IDLE and UNKNOWN (no connection).
_AT_REST: Final = (0, 4)


def _hang_up(session: Any) -> None:
    """End a session's connection without touching the session."""
    import psycopg

    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(session.fileno())) as connection:
        connection.shutdown(socket.SHUT_RDWR)


def database_of(address: Address) -> str:
    return unquote(urlsplit(address.location).path.strip("/"))


def copied_pages(
    session: Any, query: str, words: Sequence[Any], *, most_rows: int, most_bytes: int
) -> Iterator[tuple[list[memoryview], bool]]:
    """Rows of `COPY … TO STDOUT (FORMAT BINARY)` in pages, and whether a page is the last; no row, one page.

    psycopg's own `copy` asks the server to cancel where its caller loses interest, and waits for the answer; here the
    caller closes the session, which a stopped server cannot hold up. The server sends one message for each row.
    """
    from psycopg import ClientCursor, errors, pq

    connection = session.pgconn
    # COPY takes no parameters: they are written into the statement here, by the client library's own rules.
    connection.send_query(ClientCursor(session).mogrify(query, words).encode("utf-8"))
    result = _result(connection)
    if result.status != pq.ExecStatus.COPY_OUT:
        raise errors.error_from_result(result)
    page: list[memoryview] = []
    rows, room, get = most_rows, most_bytes, connection.get_copy_data
    size, row = 0, memoryview(b"")
    while size == 0:
        size, row = get(1)
        if size == 0:
            _wait(connection)
    if size > 0:  # the head, and the first row behind it
        row = _without_head(row)
        size = len(row)
    while size >= 0:
        if size > _END_BYTES:  # three comparisons and no call: what is done here is done for every row
            if not rows or room <= 0:
                yield page, False
                page, rows, room = [], most_rows, most_bytes
            page.append(row)
            rows -= 1
            room -= size
        size, row = get(1)
        while size == 0:
            _wait(connection)
            size, row = get(1)
    result = _result(connection)
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise errors.error_from_result(result)
    while connection.get_result() is not None:
        pass
    yield page, True


def copied(session: Any, query: str, words: Sequence[Any]) -> list[memoryview]:
    """All rows of `copied_pages` at once."""
    found: list[memoryview] = []
    for page, _ in copied_pages(session, query, words, most_rows=10_000, most_bytes=2**30):
        found += page
    return found


def _without_head(row: memoryview) -> memoryview:
    if bytes(row[: len(_SIGNATURE)]) != _SIGNATURE:
        raise StoreProtocolError("what the server copies is not PostgreSQL's binary format")
    return row[len(_SIGNATURE) + 8 :]


_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_END_BYTES: Final = 2
"""Of the mark behind the last row; a row is longer."""


def _result(connection: Any) -> Any:
    while connection.is_busy():
        _wait(connection)
    return connection.get_result()


def _wait(connection: Any) -> None:
    select.select([connection.socket], [], [])
    connection.consume_input()


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """The client's errors as ours."""
    import psycopg

    try:
        yield
    except ExitrampError:
        raise
    except psycopg.Error as error:
        raise _meaning(address, error) from error
    except (OSError, ValueError) as error:  # select on a socket that was closed under it
        if isinstance(error, OSError) or "file descriptor" in str(error):
            raise StoreUnavailable(f"{address}: the connection ended ({type(error).__name__})") from error
        raise


_DATA_CLASSES: Final = ("21", "22", "23", "44")
"""Classes of SQLSTATE that tell of what was written: cardinality, data, integrity, check option."""


def _meaning(address: Address, error: Any) -> ExitrampError:
    import psycopg

    code = error.sqlstate or ""
    name = type(error).__name__
    if not code:
        return _unanswered(address, error)
    if code[:2] in _DATA_CLASSES:
        where = ".".join(part for part in (error.diag.table_name, error.diag.column_name) if part)
        return DataInvalid(
            f"{address}: the server does not take a value ({name}, {code})" + (f" in {where}" if where else ""),
            hint=f"the constraint {error.diag.constraint_name!r} stands against it"
            if error.diag.constraint_name
            else "look at the column's type, and at what the record holds",
        )
    said = redact(" ".join(str(error.diag.message_primary or "").split()))[:200]
    if code in ("42P01", "3F000"):
        return CollectionMissing(f"{address}: {said}")
    if code == "3D000":
        return StoreRejected(f"{address}: {said}", hint="is the database's name spelled right?")
    if code[:2] == "28":
        given = "password" in address.options
        hint = "is the password right, and may this user come from here?" if given else "add ?password=env:NAME"
        return StoreRejected(f"{address} refuses access ({code}): {said}", hint=hint)
    if code in ("42501", "25006"):
        return StoreRejected(f"{address}: {said}", hint="this user may not do that; ask for a role that may")
    if code == "57014":
        return StoreTimeout(f"{address} ended the statement: {said}")
    if code == "54000":
        return RequestTooLarge(f"{address}: {said}")
    if code[:2] in ("08", "57", "40") or code in ("53300", "53200", "55P03", "55006"):
        return StoreUnavailable(f"{address} cannot answer now ({code}): {said}")
    if code in ("42704", "42883") and "vector" in said:
        hint = "is the extension there? CREATE EXTENSION vector"
        return StoreRejected(f"{address}: {said}", hint=hint)
    if code == "53100":
        hint = "make room on the server's disk, and run the same command again: it goes on where this one stopped"
        return StoreRejected(f"{address} refuses this ({code}): {said}", hint=hint)
    if isinstance(error, psycopg.errors.InternalError_):
        return StoreError(f"{address} failed ({code}): {said}")
    return StoreRejected(f"{address} refuses this ({code}): {said}")


def _unanswered(address: Address, error: Any) -> ExitrampError:
    """An error that the client library found by itself: mostly a server that is not there."""
    import psycopg

    text = redact(" ".join(str(error).split()))[:300]
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return StoreTimeout(f"{address} did not answer in time", hint="is it stopped or overloaded?")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        if "password" in text:  # before there is a session, codes are not passed on
            return StoreRejected(
                f"{address} refuses access: {text}",
                hint="is the password right?" if "password" in address.options else "add ?password=env:NAME",
            )
        if "FATAL" in text and "starting up" not in text and "shutting down" not in text and "too many" not in text:
            return StoreRejected(f"{address} refuses access: {text}", hint="are user and database spelled right?")
        hint = f"is it running on {address.host}:{address.port or _PORT}?"
        return StoreUnavailable(f"{address} cannot be reached ({type(error).__name__}): {text}", hint=hint)
    return StoreProtocolError(f"{address}: the client cannot make sense of it ({type(error).__name__})")
