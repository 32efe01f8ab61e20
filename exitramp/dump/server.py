"""The manifest above the dumps of a whole server: which collections there were, and where the dump of each is.

my-dump/
  server.json              written last and atomically, when every collection's dump is finished
  server.json.sha256       over its exact bytes, written just before
  collections/NAME-HASH/   a dump each, complete by itself
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from exitramp.codec.ids import derived_name
from exitramp.dump.absence import is_there
from exitramp.dump.layout import MANIFEST, check_relative, read_whole
from exitramp.dump.manifest import SourceInfo, plain
from exitramp.dump.shape import strict_json
from exitramp.durable import make_folder, write_atomically
from exitramp.errors import CollectionMissing, DumpCorrupt, FormatUnknown
from exitramp.ports import NameRule
from exitramp.records import Finding, Verdict
from exitramp.urls import Address

FORMAT: Final = "exitramp-server-dump"
FORMAT_VERSION: Final = 1
SERVER: Final = "server.json"
SERVER_HASH: Final = "server.json.sha256"
COLLECTIONS: Final = "collections"
_NAMES: Final = NameRule(r"[a-z0-9-]+", maximum=60)


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """One collection: its name as the server lists it, the folder of its dump, and the SHA-256 of its manifest."""

    name: str
    folder: str
    rows: int
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class ServerManifest:
    """All of it. `source` is the server by itself; collections are in the order of their names."""

    version: str
    source: SourceInfo
    started_at: str
    ended_at: str
    collections: tuple[ServerEntry, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "tool": {"name": "exitramp", "version": self.version},
            "source": plain(self.source),
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "collections": [plain(entry) for entry in self.collections],
        }

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Raises `FormatUnknown` for another version, `DumpCorrupt` for what is not as it was written."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise DumpCorrupt(f"{SERVER}: 'format' is not {FORMAT!r}")
        if data.get("format_version") != FORMAT_VERSION:
            raise FormatUnknown(
                f"{SERVER}: this format version is not known; this program reads version {FORMAT_VERSION}",
                hint="use the exitramp version that wrote the dump, or a newer one",
            )
        try:
            found = cls(
                data["tool"]["version"],
                SourceInfo(**data["source"]),
                data["started_at"],
                data["ended_at"],
                tuple(ServerEntry(**entry) for entry in data["collections"]),
            )
        except (KeyError, TypeError) as error:
            raise DumpCorrupt(f"{SERVER}: not as it was written ({type(error).__name__})") from error
        found._check(data)
        return found

    def _check(self, data: Any) -> None:
        for entry in self.collections:
            texts = (entry.name, entry.folder, entry.manifest_sha256)
            if not all(isinstance(text, str) for text in texts) or type(entry.rows) is not int:
                raise DumpCorrupt(f"{SERVER}: a collection is not as it was written")
            check_relative(entry.folder, where=SERVER)
        if self.to_json() != data:
            raise DumpCorrupt(f"{SERVER}: something is missing, or stands in another form")
        names = [entry.name for entry in self.collections]
        if len(set(names)) != len(names) or len({entry.folder for entry in self.collections}) != len(names):
            raise DumpCorrupt(f"{SERVER}: a collection or a folder is listed twice")


def collection_folder(name: str) -> str:
    """Where the dump of the collection `name` is, within the whole: a readable part, and the hash that tells it apart
    from names that differ in case or in signs that not every file system keeps."""
    return f"{COLLECTIONS}/{derived_name(name, name, _NAMES)}"


def is_server_dump(folder: Path) -> bool:
    """Whether `folder` holds the dump of a whole server, or the beginning of one. Raises `PathUnusable`."""
    return not is_there(folder / MANIFEST) and (is_there(folder / SERVER) or is_there(folder / COLLECTIONS))


def write_server(folder: Path, manifest: ServerManifest) -> None:
    """Put the manifest in place, wholly or not at all; every dump it names is finished by then."""
    content = (json.dumps(manifest.to_json(), ensure_ascii=False, indent=2) + "\n").encode("utf-8")
    make_folder(folder)
    write_atomically(folder / SERVER_HASH, f"{hashlib.sha256(content).hexdigest()}  {SERVER}\n".encode("ascii"))
    write_atomically(folder / SERVER, content)


def read_server(folder: Path) -> ServerManifest:
    """Raises `CollectionMissing` where the dump was never finished, `DumpCorrupt`, `FormatUnknown`."""
    if not is_there(folder / SERVER):
        raise CollectionMissing(
            f"{folder} holds an unfinished dump of a whole server: {SERVER}, which comes last, was never written",
            hint="run the same dump command again: it goes on where it ended",
        )
    content = read_whole(folder, SERVER)
    found = ServerManifest.from_json(strict_json(content, name=SERVER))
    if read_whole(folder, SERVER_HASH) != f"{hashlib.sha256(content).hexdigest()}  {SERVER}\n".encode("ascii"):
        raise DumpCorrupt(f"{SERVER} and {SERVER_HASH} do not agree: one of them was changed in {folder}")
    return found


def folder_in(folder: Path, name: str) -> Path:
    """The folder of one collection's dump. Raises as `read_server` does, and for a name that is not there."""
    for entry in read_server(folder).collections:
        if entry.name == name:
            return folder / entry.folder
    raise CollectionMissing(
        f"{folder} holds no collection {name!r}", hint=f"'exitramp verify {folder}' lists those that it holds"
    )


def dump_folder(address: Address) -> Path:
    """The folder of the one dump that an address leads to, by itself or within the dump of a whole server."""
    folder = address.path
    if address.collection is None or not is_server_dump(folder):
        return folder
    return folder_in(folder, address.collection)


def server_findings(folder: Path, manifest: ServerManifest) -> list[Finding]:
    """What differs between the manifest and the folders it names, apart from what is inside each of them."""
    found = []
    listed = {entry.folder for entry in manifest.collections}
    for entry in manifest.collections:
        try:
            content = read_whole(folder / entry.folder, MANIFEST)
        except DumpCorrupt as error:
            found.append(Finding("dump.collection_missing", f"{entry.folder}: {error.message}", Verdict.FAIL))
            continue
        if hashlib.sha256(content).hexdigest() != entry.manifest_sha256:
            text = f"{entry.folder}: its manifest is not the one that {SERVER} names"
            found.append(Finding("dump.manifest_replaced", text, Verdict.FAIL))
    within = folder / COLLECTIONS
    for name in sorted(os.listdir(within)) if within.is_dir() else ():
        if f"{COLLECTIONS}/{name}" not in listed:
            text = f"{COLLECTIONS}/{name} is there, and {SERVER} does not name it"
            found.append(Finding("dump.stray", text))
    return found
