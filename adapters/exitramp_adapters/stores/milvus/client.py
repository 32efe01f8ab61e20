"""A connection to a Milvus: to a server, or to the engine of milvus-lite, which answers the same calls in this process.

The calls are made on the generated messages themselves, not through `MilvusClient`, which makes a Python object of
every number: vectors go over in one piece, both ways. Every call has a timeout; its errors are translated once, here.
"""

from __future__ import annotations

import base64
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from exitramp.durable import USED, storage_errors
from exitramp.errors import (
    CollectionMissing,
    ExitrampError,
    PathUnusable,
    RequestTooLarge,
    StoreProtocolError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
    UsageError,
)
from exitramp.ports.transport import uses_tls
from exitramp.secrets import redact
from exitramp.urls import Address, Network

_PORT: Final = 19530
_NO_COLLECTION: Final = frozenset({100})
_OLD_NO_COLLECTION: Final = 4
_NO_DATABASE: Final = 800
_NOT_LOADED: Final = 101
# Who is not known, and who may not. A server says most of it as a status of gRPC.
_NO_ACCESS: Final = frozenset({1400, 1401})
_OLD_NO_ACCESS: Final = 3
# Not ready, unavailable, memory, too many requests, not fully loaded yet, no replica, channel, segment or node there:
# the server mends these by itself.
_PASSING: Final = frozenset({1, 2, 3, 8, 9, 103, 400, 401, 500, 501, 502, 503, 504, 600, 601, 900, 901, 902})
NO_INDEX: Final = 700
_UNWRITTEN_BYTES: Final = 32 << 20
"""What milvus-lite collects in memory before it writes a segment, unless the user has said it; it reads it when it is
loaded. It then makes a Python object of every number, of some eight times the bytes. From 15,000 to 30,000 rows x 384 a
load without its index grew by 308 to 331 MB with its own 128 MiB, and by 27 with these. With 16 MiB, 30,000 rows took
more, 690 MB instead of 530: four segments are merged, all of them in memory. Here that begins at some 60,000 rows,
which took 1,390 MB with the index either way, and 9% more of the processor; 20,000 took 7% less of it."""


class NotLoaded(UsageError):
    """The collection is not in the server's memory, where alone it can be read."""


