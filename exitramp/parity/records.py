"""Whether two collections hold the same records: which are missing, extra, doubled or changed, and by how much."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from exitramp import canonical
from exitramp.arrow import dense_matrix, record_keys, stream_schema
from exitramp.digests import CollectionDigests, digest_batch, leaf_digests
from exitramp.parity.alignment import Aligned, aligned
from exitramp.parity.distribution import Distribution
from exitramp.parity.kernel import compare_matrices
from exitramp.parity.payloads import differing_paths
from exitramp.parity.tolerance import UNIT_COSINE, UNIT_L2, Tolerance
from exitramp.ports import VectorSource
from exitramp.records import CollectionSpec, DType, Finding, IdKind, RecordKey, VectorField, VectorKind, Verdict
from exitramp.wording import counted

IDS_SHOWN = 20


@dataclass(slots=True)
class FieldParity:
    """One vector field. Rows that only one side has a vector in are `one_sided`; `beyond` are outside the tolerance, of
    which those that are `parallel` agree in direction, and B's of those that are `scaled` are of unit length.

    `max_abs` is infinite where a number that is not finite differs; in JSON it is then null.
    """

    column: str
    tolerance: Tolerance
    rows: int = 0
    both_null: int = 0
    one_sided: int = 0
    bit_equal: int = 0
    beyond: int = 0
    parallel: int = 0
    scaled: int = 0
    max_abs: float = 0.0
    ulp: Distribution = field(default_factory=Distribution)
    cosine: Distribution = field(default_factory=Distribution)
    l2: Distribution = field(default_factory=Distribution)

    def to_json(self) -> dict[str, Any]:
        return {
            "column": self.column,
            "tolerance": self.tolerance.to_json(),
            "rows": self.rows,
            "both_null": self.both_null,
            "one_sided": self.one_sided,
            "bit_equal": self.bit_equal,
            "beyond_tolerance": self.beyond,
            "beyond_in_magnitude_only": self.parallel,
            "max_abs": self.max_abs if math.isfinite(self.max_abs) else None,
            "ulp_of_unequal": self.ulp.to_json(),
            "cosine": self.cosine.to_json(),
            "l2": self.l2.to_json(),
        }


@dataclass(frozen=True, slots=True)
class ShownValue:
    """A value that somebody asked to see: canonical JSON on each side, None where the side has none."""

    id: str
    field: str
    a: str | None
    b: str | None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class RecordParity:
    """The result. `only_in_one` are vector columns that one side's spec lacks."""

    rows_a: int
    rows_b: int
    compared: int
    digests_a: CollectionDigests
    digests_b: CollectionDigests
    counts: Mapping[str, int]
    paths: Mapping[str, Mapping[str, int]]
    fields: tuple[FieldParity, ...]
    only_in_one: tuple[str, ...]
    findings: tuple[Finding, ...]
    verdict: Verdict
    values: tuple[ShownValue, ...] = ()

    def summary(self) -> str:
        """The line that a buyer asks for: cosine and L2 over all records that both sides have."""
        parts = []
        for item in self.fields:
            figures = []
            if item.cosine.count:
                figures.append(f"cosine min {item.cosine.minimum:.9f} mean {item.cosine.mean:.9f}")
            if item.l2.count:
                mean = "too large" if item.l2.mean is None else f"{item.l2.mean:.3g}"
                figures.append(f"L2 max {item.l2.maximum:.3g} mean {mean}")
            if undefined := max(item.cosine.undefined, item.l2.undefined):
                figures.append(f"one of them undefined in {undefined:,} of {counted(item.rows, 'row')}")
            parts.append(f"{item.column}: {', '.join(figures) or 'nothing to measure'}")
        return "; ".join(parts) or "no vector field in common"

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "summary": self.summary(),
            "rows": {"a": self.rows_a, "b": self.rows_b, "compared": self.compared},
            "counts": dict(self.counts),
            "payload_paths": {path: dict(kinds) for path, kinds in self.paths.items()},
            "fields": [item.to_json() for item in self.fields],
            "only_in_one": list(self.only_in_one),
            "values": [value.to_json() for value in self.values],
            "findings": [finding.to_json() for finding in self.findings],
        }


def compare_records(
    a: VectorSource,
    b: VectorSource,
    *,
    tolerances: Mapping[str, Tolerance],
    batch_rows: int = 1000,
    on_id: Callable[[str, RecordKey], None] = lambda kind, key: None,
    progress: Callable[[int], None] = lambda rows: None,
    folder: Path | None = None,
    show_values: Collection[str] = (),
) -> RecordParity:
    """Compare every record of `a` with `b`. `on_id` gets every differing key with what is wrong with it.

    `show_values` names payload keys (or `document`) whose differing values are kept, of the first records that differ;
    without it no value leaves the comparison.

    `tolerances` by column; a column without one must be bit-equal. Memory stays flat; disk holds both sides once.
    """
    comparison = _Comparison(a.describe(), b.describe(), tolerances, on_id, progress, frozenset(show_values))
    return comparison.run(a, b, batch_rows, folder)


