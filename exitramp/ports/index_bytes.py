"""The bytes of an index file, read once: what is parsed are the bytes that were hashed, and not the file once more.

A damaged file can end the process inside the library that parses it, so its hash is made first. A library that parses
bytes in memory, or whose files are read here without it, needs no second read then, and nobody can replace the file in
between.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.durable import READ, storage_errors

Bytes = npt.NDArray[np.uint8]
VectorsAt = Callable[[bytes], int | None]
"""Given how a file begins: where its vectors do, or None where its bytes are not wanted."""

HEAD_BYTES: Final = 64
_CHUNK_BYTES: Final = 2**20
"""What is hashed while it still is in the processor's cache."""
_ALIGNED: Final = 64
"""Arrow's own alignment."""


@dataclass(frozen=True, slots=True)
class HashedFile:
    """`data`: all of its bytes, read-only, the vectors aligned; None where they were not wanted."""

    sha256: str
    data: Bytes | None


def hash_file(path: Path, vectors_at: VectorsAt) -> HashedFile:
    """Hashlib lets go of the interpreter meanwhile: 31 MB are 16 ms, in which another thread has the whole of it."""
    with storage_errors(path, READ), path.open("rb", buffering=0) as file:
        head = file.read(HEAD_BYTES)
        at = vectors_at(head)
        file.seek(0)
        data = None if at is None else _aligned(os.fstat(file.fileno()).st_size, at)
        if data is None:
            return HashedFile(hashlib.file_digest(file, "sha256").hexdigest(), None)
        view, digest, done = memoryview(data), hashlib.sha256(), 0
        while count := file.readinto(view[done : done + _CHUNK_BYTES]):
            digest.update(view[done : done + count])
            done += count
    data = data[:done]
    data.flags.writeable = False
    return HashedFile(digest.hexdigest(), data)


def _aligned(size: int, at: int) -> Any:
    """Room for so many bytes, of which that `at` lies where Arrow wants a column to begin; None: there is none."""
    try:
        room = np.empty(size + _ALIGNED, np.uint8)
    except MemoryError:  # a file with holes, say: it is told from the right one by its hash all the same
        return None
    first = -(room.ctypes.data + at) % _ALIGNED
    return room[first : first + size]
