"""Parity of two endpoints: what the stores do to vectors decides how near is near enough."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from exitramp.codec import DecodingSource, FieldLayout
from exitramp.errors import DataInvalid, RoleUnsupported, UsageError
from exitramp.migration.losses import lost_magnitude
from exitramp.migration.promises import require_promised
from exitramp.migration.search_settings import require_search_settings
from exitramp.parity.neighbour_result import Asked
from exitramp.parity.records import RecordParity, compare_records
from exitramp.parity.tolerance import (
    ROUNDED_ULP,
    UNIT_COSINE,
    UNIT_L2,
    Tolerance,
    loosest,
    tolerance_of,
    ulps_of,
)
from exitramp.ports import DEFAULT_SETTINGS, IndexCoverage, IndexState, SearchSettings, SinkLimits
from exitramp.ports.collection_metadata import differing_keys, own_metadata
from exitramp.records import (
    CollectionSpec,
    EmbeddingModel,
    Finding,
    RecordKey,
    VectorField,
    VectorKind,
    Verdict,
)
from exitramp.transfer.metadata import named
from exitramp.transfer.plan import MAGNITUDE, PRECISION, ULP, UNIT, Plan, PlanLine
from exitramp.wrappers import Endpoint

MISSING_KEPT = 100_000
"""So many keys are held in memory, to tell what B finds among the records that it does have."""


@dataclass(slots=True)
class Comparison:
    """Everything that was compared. `neighbours` is None where it was not asked for or could not be;
    `further_neighbours` are those of the collection's other vector fields, one each.

    `missing` are keys that B lacks, up to `MISSING_KEPT`; none where there are more. `coverage` says of A and B how
    each finds neighbours, as far as its store tells; None for a side that has no search, or was not ready. `settings`
    are those that its searches were asked with.
    """

    records: RecordParity
    neighbours: Any | None = None
    further_neighbours: list[Any] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    ids_file: Path | None = None
    missing: frozenset[RecordKey] = frozenset()
    coverage: tuple[IndexCoverage | None, IndexCoverage | None] = (None, None)
    settings: tuple[Asked | None, Asked | None] = (None, None)

    def all_neighbours(self) -> list[Any]:
        """What was found of every field that was asked, with how the stores found it."""
        found = [*([] if self.neighbours is None else [self.neighbours]), *self.further_neighbours]
        of_a, of_b = self.settings
        told = [[_of_kind(side, each.kind) for side in self.coverage] for each in found]
        return [
            replace(each, coverage_a=a, coverage_b=b, settings_a=of_a, settings_b=of_b)
            for each, (a, b) in zip(found, told, strict=True)
        ]

    def all_findings(self) -> list[Finding]:
        """In the order in which they are read: records, neighbours, the rest."""
        found = self.all_neighbours()
        of_neighbours = [finding for each in found for finding in each.findings]
        counted = any(each.kind is not VectorKind.SPARSE for each in found)
        untested = _untested(self.coverage) if counted else ()
        return [*self.records.findings, *of_neighbours, *untested, *self.findings]

    @property
    def verdict(self) -> Verdict:
        verdicts = [self.records.verdict, *(each.verdict for each in self.all_neighbours())]
        verdicts += [finding.verdict for finding in self.findings if finding.verdict is not None]
        return Verdict.worst(verdicts)

    def to_json(self) -> dict[str, Any]:
        first, *further = self.all_neighbours() or [None]
        return {
            "verdict": self.verdict.value,
            "summary": self.records.summary(),
            "rows": self.records.rows_a,
            "rows_b": self.records.rows_b,
            "digests": self.records.digests_a.to_json(),
            "digests_b": self.records.digests_b.to_json(),
            "records": self.records.to_json(),
            "neighbours": first.to_json() if first is not None else None,
            "further_neighbours": [each.to_json() for each in further],
            "ids_file": str(self.ids_file) if self.ids_file else None,
            "findings": [finding.to_json() for finding in self.all_findings()],
        }


def side_tolerances(
    vectors: Iterable[VectorField], *sides: Endpoint, given: Mapping[str, Tolerance] | None = None
) -> dict[str, Tolerance]:
    """For each field, the loosest of what the sides' stores do to it; `given` wins by column name."""
    limits = [_limits(side) for side in sides]
    found: dict[str, Tolerance] = {}
    columns = set()
    for each in vectors:
        columns.add(each.column)
        tolerance = Tolerance()
        for side in limits:
            tolerance = loosest(tolerance, tolerance_of(each, side))
        found[each.column] = (given or {}).get(each.column, tolerance)
    unknown = sorted(set(given or {}) - columns)
    if unknown:
        raise DataInvalid(
            f"--tolerance names {unknown[0]!r}", hint=f"the vector fields are: {', '.join(sorted(columns))}"
        )
    return found