class _Comparison:
    def __init__(
        self,
        spec_a: CollectionSpec,
        spec_b: CollectionSpec,
        tolerances: Mapping[str, Tolerance],
        on_id: Callable[[str, RecordKey], None],
        progress: Callable[[int], None],
        show_values: frozenset[str],
    ) -> None:
        self._show = show_values
        self._values: list[ShownValue] = []
        self._spec_a, self._spec_b = spec_a, spec_b
        self._on_id, self._progress = on_id, progress
        self._digests = {"a": CollectionDigests.empty(spec_a), "b": CollectionDigests.empty(spec_b)}
        self._ids: dict[str, list[str]] = {}
        self._counts: Counter[str] = Counter()
        self._paths: dict[str, Counter[str]] = {}
        self._compared = 0
        columns_b = {each.column: each for each in spec_b.vectors}
        common = [each for each in spec_a.vectors if _same_shape(each, columns_b.get(each.column))]
        self._fields = {
            each.column: FieldParity(each.column, tolerances.get(each.column, Tolerance())) for each in common
        }
        self._common = common
        every = {each.column for each in spec_a.vectors} | set(columns_b)
        self._only_in_one = tuple(sorted(every - set(self._fields)))

    def run(self, a: VectorSource, b: VectorSource, batch_rows: int, folder: Path | None) -> RecordParity:
        buckets = aligned(
            a, b, spec_a=self._spec_a, spec_b=self._spec_b, batch_rows=batch_rows, folder=folder, seen=self._seen
        )
        for bucket in buckets:
            self._take(bucket)
        findings = tuple(self._findings())
        rows_a, rows_b = self._digests["a"].rows, self._digests["b"].rows
        verdicts = [finding.verdict for finding in findings if finding.verdict is not None]
        return RecordParity(
            rows_a,
            rows_b,
            self._compared,
            self._digests["a"],
            self._digests["b"],
            {kind: self._counts[kind] for kind in _KINDS},
            self._paths,
            tuple(self._fields.values()),
            self._only_in_one,
            findings,
            Verdict.worst([Verdict.PASS, *verdicts]),
            tuple(self._values),
        )

    def _seen(self, side: str, batch: pa.RecordBatch) -> None:
        spec = self._spec_a if side == "a" else self._spec_b
        self._digests[side] = self._digests[side].merge(digest_batch(batch, spec))
        self._progress(self._digests["a"].rows + self._digests["b"].rows)

    def _note(self, kind: str, key: RecordKey) -> None:
        self._counts[kind] += 1
        shown = self._ids.setdefault(kind, [])
        if len(shown) < IDS_SHOWN:
            shown.append(str(key))
        self._on_id(kind, key)

    def _take(self, bucket: Aligned) -> None:
        for kind, keys in (
            ("missing", bucket.missing),
            ("extra", bucket.extra),
            ("duplicate", bucket.duplicate_a + bucket.duplicate_b),
        ):
            for key in keys:
                self._note(kind, key)
        self._compared += bucket.a.num_rows
        if not bucket.a.num_rows:
            return
        keys = record_keys(bucket.a)
        for row in _changed_texts(bucket.a, bucket.b, "document"):
            self._note("document", keys[row])
            if "document" in self._show:
                texts = (_text(bucket.a, "document", row), _text(bucket.b, "document", row))
                self._keep(keys[row], "document", *(None if text is None else canonical.dumps(text) for text in texts))
        for row in _changed_texts(bucket.a, bucket.b, "payload"):
            self._note("payload", keys[row])
            pair = (bucket.a.column("payload")[row].as_py(), bucket.b.column("payload")[row].as_py())
            for path, kind in differing_paths(*pair):
                self._paths.setdefault(path, Counter())[kind] += 1
            self._keep_payload(keys[row], *pair)
        for each in self._common:
            beyond = _compare_field(each, bucket.a.column(each.column), bucket.b.column(each.column), self._fields)
            for row in beyond:
                self._note("vector", keys[row])

    def _keep_payload(self, key: RecordKey, a: str | None, b: str | None) -> None:
        wanted = self._show - {"document"}
        if not wanted or len(self._values) >= IDS_SHOWN:
            return
        left, right = (canonical.loads(text) if text is not None else {} for text in (a, b))
        for name in sorted(wanted):
            values = [canonical.dumps(side[name]) if name in side else None for side in (left, right)]
            if values[0] != values[1]:
                self._keep(key, name, *values)

    def _keep(self, key: RecordKey, name: str, a: str | None, b: str | None) -> None:
        if len(self._values) < IDS_SHOWN:
            self._values.append(ShownValue(str(key), name, a, b))

    def _findings(self) -> Iterator[Finding]:
        if not self._digests["a"].rows and not self._digests["b"].rows:
            yield Finding("records.none", "both sides are empty, so nothing was compared", Verdict.INCONCLUSIVE)
        for kind, (nouns, text) in _KINDS.items():
            if count := self._counts[kind]:
                ids = tuple(self._ids[kind])
                yield Finding(f"records.{kind}", f"{counted(count, *nouns)} {text}", Verdict.FAIL, ids, count)
        for column in self._only_in_one:
            yield Finding(
                "records.field",
                f"vector field {column} is not the same field on both sides",
                Verdict.FAIL,
                detail={"column": column},
            )
        for each in self._fields.values():
            changed = each.rows - each.bit_equal - each.beyond
            if changed:
                differ = "differs in bits but is within" if changed == 1 else "differ in bits but are within"
                yield Finding(
                    "records.rounded",
                    f"{each.column}: {changed:,} of {counted(each.rows, 'vector')} {differ} the tolerance",
                    count=changed,
                    detail=each.tolerance.to_json(),
                )


