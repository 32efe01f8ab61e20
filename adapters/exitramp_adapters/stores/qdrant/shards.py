"""Shards of Qdrant's engine on disk: which folder holds a collection, and who has it open.

A collection is the folder `ROOT/NAME`, the engine's own, readable without us. Names that are no plain file name are
percent-encoded. `exitramp.json` in the folder says where the records came from. The engine lets one process hold a
shard, through one handle; so the stores of a process share theirs. Opening a shard rewrites some of the engine's
bookkeeping files (not the records), a reader's opening too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from exitramp.durable import READ, WRITTEN, path_error, storage_errors, write_atomically
from exitramp.errors import (
    AddressError,
    DataInvalid,
    ExitrampError,
    PathUnusable,
    StoreProtocolError,
    StoreRejected,
    StoreUnavailable,
)
from exitramp.ports import Origin
from exitramp.records import IdKind
from exitramp.secrets import redact

SIDECAR: Final = "exitramp.json"
CONFIG: Final = "edge_config.json"
LOCAL_MODE: Final = (
    "the folder is one of qdrant-client's local mode, a format of its own that no engine reads: load its records into "
    "a server and name that, qdrant+http://HOST:PORT#NAME"
)

_REFUSALS: Final = ("Permission denied", "Read-only file system", "Operation not permitted")
_COPY_IT: Final = (
    "Qdrant's engine writes to a collection's files even where it only reads: copy the folder to where you may write, "
    "and name the copy"
)


@dataclass(slots=True)
class Handle:
    """An open shard. `config` is the engine's own configuration file; `written` whether anything was written since
    its indexes were last built."""

    folder: Path
    shard: Any
    config: dict[str, Any]
    users: int = 1
    written: bool = False


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What was noted when exitramp made the collection."""

    origin: Origin
    id_kind: IdKind


_HANDLES: dict[Path, Handle] = {}
_LOCK = threading.Lock()


def is_local_mode(root: Path) -> bool:
    """Whether `QdrantClient(path=root)` keeps its collections there: pickled points in SQLite."""
    return (root / "meta.json").is_file() and (root / "collection").is_dir()


def collection_folder(root: Path, name: str) -> Path:
    """Where the collection is, or would be made. Raises `AddressError` for a name that no folder can have."""
    root = root.resolve()
    encoded = root / folder_name(name)
    if len(encoded.name) > 255:
        raise AddressError(f"a collection's name of {len(name)} characters is too long for a folder's name")
    if is_shard(encoded) or "/" in name or "\0" in name:
        return encoded
    # A shard that somebody else made, under a name that we would have encoded.
    literal = root / name
    return literal if is_shard(literal) and collection_name(name) == name else encoded


def folder_name(name: str) -> str:
    """The file name for a collection's name; plain ASCII names stand for themselves."""
    try:
        encoded = quote(name, safe="")
    except UnicodeEncodeError as error:
        raise AddressError("a collection's name holds a lone surrogate, which is no character") from error
    return encoded if encoded.strip(".") else encoded.replace(".", "%2E")


def collection_name(folder: str) -> str:
    """The name whose folder is `folder`; the folder's own name where we would never have written it so."""
    decoded = unquote(folder, errors="surrogateescape")
    return decoded if decoded.isprintable() and folder_name(decoded) == folder else folder


def is_shard(folder: Path) -> bool:
    """Whether the folder holds a shard. The engine itself makes one of any folder that it is told to load."""
    with storage_errors(folder, READ):
        if (folder / CONFIG).is_file():
            return True
        segments = folder / "segments"
        return segments.is_dir() and any(segments.iterdir())


def collection_names(root: Path) -> tuple[str, ...]:
    """The collections in a folder, by name."""
    with storage_errors(root, READ):
        paths = list(root.iterdir()) if root.is_dir() else []
    return tuple(sorted(collection_name(path.name) for path in paths if is_shard(path)))


def acquire(folder: Path, opened: Callable[[], Any]) -> Handle:
    """The handle on the shard in `folder`, made by `opened()` unless this process has one. Give it back."""
    with _LOCK:
        handle = _HANDLES.get(folder)
        if handle is not None:
            handle.users += 1
            return handle
        with translated(str(folder)):
            shard = opened()
        with storage_errors(folder / CONFIG, READ):
            config = json.loads((folder / CONFIG).read_text("utf-8"))
        handle = _HANDLES[folder] = Handle(folder, shard, config)
        return handle


def release(handle: Handle) -> None:
    """Give a handle back; the last one closes the shard."""
    with _LOCK:
        handle.users -= 1
        if handle.users:
            return
        del _HANDLES[handle.folder]
        with translated(str(handle.folder)):
            handle.shard.close()


def read_sidecar(folder: Path) -> Sidecar | None:
    """None where exitramp did not make the collection. Raises `StoreProtocolError` for a damaged file."""
    path = folder / SIDECAR
    try:
        found = json.loads(path.read_text("utf-8"))
        return Sidecar(Origin.from_json(found["origin"]), IdKind(found["id_kind"]))
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise path_error(path, error, READ) from error
    except (OSError, ValueError, KeyError, TypeError, DataInvalid) as error:
        raise StoreProtocolError(f"{path} does not say where the records came from, as it should") from error


def write_sidecar(folder: Path, sidecar: Sidecar) -> None:
    """Write it whole or not at all. Raises as `durable.path_error` says where the disk refuses."""
    told = {"origin": sidecar.origin.to_json(), "id_kind": sidecar.id_kind.value}
    write_atomically(folder / SIDECAR, json.dumps(told, sort_keys=True).encode())


@contextmanager
def translated(where: str) -> Iterator[None]:
    """The engine's errors as ours. It raises plain `Exception`s whose text is all they say."""
    try:
        yield
    except ExitrampError:
        raise
    except Exception as error:
        raise _meaning(where, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # the binding's, which is no Exception
            raise
        raise StoreRejected(f"{where}: the engine panicked: {_said(error)}") from error


def _meaning(where: str, error: Exception) -> ExitrampError:
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return path_error(Path(error.filename or where), error, WRITTEN)
    refusal = next((word for word in _REFUSALS if word in text), None)
    if refusal is not None:
        return PathUnusable(f"{where}: cannot be written: {refusal}", hint=_COPY_IT)
    if "WouldBlock" in text:
        return StoreUnavailable(
            f"{where}: another process has this collection open, and the engine lets only one",
            hint="close the other program, or serve the folder with a Qdrant server and use qdrant+http:",
        )
    if "not initialized" in text:
        return StoreUnavailable(f"{where} was closed", hint="open it again")
    if isinstance(error, OSError) or "IO Error" in text or "Os {" in text:
        return StoreUnavailable(f"{where}: the folder cannot be read or written: {_said(error)}")
    return StoreRejected(f"{where}: the engine refused: {_said(error)}")


def _said(error: BaseException) -> str:
    return redact(" ".join(str(error).split()))[:200]
