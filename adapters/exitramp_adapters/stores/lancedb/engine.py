"""LanceDB's library: what it is told before it is loaded, and what it raises.

Two settings keep its memory flat in the number of rows. What it reads ahead is bounded. And so is the number of heaps
that the C library keeps: it gives each thread one of its own, up to eight for every core, the engine's threads come and
go, and what one of them frees stays in its heap. Between 100,000 and 300,000 rows x 384 a read grew by 67, 87 and
103 MB, of which 30 were in use and the rest was free in some heap, and by 24, 14 and 20 with four heaps, in the same
time of the processor. Fewer did not make it less; giving memory back now and then (`malloc_trim`) hardly helped.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from exitramp.errors import (
    AddressError,
    CollectionMissing,
    ExitrampError,
    PathUnusable,
    StoreRejected,
    StoreUnavailable,
)

_AHEAD_BYTES: Final = 32 * 2**20
"""What the engine reads ahead of whoever uses it; its own 2 GiB are all of most tables. A scan of 300,000 x 384 took
310 MB with it and 630 without, in the same time."""
_HEAPS: Final = 4
_M_ARENA_MAX: Final = -8
_RUST_PLACE: Final = re.compile(r",? ?/\S+\.rs:\d+:\d+.*")
"""Where in its own source the engine raised an error, which tells a user nothing."""


def load() -> Any:
    """The library. What the user set in the environment is left as it is."""
    # Without this the engine tells of every new table, as a warning, on stderr. It reads it when it is loaded.
    os.environ.setdefault("LANCEDB_LOG", "error")
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(_AHEAD_BYTES))
    if "MALLOC_ARENA_MAX" not in os.environ and "arena_max" not in os.environ.get("GLIBC_TUNABLES", ""):
        _bound_heaps()
    import lancedb

    return lancedb


def _bound_heaps() -> None:
    """Of this process, where its C library is glibc: others have no such function. Heaps that are there stay, and are
    shared. It is for the whole process, since the engine's threads are not told apart from others."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, _HEAPS)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """What LanceDB raises, which is ValueError, OSError or RuntimeError and a text, as errors of ours."""
    try:
        yield
    except ExitrampError:
        raise
    except (ValueError, OSError, RuntimeError, TypeError, NotImplementedError) as error:
        said = _RUST_PLACE.sub("", str(error).split("\n")[0])[:300]
        low = said.lower()
        if "table" in low and "was not found" in low:
            raise CollectionMissing(f"{where}: there is no such table") from error
        if "invalid table name" in low:
            raise AddressError(
                f"{where}: LanceDB has no table of such a name", hint="letters, digits, _ - and ."
            ) from error
        if "no longer exists" in low:
            raise StoreRejected(f"{where}: {said}", hint="that version was cleaned away, or never was") from error
        if "permission denied" in low or "read-only file system" in low:
            raise PathUnusable(f"{where}: LanceDB may not write or read there") from error
        if "commit conflict" in low or "concurrent" in low:
            raise StoreUnavailable(f"{where}: somebody else wrote at the same time") from error
        if "not found" in low or "no such file" in low:
            raise StoreRejected(
                f"{where}: a file of the table is gone", hint="was an old version cleaned away meanwhile? start anew"
            ) from error
        raise StoreRejected(f"{where}: LanceDB refused it: {said}") from error
    except Exception as error:
        if type(error).__name__ != "RustPanic":  # of a module that cannot be imported
            raise
        raise StoreRejected(f"{where}: LanceDB's engine broke down over it (RustPanic)") from error