_KINDS = {
    "missing": (("record of A is", "records of A are"), "not in B"),
    "extra": (("record of B is", "records of B are"), "not in A"),
    "duplicate": (("id stands", "ids stand"), "more than once"),
    "document": (("record differs", "records differ"), "in the document"),
    "payload": (("record differs", "records differ"), "in the payload"),
    "vector": (("record differs", "records differ"), "in a vector beyond the tolerance"),
}


def _same_shape(a: VectorField, b: VectorField | None) -> bool:
    return b is not None and (a.kind, a.dtype, a.dimensions) == (b.kind, b.dtype, b.dimensions)


def _text(batch: pa.RecordBatch, name: str, row: int) -> str | None:
    found: str | None = batch.column(name)[row].as_py() if name in batch.schema.names else None
    return found


def _changed_texts(a: pa.RecordBatch, b: pa.RecordBatch, name: str) -> list[int]:
    rows = a.num_rows
    left = a.column(name) if name in a.schema.names else pa.nulls(rows, pa.string())
    right = b.column(name) if name in b.schema.names else pa.nulls(rows, pa.string())
    both_null = pc.and_(pc.is_null(left), pc.is_null(right))
    same = pc.or_(both_null, pc.fill_null(pc.equal(left, right), False))
    found: list[int] = np.flatnonzero(~np.asarray(same)).tolist()
    return found


def _compare_field(each: VectorField, a: pa.Array, b: pa.Array, fields: Mapping[str, FieldParity]) -> list[int]:
    """Adds to the field's figures and returns the rows that are beyond the tolerance or one-sided."""
    result = fields[each.column]
    valid_a, valid_b = np.asarray(a.is_valid()), np.asarray(b.is_valid())
    one_sided = np.flatnonzero(valid_a != valid_b)
    both = np.flatnonzero(valid_a & valid_b)
    result.one_sided += len(one_sided)
    result.both_null += int((~valid_a & ~valid_b).sum())
    result.rows += len(both)
    if each.kind is VectorKind.DENSE and each.dtype is not DType.BINARY:
        beyond = _compare_dense(result, dense_matrix(a), dense_matrix(b), both)
    else:
        # Sparse and multi vectors have no common length, and of packed bits cosine and L2 mean nothing: equal or not is
        # what is asked of them. Arrow's own comparison takes NaN for unequal to itself, -0.0 for 0.0 and the order of
        # sparse indices for a difference.
        beyond = both[(_leaves(each, a)[both] != _leaves(each, b)[both]).any(axis=1)]
        result.bit_equal += len(both) - len(beyond)
        result.beyond += len(beyond)
        result.cosine.add_equal(1.0, len(both) - len(beyond))
        result.l2.add_equal(0.0, len(both) - len(beyond))
        result.cosine.undefined += len(beyond)
        result.l2.undefined += len(beyond)
    found: list[int] = np.sort(np.concatenate([one_sided, beyond])).tolist()
    return found


def _leaves(each: VectorField, column: pa.Array) -> npt.NDArray[np.uint8]:
    """The leaf of every row's vector alone, uint8[rows, 32]: equal where the digests take the vectors for equal."""
    spec = CollectionSpec("", IdKind.STRING, (each,))
    rows = len(column)
    columns = [pa.repeat("", rows), pa.nulls(rows, pa.string()), column]
    batch = pa.RecordBatch.from_arrays(columns, schema=stream_schema(spec))
    return leaf_digests(batch, spec).by_column[each.column]


def _compare_dense(
    result: FieldParity, a: npt.NDArray[Any], b: npt.NDArray[Any], both: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    if len(both) != len(a):
        a, b = a[both], b[both]
    found = compare_matrices(a, b)
    within = result.tolerance.within(found)
    equal = found.rows - len(found.unequal)
    result.bit_equal += equal
    result.beyond += int((~within).sum())
    parallel = ~within & (found.cosine >= UNIT_COSINE)
    result.parallel += int(parallel.sum())
    result.scaled += int((parallel & (np.abs(found.length_b - 1) <= UNIT_L2)).sum())
    result.cosine.add_equal(1.0, equal)
    result.l2.add_equal(0.0, equal)
    result.cosine.add(found.cosine)
    result.l2.add(found.l2)
    result.ulp.add(found.ulp)
    if len(found.max_abs):
        result.max_abs = max(result.max_abs, float(np.where(np.isnan(found.max_abs), np.inf, found.max_abs).max()))
    return both[found.unequal[~within]]
