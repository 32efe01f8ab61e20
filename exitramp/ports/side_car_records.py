"""The records of an index file with its side-car, in their order, and what becomes of them when some are written.

What an index holds is looked up by label: the number that it calls a record by. With a side-car's column `label` that
is the record's own id wherever the id is a number, so that an application that asks the index gets the ids it knows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from exitramp.arrow import dense_array, dense_matrix, empty_batch, stream_schema
from exitramp.errors import CollectionMissing, DataInvalid, IntegrityError
from exitramp.ports.gathered import Gathered, Key
from exitramp.ports.places import Place, place_of
from exitramp.ports.reading import Origin
from exitramp.ports.side_car import SideCar, Signature, read_side_car, side_car_path, signature
from exitramp.ports.side_car_columns import KEYS, LABEL, TEXTS, Columns, schema_of
from exitramp.ports.side_car_rows import Joined, Pieces, Rows, is_run
from exitramp.ports.side_car_vectors import JoinedMatrix, Matrix, forward
from exitramp.records import CollectionSpec, Finding, IdKind, RecordKey, VectorField

if TYPE_CHECKING:
    from exitramp.ports.side_car_store import IndexEngine

Labels = npt.NDArray[np.integer[Any]]
PAGE_ROWS: Final = 10_000
_TRIES: Final = 4
LABELS_END: Final = 2**64 - 1
"""The first number that no record is called by: usearch marks by it what was deleted, and forgets whoever has it."""


@dataclass(frozen=True, slots=True)
class IndexContent:
    """What an index file holds by itself.

    labels [rows]: what it calls each vector; `matrix` [rows, items] the vectors in the field's dtype, in that order.
    about: its settings as they stand in it. alone: how ids and metric are to be taken where there is no side-car, as
    a part of a sentence. ids: what its user calls each, where that is not the label. lists: the vectors of each label
    in Arrow, where one has several; `matrix` is empty then. stays: whether `matrix` is there as long as somebody has
    it, and nothing is written to it; otherwise it goes with the index.
    """

    index: Any
    labels: Labels
    matrix: Matrix
    field: VectorField
    id_kind: IdKind
    about: Mapping[str, Any]
    alone: str
    findings: tuple[Finding, ...] = ()
    ids: Labels | None = None
    lists: pa.Array | None = None
    stays: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A collection as its files hold it: row n of `labels`, of `matrix` (the originals), of `keys` and of `texts` are
    one record. Keys are in memory, with the columns `side_car.KEYS`; texts, those of `side_car.TEXTS`, need not be.
    """

    spec: CollectionSpec
    origin: Origin | None
    factory: str
    content: IndexContent
    labels: Labels
    matrix: Matrix
    keys: pa.Table
    texts: Rows
    has_side_car: bool

    @property
    def field(self) -> VectorField:
        return self.spec.vectors[0]


