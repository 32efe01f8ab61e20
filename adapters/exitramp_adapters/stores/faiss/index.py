"""FAISS indexes as such: read, looked through, built and asked. Records and files are not known here.

Only index types that keep vectors as they were are read; the others are refused by name, or asked for what they make
of their codes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.durable import READ, storage_errors
from exitramp.errors import DataInvalid, IntegrityError, UsageError
from exitramp.ports import SearchSettings
from exitramp.ports.index_bytes import Bytes
from exitramp.ports.side_car_search import effort_of, unit_rows
from exitramp.ports.side_car_vectors import Matrix
from exitramp.records import Metric

_READS_EXACTLY: Final = "Flat, HNSW…,Flat and IVF…,Flat, alone or in an IDMap"
_READS_ROUGHLY: Final = "; add ?lossy=reconstruct to read what this index makes of its codes"
_NEVER: Final = "IndexLSH"
_CHUNK_ROWS: Final = 65_536
_UNIT_ROWS: Final = 512
"""So many in float64 stay in the processor's cache."""
_UNIT_SQUARE: Final = 2.0**-21
_METRIC_AT: Final = 33
_FLAT_HEAD: Final = 45
"""What stands before the vectors: type, dimensions, count, two numbers without a meaning, whether it is trained, the
metric, and how many numbers follow. A metric that may have an argument has it behind, four bytes."""
LARGEST: Final = 1e15
"""The greatest number that an index other than a flat one is built over: its square, summed, stays within float32."""
_REFUSED: Final[Mapping[str, str]] = {
    "PreTransform": "it changes vectors (rotation, PCA, L2norm) before it keeps them",
    "PQ": "it keeps product-quantised codes, from which vectors come back only roughly",
    "ScalarQuantizer": "it keeps rounded numbers, from which vectors come back only roughly",
    "SQ": "it keeps rounded numbers, from which vectors come back only roughly",
    "LSH": "it keeps hashes, from which vectors do not come back",
    "Lattice": "it keeps lattice codes, from which vectors come back only roughly",
    "Quantizer": "it keeps quantised codes, from which vectors come back only roughly",
    "RaBitQ": "it keeps one bit for each dimension",
    "Panorama": "it keeps vectors in an order of its own",
}


def sdk() -> Any:
    """The faiss module, imported on first use. Untyped: its stubs describe C++ and miss what Python adds."""
    import faiss

    return faiss


def read_index(path: Path) -> Any:
    """Raises `PathUnusable` for a file that this user may not read, `DataInvalid` or `IntegrityError` for no index."""
    faiss = sdk()
    with storage_errors(path, READ), path.open("rb") as file:
        four = file.read(4)
    if four.startswith(b"IB"):
        raise DataInvalid(f"{path} is a binary index, which exitramp does not read", hint=f"it reads {_READS_EXACTLY}")
    try:
        # Never with IO_FLAG_MMAP: the file may be replaced while it is read. FAISS's own reader runs no code from it.
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise IntegrityError(f"{path} cannot be read as a FAISS index; it begins with {four!r}") from error


def vectors_at(head: bytes) -> int | None:
    """Where the vectors of a flat index begin in its file; those of other types do not all lie there in one piece.
    FAISS before 1.11 cannot read bytes without copying them."""
    if head[:4] not in (b"IxFI", b"IxF2", b"IxFl") or len(head) < _FLAT_HEAD or not hasattr(sdk(), "ZeroCopyIOReader"):
        return None
    return _FLAT_HEAD + (0 if int.from_bytes(head[_METRIC_AT : _METRIC_AT + 4], "little") in (0, 1) else 4)


def index_in(path: Path, data: Bytes) -> Any:
    """The index in the bytes of a file that are known to be whole. Its vectors are not copied, which with the read of
    the file took two thirds of the 29 ms of 20,000 x 384."""
    faiss = sdk()
    try:
        index = faiss.read_index(faiss.ZeroCopyIOReader(faiss.swig_ptr(data), data.nbytes))
    except RuntimeError as error:
        begins = data[:4].tobytes()
        raise IntegrityError(f"{path} cannot be read as a FAISS index; it begins with {begins!r}") from error
    index.referenced_objects = [data]  # under that name FAISS itself keeps what an index needs
    return index


