"""hnswlib index files: `hnswlib:./articles.bin`, an index with a side-car for what it has no room for.

With a side-car (`ports.side_car` describes both files) any record is kept exactly. hnswlib scales vectors to unit
length under cosine, so the side-car keeps the originals then. The index calls a record by its id wherever that is a
number, and the side-car's column `label` says by which number it calls the others.

Without one the file is a source of labels and vectors. It begins with thirteen numbers in the machine's own form, which
hnswlib documents nowhere and only its writer knows: the dimensions follow from them (`?dimensions=384` is checked), and
the metric stands nowhere, so that `?metric=cosine` (or dot, euclidean) must say it. hnswlib itself takes any file for
any number of dimensions, and any metric; its pickled form, which would run code, is never loaded. What was marked as
deleted is still in the file, and in the list of ids that hnswlib gives: it is left out here.

A flush adds to the graph and writes both files anew: 20,000 x 384 took 0.12 s beside the 4 s of building their graph.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.durable import READ, storage_errors
from exitramp.errors import DataInvalid, IntegrityError, UsageError
from exitramp.ports import IndexCoverage, SearchSettings, SinkLimits, StoreAdapter
from exitramp.ports.index_bytes import Bytes
from exitramp.ports.index_settings import graph_settings
from exitramp.ports.side_car import FileState, side_car_path
from exitramp.ports.side_car_records import Change, Held, IndexContent
from exitramp.ports.side_car_search import compare_all, effort_of, unit_rows
from exitramp.ports.side_car_store import SideCarStore, number_option
from exitramp.ports.side_car_vectors import Matrix, forward
from exitramp.records import DType, Finding, IdKind, Metric, VectorField, VectorKind, parse_metric
from exitramp.urls import Address, Network

SPACES: Final[Mapping[Metric, str]] = {Metric.COSINE: "cosine", Metric.DOT: "ip", Metric.EUCLIDEAN: "l2"}
LARGEST: Final = 1e15
"""The greatest number that is taken: its square, summed, stays within the float32 that hnswlib compares by."""
ADDED_ROWS: Final = 4096
"""So many are copied for hnswlib at once."""
_HEAD: Final = struct.Struct("<6QiI3QdQ")
_SETTINGS: Final = {"M": 16, "ef_construction": 200}  # hnswlib's own
_EF: Final = 64
"""How many candidates a search keeps if nothing is said. hnswlib's own 10 is fewer than people ask for."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the file says at its beginning; `elements` counts the deleted ones too."""

    elements: int
    element_bytes: int
    label_at: int
    vector_at: int
    links: int
    M: int
    ef_construction: int

    @property
    def dimensions(self) -> int:
        return (self.label_at - self.vector_at) // 4

    @classmethod
    def read(cls, path: Path, data: npt.NDArray[np.uint8], size: int) -> Head:
        """The head of a file of `size` bytes, of which `data` are the first. Raises `IntegrityError` for what does not
        begin as hnswlib's files do, or is shorter than it says."""
        if len(data) >= _HEAD.size:
            numbers = _HEAD.unpack(data[: _HEAD.size].tobytes())
            zero, most, count, each, label_at, vector_at, _, _, links, links_0, m, _, ef = numbers
            fits = (zero, each, vector_at, links_0, m) == (0, label_at + 8, links_0 * 4 + 4, 2 * links, links)
            room = label_at - vector_at
            if fits and count <= most and room > 0 and not room % 4 and _HEAD.size + count * each <= size:
                return cls(count, each, label_at, vector_at, links_0, m, ef)
        raise IntegrityError(f"{path} cannot be read as an index of hnswlib; it begins with {data[:8].tobytes()!r}")


class Lazy:
    """The index as hnswlib loads it, once something is asked of it: reading needs only the bytes of the file."""

    def __init__(self, path: Path, head: Head, metric: Metric) -> None:
        self._path, self._head, self._metric = path, head, metric

    @cached_property
    def index(self) -> Any:
        return self.load(0)

    def load(self, more: int) -> Any:
        """With room for so many records more than there are."""
        index = _sdk().Index(space=SPACES[self._metric], dim=self._head.dimensions)
        try:
            index.load_index(os.fsencode(self._path), max_elements=max(1, self._head.elements + more))
        except RuntimeError as error:
            raise IntegrityError(f"{self._path} is damaged: hnswlib does not load it") from error
        return index