class Places(Sequence[Place]):
    """The places of a collection's records, in their order, from a sorted table of them. A scan asks for one a page:
    all of 20,000 as Python's own took 3 ms, and are made once somebody looks for many."""

    def __init__(self, keys: pa.Table) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return int(self._keys.num_rows)

    @overload
    def __getitem__(self, at: int) -> Place: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Place]: ...
    def __getitem__(self, at: int | slice) -> Place | Sequence[Place]:
        if isinstance(at, slice):
            return self.listed[at]
        inside, namespace, id_ = (column[at].as_py() for column in self._keys.columns)
        return inside, namespace, id_

    @cached_property
    def listed(self) -> list[Place]:
        return list(zip(*(column.to_pylist() for column in self._keys.columns), strict=True))


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded collection and the signature of the files it came from: `rows` of it are in the order of `places`, and
    `by_label` are all of its rows in the order of their labels."""

    held: Held
    places: Places
    rows: npt.NDArray[np.int64]
    by_label: npt.NDArray[np.int64]
    signature: Signature

    def row_of(self, key: RecordKey) -> int | None:
        row = self._row_at(place_of(key))
        return None if row < 0 else row

    def rows_with(self, keys: Sequence[Key]) -> npt.NDArray[np.int64]:
        """In which row each of these keys stands, -1 for one that does not."""
        if not self.places:
            return np.full(len(keys), -1, np.int64)
        places: Iterator[Place] = ((False, "", key) if isinstance(key, str) else (True, *key) for key in keys)
        return np.fromiter(map(self._row_at, places), np.int64, len(keys))

    def _row_at(self, place: Place) -> int:
        places = self.places.listed
        at = bisect_left(places, place)
        return int(self.rows[at]) if at < len(places) and places[at] == place else -1

    def rows_of(self, labels: Labels) -> npt.NDArray[np.int64]:
        """In which row each of these labels stands, which are some of those there are."""
        return self.by_label[np.searchsorted(self.held.labels, labels, sorter=self.by_label)]


@dataclass(frozen=True, slots=True)
class Change:
    """What a flush is to make of an index: `after` is the whole; `gone` the labels that it holds no more, and `fresh`
    the rows of `after` that are new or replace what their label stood for."""

    before: Held
    after: Held
    gone: Labels
    fresh: npt.NDArray[np.int64]


def load(engine: IndexEngine, path: Path, name: str | None) -> Held:
    """Read both files, the side-car being optional.

    Raises `CollectionMissing`; `IntegrityError` naming both files where they do not belong together; what the engine
    raises of an index that it cannot read.
    """
    for _ in range(_TRIES):  # a writer may rename its files between our looking at one and at the other
        before = signature(path)
        try:
            found = _load(engine, path, name)
        except IntegrityError:
            if signature(path) == before:
                raise
        else:
            if signature(path) == before:  # else records of one state may stand beside vectors of another
                return found
    raise IntegrityError(f"{path} was written by somebody else each time it was read", hint="read it when that is done")


def _load(engine: IndexEngine, path: Path, name: str | None) -> Held:
    if not path.exists() and not side_car_path(path).exists():
        raise CollectionMissing(f"there is no index file {path}")
    told = read_side_car(path, engine.vectors_at)
    content = engine.read(path, None if told is None else told.spec.vectors[0], None if told is None else told.data)
    if told is None:
        return _without_side_car(path, name, content)
    columns = told.columns
    if columns.keys.num_rows != len(content.labels):
        held, recorded = len(content.labels), columns.keys.num_rows
        raise IntegrityError(f"{path} holds {held} vectors and {side_car_path(path)} {recorded} records")
    labels, matrix = content.labels, content.matrix
    if LABEL in columns.keys.schema.names:
        labels, order = np.asarray(columns.keys.column(LABEL)), np.argsort(content.labels)
        found = order[np.searchsorted(content.labels, labels, sorter=order).clip(max=max(0, len(order) - 1))]
        if not np.array_equal(content.labels[found], labels):
            raise IntegrityError(f"{path} calls its vectors by other numbers than {side_car_path(path)} says")
        # Row by row as the side-car has them; an index that keeps its vectors in another order is not copied for it.
        if not np.array_equal(found, np.arange(len(found))):
            matrix = JoinedMatrix([(content.matrix, found)], content.matrix.shape[1], content.matrix.dtype)
    if columns.originals is not None:  # of what the index made of them nothing is held beside them
        matrix = columns.originals
        content = replace(content, matrix=matrix, stays=True)
    keys = pa.Table.from_arrays([columns.keys.column(name) for name in KEYS], schema=schema_of(KEYS))
    return Held(told.spec, told.origin, told.factory, content, labels, matrix, keys, columns.texts, True)


def _without_side_car(path: Path, name: str | None, content: IndexContent) -> Held:
    """What an index alone tells: ids that are numbers, vectors, the metric."""
    numbers = content.labels if content.ids is None else content.ids
    unique, counts = np.unique(numbers, return_counts=True)
    if len(unique) != len(numbers):
        raise DataInvalid(
            f"{path} holds the id {unique[counts > 1][0]} more than once",
            hint="such an index does not replace on adding; remove the older rows in it first",
        )
    spec = CollectionSpec(name or path.stem, content.id_kind, (content.field,))
    ids = pa.array(numbers).cast(pa.string())
    nothing = pa.nulls(len(ids), pa.string())
    keys = pa.Table.from_arrays([ids, nothing], schema=schema_of(KEYS))
    texts = pa.RecordBatch.from_arrays([nothing, nothing], schema=schema_of(TEXTS))
    return Held(spec, None, "", content, content.labels, content.matrix, keys, Pieces(texts.schema, [texts]), False)


def in_order(held: Held, found: Signature) -> Opened:
    """The records in the order of `places`: bytes of UTF-8 sort as code points do, so Arrow may do it."""
    ids, spaces = held.keys.column("id"), held.keys.column("namespace")
    keys = pa.table({"in": pc.is_valid(spaces), "namespace": pc.fill_null(spaces, ""), "id": ids})
    order = np.arange(len(ids))
    before, behind = ids.slice(0, max(0, len(ids) - 1)), ids.slice(1)
    if spaces.null_count < len(ids) or not pc.all(pc.less(before, behind), min_count=0).as_py():
        sorting = [(name, "ascending") for name in keys.schema.names]
        order = np.asarray(pc.sort_indices(keys, sort_keys=sorting), np.int64)
        keys = keys.take(pa.array(order))
    by_label = np.argsort(held.labels, kind="stable")  # at once where they are in order already
    return Opened(held, Places(keys), order, by_label, found)


def keys_in(table: pa.Table) -> list[RecordKey]:
    ids, spaces = table.column("id").to_pylist(), table.column("namespace").to_pylist()
    return [RecordKey(id_, space) for id_, space in zip(ids, spaces, strict=True)]


def reader(held: Held, rows: npt.NDArray[np.int64]) -> Held:
    """The same for one who makes batches of these rows, in their order: where they ascend, the files are gone through
    once, and of what does not fit into memory one group of rows at a time is there."""
    if not (np.diff(rows) > 0).all():
        return held
    return replace(held, texts=held.texts.forward(TEXTS), matrix=forward(held.matrix))


def batch_of(held: Held, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """The records in these rows of the files, as a batch of the collection's stream."""
    if not len(rows):
        return empty_batch(held.spec)
    schema = stream_schema(held.spec)
    first, count = int(rows[0]), len(rows)
    run = is_run(rows)
    keys = (held.keys.slice(first, count) if run else held.keys.take(pa.array(rows))).combine_chunks()
    columns = {name: keys.column(name).chunk(0) for name in KEYS if name in schema.names}
    wanted = [name for name in TEXTS if name in schema.names]
    if wanted:
        columns |= dict(zip(TEXTS, held.texts.take(rows).columns, strict=True))
    lists = held.content.lists
    if lists is None:
        matrix = held.matrix[first : first + count] if run else held.matrix[rows]
        # 20,000 x 384 take 5 ms to copy, in pages of 1,000.
        matrix = matrix.copy() if run and not held.content.stays else matrix
        columns[held.field.column] = dense_array(matrix, held.field)
    else:
        columns[held.field.column] = lists.take(pa.array(rows))
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def changed(opened: Opened, gathered: Gathered, *, labelled: bool) -> Change:
    """The collection after the last word on each key; what stays keeps its order, what is new follows. With `labelled`,
    what stays or is replaced keeps its label too. Texts and vectors stay where they are."""
    held, numbers = opened.held, gathered.numbers
    former = opened.rows_with(gathered.keys)
    stays = np.ones(len(held.labels), dtype=bool)
    stays[former[former >= 0]] = False
    left = np.flatnonzero(stays)
    keys = [held.keys if len(left) == len(stays) else held.keys.filter(pa.array(stays))]
    texts: list[tuple[Rows, npt.NDArray[np.int64]]] = [(held.texts, left)]
    matrices: list[tuple[Matrix, npt.NDArray[np.int64]]] = [(held.matrix, left)]
    for batch, rows in gathered.last():
        own = batch.take(pa.array(rows)) if len(rows) < batch.num_rows else batch
        keys.append(pa.Table.from_batches([_columns(own, KEYS)]))
        texts.append((Pieces(schema_of(TEXTS), [_columns(batch, TEXTS)]), rows))
        matrices.append((dense_matrix(batch.column(held.field.column)), rows))
    table = pa.concat_tables(keys).combine_chunks()
    first, last = len(left), table.num_rows
    labels: Labels = np.arange(last, dtype=np.int64)
    gone: Labels = held.labels[~stays]
    if labelled:
        ids = table.column("id").slice(first).to_pylist()
        # Rows come in the order of their numbers; each that replaces one takes over what that was called.
        replaced = former[np.argsort(numbers, kind="stable")][int((numbers < 0).sum()) :].tolist()
        kept = [None if row < 0 else int(held.labels[row]) for row in replaced]
        fresh_labels = _labels(ids, kept, set(held.labels.tolist()))
        labels = np.concatenate([held.labels[stays].astype(np.uint64), np.array(fresh_labels, np.uint64)])
        gone = np.setdiff1d(gone, labels[first:])
    matrix = JoinedMatrix(matrices, held.field.item_count, held.matrix.dtype)
    after = replace(held, labels=labels, matrix=matrix, keys=table, texts=Joined(schema_of(TEXTS), texts))
    return Change(held, after, gone, np.arange(first, last))


def _labels(ids: Sequence[str], kept: Sequence[int | None], taken: set[int]) -> list[int]:
    """What the index calls each record: the same as before, else its id if that is a free number, else the next one."""
    found, free = [], len(taken)
    for id_, label in zip(ids, kept, strict=True):
        if label is None and len(id_) <= 20 and id_.isascii() and id_.isdigit() and (id_ == "0" or id_[0] != "0"):
            label = int(id_)
            label = None if label in taken or label >= LABELS_END else label
        if label is None:
            while free in taken:
                free += 1
            label = free
        taken.add(label)
        found.append(label)
    return found


def side_car_of(held: Held, *, labelled: bool, originals: bool) -> SideCar:
    """What is to be written beside the index."""
    keys = held.keys
    if labelled:
        keys = keys.append_column(LABEL, pa.array(held.labels, pa.uint64()))
    return SideCar(held.spec, held.origin, held.factory, Columns(keys, held.texts, held.matrix if originals else None))


def _columns(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """These of its columns, those that it has not being empty."""
    columns = [
        batch.column(name) if name in batch.schema.names else pa.nulls(batch.num_rows, pa.string()) for name in names
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema_of(names))