def announced_tolerances(plan: Plan | None, accepted: Collection[str] | None = None) -> dict[str, Tolerance]:
    """How near the vectors of each field must come back, for what the plan says will happen to them.

    Only equal bits are equal where nothing was announced. Rounding to float32 leaves half a unit in its last place,
    2^28 of float64, and what a store rounds beside that. Lost magnitude leaves the direction, at unit length.
    A loss that is not among `accepted` is granted nothing beyond what needs no consent; None accepts what was
    announced. Without a plan nothing is known, and what the two stores can do to vectors has to be granted instead.
    """
    if plan is None:
        return {}
    fields = {each.original.column: each for each in plan.layout.fields}
    found = {}
    for line in plan.lines:
        if line.subject in fields:
            agreed = accepted is None or line.subject in accepted
            found[line.subject] = _announced(line, fields[line.subject], agreed)
    return found


def _announced(line: PlanLine, field: FieldLayout, agreed: bool) -> Tolerance:
    changes = set(line.changes) & {MAGNITUDE, PRECISION, UNIT, ULP}
    if not agreed:
        # Vectors of unit length come through a store that scales all the same; those of other lengths are the loss.
        changes = (changes - {MAGNITUDE, PRECISION}) | ({UNIT} if MAGNITUDE in changes else set())
    if not changes or field.native is None:
        return Tolerance(source=f"the plan says {line.fidelity}")
    source = f"the plan announced: {', '.join(sorted(changes))}"
    one = ulps_of(field.native.dtype, field.original.dtype)
    ulp = (ROUNDED_ULP * one if ULP in changes else 0.0) + (one / 2 if PRECISION in changes else 0.0)
    return Tolerance(
        ulp=ulp or None,  # what a store that scales leaves as it is may have been rounded all the same
        cosine=UNIT_COSINE if {MAGNITUDE, UNIT} & changes else None,
        l2=UNIT_L2 if UNIT in changes else None,
        length=UNIT_L2 if MAGNITUDE in changes else None,
        source=source,
    )


def compare_endpoints(
    a: Endpoint,
    b: Endpoint,
    *,
    given: Mapping[str, Tolerance] | None = None,
    ids_file: Path | None = None,
    show_values: Collection[str] = (),
    progress: Callable[[int], None] = lambda rows: None,
) -> Comparison:
    """Compare the records of two endpoints; differing ids go into `ids_file`, made only where there is one.

    One that cannot be written takes nothing from the comparison, and is told of in a finding. Raises `DumpCorrupt` for
    a dump that gave other records than its manifest promises, and, before anything is read, `UsageError` for search
    settings in an address that its store does not take.
    """
    for each in (a, b):
        require_search_settings(each)
    left, right = a.source(), b.source()
    spec = left.describe()
    tolerances = side_tolerances(spec.vectors, a, b, given=given)
    log = _IdLog(ids_file)
    try:
        records = compare_records(
            left, right, tolerances=tolerances, on_id=log.write, progress=progress, show_values=show_values
        )
    finally:
        log.close()
    require_promised(a, records.digests_a)
    require_promised(b, records.digests_b)
    seen = index_coverage(a), index_coverage(b)
    asked = asked_settings(a), asked_settings(b)
    theirs = right.describe().vectors
    result = Comparison(records, ids_file=log.written, missing=frozenset(log.missing), coverage=seen, settings=asked)
    if log.refused is not None:
        text = f"{ids_file}: cannot be written ({log.refused.strerror}), so the differing ids are not all there"
        result.findings.append(Finding("compare.ids_file", text, detail={"next": "give another file with --ids"}))
    result.findings += [*left.identity().findings, *right.identity().findings]
    result.findings += [*left.findings(), *right.findings(), *_models(spec.vectors, theirs)]
    result.findings += [*_metrics(spec.vectors, theirs), *_metadata(left, right)]
    result.findings += lost_magnitude(records.fields, spec.vectors, theirs, (_limits(a), _limits(b)))
    return result


def index_coverage(endpoint: Endpoint) -> IndexCoverage | None:
    """How the store finds neighbours; None where it has no search. Nothing is known while its index is being built."""
    try:
        search = endpoint.native_search()
    except RoleUnsupported:
        return None
    if search.index_state() is not IndexState.READY:
        return IndexCoverage()
    fields = sum(each.kind is not VectorKind.SPARSE for each in endpoint.source().describe().vectors)
    return replace(search.coverage(), fields=max(1, fields))


def asked_settings(endpoint: Endpoint, settings: SearchSettings = DEFAULT_SETTINGS) -> Asked | None:
    """With what a store is asked when a search is given `settings`; None where it has no search."""
    try:
        search = endpoint.native_search()
    except RoleUnsupported:
        return None
    whole, known = settings.over(search.standing), search.search_options()
    for name in whole.options if known else ():
        if name not in known:
            raise UsageError(
                f"{endpoint.address}: a search there has no option {name!r}", hint=f"its options: {', '.join(known)}"
            )
    return Asked(whole.exact, dict(whole.options), dict(known))


