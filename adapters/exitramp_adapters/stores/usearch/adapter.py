"""usearch index files: `usearch:./articles.usearch`, an index with a side-car for what it has no room for.

With a side-car (`ports.side_car` describes both files) any record is kept exactly, of every dtype under every metric:
what is written here has the dtype of its collection, never usearch's own default, bfloat16, which is off by up to
1.6e-2. The index calls a record by its id wherever that is a number, and the side-car's column `label` says by which
number it calls the others. Never by 2^64 - 1: usearch takes that key, and has forgotten it when it loads the file.

Without one the file is a source of keys and vectors, of the dtype that it has. What has no counterpart (bfloat16, eight
bits and fewer of a float, unsigned bytes) is widened to float32, which holds every such number exactly. An index of
several vectors for a key is a source of such lists. A metric of which exitramp knows no counterpart is named, and read
where the address says by which one to compare (`?metric=cosine`).

A flush adds to the graph and writes both files anew: 20,000 x 384 took 0.1 s beside the 6 s of building their graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_array
from exitramp.durable import READ, storage_errors
from exitramp.errors import DataInvalid, IntegrityError, UsageError
from exitramp.ports import IndexCoverage, SearchSettings, SinkLimits, StoreAdapter
from exitramp.ports.index_bytes import Bytes
from exitramp.ports.index_settings import graph_settings
from exitramp.ports.side_car import FileState, side_car_path
from exitramp.ports.side_car_records import Change, Held, IndexContent
from exitramp.ports.side_car_search import compare_all, effort_of
from exitramp.ports.side_car_store import SideCarStore, number_option
from exitramp.ports.side_car_vectors import Matrix
from exitramp.records import DType, Finding, IdKind, Metric, VectorField, VectorKind, parse_metric
from exitramp.urls import Address, Network
from exitramp_adapters.stores.usearch.graph import (
    EXPANSION_SEARCH,
    METRICS,
    SCALARS,
    SETTINGS,
    added,
    made,
    numpy_type,
    put,
    sdk,
    settings_in,
    stored,
    unreached,
)
from exitramp_adapters.stores.usearch.in_bytes import VECTORS_AT, Lazy, parsed

_WIDENED: Final = ("BF16", "E5M2", "E4M3", "E3M2", "E2M3", "U8")
LARGEST: Final = 1e15
"""The greatest number that is taken: its square, summed, stays within the float32 that distances are given in."""
_FETCHED_ROWS: Final = 1024
_MENDED_TIMES: Final = 4


class UsearchEngine:
    """What usearch does for `SideCarStore`."""

    scheme = "usearch"
    labelled = True

    def __init__(self, address: Address) -> None:
        address.only_options("metric", *SETTINGS)
        metric = address.option("metric")
        self._address = address
        self._metric = None if metric is None else parse_metric(metric, where=str(address))
        numbers = {name: number_option(address, name) for name in SETTINGS}
        self._settings = {name: number for name, number in numbers.items() if number is not None}

    def version(self) -> str:
        return version("usearch")

    def vectors_at(self, head: bytes) -> int | None:
        return VECTORS_AT

    def read(self, path: Path, told: VectorField | None, data: Bytes | None) -> IndexContent:
        found = None if told is None or data is None else self._in_bytes(path, told, data)
        return found or self._by_usearch(path, told)

    def _in_bytes(self, path: Path, told: VectorField, data: Bytes) -> IndexContent | None:
        """Without usearch, where its file is the usual one and is an index of what was told."""
        found = parsed(data)
        if found is None:
            return None
        engine, kinds = sdk(), (SCALARS[told.dtype], METRICS.get(told.metric), told.dimensions)
        try:
            metric, scalar = engine.MetricKind(found.metric), engine.ScalarKind(found.scalar)
        except ValueError:
            return None
        kind, items = numpy_type(told.dtype), told.item_count
        wide = items * np.dtype(kind).itemsize
        if (scalar.name, metric.name, found.dimensions) != kinds or found.vectors.shape[1] != wide:
            return None
        about = {"metric": metric.name, "scalar": scalar.name, "version": found.version, "multi": False}
        about |= {"present": len(found.keys), "deleted": found.deleted, "connectivity": found.connectivity}
        self._metric_of(path, about, told.dtype, told)
        return IndexContent(
            Lazy(partial(engine.Index, ndim=told.dimensions, dtype=scalar, metric=metric), data),
            found.keys,
            found.vectors.reshape(-1).view(kind).reshape(-1, items),
            told,
            IdKind.UINT64,
            {self.scheme: about},
            "",
            stays=True,
        )

    def _by_usearch(self, path: Path, told: VectorField | None) -> IndexContent:
        index, about = self._loaded(path)
        scalar = about["scalar"]
        dtype = next((dtype for dtype, name in SCALARS.items() if name == scalar), DType.FLOAT32)
        metric = self._metric_of(path, about, dtype, told)
        field = told or VectorField("", VectorKind.DENSE, dtype, metric, int(index.ndim))
        if (field.dtype, field.metric, field.dimensions) != (dtype, metric, index.ndim):
            what = f"{side_car_path(path)} describes: {field.dtype}, {field.metric}, {field.dimensions}"
            raise IntegrityError(f"{path} is not an index of what {what}")
        keys = np.asarray(index.keys[:], np.uint64)
        keys = np.unique(keys) if index.multi else np.sort(keys)
        # Exactly the bits that are kept: `get` without a dtype gives every kind but the widened ones as it is.
        wide = None if scalar in SCALARS.values() or scalar == "U8" else "f32"
        matrix, counts = _vectors(
            index, keys, wide, np.uint8 if scalar == "U8" else numpy_type(dtype), field.item_count
        )
        matrix = matrix.astype(np.float32) if scalar == "U8" else matrix
        lists = None
        if len(matrix) != len(keys):
            ends = np.cumsum([0, *counts], dtype=np.int32)
            lists = pa.ListArray.from_arrays(pa.array(ends), dense_array(matrix, field))
            field = replace(field, kind=VectorKind.MULTI)
            matrix = np.zeros((len(keys), 0), matrix.dtype)
        return IndexContent(
            index,
            keys,
            matrix,
            field,
            IdKind.UINT64,
            {self.scheme: about},
            "ids are the index's own keys, and the metric is " + _told_by(about, metric),
            _findings(path, about, len(lists.values) if lists is not None else len(keys)) if told is None else (),
            lists=lists,
            stays=True,
        )

    def _loaded(self, path: Path) -> tuple[Any, dict[str, Any]]:
        index_type = sdk().Index
        with storage_errors(path, READ), path.open("rb") as file:
            begins = file.read(8)
        damaged = IntegrityError(f"{path} cannot be read as an index of usearch; it begins with {begins!r}")
        try:
            head: dict[str, Any] = index_type.metadata(path) or {}
            kind = {name: head[f"kind_{name}"].name for name in ("metric", "scalar", "key")}
        except (RuntimeError, ValueError, KeyError) as error:
            raise damaged from error
        if kind["key"] != "U64" or kind["scalar"] not in (*SCALARS.values(), *_WIDENED):
            raise DataInvalid(f"{path} has keys of {kind['key']} and vectors of {kind['scalar']}, which are not read")
        if not head["matrix_included"]:
            raise DataInvalid(f"{path} was saved without its vectors, and there is nothing to read")
        index = index_type(ndim=head["dimensions"], dtype=head["kind_scalar"], metric=head["kind_metric"])
        try:
            index.load(path)  # never as a view: the file may be replaced while it is read
        except RuntimeError as error:
            raise damaged from error
        about = {"metric": kind["metric"], "scalar": kind["scalar"], "version": head["version"], "multi": index.multi}
        about |= {"present": head["count_present"], "deleted": head["count_deleted"]}
        return index, about | {"connectivity": index.connectivity}

    def _metric_of(self, path: Path, about: Mapping[str, Any], dtype: DType, told: VectorField | None) -> Metric:
        metric = next((metric for metric, name in METRICS.items() if name == about["metric"]), None)
        said = self._metric
        if metric is None and said is None:
            raise DataInvalid(
                f"{path}: usearch's metric '{about['metric']}' has no counterpart in exitramp",
                hint="add ?metric= to the address to say by which one to compare instead",
            )
        if None not in (metric, said) and metric is not said:
            raise UsageError(f"{self._address}: the index there has the metric {metric}")
        found = metric or said
        assert found is not None
        if (found is Metric.HAMMING) != (dtype is DType.BINARY):
            raise DataInvalid(f"{path} compares vectors of {about['scalar']} by {found}, which exitramp does not know")
        return found

    def limits(self, limits: SinkLimits) -> SinkLimits:
        return replace(
            limits,
            metrics=frozenset(METRICS) if self._metric is None else frozenset({self._metric}),
            dtypes=frozenset(SCALARS),
            index_settings=frozenset({"m", "ef_construction"}),
            nonfinite_vectors=False,
            vector_magnitude=LARGEST,
        )

    def gives_back(self, held: Held) -> bool:
        return True

    def empty(self, field: VectorField, told: Mapping[str, Any]) -> tuple[Any, str]:
        own = {name: int(value) for name, value in (told.get(self.scheme) or {}).items() if name in SETTINGS}
        settings = SETTINGS | graph_settings(told, *SETTINGS) | own | self._settings
        return made(field, settings), ",".join(f"{name}={value}" for name, value in settings.items())

    def follow(self, path: Path, change: Change) -> Any:
        before, after = change.before, change.after
        settings = settings_in(before.factory)
        if not len(before.labels):  # usearch does not take the settings of an empty index out of its file
            return added(made(after.field, settings), after, change.fresh)
        index, _ = self._loaded(path)
        index.expansion_add = settings["expansion_add"]
        for labels in (change.gone, np.intersect1d(after.labels[change.fresh], before.labels)):
            if len(labels):
                index.remove(labels.astype(np.uint64))
        return added(index, after, change.fresh)

    def finished(self, path: Path, held: Held) -> tuple[Any, str] | None:
        """A graph that drags more deleted than a fourth of its records along is built anew. One in which a walk does
        not come to every record is mended: no search would find those, however long it looks. Of 3,000 x 64 of which
        half had been replaced, four times, it came to some 2,080; of 20,000 x 384 just put in, to all
        but 3."""
        settings, everything = settings_in(held.factory), np.arange(len(held.labels))
        if sdk().Index.metadata(path)["count_deleted"] * 4 > len(held.labels):
            index = added(made(held.field, settings), held, everything)
            return self._mended(index, held, settings)[0], held.factory
        if not len(held.labels):
            return None
        index, _ = self._loaded(path)
        index, changed = self._mended(index, held, settings)
        if len(unreached(index, held)):
            index = self._mended(added(made(held.field, settings), held, everything), held, settings)[0]
        return (index, held.factory) if changed else None

    def _mended(self, index: Any, held: Held, settings: Mapping[str, int]) -> tuple[Any, bool]:
        """What a walk does not come to is put in again, and gets other neighbours by that."""
        index.expansion_add = settings["expansion_add"]
        for again in range(_MENDED_TIMES + 1):
            lost = unreached(index, held)
            if not len(lost) or again == _MENDED_TIMES:
                break
            labels = held.labels[lost].astype(np.uint64)
            vectors = stored(index, labels, held.field)  # the collection's own need not be in memory
            index.remove(labels)
            put(index, labels, vectors, held.field)
        return index, again > 0

    def lying(self, path: Path, state: FileState, held: Held) -> Matrix | None:
        return None  # a flush asks for them only where the graph is built anew

    def write(self, index: Any, path: Path) -> None:
        (index.index if isinstance(index, Lazy) else index).save(path)

    def ask(
        self,
        held: Held,
        vector: npt.NDArray[Any],
        k: int,
        rows: npt.NDArray[np.int64] | None,
        settings: SearchSettings,
    ) -> tuple[Sequence[float], npt.NDArray[Any]]:
        effort = effort_of(settings, "expansion_search", EXPANSION_SEARCH, "usearch")
        if settings.exact or rows is not None or not self._answers(held):
            return compare_all(held, vector, k, rows)
        index = held.content.index
        index = index.index if isinstance(index, Lazy) else index
        index.expansion_search = max(k, effort)
        found = index.search(vector, k, dtype=SCALARS[held.field.dtype].lower())
        if len(found) < k:  # its walk ended before k were found
            return compare_all(held, vector, k, None)
        return found.distances.tolist(), found.keys

    def _answers(self, held: Held) -> bool:
        """Whether the index compares by the collection's metric, and takes a query of its numbers for what they are."""
        about = held.content.about[self.scheme]
        return bool(about["metric"] == METRICS[held.field.metric] and about["scalar"] != "U8")

    def search_options(self, held: Held) -> Mapping[str, Any]:
        return {"expansion_search": EXPANSION_SEARCH}

    def coverage(self, held: Held) -> IndexCoverage:
        count = len(held.labels)
        if held.content.lists is not None:
            return IndexCoverage()
        return IndexCoverage(count, 0) if self._answers(held) else IndexCoverage(0, count, "its index is not asked")


