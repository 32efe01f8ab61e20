"""The way to a Chroma, in process or over HTTP: one interface for both, and its errors translated once.

Both clients sit on Chroma's `ServerAPI`. It is used directly, since the public client asks the server several things
before a timeout could be set, and wraps every collection with an embedding function that wants to download a model.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from exitramp.durable import READ, WRITTEN, path_error, storage_errors
from exitramp.errors import (
    CollectionMissing,
    ExitrampError,
    PathUnusable,
    StoreError,
    StoreProtocolError,
    StoreRejected,
    StoreUnavailable,
    UsageError,
)
from exitramp.ports.transport import client_options, status_error, transport_error, uses_tls
from exitramp.secrets import redact
from exitramp.urls import Address, Network

_PORT: Final = 8000
SQLITE_NAME: Final = "chroma.sqlite3"
_SHOWN_CHARACTERS: Final = 200
_LOCK_SECONDS: Final = 5.0
_MAKE_IT: Final = "exitramp makes none: make it first with chromadb.AdminClient's create_tenant and create_database"
_REFUSAL: Final = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
_OPENED: Final[set[Path]] = set()
"""The paths that this process has opened."""


class Connection:
    """One opened Chroma: `server` is its `ServerAPI`, `place` the tenant and database for every call on it."""

    def __init__(self, server: Any, address: Address, release: Callable[[], None]) -> None:
        from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT

        self.server = server
        self.place = {
            "tenant": address.option("tenant") or DEFAULT_TENANT,
            "database": address.option("database") or DEFAULT_DATABASE,
        }
        self.close = release
        self.address = address

    def collection(self, name: str) -> Any:
        """The collection as it is now. Raises the SDK's error if it is not there."""
        return self.wrapped(self.server.get_collection(name=name, **self.place))

    def wrapped(self, model: Any) -> Any:
        from chromadb.api.models.Collection import Collection

        return Collection(client=self.server, model=model, embedding_function=None)

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(model.name for model in self.server.list_collections(**self.place)))


def open_embedded(address: Address, path: Path) -> Connection:
    """The files at `path`, made if they are not there. All opens of one path in a process share one engine.

    Raises `PathUnusable` where this user may not write, `StoreRejected` if this process has the path open with other
    settings already, or if the files are those of an older Chroma, which opening them would change.
    """
    import chromadb

    try:
        if path not in _OPENED:
            _require_usable(path)
        with translated(address):
            if (path / SQLITE_NAME).is_file() and path not in _OPENED:
                _require_unlocked(address, path)
                if not upgrades(address):
                    _require_current(address, path)
            client = chromadb.PersistentClient(path=str(path), settings=_settings())
    except StoreRejected as error:
        if "different settings" in str(error.__cause__):
            raise StoreRejected(
                f"{address} is open in this process already, by a chromadb client with other settings",
                hint="close that client first, or give it Settings(anonymized_telemetry=False)",
            ) from error
        raise
    _OPENED.add(path)
    return Connection(client._server, address, client.close)


def placed(connection: Connection) -> Connection:
    """`connection`, if there is the tenant and the database that its address names.

    Asked since Chroma lists nothing and says nothing where either is missing. Raises `StoreRejected`: neither is made.
    """
    if not _names_place(connection.address):
        return connection
    try:
        missing = _missing_place(connection)
    except BaseException:
        connection.close()
        raise
    if missing:
        connection.close()
        raise StoreRejected(f"{connection.address}: {missing[0]}", hint=missing[1])
    return connection


def _missing_place(connection: Connection) -> tuple[str, str] | None:
    from chromadb import errors

    server, tenant, database = connection.server, connection.place["tenant"], connection.place["database"]
    with translated(connection.address):
        try:
            server.get_database(database, tenant=tenant)
        except errors.NotFoundError:
            pass
        else:
            return None
        try:
            server.get_tenant(tenant)
        except errors.NotFoundError:
            return f"there is no tenant {tenant!r}", f"{_MAKE_IT}; ?tenant= names another"
        listed = ", ".join(repr(each["name"]) for each in server.list_databases(limit=20, offset=0, tenant=tenant))
        hint = f"{_MAKE_IT}; the databases there are: {listed or 'none'}"
        return f"the tenant {tenant!r} has no database {database!r}", hint


