"""Passages out of a store: the question becomes a vector, the store says what is near it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from exitramp.embedding_identity import Identified, require_same
from exitramp.errors import ConfigError
from exitramp.orchestration.stack import Passage
from exitramp.ports import Embedder, Query, SearchSettings, VectorSearch
from exitramp.records import VectorField, VectorKind
from exitramp.wrappers import Endpoint

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class StorePassages:
    """Nearest records of a collection. Those of equal score are in the order of their ids, so that a run can be
    repeated. Thread-safe as far as its store is."""

    def __init__(
        self,
        endpoint: Endpoint,
        embed: Callable[[str], npt.NDArray[np.float32]],
        *,
        vector_field: str | None,
        settings: SearchSettings,
    ) -> None:
        self._endpoint = endpoint
        self._embed = embed
        self._field = vector_field
        self._settings = settings
        self._lock = threading.Lock()
        self._search: VectorSearch | None = None

    def __call__(self, question_text: str, k: int, /) -> Sequence[Passage]:
        search, name = self._opened()
        query = Query(field=name, dense=self._embed(question_text))
        hits = search.search(query, k=k, settings=self._settings, with_records=True)
        assert hits.records is not None
        texts = _documents(hits.records)
        found = [Passage(str(key), texts.get(str(key)) or "", score)
                 for key, score in zip(hits.keys, hits.scores, strict=True)]  # fmt: skip
        alike = (list(group) for _, group in groupby(found, key=lambda passage: passage.score))
        return [passage for group in alike for passage in sorted(group, key=lambda each: each.id)]

    def _opened(self) -> tuple[VectorSearch, str]:
        with self._lock:
            if self._field is None:
                dense = [each for each in self._endpoint.source().describe().vectors if each.kind is VectorKind.DENSE]
                if not dense:
                    raise ConfigError(f"{self._endpoint.address} has no dense vector field to search")
                self._field = dense[0].name
            if self._search is None:
                self._search = self._endpoint.search()
            return self._search, self._field


Probe = Callable[[Endpoint, VectorField], str | None]
"""What a few documents that are embedded again show, as `exitramp.orchestration.probing.probed` says it."""


def require_collections_model(
    endpoint: Endpoint, vector_field: str | None, embedder: Embedder, probe: Probe | None = None
) -> str | None:
    """Raises `ModelDiffers` with both fingerprints where the vectors that would be searched are of another embedding
    model than `embedder`, `CollectionMissing` where there is no such collection, and `ConfigError` where it has no such
    vectors; returns a sentence where that cannot be shown by name, and None where they are of the same."""
    dense = [each for each in endpoint.source().describe().vectors if each.kind is VectorKind.DENSE]
    field = next((each for each in dense if vector_field in (None, each.name)), None)
    if field is None:
        wanted = "no dense vector field" if vector_field is None else f"no dense vector field '{vector_field}'"
        listed = ", ".join(repr(each.name) for each in dense) or "none"
        raise ConfigError(f"{endpoint.address} has {wanted} to search", hint=f"its dense vector fields are: {listed}")
    given = Identified(embedder.model(), embedder.dimensions)
    unshown = require_same(Identified.of(field), given, doing="the questions", where=str(endpoint.address))
    if unshown is None:
        return None
    seen = None if probe is None else probe(endpoint, field)
    return unshown.message if seen is None else seen


def _documents(batch: Any) -> dict[str, str | None]:
    from exitramp.arrow import record_keys

    keys = [str(key) for key in record_keys(batch)]
    if "document" not in batch.schema.names:
        return dict.fromkeys(keys)
    return dict(zip(keys, batch.column("document").to_pylist(), strict=True))
