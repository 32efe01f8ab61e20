"""Every real store that runs here, each with a place of its own in one folder; servers are started when needed."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exitramp.cli.main import run
from exitramp.registry import service_adapter

FOLDERS = ("chroma", "qdrant", "lancedb", "vdf")
"""Kinds whose collections are in one folder."""
FILES = {"duckdb": "all.duckdb", "sqlite-vec": "all.db", "milvus": "all.db"}
"""Kinds whose collections are in one file."""
SINGLE = {"faiss": ".faiss", "usearch": ".usearch", "hnswlib": ".bin", "hdf5": ".hdf5", "npy": ".npy", "dump": ""}
"""Kinds with a file or a folder for each collection."""
SERVERS = {
    "chroma+http": "chroma-run",
    "qdrant+http": "qdrant-shim",
    "pgvector": "postgres",
    "redis": "redis-server",
    "milvus+http": "milvus-server",
}
"""Kinds behind a server, with the service that runs one here."""
ALL = (*FOLDERS, *FILES, *SINGLE, *SERVERS)


@dataclass(frozen=True)
class Place:
    """One store. `base` is its address without a collection; of a kind in `SINGLE`, its folder."""

    kind: str
    base: str

    def address(self, collection: str) -> str:
        if self.kind in SINGLE:
            return f"{self.kind}:{self.base}/{collection}{SINGLE[self.kind]}"
        return f"{self.base}#{collection}"


@contextmanager
def places(folder: Path, kinds: Sequence[str]) -> Iterator[dict[str, Place]]:
    """A place of each of these kinds; servers are stopped at the end."""
    found: dict[str, Place] = {}
    with ExitStack() as stack:
        for kind in kinds:
            home = folder / kind
            home.mkdir(parents=True, exist_ok=True)
            if kind in SERVERS:
                service = service_adapter(SERVERS[kind]).make(str(home), 0, {})
                stack.callback(service.stop)
                found[kind] = Place(kind, service.start().with_collection(None).text)
            elif kind in SINGLE:
                found[kind] = Place(kind, str(home))
            else:
                found[kind] = Place(kind, f"{kind}:{home / FILES[kind] if kind in FILES else home / 'db'}")
        yield found


@dataclass(frozen=True)
class Ran:
    """A command that ended: its exit code, what it printed as JSON, what it said besides, and how long it took."""

    code: int
    told: Any
    said: str
    seconds: float

    def findings(self) -> list[str]:
        """The codes of what it found that is not in order."""
        told = self.told.get("findings", []) if isinstance(self.told, dict) else []
        return [each["code"] for each in told if each["verdict"] in ("fail", "inconclusive")]


def command(*words: object) -> Ran:
    """Run one command of exitramp with --json, in this process."""
    out, err = io.StringIO(), io.StringIO()
    started = time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([*(str(word) for word in words), "--json"])
    seconds = time.perf_counter() - started
    text = out.getvalue()
    return Ran(code, json.loads(text) if text else None, err.getvalue(), seconds)
