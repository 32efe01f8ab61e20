"""FAISS index files: `faiss:./articles.faiss`, an index with a side-car for what it has no room for.

With a side-car (`ports.side_car` describes both files) any record is kept exactly, cosine included: the index holds
unit vectors then, and the side-car the originals, which doubles what is written to disk. Where all vectors are of unit
length already, as those of most models are, the index holds them as they are, and the side-car none. Without one the
file is a source of integer ids and vectors. Index types that do not give vectors back as they were are refused by name,
unless the address says `?lossy=reconstruct`: then their approximations are read, and a finding says so.

A new collection is an `IndexFlat`, exact and bit for bit. `?factory=HNSW32` or `?factory=IVF256,Flat` builds that
index in `finish`; until then the file holds the flat one, so that a flush costs a copy and not an index build.

Vectors of a collection that is read are in memory while it is open. A flush goes by blocks of rows from file to file:
of 100,000 x 384 a load took 23 to 42 MB more than of 10,000, where the bare library takes 160.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.durable import READ, storage_errors
from exitramp.errors import IntegrityError, UsageError
from exitramp.ports import IndexCoverage, SearchSettings, SinkLimits, StoreAdapter
from exitramp.ports.index_bytes import HEAD_BYTES, Bytes
from exitramp.ports.side_car import FileState, side_car_path
from exitramp.ports.side_car_records import Change, Held, IndexContent
from exitramp.ports.side_car_search import compare_all, unit_rows
from exitramp.ports.side_car_store import SideCarStore
from exitramp.ports.side_car_vectors import Matrix, forward
from exitramp.records import DType, Finding, IdKind, Metric, VectorField, VectorKind
from exitramp.urls import Address, Network
from exitramp_adapters.stores.faiss.flat import FlatFile, FlatVectors
from exitramp_adapters.stores.faiss.index import (
    LARGEST,
    about_index,
    are_unit,
    ask,
    build_index,
    faiss_metric,
    flat_in,
    index_in,
    innermost,
    lists_of,
    metric_of,
    read_index,
    read_rows,
    sdk,
    search_options,
    vectors_at,
)

_FLAT: Final = frozenset({"IndexFlat", "IndexFlatIP", "IndexFlatL2"})
_FACTORIES: Final = re.compile(r"Flat|HNSW[1-9]\d{0,2}(,Flat)?|IVF[1-9]\d{0,6},Flat")
_APPROXIMATE: Final = "source.approximate_vectors"


class FaissEngine:
    """What FAISS does for `SideCarStore`. It calls each record by its row."""

    scheme = "faiss"
    labelled = False

    def __init__(self, address: Address) -> None:
        address.only_options("factory", "lossy")
        factory, lossy = address.option("factory"), address.option("lossy")
        if factory is not None and not _FACTORIES.fullmatch(factory):
            raise UsageError(
                f"{address}: the factory '{factory}' is none of Flat, HNSW<links>,Flat and IVF<lists>,Flat",
                hint="others do not give vectors back as they were, or are not read by exitramp",
            )
        if lossy not in (None, "reconstruct"):
            raise UsageError(
                f"{address}: lossy is 'reconstruct' or left away",
                hint="lossy=reconstruct reads an index that keeps vectors only roughly",
            )
        self._factory = factory
        self._reconstructs = lossy is not None
        self._looked_at: tuple[weakref.ref[Matrix], bool] | None = None

    def version(self) -> str:
        return str(sdk().__version__)

    def vectors_at(self, head: bytes) -> int | None:
        return vectors_at(head)

    def read(self, path: Path, told: VectorField | None, data: Bytes | None) -> IndexContent:
        index = read_index(path) if data is None else index_in(path, data)
        read = read_rows(path, index, reconstructs=self._reconstructs and told is None)
        own = None if data is None else flat_in(data, read.matrix)
        if told is not None and (told.dimensions, faiss_metric(told.metric)) != (index.d, index.metric_type):
            what = f"{side_car_path(path)} describes: {told.metric}, {told.dimensions}"
            raise IntegrityError(f"{path} is not an index of what {what}")
        metric = metric_of(path, index) if told is None else told.metric
        field = told or VectorField("", VectorKind.DENSE, DType.FLOAT32, metric, int(index.d))
        mapped = told is None and innermost(index) is not index
        ids = "the index's own" if mapped else "row numbers"
        return IndexContent(
            index,
            read.labels,
            read.matrix if own is None else own,
            field,
            IdKind.INT64,
            about_index(index),
            f"ids are {ids}, the metric is the index's own (FAISS has no cosine)",
            () if read.rough is None else (_approximate(path, index, read.rough),),
            read.ids if mapped else None,
            stays=own is not None,
        )

    def limits(self, limits: SinkLimits) -> SinkLimits:
        metrics = {Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN}
        flat = self._factory in (None, "Flat")
        return replace(
            limits,
            # The other index types take L1 only in part, so that it is left to the flat one.
            metrics=frozenset(metrics | {Metric.MANHATTAN} if flat else metrics),
            # Graphs and clusterings compare by squares: what overflows there ends the process inside FAISS.
            nonfinite_vectors=flat,
            vector_magnitude=None if flat else LARGEST,
            records_least=lists_of(self._factory or ""),
        )

    def gives_back(self, held: Held) -> bool:
        return held.field.metric is not Metric.COSINE or self._is_unit(held.matrix)

    def empty(self, field: VectorField, told: Mapping[str, Any]) -> tuple[Any, str]:
        return build_index("Flat", field.metric, np.zeros((0, field.item_count), np.float32)), self._factory or "Flat"

    def follow(self, path: Path, change: Change) -> Any:
        held = change.after
        cosine = held.field.metric is Metric.COSINE
        return FlatFile(held.field.metric, held.matrix, unit=cosine and self._is_unit(held.matrix))

    def finished(self, path: Path, held: Held) -> tuple[Any, str] | None:
        factory = self._factory or held.factory
        if factory == "Flat" or not len(held.matrix):
            return None
        return self._built(factory, held), factory

    def _built(self, factory: str, held: Held) -> Any:
        metric = held.field.metric
        unit = metric is Metric.COSINE and self._is_unit(held.matrix)
        return build_index(factory, metric, np.asarray(held.matrix[:]), unit=unit)

    def _is_unit(self, matrix: Matrix) -> bool:
        """Looked at once: 20,000 x 384 take 8 ms."""
        if self._looked_at is None or self._looked_at[0]() is not matrix:
            self._looked_at = weakref.ref(matrix), are_unit(forward(matrix))
        return self._looked_at[1]

    def write(self, index: Any, path: Path) -> None:
        if isinstance(index, FlatFile):
            index.write(path)
        else:
            sdk().write_index(index, str(path))

    def lying(self, path: Path, state: FileState, held: Held) -> Matrix | None:
        """Of cosine the index has what was put in wherever the side-car has no originals."""
        with storage_errors(path, READ), path.open("rb") as file:
            at = vectors_at(file.read(HEAD_BYTES))
        count, items = held.matrix.shape
        return None if at is None else FlatVectors(path, state, at, (count, items))

    def ask(
        self,
        held: Held,
        vector: npt.NDArray[Any],
        k: int,
        rows: npt.NDArray[np.int64] | None,
        settings: SearchSettings,
    ) -> tuple[Sequence[float], npt.NDArray[Any]]:
        content = held.content
        asked = vector.reshape(1, -1)
        if held.field.metric is Metric.COSINE:
            asked = unit_rows(asked)
        rough = any(finding.code == _APPROXIMATE for finding in content.findings)
        labels = held.labels.astype(np.int64, copy=False)
        answer = ask(content.index, labels, asked, k, None if rows is None else labels[rows], settings, rough=rough)
        if answer is not None:
            return answer
        distances, found = compare_all(held, vector, k, rows)  # of what the index gave back
        # FAISS gives inner products where `compare_all` gives distances.
        return [1 - each for each in distances] if held.field.metric is Metric.DOT else distances, found

    def search_options(self, held: Held) -> Mapping[str, Any]:
        return search_options(held.content.index)

    def coverage(self, held: Held) -> IndexCoverage:
        rows, kind = len(held.labels), type(innermost(held.content.index)).__name__
        if kind in _FLAT:
            return IndexCoverage(0, rows, "its index is Flat")
        return IndexCoverage(rows, 0)


def _approximate(path: Path, index: Any, why: str) -> Finding:
    kind = type(innermost(index)).__name__
    return Finding(
        _APPROXIMATE,
        f"{path} is an {kind}: {why}. The vectors are the index's approximation and not those that were put in; if "
        "there are originals, copy from there",
        detail={"index": about_index(index)},
    )


def _open(address: Address, network: Network) -> SideCarStore:
    return SideCarStore(address, FaissEngine(address))


ADAPTER = StoreAdapter(
    scheme="faiss",
    summary="FAISS index files with a side-car for ids, documents and payloads",
    address_form="faiss:PATH.faiss",
    open=_open,
    extra="faiss",
    requires=("faiss",),
    ending=".faiss",
)
