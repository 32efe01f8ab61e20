"""Taking an inventory: the payloads a column of values at a time, the vectors a block at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from exitramp import canonical
from exitramp.inventory import MAXIMUM_DEPTH, MAXIMUM_PATHS, FieldInventory, Inventory, Path
from exitramp.payloads import parsed_payloads
from exitramp.records import CollectionSpec
from exitramp.secrets import redact
from exitramp.vector_facts import VectorFacts, VectorTally

_MOST_FLOAT_DIGITS: Final = 17

# Exact types: what the JSON scanner and canonical.loads make, and nothing else. Floats are told apart further down.
_NAMES: Final[Mapping[type, str]] = {
    kind: canonical.type_name(example)
    for kind, example in (
        (type(None), None),
        (bool, True),
        (int, 1),
        (float, 1.0),
        (str, ""),
        (list, []),
        (dict, {}),
        (bytes, b""),
        (datetime, datetime(2000, 1, 1)),
        (date, date(2000, 1, 1)),
        (time, time()),
        (Decimal, Decimal(1)),
        (UUID, UUID(int=0)),
    )
}


class CollectionTally:
    """Takes the inventory and the vector facts of a collection, batch by batch."""

    def __init__(self, spec: CollectionSpec) -> None:
        self._spec = spec
        self._payloads = PayloadTally()
        self._texts = Inventory()
        self._vectors = {vector.column: VectorTally(vector) for vector in spec.vectors}

    def add(self, batch: pa.RecordBatch) -> None:
        """Count `batch`, whose columns are those of `stream_schema(spec)`.

        Raises `DataInvalid` naming the id of a record whose payload is no JSON.
        """
        documents = batch.column("document") if self._spec.has_documents else None
        namespaces = batch.column("namespace") if self._spec.has_namespaces else None
        texts = Inventory(
            rows=len(batch),
            id_bytes=_longest(batch.column("id")),
            namespaces_missing=len(batch) if namespaces is None else namespaces.null_count,
            documents_missing=len(batch) if documents is None else documents.null_count,
            document_bytes=0 if documents is None else _longest(documents),
        )
        self._payloads.add(parsed_payloads(batch))
        for name, tally in self._vectors.items():
            tally.add(batch.column(name))
        self._texts = self._texts.merge(texts)

    def inventory(self) -> Inventory:
        texts = self._texts
        return Inventory(
            texts.rows,
            texts.id_bytes,
            texts.namespaces_missing,
            texts.documents_missing,
            texts.document_bytes,
            self._payloads.complete,
            self._payloads.fields(),
        )

    def vector_facts(self) -> dict[str, VectorFacts]:
        """By column name."""
        return {name: tally.value() for name, tally in self._vectors.items()}


class PayloadTally:
    """Counts what stands at each path of many payloads, a column of values at a time."""

    def __init__(self) -> None:
        self.complete = True
        self._fields: dict[Path, _FieldTally] = {(): _FieldTally(())}

    def add(self, payloads: Sequence[object]) -> None:
        """Count these decoded payloads; records without one are left out by the caller."""
        if payloads:
            self._visit((), payloads, None)

    def fields(self) -> dict[Path, FieldInventory]:
        found: dict[Path, FieldInventory] = {}
        for path, tally in self._fields.items():
            # A key may be a token that somebody used as one; masking can make two paths one.
            shown = tuple(key if key is None else redact(key) for key in path)
            item = tally.value(shown)
            found[shown] = found[shown].merge(item) if shown in found else item
        return found

    def _visit(self, path: Path, values: Sequence[Any], owners: Sequence[int] | None) -> None:
        """Count `values` at `path`. `owners` tells which row each is of; None says that no two are of one row."""
        tally = self._fields.get(path)
        if tally is None:
            if len(path) > MAXIMUM_DEPTH or len(self._fields) >= MAXIMUM_PATHS:
                self.complete = False
                return
            tally = self._fields[path] = _FieldTally(path)
        kinds = Counter(map(type, values))
        tally.add(kinds, values, owners)
        if dict in kinds:
            self._visit_objects(path, values, owners, alone=len(kinds) == 1)
        if list in kinds:
            self._visit_lists(path, values, owners, tally, alone=len(kinds) == 1)

    def _visit_objects(self, path: Path, values: Sequence[Any], owners: Sequence[int] | None, *, alone: bool) -> None:
        chosen = range(len(values)) if alone else [at for at, value in enumerate(values) if type(value) is dict]
        shapes: dict[tuple[str, ...], list[int]] = {}
        for at in chosen:
            shapes.setdefault(tuple(values[at]), []).append(at)
        columns: dict[str, list[Any]] = {}
        column_owners: dict[str, list[int]] = {}
        for keys, members in shapes.items():
            for key in keys:
                columns.setdefault(key, []).extend([values[at][key] for at in members])
                if owners is not None:
                    column_owners.setdefault(key, []).extend([owners[at] for at in members])
        for key, column in columns.items():
            self._visit((*path, key), column, None if owners is None else column_owners[key])

    def _visit_lists(
        self, path: Path, values: Sequence[Any], owners: Sequence[int] | None, tally: _FieldTally, *, alone: bool
    ) -> None:
        chosen = range(len(values)) if alone else [at for at, value in enumerate(values) if type(value) is list]
        items = list(chain.from_iterable(values[at] for at in chosen))
        if not items:
            return
        if len(set(map(type, items))) > 1:
            tally.mixed_lists += sum(len(set(map(type, values[at]))) > 1 for at in chosen)
        # Where every value is of a row of its own, its place will do as the row's number.
        item_owners = [at if owners is None else owners[at] for at in chosen for _ in values[at]]
        self._visit((*path, None), items, item_owners)


class _FieldTally:
    """The growing `FieldInventory` of one path."""

    def __init__(self, path: Path) -> None:
        self._types: Counter[str] = Counter()
        self._rows = self._rows_null = self._empty_lists = self._empty_objects = self._negative_zeros = 0
        self._integer_bits = self._float_digits = self._string_bytes = 0
        self._float_exponent = 0
        self.mixed_lists = 0

    def add(self, kinds: Counter[type], values: Sequence[Any], owners: Sequence[int] | None) -> None:
        self._rows += len(values) if owners is None else len(set(owners))
        for kind, count in kinds.items():
            self._types[_NAMES[kind]] += count
        if type(None) in kinds:
            self._rows_null += (
                kinds[type(None)]
                if owners is None
                else len({owner for owner, value in zip(owners, values, strict=True) if value is None})
            )
        if dict in kinds:
            self._empty_objects += sum(type(value) is dict and not value for value in values)
        if list in kinds:
            self._empty_lists += sum(type(value) is list and not value for value in values)
        if str in kinds:
            self._add_texts(values if len(kinds) == 1 else [value for value in values if type(value) is str])
        if int in kinds:
            self._add_integers(values if len(kinds) == 1 else [value for value in values if type(value) is int])
        if float in kinds:
            self._add_floats(values if len(kinds) == 1 else [value for value in values if type(value) is float])

    def _add_texts(self, values: Sequence[str]) -> None:
        longest = max(map(len, values))
        if "".join(values).isascii():
            self._string_bytes = max(self._string_bytes, longest)
            return
        # Four bytes a character at most, so that only a text with a chance to be the longest is encoded.
        for value in values:
            if len(value) * 4 > self._string_bytes:
                self._string_bytes = max(self._string_bytes, len(value.encode("utf-8")))

    def _add_integers(self, values: Sequence[int]) -> None:
        least, greatest = min(values), max(values)
        for value in (least, greatest):
            self._integer_bits = max(self._integer_bits, (value if value >= 0 else ~value).bit_length() + 1)

    def _add_floats(self, values: Sequence[float]) -> None:
        finite = [value for value in values if math.isfinite(value)]
        if len(finite) < len(values):
            self._types["nonfinite"] += len(values) - len(finite)
            self._types["float"] -= len(values) - len(finite)
        magnitudes = [abs(value) for value in finite if value]
        if len(magnitudes) < len(finite):
            self._negative_zeros += sum(not value and math.copysign(1, value) < 0 for value in finite)
            self._float_digits = max(self._float_digits, 1)
        if magnitudes:
            exponents = (int(f"{value:e}".partition("e")[2]) for value in (min(magnitudes), max(magnitudes)))
            self._float_exponent = max(self._float_exponent, *map(abs, exponents))
        # Seventeen digits are the most there can be: ordinary floats settle this in the first batch.
        if self._float_digits < _MOST_FLOAT_DIGITS:
            self._float_digits = max(self._float_digits, *map(_digits, magnitudes), 0)

    def value(self, path: Path) -> FieldInventory:
        types = {name: count for name, count in self._types.items() if count}
        return FieldInventory(
            path,
            types,
            self._rows,
            self._rows_null,
            self._empty_lists,
            self._empty_objects,
            self.mixed_lists,
            self._negative_zeros,
            integer_bits=self._integer_bits if "int" in types else None,
            float_digits=self._float_digits if "float" in types else None,
            float_exponent=self._float_exponent if "float" in types else None,
            string_bytes=self._string_bytes if "string" in types else None,
        )


def _digits(value: float) -> int:
    return len(repr(value).partition("e")[0].replace(".", "").strip("0")) or 1


def _longest(column: pa.Array) -> int:
    return pc.max(pc.binary_length(column)).as_py() or 0