class HnswlibEngine:
    """What hnswlib does for `SideCarStore`."""

    scheme = "hnswlib"
    labelled = True

    def __init__(self, address: Address) -> None:
        address.only_options("metric", "dimensions", *_SETTINGS)
        metric = address.option("metric")
        self._address = address
        self._metric = None if metric is None else parse_metric(metric, where=str(address))
        if self._metric is not None and self._metric not in SPACES:
            raise UsageError(f"{address}: hnswlib does not compare by {metric}", hint=f"it knows {', '.join(SPACES)}")
        self._dimensions, *settings = (number_option(address, name) for name in ("dimensions", *_SETTINGS))
        self._settings = {name: each for name, each in zip(_SETTINGS, settings, strict=True) if each is not None}

    def version(self) -> str:
        return version("hnswlib")

    def vectors_at(self, head: bytes) -> int | None:
        return 0  # all of the file is read here

    def read(self, path: Path, told: VectorField | None, data: Bytes | None) -> IndexContent:
        if data is None:
            with storage_errors(path, READ):
                data = np.fromfile(path, np.uint8)  # never mapped: hnswlib writes over a file in place
        head = Head.read(path, data, len(data))
        metric = self._checked(path, head, told)
        elements = np.frombuffer(data, _element(head), head.elements, _HEAD.size)
        there = (elements["count"] >> 16 & 1) == 0  # a deleted one is marked in the third byte
        if told is None:
            _require_links(path, head, data, elements)
        deleted = int(len(there) - there.sum())
        if deleted:
            elements = elements[there]
        about = {"M": head.M, "ef_construction": head.ef_construction, "deleted": deleted}
        field = told or VectorField("", VectorKind.DENSE, DType.FLOAT32, metric, head.dimensions)
        return IndexContent(
            Lazy(path, head, metric),
            np.ascontiguousarray(elements["label"]),
            elements["vector"],  # where they lie: what lies between them is less than a second copy
            field,
            IdKind.UINT64,
            {self.scheme: about},
            f"ids are the index's labels, and the metric is {metric} because the address says so",
            _findings(path, metric, deleted) if told is None else (),
            stays=True,
        )

    def _checked(self, path: Path, head: Head, told: VectorField | None) -> Metric:
        if self._dimensions not in (None, head.dimensions):
            raise DataInvalid(f"{path} holds vectors of {head.dimensions} dimensions, not {self._dimensions}")
        if told is None and self._metric is None:
            raise DataInvalid(
                f"{path} has no side-car, and an index of hnswlib does not say by which metric it was built",
                hint=f"add ?metric= and one of {', '.join(SPACES)} to the address",
            )
        if told is None:
            assert self._metric is not None
            return self._metric
        if self._metric not in (None, told.metric):
            raise UsageError(f"{self._address}: the collection there has the metric {told.metric}")
        if told.dimensions != head.dimensions:
            what = f"{side_car_path(path)} describes: {told.dimensions} dimensions"
            raise IntegrityError(f"{path} is not an index of what {what}")
        return told.metric

    def limits(self, limits: SinkLimits) -> SinkLimits:
        metrics = frozenset(SPACES) if self._metric is None else frozenset({self._metric})
        taken = frozenset({"m", "ef_construction"})
        return replace(limits, metrics=metrics, nonfinite_vectors=False, vector_magnitude=LARGEST, index_settings=taken)

    def gives_back(self, held: Held) -> bool:
        return held.field.metric is not Metric.COSINE

    def empty(self, field: VectorField, told: Mapping[str, Any]) -> tuple[Any, str]:
        own = {name: int(value) for name, value in (told.get(self.scheme) or {}).items() if name in _SETTINGS}
        settings = _SETTINGS | graph_settings(told, *_SETTINGS) | own | self._settings
        return _made(field, 0, settings), ",".join(f"{name}={value}" for name, value in settings.items())

    def follow(self, path: Path, change: Change) -> Any:
        """A graph in which more than a tenth would be replaced, or dragged along as deleted, is built anew: replacing
        2,000 of 4,000 x 64 took 4.9 s, and building all of them 0.5 s."""
        before, after = change.before, change.after
        with storage_errors(path, READ):
            head = Head.read(path, np.fromfile(path, np.uint8, _HEAD.size), path.stat().st_size)
        replaced = np.intersect1d(after.labels[change.fresh], before.labels)
        dragged = head.elements - len(before.labels) + len(change.gone) + len(replaced)
        if dragged * 10 > len(after.labels):
            settings = {"M": head.M, "ef_construction": head.ef_construction}
            return _added(_made(after.field, len(after.labels), settings), after, np.arange(len(after.labels)))
        index = Lazy(path, head, after.field.metric).load(len(change.fresh))
        for label in change.gone.tolist():
            index.mark_deleted(label)
        return _added(index, after, change.fresh)

    def finished(self, path: Path, held: Held) -> tuple[Any, str] | None:
        return None

    def lying(self, path: Path, state: FileState, held: Held) -> Matrix | None:
        return None  # a flush asks for them only where the graph is built anew

    def write(self, index: Any, path: Path) -> None:
        index = index.index if isinstance(index, Lazy) else index
        index.save_index(os.fsencode(path))
        if path.stat().st_size != index.index_file_size():  # it does not look whether the disk took it
            raise RuntimeError("the index was written in part only")

    def ask(
        self,
        held: Held,
        vector: npt.NDArray[Any],
        k: int,
        rows: npt.NDArray[np.int64] | None,
        settings: SearchSettings,
    ) -> tuple[Sequence[float], npt.NDArray[Any]]:
        effort = effort_of(settings, "ef", _EF, "hnswlib")
        if settings.exact or rows is not None:
            return compare_all(held, vector, k, rows)
        asked = vector.reshape(1, -1)
        index = held.content.index.index
        index.set_ef(max(k, effort))
        try:
            labels, distances = index.knn_query(unit_rows(asked) if held.field.metric is Metric.COSINE else asked, k=k)
        except RuntimeError:  # its walk ended before k were found
            return compare_all(held, vector, k, None)
        return distances[0].tolist(), labels[0]

    def search_options(self, held: Held) -> Mapping[str, Any]:
        return {"ef": _EF}

    def coverage(self, held: Held) -> IndexCoverage:
        return IndexCoverage(len(held.labels), 0)