def require_no_place(address: Address) -> None:
    """Raises `StoreRejected` where an address names a tenant or a database of files that are not there yet."""
    if _names_place(address):
        raise StoreRejected(f"{address}: a new Chroma has only its own tenant and database", hint=_MAKE_IT)


def _names_place(address: Address) -> bool:
    return address.option("tenant") is not None or address.option("database") is not None


def _require_usable(path: Path) -> None:
    """Chroma cannot open its files but for writing, if only to read, and says of it no more than a code of SQLite's."""
    file = path / SQLITE_NAME
    with storage_errors(file, READ):
        there = file.is_file()
    if not there:
        with storage_errors(path, WRITTEN):
            path.mkdir(parents=True, exist_ok=True)
    else:
        with storage_errors(file, READ):
            file.open("rb").close()
        with storage_errors(file, WRITTEN, hint=_copy_it(path)):
            file.open("r+b").close()
    if not _may(path, os.W_OK | os.X_OK):  # for SQLite's journal beside the file
        raise path_error(path, _REFUSAL, WRITTEN, hint=_copy_it(path) if there else None)
    for index in (each for each in path.iterdir() if each.is_dir()):
        for each in [index, *(index.iterdir() if _may(index, os.R_OK) else ())]:
            if not _may(each, os.R_OK | (os.X_OK if each == index else 0)):
                raise path_error(each, _REFUSAL, READ)  # Chroma would call it an index that cannot be loaded


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _copy_it(path: Path) -> str:
    return f"Chroma writes to its files even where it only reads: copy {path} to where you may write, and name the copy"


def _require_unlocked(address: Address, path: Path) -> None:
    """Chroma waits for the lock on its file for as long as it takes, and lets no other thread of this process run
    meanwhile, so that no deadline could end it. Not asked again once the path was opened here: closing a file drops
    whatever locks the process has on it."""
    file = sqlite3.connect(f"{(path / SQLITE_NAME).as_uri()}?mode=rw", uri=True, timeout=_LOCK_SECONDS)
    try:
        file.execute("BEGIN IMMEDIATE")
        file.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            hint = "is another process writing to it?"
            raise StoreUnavailable(f"{address} is locked", hint=hint) from error
    except sqlite3.DatabaseError:
        pass  # no database: Chroma says so itself
    finally:
        file.close()


def _require_current(address: Address, path: Path) -> None:
    """Chroma brings the tables of an older one to its own form as soon as it opens them, for good and even if it is
    only to read. Asking beforehand takes 15 ms."""
    from chromadb import errors
    from chromadb.api import ServerAPI
    from chromadb.config import System

    settings = _settings()
    settings.is_persistent, settings.persist_directory, settings.migrations = True, str(path), "validate"
    system = System(settings)
    system.instance(ServerAPI)
    try:
        system.start()
    except errors.InternalError as error:
        if "migrations" not in str(error):
            raise
        raise StoreRejected(
            f"{address}: these files are those of an older Chroma, and opening them would change them for good",
            hint="read it with chroma+http: from a server of that version, or a copy of it with ?upgrade=true",
        ) from error
    system.stop()


def upgrades(address: Address) -> bool:
    """Whether files of an older Chroma may be brought to the form of the installed one."""
    word = address.option("upgrade", "false")
    if word not in ("true", "false"):
        raise UsageError(f"{address}: upgrade is true or false")
    return word == "true"


def open_http(address: Address, network: Network) -> Connection:
    """A server. Nothing is sent yet."""
    import httpx
    from chromadb.api import ServerAPI
    from chromadb.config import System

    scheme = "https" if uses_tls(address) else "http"
    parts = urlsplit(address.location)
    port = address.port or _PORT
    settings = _settings()
    settings.chroma_api_impl = "chromadb.api.fastapi.FastAPI"
    netloc = parts.netloc if address.port else f"{parts.netloc}:{port}"
    settings.chroma_server_host = f"{scheme}://{netloc}{parts.path.rstrip('/')}"
    settings.chroma_server_http_port = port
    settings.chroma_server_ssl_verify = False  # of the session that is thrown away below: 16 ms of reading authorities
    system = System(settings)
    server = system.instance(ServerAPI)
    # Chroma's own session waits for ever and knows neither client certificates nor a proxy.
    headers = dict(server._session.headers) | _credentials(address)
    server._session.close()
    server._session = httpx.Client(
        timeout=network.timeout_seconds,
        limits=server.http_limits,
        headers=headers,
        event_hooks={"response": [lambda response: _refuse_status(address, response.status_code)]},
        **client_options(address, network),
    )
    system.start()

    def release() -> None:
        server._session.close()
        system.stop()

    return Connection(server, address, release)