class Refused(StoreRejected):
    """The server said no, with a code of its own."""

    def __init__(self, message: str, code: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Connection:
    """One opened address. Nothing is connected, and no file made, before the first call."""

    def __init__(self, address: Address, network: Network, *options: str) -> None:
        self.is_lite = address.host is None
        address.only_options(*options, "db", *(() if self.is_lite else ("token", "tls")))
        self.address = address
        self.network = network
        self.database = address.option("db") or ""
        self._lock = threading.Lock()
        self._channel: Any = None
        self._stub: Any = None
        self._metadata: list[tuple[str, str]] = []
        self._path: Path | None = None
        self._closed = False

    @property
    def name(self) -> str:
        return self.address.require_collection()

    def call(self, method: str, request: Any, *, timeout_seconds: float | None = None) -> Any:
        """The answer to one call, whose status is good."""
        stub = self._connected()
        if "db_name" in request.DESCRIPTOR.fields_by_name:
            request.db_name = self.database
        try:
            answer = getattr(stub, method)(
                request, timeout=timeout_seconds or self.network.timeout_seconds, metadata=self._metadata
            )
        except Exception as error:
            found = self._failure(error)
            if found is None:
                raise
            raise found from error
        status = getattr(answer, "status", answer)
        if status.code or status.error_code:
            raise self._refusal(status)
        return answer

    def exists(self) -> bool:
        """Whether there is a place to look in: a path of milvus-lite's, or any server."""
        return not self.is_lite or self.address.path.exists()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            channel, self._channel, self._stub = self._channel, None, None
            path, self._path = self._path, None
        if channel is not None:
            channel.close()
        if path is not None:
            _ENGINES.release(path)

    def _connected(self) -> Any:
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"{self.address} was closed", hint="open it again")
            if self._stub is None:
                import grpc
                from pymilvus.grpc_gen.milvus_pb2_grpc import MilvusServiceStub

                target = self._target()
                self._channel = self._made_channel(grpc, target)
                self._stub = MilvusServiceStub(self._channel)
            return self._stub

    def _target(self) -> str:
        if self.is_lite:
            path = self.address.path.absolute()
            port = _ENGINES.acquire(path, str(self.address))
            self._path = path
            return f"127.0.0.1:{port}"
        return f"{urlsplit(self.address.location).hostname}:{self.address.port or _PORT}"

    def _made_channel(self, grpc: Any, target: str) -> Any:
        options: list[tuple[str, Any]] = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),  # else it waits as long as another one's failures have taught it
            ("grpc.enable_http_proxy", 0),
        ]
        if not self.address.is_loopback and self.network.proxy and not _is_direct(self.address, self.network):
            options += [("grpc.http_proxy", self.network.proxy)]
        if self.is_lite:
            return grpc.insecure_channel(target, options=options)
        token = self.address.secret("token")
        if token is not None:
            self._metadata = [("authorization", base64.b64encode(token.encode()).decode())]
        if self.database:
            self._metadata = [*self._metadata, ("dbname", self.database)]
        if not uses_tls(self.address):
            return grpc.insecure_channel(target, options=options)
        files = (self.network.ca_bundle, self.network.client_key, self.network.client_certificate)
        parts = [None if path is None else path.read_bytes() for path in files]
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(*parts), options=options)

    def _failure(self, error: Exception) -> ExitrampError | None:
        import grpc

        if not isinstance(error, grpc.RpcError):
            closed = isinstance(error, ValueError) and "closed channel" in str(error)
            return StoreUnavailable(f"{self.address} was closed", hint="open it again") if closed else None
        code, said = error.code(), redact(" ".join((error.details() or "").split()))[:300]
        match code:
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return StoreTimeout(f"{self.address} did not answer in time", hint="is it stopped or overloaded?")
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
                if self._closed:
                    return StoreUnavailable(f"{self.address} was closed", hint="open it again")
                where = f"{self.address.host}:{self.address.port or _PORT}"
                return StoreUnavailable(f"{self.address} cannot be reached", hint=f"is it running on {where}?")
            case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in said:
                return RequestTooLarge(f"{self.address}: {said}")
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return StoreUnavailable(f"{self.address} takes no more at the moment: {said}")
            case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
                return self._no_access(said)
            case grpc.StatusCode.UNIMPLEMENTED:
                return Refused(f"{self.address} has no such call: {said}", -1)
        return StoreProtocolError(f"{self.address}: {code.name.lower()}: {said}")

    def _no_access(self, said: str) -> StoreRejected:
        given = "token" in self.address.options
        hint = "may this user do that?" if given else "give USER:PASSWORD, or an API key, with ?token=env:NAME"
        return StoreRejected(f"{self.address} refuses access: {said}", hint=hint)

    def _refusal(self, status: Any) -> ExitrampError:
        said, code = redact(" ".join(status.reason.split()))[:300], status.code
        # What is wrong in a filter's expression is told with the expression, and that holds any word.
        own = status.reason.partition("\n")[0].partition("expression:")[0].lower()
        name = self.address.collection
        if code in _NO_COLLECTION or (not code and status.error_code == _OLD_NO_COLLECTION):
            return CollectionMissing(f"{self.address}: there is no collection {name!r}", hint=self._names_hint())
        if code == _NO_DATABASE or "database not found" in own:
            return CollectionMissing(f"{self.address}: there is no database {self.database!r}")
        if code == _NOT_LOADED:
            return NotLoaded(
                f"{self.address}: the collection is not loaded, and Milvus reads only what is",
                hint="load it, or have it loaded with ?load=true: it takes the server's memory, and stays there",
            )
        if status.retriable or (code in _PASSING and not self.is_lite):
            return StoreUnavailable(f"{self.address} cannot do that at the moment: {said}")
        if code in _NO_ACCESS or status.error_code == _OLD_NO_ACCESS or "permission deny" in own:
            return self._no_access(said)
        if "larger than max" in own or "message too large" in own:
            return RequestTooLarge(f"{self.address}: {said}")
        return Refused(f"{self.address} refuses this: {said}", code or status.error_code)

    def names(self) -> tuple[str, ...]:
        """The collections of the database, sorted."""
        from pymilvus.grpc_gen import milvus_pb2 as pb

        return tuple(sorted(self.call("ShowCollections", pb.ShowCollectionsRequest()).collection_names))

    def _names_hint(self) -> str | None:
        try:
            return f"the collections there are: {', '.join(map(repr, self.names()[:20])) or 'none'}"
        except ExitrampError:
            return None


class _Engines:
    """milvus-lite's engines in this process, each for all who have its path open: it lets in nobody else."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Path, list[Any]] = {}

    def acquire(self, path: Path, where: str) -> int:
        """The port on loopback that the engine of `path` answers on. Raises `PathUnusable` for what is none."""
        with self._lock:
            if path in self._open:
                self._open[path][0] += 1
                return int(self._open[path][3])
            os.environ.setdefault("MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES", str(_UNWRITTEN_BYTES))
            # What it could not do it would write to stderr as well, with a traceback.
            logging.getLogger("milvus_lite").addHandler(logging.NullHandler())
            from milvus_lite.adapter.grpc.server import start_server_in_thread
            from milvus_lite.exceptions import DataDirLockedError, MilvusLiteError
            from milvus_lite.server_manager import server_manager_instance

            if path.is_file():
                raise PathUnusable(
                    f"{path}: a file, where milvus-lite 3 has a folder",
                    hint="was it made by milvus-lite 2? read it with that version, and copy it into a server",
                )
            shared: Mapping[str, Any] = getattr(server_manager_instance, "_servers", {})
            if str(path) in shared:  # an application in this process had it open before us, and closes it itself
                self._open[path] = [1, None, None, shared[str(path)][2]]
                return int(shared[str(path)][2])
            try:
                with storage_errors(path, USED):
                    server, engine, port = start_server_in_thread(str(path))
            except DataDirLockedError as error:
                raise StoreUnavailable(f"{where} is open in another process", hint="end that one first") from error
            except MilvusLiteError as error:
                raise StoreRejected(f"{where}: {redact(str(error))[:300]}") from error
            self._open[path] = [1, server, engine, port]
            return int(port)

    def release(self, path: Path) -> None:
        with self._lock:
            held = self._open[path]
            held[0] -= 1
            if held[0]:
                return
            del self._open[path]
            if held[1] is not None:
                held[1].stop(grace=0).wait()
                held[2].close()


_ENGINES: Final = _Engines()


def _is_direct(address: Address, network: Network) -> bool:
    host = address.host or ""
    return any(host == each or host.endswith("." + each.lstrip(".")) for each in network.no_proxy)