def _sdk() -> Any:
    import hnswlib

    return hnswlib


def _made(field: VectorField, room: int, settings: Mapping[str, int]) -> Any:
    index = _sdk().Index(space=SPACES[field.metric], dim=field.item_count)
    index.init_index(max_elements=room, M=settings["M"], ef_construction=settings["ef_construction"])
    return index


def _added(index: Any, held: Held, rows: npt.NDArray[np.int64]) -> Any:
    """A label that is there already, deleted or not, then stands for the new vector."""
    matrix = forward(held.matrix)
    for start in range(0, len(rows), ADDED_ROWS):
        some = rows[start : start + ADDED_ROWS]
        vectors = matrix[some]
        # Scaled here, in float64: hnswlib's own scaling makes nothing of vectors that are shorter than 1e-19.
        index.add_items(unit_rows(vectors) if held.field.metric is Metric.COSINE else vectors, held.labels[some])
    return index


def _element(head: Head) -> np.dtype[Any]:
    return np.dtype(
        {
            "names": ["count", "links", "vector", "label"],
            "formats": ["<u4", ("<u4", head.links), ("<f4", head.dimensions), "<u8"],
            "offsets": [0, 4, head.vector_at, head.label_at],
            "itemsize": head.element_bytes,
        }
    )


def _require_links(path: Path, head: Head, data: npt.NDArray[np.uint8], elements: npt.NDArray[Any]) -> None:
    """Raises `IntegrityError` where a link leads out of the index: hnswlib follows it and ends the process. Files with
    a side-car are known by their hash."""
    counts = elements["count"] & 0xFFFF
    used = np.arange(head.links) < counts[:, None]
    whole = bool((counts <= head.links).all()) and not (used & (elements["links"] >= head.elements)).any()
    words = data[_HEAD.size + head.elements * head.element_bytes :]
    words = words[: len(words) // 4 * 4].view("<u4").tolist()
    at, level = 0, head.M + 1
    for _ in range(head.elements):  # the layers above: so many bytes, and in them for each a count and its links
        size = words[at] // 4 if at < len(words) else -1
        whole = whole and size >= 0 and not size % level and at + size < len(words)
        if not whole:  # before any list is made: a damaged size asked for 30 million of them, 8 s and gigabytes
            break
        lists = [words[each : each + level] for each in range(at + 1, at + 1 + size, level)]
        if any(each[0] > head.M or max(each[1:]) >= head.elements for each in lists):
            break
        at += 1 + size
    else:
        if at == len(words):
            return
    raise IntegrityError(f"{path} is damaged: its graph leads nowhere")


def _findings(path: Path, metric: Metric, deleted: int) -> tuple[Finding, ...]:
    found = []
    if metric is Metric.COSINE:
        text = (
            f"{path}: hnswlib scales vectors to unit length under cosine, and what length they had is not in the file"
        )
        found.append(Finding("source.normalised", text))
    if deleted:
        text = f"{path}: {deleted} records are marked as deleted and are left out, though hnswlib lists their ids"
        found.append(Finding("source.deleted_records", text, count=deleted))
    return tuple(found)


def _open(address: Address, network: Network) -> SideCarStore:
    return SideCarStore(address, HnswlibEngine(address))


ADAPTER = StoreAdapter(
    scheme="hnswlib",
    summary="hnswlib index files with a side-car for ids, documents and payloads",
    address_form="hnswlib:PATH.bin, a file without a side-car with ?metric=",
    open=_open,
    extra="hnswlib",
    requires=("hnswlib",),
    metric=True,
    ending=".bin",
)