def _settings() -> Any:
    """Settings that send nothing to anybody, and that a `.env` file lying about does not change."""
    from chromadb.config import Settings

    return Settings(_env_file=None, anonymized_telemetry=False, chroma_otel_collection_endpoint="")


def _credentials(address: Address) -> dict[str, str]:
    """`?token=env:NAME` as a bearer token, or as it is in the header that `?token_header=` names."""
    token = address.secret("token")
    if token is None:
        return {}
    header = address.option("token_header")
    return {header: token} if header else {"authorization": f"Bearer {token}"}


def _refuse_status(address: Address, status: int) -> None:
    """Here, since the client would lose the status."""
    known = status_error(address, status, secret="token")
    if known is not None:
        raise known


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Chroma's errors as ours. What it says is shown only where it quotes no values: `ValueError`s do."""
    import httpx
    from chromadb import errors

    try:
        yield
    except ExitrampError:
        raise
    except errors.NotFoundError as error:
        raise CollectionMissing(f"{address}: {_brief(error)}") from error
    except (errors.AuthorizationError, errors.ChromaAuthError) as error:
        raise StoreRejected(f"{address} refuses access", hint="give the token with ?token=env:NAME") from error
    except errors.RateLimitError as error:
        raise StoreUnavailable(f"{address} asks to slow down") from error
    except errors.InternalError as error:
        raise _internal(address, error) from error
    except (errors.VersionMismatchError, errors.InvalidHTTPVersion) as error:
        raise StoreProtocolError(f"{address} does not speak as this client does: {_brief(error)}") from error
    except errors.ChromaError as error:
        raise StoreRejected(f"{address} refuses this ({type(error).__name__}): {_brief(error)}") from error
    except (httpx.TimeoutException, httpx.TransportError) as error:
        raise transport_error(address, error, default_port=_PORT) from error
    except (httpx.HTTPError, json.JSONDecodeError, KeyError, AttributeError) as error:
        raise StoreProtocolError(f"{address} gave an answer that is not Chroma's ({type(error).__name__})") from error
    except (ValueError, TypeError, NotImplementedError) as error:
        raise StoreRejected(f"{address}: Chroma's client refuses this ({type(error).__name__})") from error
    except BaseException as error:
        if type(error) is Exception:  # an answer in error whose kind the client does not know
            raise StoreProtocolError(f"{address} answered with an error: {_brief(error)}") from error
        if type(error).__name__ == "PanicException":  # what a crash inside the engine becomes, by no importable name
            raise StoreError(f"{address}: Chroma's engine crashed in this call: {_brief(error)}") from error
        raise


def _internal(address: Address, error: Exception) -> ExitrampError:
    said = str(error)
    if "readonly database" in said and address.host is None:
        return PathUnusable(f"{address}: cannot be written: {_brief(error)}", hint=_copy_it(address.path))
    if "locked" in said or "busy" in said:
        return StoreUnavailable(f"{address} is locked", hint="is another process writing to it?")
    hint = None
    if "hnsw segment" in said or "log store" in said:
        # Seen in 3 of 25 runs that were killed with SIGKILL in the middle of a write: it rewrites the index in place.
        hint = (
            "its index or its log is damaged, as a kill in the middle of a write leaves it: remove the folder and"
            " restore a dump from the beginning"
        )
    return StoreError(f"{address} failed: {_brief(error)}", hint=hint)


def _brief(error: BaseException) -> str:
    return redact(" ".join(str(error).split()))[:_SHOWN_CHARACTERS]
