"""What becomes of a collection's index settings on the way into a store of another kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from exitramp.ports import SinkLimits
from exitramp.ports.index_settings import hnsw_of, other_settings
from exitramp.records import Finding


def index_findings(index: Mapping[str, Any], limits: SinkLimits, *, kind: str) -> Iterator[Finding]:
    """Nothing for a sink of the same `kind`, which reads the settings as they stand, nor for one that keeps all.

    A store's settings stand under the name of its kind, at whatever distance the records come from it.
    """
    if kind.partition("+")[0] in index or limits.verbatim:
        return
    graph = hnsw_of(index)
    if graph is not None:
        told = graph.told()
        taken = {name: value for name, value in told.items() if name in limits.index_settings}
        left = {name: value for name, value in told.items() if name not in taken}
        words = f"the source's graph has {_words(told)}"
        if taken:
            words += f"; the target's is built with {_words(taken)}"
        if left:
            words += f"; not carried over: {_words(left)}; set what the target has of it"
        yield Finding("index.settings", words, detail={"source": told, "taken": taken, "left": left})
    others = other_settings(index)
    if others:
        text = f"{' and '.join(others)} of the source are recorded, and not made in a store of another kind"
        yield Finding("index.others", f"{text}: make there what your searches need", detail={"what": others})


def _words(settings: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