def _of_kind(told: IndexCoverage | None, kind: VectorKind) -> IndexCoverage | None:
    """What a store's count of its vectors says of one field: it is of dense and multi fields, none of sparse ones."""
    return IndexCoverage() if told is not None and kind is VectorKind.SPARSE else told


def _untested(coverage: Iterable[IndexCoverage | None]) -> Iterable[Finding]:
    """What the neighbours of a store without an index do not show: they are complete by construction."""
    for side, told in zip("AB", coverage, strict=True):
        if told is None or told.indexed is None or not told.compared:
            continue
        note = f" ({told.note})" if told.note else ""
        among = f" of its {told.fields} fields together" if told.fields > 1 else ""
        all_ = f"{side} compares {'its one vector' if told.compared == 1 else f'all {told.compared:,} vectors{among}'}"
        text = f"{all_} one by one{note}: its recall is complete by construction, and no index of it was tested"
        if not told.is_exact:
            text = (
                f"{side} has {told.indexed:,} of its {told.indexed + told.compared:,} vectors in an index, by its own "
                f"count{among}, and compares the others one by one{note}: its index was tested by a part of them"
            )
        yield Finding("neighbours.exact", text, detail={"side": side, **told.to_json()})


def asked_fields(spec: CollectionSpec, names: Collection[str] = ()) -> list[VectorField]:
    """The fields whose neighbours are compared: every one, or those that `names` name.

    A name stands for the field of that column, such as `sparse:words`, or else for every field that is called so.
    Raises `UsageError` for a name of none, and `DataInvalid` where there is no field at all.
    """
    if not spec.vectors:
        raise DataInvalid(f"collection {spec.name!r} has no vector field whose neighbours could be compared")
    chosen: dict[str, VectorField] = {}
    for name in names:
        found = [each for each in spec.vectors if each.column == name]
        found = found or [each for each in spec.vectors if each.name == name]
        if not found:
            known = ", ".join(f"{each.name!r} ({each.kind})" for each in spec.vectors)
            raise UsageError(f"there is no vector field {name!r}", hint=f"the vector fields are: {known}")
        chosen |= {each.column: each for each in found}
    return list(chosen.values()) or list(spec.vectors)


def _limits(endpoint: Endpoint) -> SinkLimits | None:
    try:
        return endpoint.raw_sink().limits()
    except RoleUnsupported:
        return None


def _metrics(a: Iterable[VectorField], b: Iterable[VectorField]) -> Iterable[Finding]:
    theirs = {each.column: each.metric for each in b}
    for each in a:
        other = theirs.get(each.column, each.metric)
        if other is not each.metric:
            text = f"{each.column}: A is searched by {each.metric}, B by {other}: the same records, other neighbours"
            yield Finding("collection.metric", text, Verdict.FAIL, detail={"a": each.metric, "b": other})


def _metadata(a: DecodingSource, b: DecodingSource) -> Iterable[Finding]:
    """No record says what the user wrote down of a collection, so that it is information beside them."""
    differing = differing_keys(own_metadata(a.describe(), a.origin()), own_metadata(b.describe(), b.origin()))
    if differing:
        text = f"the two sides' own metadata differs: {named(differing)}"
        yield Finding("collection.metadata", text, count=len(differing), detail={"keys": differing})


def _models(a: Iterable[VectorField], b: Iterable[VectorField]) -> Iterable[Finding]:
    theirs = {each.column: each.model for each in b}
    for each in a:
        other = theirs.get(each.column)
        if other is None or EmbeddingModel() in (each.model, other):
            continue
        differing = [
            name
            for name in EmbeddingModel.__slots__
            if "unknown" not in (getattr(each.model, name), getattr(other, name))
            and getattr(each.model, name) != getattr(other, name)
        ]
        if differing:
            yield Finding(
                "model.differs",
                f"{each.column}: the two sides name different embedding models ({', '.join(differing)})",
                Verdict.FAIL,
                detail={"a": each.model.to_json(), "b": other.to_json()},
            )


class _IdLog:
    """Differing ids as JSON lines; the file is begun with the first of them."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: Any = None
        self.written: Path | None = None
        self.refused: OSError | None = None
        self.missing: set[RecordKey] = set()
        self._too_many = False

    def write(self, kind: str, key: RecordKey) -> None:
        if kind == "missing" and not self._too_many:
            self.missing.add(key)
            if len(self.missing) > MISSING_KEPT:
                self._too_many = True
                self.missing.clear()
        if self._path is None or self.refused is not None:
            return
        line = {"difference": kind, "namespace": key.namespace, "id": key.id}
        try:
            if self._file is None:
                self._file = self._path.open("w", encoding="utf-8")
                self.written = self._path
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            self.refused = error

    def close(self) -> None:
        try:
            if self._file is not None:
                self._file.close()
        except OSError as error:
            self.refused = error
