"""One operation in a process of its own, and the most memory it took: `python -m benchmarks.memory_run NAME FOLDER`.

Prints JSON: `private_mb`, the peak of what is not backed by a file, sampled every 10 ms, and `resident_mb`, the peak of
everything; both of the process and those that it starts, together (a dump starts one). An engine in process maps its
files into memory: those pages are the system's cache, which it takes back when it wants, and they are in the second
figure only.
"""

from __future__ import annotations

import json
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks import corpus
from benchmarks.corpus import NAME


class Watch:
    """Samples the memory of this process and its children until asked."""

    def __init__(self) -> None:
        self._private = self._resident = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        import psutil

        process: Any = psutil.Process()
        while not self._stop.wait(0.01):
            private = resident = 0
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):  # it may have ended by now
                    found = each.memory_info()
                    private += found.rss - found.shared
                    resident += found.rss
            self._private, self._resident = max(self._private, private), max(self._resident, resident)

    def megabytes(self) -> dict[str, int]:
        self._stop.set()
        self._thread.join()
        # Not the kernel's own maximum: a child begins with that of the process that made it.
        return {"private_mb": self._private >> 20, "resident_mb": self._resident >> 20}


def seed(folder: Path, rows: int) -> None:
    corpus.fill_edge(folder / "files", rows)


def dump(folder: Path) -> int:
    from exitramp.migration import migrate
    from exitramp.wrappers import open_endpoint

    with (
        open_endpoint(f"qdrant:{folder / 'files'}#{NAME}") as source,
        open_endpoint(f"dump:{folder / 'dump'}") as target,
    ):
        return migrate(source, target).rows


def restore(folder: Path) -> int:
    """The whole command: measure, plan, copy, read back. But for building the index, which is the engine's own and
    would take ten minutes at 200,000 rows on two cores."""
    from exitramp.migration import migrate
    from exitramp.wrappers import open_endpoint
    from exitramp_adapters.stores.qdrant.edge import EdgeSink

    EdgeSink.finish = lambda sink, account: sink.flush()  # type: ignore[method-assign,assignment]
    with (
        open_endpoint(f"dump:{folder / 'dump'}") as source,
        open_endpoint(f"qdrant:{folder / 'restored'}#{NAME}") as target,
    ):
        return migrate(source, target).rows


def compare(folder: Path) -> int:
    from exitramp.migration import compare_endpoints
    from exitramp.wrappers import open_endpoint

    address = f"dump:{folder / 'dump'}"
    with open_endpoint(address) as left, open_endpoint(address) as right:
        return compare_endpoints(left, right).records.compared


def verify(folder: Path) -> int:
    from exitramp.dump.integrity import verify_dump

    return verify_dump(folder / "dump").rows


OPERATIONS = {"dump": dump, "verify": verify, "compare": compare, "restore": restore}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    watch = Watch()
    rows = OPERATIONS[name](folder)
    print(json.dumps({"rows": rows, **watch.megabytes()}))


if __name__ == "__main__":
    main()