def flat_in(data: Bytes, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
    """The same numbers as a part of `data`, which then stays as long as anybody has them; None if they lie elsewhere
    or not as numbers have to."""
    at = matrix.ctypes.data - data.ctypes.data
    if not 0 <= at <= data.nbytes - matrix.nbytes or matrix.ctypes.data % 4:
        return None
    return data[at : at + matrix.nbytes].view(np.float32).reshape(matrix.shape)


def innermost(index: Any) -> Any:
    """The index that keeps the vectors, out of an IDMap."""
    faiss = sdk()
    return faiss.downcast_index(index.index) if type(index).__name__ in {"IndexIDMap", "IndexIDMap2"} else index


@dataclass(frozen=True, slots=True)
class Rows:
    """What an index holds, all in the order of the labels: `labels` are the innermost index's, `ids` the outermost's.

    rough: why the vectors are not what they were, as a part of a sentence; None where they are.
    """

    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    matrix: npt.NDArray[np.float32]
    rough: str | None = None


def read_rows(path: Path, index: Any, *, reconstructs: bool) -> Rows:
    """Every id and vector. With `reconstructs` also of types that keep vectors only roughly.

    Only types that are known to keep the numbers as they were are read at all: `reconstruct_n` on another one does
    not raise but ends the process, since FAISS's error leaves a parallel loop (seen with IDMap,Flat in FAISS 1.15).
    """
    faiss = sdk()
    inner = innermost(index)
    kind = type(inner).__name__
    rough = None
    if kind in {"IndexFlat", "IndexFlatL2", "IndexFlatIP"}:
        labels, matrix = np.arange(inner.ntotal, dtype=np.int64), _flat(inner)
    elif kind == "IndexHNSWFlat":
        labels, matrix = np.arange(inner.ntotal, dtype=np.int64), _flat(faiss.downcast_index(inner.storage))
    elif kind == "IndexIVFFlat":
        labels, matrix = _inverted(inner)
    else:
        known = next((why for word, why in _REFUSED.items() if word in kind), None)
        if known is None or not reconstructs or kind.startswith(_NEVER):
            raise DataInvalid(
                f"{path} is an {kind}, which cannot be read: {known or 'exitramp does not know how it keeps vectors'}",
                hint=f"it reads {_READS_EXACTLY}"
                + (_READS_ROUGHLY if known and not reconstructs and not kind.startswith(_NEVER) else ""),
            )
        labels, matrix = _reconstructed(path, inner)
        rough = known
    if len(matrix) != index.ntotal:
        raise IntegrityError(f"{path} says that it holds {index.ntotal} vectors and holds {len(matrix)}")
    if inner is index:
        return Rows(labels, labels, matrix, rough)
    ids = faiss.vector_to_array(index.id_map).astype(np.int64)
    if len(ids) != len(labels) or (len(labels) and (labels[0] < 0 or labels[-1] >= len(ids))):
        raise IntegrityError(f"{path}: its map of {len(ids)} ids does not fit its {len(labels)} vectors")
    return Rows(ids[labels], labels, matrix, rough)


def _reconstructed(path: Path, index: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """What an index makes of its codes. The first by itself: an error in the loop over many ends the process."""
    faiss = sdk()
    core = index
    while type(core).__name__ == "IndexPreTransform":
        core = faiss.downcast_index(core.index)
    labels = np.arange(index.ntotal, dtype=np.int64)
    if hasattr(core, "invlists"):
        labels = np.sort(_inverted_ids(core))
        core.set_direct_map_type(faiss.DirectMap.Hashtable)  # in memory: ids may be any, and most files lack a map
    matrix = np.zeros((len(labels), index.d), np.float32)
    if len(labels):
        try:
            matrix[0] = index.reconstruct(int(labels[0]))
        except RuntimeError as error:
            raise DataInvalid(f"{path} is an {type(index).__name__}, which gives no vectors back") from error
        for start in range(0, len(labels), _CHUNK_ROWS):
            chunk = labels[start : start + _CHUNK_ROWS]
            index.reconstruct_batch(chunk, matrix[start : start + _CHUNK_ROWS])
    return labels, matrix


def _inverted_ids(index: Any) -> npt.NDArray[np.int64]:
    faiss, lists = sdk(), index.invlists
    sizes = [(place, lists.list_size(place)) for place in range(index.nlist)]
    found = [faiss.rev_swig_ptr(lists.get_ids(place), size).astype(np.int64) for place, size in sizes if size]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _flat(index: Any) -> npt.NDArray[np.float32]:
    """The index's own memory, not a copy: valid as long as the index is kept and nothing is added to it."""
    if not index.ntotal:
        return np.zeros((0, index.d), np.float32)
    matrix: npt.NDArray[np.float32] = sdk().rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    return matrix.reshape(index.ntotal, index.d)


def _inverted(index: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Straight out of the lists, so that no direct map is needed, which most files lack."""
    faiss = sdk()
    ids, vectors = [np.zeros(0, np.int64)], [np.zeros((0, index.d), np.float32)]
    lists = index.invlists
    for place in range(index.nlist):
        size = lists.list_size(place)
        if size:
            ids.append(faiss.rev_swig_ptr(lists.get_ids(place), size).astype(np.int64))
            codes = faiss.rev_swig_ptr(lists.get_codes(place), size * index.code_size)
            vectors.append(codes.copy().view(np.float32).reshape(size, index.d))
    labels, matrix = np.concatenate(ids), np.concatenate(vectors)
    order = np.argsort(labels, kind="stable")
    return labels[order], matrix[order]


def faiss_metric(metric: Metric) -> int:
    """The metric type of an index for `metric`; cosine is the inner product of unit vectors."""
    faiss = sdk()
    types = {
        Metric.DOT: faiss.METRIC_INNER_PRODUCT,
        Metric.COSINE: faiss.METRIC_INNER_PRODUCT,
        Metric.EUCLIDEAN: faiss.METRIC_L2,
        Metric.MANHATTAN: faiss.METRIC_L1,
    }
    return int(types[metric])


def metric_of(path: Path, index: Any) -> Metric:
    for metric in (Metric.DOT, Metric.EUCLIDEAN, Metric.MANHATTAN):
        if faiss_metric(metric) == index.metric_type:
            return metric
    raise DataInvalid(f"{path}: FAISS's metric type {index.metric_type} has no counterpart in exitramp")


def build_index(factory: str, metric: Metric, matrix: npt.NDArray[np.float32], *, unit: bool = False) -> Any:
    """An index of `factory` over all rows, which it calls by their numbers. `unit`: whether they are of length one."""
    faiss = sdk()
    rows, dimensions = matrix.shape
    stored = np.ascontiguousarray(unit_rows(matrix) if metric is Metric.COSINE and not unit else matrix)
    index = faiss.index_factory(dimensions, factory, faiss_metric(metric))
    lists = getattr(index, "nlist", 0)
    if factory != "Flat" and not (np.abs(matrix) <= LARGEST).all():
        row = int(np.flatnonzero(~(np.abs(matrix) <= LARGEST).all(axis=1))[0])
        raise DataInvalid(f"row {row}: '{factory}' takes finite numbers of at most {LARGEST:g} only", hint="use Flat")
    if rows < lists:
        raise UsageError(
            f"the factory '{factory}' makes {lists} lists, and there are only {rows} records",
            hint="choose fewer lists, or Flat, which is exact",
        )
    # FAISS's own 16 found 0.945 of the ten nearest of 300 rows; what is set here is kept in the file.
    if hasattr(index, "hnsw"):
        index.hnsw.efSearch = 64
    if lists:
        index.nprobe = min(lists, max(8, lists // 8))
    if not index.is_trained:
        index.train(stored)
    if rows:
        index.add(stored)
    return index


def are_unit(matrix: Matrix) -> bool:
    """Whether there are rows, and each is of length one within what float32 tells apart: whoever scales in float32 is
    off by so much."""
    for first in range(0, len(matrix), 8 * _UNIT_ROWS):  # what is read from a file at once
        block = matrix[first : first + 8 * _UNIT_ROWS]
        for start in range(0, len(block), _UNIT_ROWS):
            wide = block[start : start + _UNIT_ROWS].astype(np.float64)
            if not (np.abs(np.einsum("ij,ij->i", wide, wide) - 1) <= _UNIT_SQUARE).all():
                return False
    return len(matrix) > 0


def lists_of(factory: str) -> int:
    """How many lists an index of this factory clusters its records into, each of which needs one: 0 for none."""
    found = re.match(r"IVF(\d+)", factory)
    return int(found[1]) if found else 0


def about_index(index: Any) -> dict[str, Any]:
    inner = innermost(index)
    about: dict[str, Any] = {"type": type(index).__name__, "metric_type": int(index.metric_type)}
    if inner is not index:
        about["inner"] = type(inner).__name__
    if hasattr(inner, "hnsw"):
        about |= {"ef_construction": int(inner.hnsw.efConstruction), "ef": int(inner.hnsw.efSearch)}
        about["links"] = int(inner.hnsw.nb_neighbors(1))
    if hasattr(inner, "nlist"):
        about |= {"lists": int(inner.nlist), "nprobe": int(inner.nprobe)}
    if hasattr(inner, "pq"):
        about |= {"subquantizers": int(inner.pq.M), "bits": int(inner.pq.nbits)}
    if hasattr(inner, "sq"):
        about["quantizer_type"] = int(inner.sq.qtype)
    return about


def search_options(index: Any) -> dict[str, int]:
    """The one option of a search, if there is one, with what the index does by itself."""
    inner = innermost(index)
    if hasattr(inner, "hnsw"):
        return {"ef": int(inner.hnsw.efSearch)}
    return {"nprobe": int(inner.nprobe)} if hasattr(inner, "nlist") else {}


def ask(
    index: Any,
    labels: npt.NDArray[np.int64],
    vector: npt.NDArray[np.float32],
    k: int,
    among: npt.NDArray[np.int64] | None,
    settings: SearchSettings,
    *,
    rough: bool = False,
) -> tuple[list[float], npt.NDArray[np.int64]] | None:
    """Scores and labels of the `k` nearest among these labels (None: all); what FAISS cannot compare is left out.

    None where an index that is `rough` would have to look at every vector, which it does not have.
    """
    faiss = sdk()
    inner = innermost(index)
    own = search_options(index)
    [option] = own or [""]
    effort = effort_of(settings, option, own.get(option, 1), f"an index of type {type(inner).__name__}")
    if (labels == -1).any():
        raise UsageError("an index with the id -1 is not searched: FAISS means 'nothing found' by it")
    selector = None if among is None else faiss.IDSelectorBatch(among)
    approximate = selector is None and not settings.exact
    if rough and not approximate:
        return None
    if option == "ef" and approximate:
        scores, found = inner.search(vector, k, params=faiss.SearchParametersHNSW(efSearch=max(effort, k)))
    elif option == "nprobe" and approximate:
        scores, found = inner.search(vector, k, params=faiss.SearchParametersIVF(nprobe=effort))
    elif rough:
        scores, found = inner.search(vector, k)
    else:
        approximate = False
    # A walk or a few lists may have ended before k were found.
    if not approximate or not _there(scores[0], found[0], labels).all():
        if rough:
            return None
        if option == "nprobe":
            params = faiss.SearchParametersIVF(nprobe=int(inner.nlist), sel=selector)
        else:
            inner = faiss.downcast_index(inner.storage) if option == "ef" else inner
            params = None if selector is None else faiss.SearchParameters(sel=selector)
        scores, found = inner.search(vector, k, params=params)
    there = _there(scores[0], found[0], labels)
    return scores[0][there].tolist(), found[0][there]


def _there(
    scores: npt.NDArray[np.float32], found: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which places of an answer hold a hit; FAISS fills the others with -1 and the worst score."""
    there: npt.NDArray[np.bool_] = np.isin(found, labels) & (np.abs(scores) < np.finfo(np.float32).max)
    return there