def _vectors(
    index: Any, keys: npt.NDArray[np.uint64], wide: str | None, kind: npt.DTypeLike, items: int
) -> tuple[npt.NDArray[Any], list[int]]:
    """The vectors of these keys, in their order, and how many each has. usearch makes an array of each, so they are
    fetched a few at a time: all 20,000 x 384 at once took three times as long."""
    parts, counts = [np.zeros((0, items), kind)], []
    matrix = np.empty((0 if index.multi else len(keys), items), kind)
    for start in range(0, len(keys), _FETCHED_ROWS):
        found = index.get(keys[start : start + _FETCHED_ROWS], wide)
        if not index.multi:
            np.concatenate(found, axis=None, out=matrix[start : start + len(found)].reshape(-1))
            continue
        parts.append(np.concatenate(found, axis=None).reshape(-1, items))
        counts += [each.size // items for each in found]
    return (np.concatenate(parts), counts) if index.multi else (matrix, [1] * len(keys))


def _told_by(about: Mapping[str, Any], metric: Metric) -> str:
    if about["metric"] == METRICS.get(metric):
        return "the index's own"
    return f"{metric} because the address says so, where the index says {about['metric']}"


def _findings(path: Path, about: Mapping[str, Any], read: int) -> tuple[Finding, ...]:
    found = []
    if about["scalar"] in _WIDENED:
        text = f"{path} keeps vectors as {about['scalar']}, widened here to float32, which holds each number exactly"
        rounded = "" if about["scalar"] == "U8" else "; what they were before they were put in is not in the file"
        found.append(Finding("source.widened_vectors", text + rounded, detail={"scalar": about["scalar"]}))
    if read < about["present"]:
        lost = about["present"] - read
        text = f"{path} says that it holds {lost} more than usearch gives back: it forgets what has the key 2^64 - 1"
        found.append(Finding("source.unreadable_records", text, count=lost))
    return tuple(found)


def _open(address: Address, network: Network) -> SideCarStore:
    return SideCarStore(address, UsearchEngine(address))


ADAPTER = StoreAdapter(
    scheme="usearch",
    summary="usearch index files with a side-car for ids, documents and payloads",
    address_form="usearch:PATH.usearch",
    open=_open,
    extra="usearch",
    requires=("usearch",),
    metric=True,
    ending=".usearch",
)
