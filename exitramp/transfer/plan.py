"""What a copy would keep exactly, keep another way, round or lose: said field by field, before the first write."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from exitramp.codec import FieldLayout, Layout
from exitramp.errors import ConsentMissing, DataInvalid
from exitramp.ports import DocumentRoom, SinkLimits
from exitramp.ports.collection_metadata import shown
from exitramp.records import DType, EmbeddingModel, Finding, VectorKind, Verdict
from exitramp.transfer.forms import told_forms
from exitramp.transfer.metadata import Kept, kept, named
from exitramp.transfer.obstacles import ANEW, Standing, obstacles, unexplained
from exitramp.transfer.survey import KeySurvey, Survey, VectorSurvey
from exitramp.wording import counted

UNIT_NORM_TOLERANCE = 1e-5
MAGNITUDE, PRECISION, PLACEHOLDER, SEARCH = "magnitude", "precision", "placeholder", "search"
UNIT, ULP = "unit", "ulp"


class Fidelity(StrEnum):
    """What happens to one thing. Only `lossy` needs consent; what was not measured counts as lossy."""

    EXACT = "exact"
    REVERSIBLE = "reversible"
    ROUNDED = "rounded"
    LOSSY = "lossy"


_ORDER = list(Fidelity)


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One thing and what happens to it. `subject` is the name that `--accept-loss` takes.

    `changes` names what happens to the vectors of a field that do not come back bit for bit: MAGNITUDE (scaled to unit
    length), PRECISION (rounded to the sink's dtype), UNIT (scaled, but of unit length before) and ULP (up to 4 of
    them). PLACEHOLDER changes what a search may find and SEARCH says that none finds anything; what is read back is the
    original in both cases, since it is kept.

    `forms` says of a payload key that comes back from where it stands what other readers find in another form.
    """

    subject: str
    fidelity: Fidelity
    how: str
    rows: int | None = None
    changes: tuple[str, ...] = ()
    forms: tuple[tuple[str, str], ...] = ()

    @property
    def summed(self) -> bool:
        """Whether it is a payload key's whose values all come back from where they stand: `payload_summary`."""
        return self.subject.startswith("payload.") and (self.fidelity is Fidelity.EXACT or bool(self.forms))

    def to_json(self) -> dict[str, Any]:
        return {"subject": self.subject, "class": self.fidelity.value, "how": self.how, "rows": self.rows}


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole plan. `estimates` are requests, bytes and seconds; what could not be estimated is None."""

    layout: Layout
    rows: int
    lines: tuple[PlanLine, ...]
    findings: tuple[Finding, ...]
    estimates: Mapping[str, int | float | None]

    @property
    def verdict(self) -> Verdict:
        """Fail where the copy could not be made at all; pass says only that nothing stands in its way."""
        return Verdict.worst([Verdict.PASS, *(each.verdict for each in self.findings if each.verdict is not None)])

    def lossy(self) -> tuple[PlanLine, ...]:
        return tuple(line for line in self.lines if line.fidelity is Fidelity.LOSSY)

    def require_consent(self, accepted: Collection[str]) -> None:
        """Raises `DataInvalid` for data that no consent mends, `ConsentMissing` naming what was not accepted."""
        blocking = [finding for finding in self.findings if finding.verdict is Verdict.FAIL]
        if blocking:
            first = blocking[0]
            ids = f" ({', '.join(first.ids[:5])})" if first.ids else ""
            hint = first.detail.get("next", "mend the source")
            raise DataInvalid(f"{first.message}{ids}", hint=f"{hint}; nothing was written")
        self.require_known(accepted)
        missing = [line for line in self.lossy() if line.subject not in accepted]
        if missing:
            listed = "; ".join(f"{line.subject}: {line.how}" for line in missing)
            consent = " ".join(f"--accept-loss {shlex.quote(line.subject)}" for line in missing)
            raise ConsentMissing(
                f"this would lose something: {listed}", hint=f"nothing was written; to accept, add {consent}"
            )

    def require_known(self, accepted: Collection[str]) -> None:
        """Raises `DataInvalid` for a name that no line has: what was meant by it is not accepted."""
        known = {line.subject for line in self.lines}
        for name in accepted:
            if name not in known:
                raise DataInvalid(
                    f"--accept-loss {name}: the plan has no such line", hint=f"it has: {', '.join(sorted(known))}"
                )

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "rows": self.rows,
            "target": shown(self.layout.native).to_json(),
            "plan": [line.to_json() for line in self.lines],
            "estimates": dict(self.estimates),
            "findings": [finding.to_json() for finding in self.findings],
        }


def make_plan(survey: Survey, limits: SinkLimits, *, there: Standing | None = None) -> Plan:
    """The plan for writing what `survey` measured into a sink with `limits`, for which it was measured."""
    layout = survey.layout
    lines = [*_identity(survey, layout, limits), *_texts(survey, layout, limits)]
    for field in layout.fields:
        lines += _vector(field, survey.vectors[field.original.column], limits)
    lines += _model(survey, limits)
    held = kept(
        survey.metadata, limits, there=None if there is None else there.metadata, told=there is None or there.told
    )
    lines += _metadata(held)
    findings = [*obstacles(survey, limits), *_unwritten(held)]
    unsaid = [] if there is None or there.told else unexplained(survey, there.layout, limits)
    if unsaid and there is not None:
        text = f"the collection that is there does not say how {', '.join(unsaid)} would be read back from it"
        if there.empty:
            findings.append(Finding("target.unexplained", text, Verdict.FAIL, detail={"next": ANEW}))
        else:
            lines.append(PlanLine("origin", Fidelity.LOSSY, f"{text}; {ANEW} to keep that"))
    return Plan(layout, survey.rows, tuple(lines), tuple(findings), _estimates(survey, limits))


def _identity(survey: Survey, layout: Layout, limits: SinkLimits) -> Iterator[PlanLine]:
    mapped = survey.ids_mapped
    if mapped:
        yield PlanLine(
            "id", Fidelity.REVERSIBLE, "derived from the original, which is kept in the record's marker", mapped
        )
    else:
        yield PlanLine("id", Fidelity.EXACT, "taken as it is")
    if layout.native.name == survey.spec.name:
        yield PlanLine("name", Fidelity.EXACT, "taken as it is")
    elif limits.keeps_origin:
        yield PlanLine("name", Fidelity.REVERSIBLE, f"{layout.native.name!r} here; the original is kept beside it")
    else:
        yield PlanLine("name", Fidelity.LOSSY, f"{layout.native.name!r} here, and no room for the original")
    if survey.spec.has_namespaces:
        native = limits.namespaces
        how = "kept as namespaces" if native else "kept in the record's marker; the id is derived from both"
        yield PlanLine("namespace", Fidelity.EXACT if native else Fidelity.REVERSIBLE, how, survey.rows_in_namespaces)


def _texts(survey: Survey, layout: Layout, limits: SinkLimits) -> Iterator[PlanLine]:
    if survey.spec.has_documents:
        if limits.documents is DocumentRoom.NATIVE:
            yield PlanLine("document", Fidelity.EXACT, "kept as the store's document", survey.documents)
        else:
            yield PlanLine("document", Fidelity.REVERSIBLE, "kept in the payload", survey.documents)
    for key, found in sorted(survey.payload_keys.items()):
        subject = f"payload.{key}"
        if found.encoded:
            how = (
                f"{found.encoded:,} of {counted(found.rows, 'value')} {_are(found.encoded)} kept in the record's marker"
            )
            yield PlanLine(subject, Fidelity.REVERSIBLE, "; ".join([how, *_other_forms(found)]), found.rows)
        elif found.forms:
            how = f"comes back as it was; {'; '.join(_other_forms(found))}"
            yield PlanLine(subject, Fidelity.REVERSIBLE, how, found.rows, forms=tuple(sorted(found.forms)))
        else:
            yield PlanLine(subject, Fidelity.EXACT, "kept as it is", found.rows)
    if survey.payloads_encoded:
        yield PlanLine(
            "payload",
            Fidelity.REVERSIBLE,
            "absent and empty payloads are told apart by the marker",
            survey.payloads_encoded,
        )


def _other_forms(found: KeySurvey) -> Iterator[str]:
    if found.forms:
        yield f"{found.changed:,} of {counted(found.rows, 'value')}: {'; '.join(told_forms(found.forms))}"


def payload_summary(lines: Iterable[PlanLine]) -> list[tuple[Fidelity, str, str]]:
    """The class, the number and the words of all payload keys that come back as they were: those kept as they are, and
    those that stand in another form for other readers. Hundreds of them would hide the few that are neither."""
    kept = [line for line in lines if line.summed]
    rows = []
    exact = [line for line in kept if not line.forms]
    if exact:
        how = "kept as it is" if len(exact) == 1 else "kept as they are"
        rows.append((Fidelity.EXACT, f"payload: {counted(len(exact), 'key')}", how))
    other = [line for line in kept if line.forms]
    if other:
        how = "comes back as it was" if len(other) == 1 else "come back as they were"
        told = told_forms({form for line in other for form in line.forms})
        rows.append((Fidelity.REVERSIBLE, f"payload: {counted(len(other), 'key')}", "; ".join([how, *told])))
    return rows


def _vector(field: FieldLayout, found: VectorSurvey, limits: SinkLimits) -> list[PlanLine]:
    original, native = field.original, field.native
    column = original.column
    if native is None:
        if not found.rows:
            return [PlanLine(column, Fidelity.REVERSIBLE, f"{field.why}: no vectors", found.rows)]
        how = f"search: {field.why}; the vectors are kept in the records' markers, where nothing finds them"
        return [PlanLine(column, Fidelity.LOSSY, how, found.rows, (SEARCH,))]
    lines: list[PlanLine] = []
    if native.metric is not original.metric:
        how = f"searched by {native.metric} instead of {original.metric}: other neighbours come back"
        lines.append(PlanLine(f"metric:{column}", Fidelity.LOSSY, how))
    steps = [*_form_steps(field), *_kept_steps(field, found, limits)]
    # A field of which nothing stands natively as it is loses nothing but what has been said.
    if original.kind is VectorKind.DENSE and found.rows > found.placeholders + found.absent + found.kept:
        steps += _dense_steps(field, found, limits)
    worst = max((step.fidelity for step in steps), key=_ORDER.index, default=Fidelity.EXACT)
    how = "; ".join(step.text for step in steps) or ("kept bit for bit" if found.rows else "no vectors")
    return [*lines, PlanLine(column, worst, how, found.rows, tuple(step.change for step in steps if step.change))]


class _Step(NamedTuple):
    """One thing that happens to a vector field's values."""

    fidelity: Fidelity
    text: str
    change: str = ""


def _form_steps(field: FieldLayout) -> Iterator[_Step]:
    """What the way back undoes for every record alike; `_structure` says where there is none."""
    original, native = field.original, field.native
    assert native is not None
    if original.dtype is not native.dtype:
        yield _Step(Fidelity.REVERSIBLE, f"held as {native.dtype}")
    if native.name != original.name:
        yield _Step(Fidelity.REVERSIBLE, f"the field is called {native.name!r} here")


def _kept_steps(field: FieldLayout, found: VectorSurvey, limits: SinkLimits) -> Iterator[_Step]:
    """Records whose original stands in the marker."""
    assert field.native is not None
    if found.kept:
        scaled = field.native.metric in limits.normalises
        why = "that the store scales to unit length" if scaled else "of numbers that the store changes"
        yield _Step(
            Fidelity.REVERSIBLE, f"{counted(found.kept, 'vector')} {why} {_are(found.kept)} kept in the marker too"
        )
    if found.unfound:
        text = f"that the store cannot take {_are(found.unfound)} kept in the marker, where nothing finds"
        them = "it" if found.unfound == 1 else "them"
        yield _Step(Fidelity.LOSSY, f"search: {counted(found.unfound, 'vector')} {text} {them}", SEARCH)
    if found.absent > found.unfound:
        absent = found.absent - found.unfound
        text = f"that nothing could find anyway, empty or not finite, {_are(absent)} kept in the marker"
        yield _Step(Fidelity.REVERSIBLE, f"{counted(absent, 'vector')} {text}")
    if found.placeholders:
        text = f"that the store cannot take {_are(found.placeholders)} kept in the marker; a placeholder is searched"
        yield _Step(Fidelity.LOSSY, f"{counted(found.placeholders, 'vector')} {text}", PLACEHOLDER)
    if found.null and limits.vectors_required and field.native.kind is VectorKind.DENSE:
        records = counted(found.null, "record has no vector and gets", "records have no vector and get")
        text = f"{records} a placeholder that searches can find"
        yield _Step(Fidelity.LOSSY, text, PLACEHOLDER)


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _dense_steps(field: FieldLayout, found: VectorSurvey, limits: SinkLimits) -> Iterator[_Step]:
    """Those that stand natively alone."""
    original, native = field.original, field.native
    assert native is not None
    if not found.exact:
        yield _Step(Fidelity.LOSSY, f"precision: {original.dtype} is rounded to {native.dtype}", PRECISION)
    low, high = found.norm_minimum, found.norm_maximum
    if native.metric in limits.normalises:
        if low is None or high is None:
            yield _Step(Fidelity.EXACT, "every vector is all zero")
        elif max(abs(low - 1), abs(high - 1)) <= UNIT_NORM_TOLERANCE:
            text = "scaled to unit length, which it has already: cosine >= 1-1e-6, L2 <= 2e-5"
            yield _Step(Fidelity.ROUNDED, text, UNIT)
        else:
            text = f"magnitude: scaled to unit length; norms were {low:.4g} to {high:.4g}"
            yield _Step(Fidelity.LOSSY, text, MAGNITUDE)
    elif native.metric not in limits.rounds or native.dtype in {DType.INT8, DType.BINARY}:
        return
    elif original.dtype in {native.dtype, DType.FLOAT64}:
        yield _Step(Fidelity.ROUNDED, f"up to 4 ulp of {native.dtype}", ULP)
    else:
        yield _Step(Fidelity.REVERSIBLE, f"what the store rounds is rounded back to {original.dtype}")


def _model(survey: Survey, limits: SinkLimits) -> Iterator[PlanLine]:
    known = [field.column for field in survey.spec.vectors if field.model != EmbeddingModel()]
    if known:
        if limits.keeps_origin:
            yield PlanLine("model", Fidelity.REVERSIBLE, "kept beside the collection")
        else:
            yield PlanLine("model", Fidelity.LOSSY, f"no room to say which model made {', '.join(known)}")


def _metadata(held: Kept) -> Iterator[PlanLine]:
    parts = []
    if held.lost:
        parts.append(f"no room for the collection's own {named(held.lost)}")
    if held.beside:
        parts.append(f"{named(held.beside)} kept beside the collection, for the way back")
    if held.exact:
        parts.append(f"{named(held.exact)} kept as the collection's own")
    if parts:
        worst = Fidelity.LOSSY if held.lost else Fidelity.REVERSIBLE if held.beside else Fidelity.EXACT
        yield PlanLine("metadata", worst, "; ".join(parts))


def _unwritten(held: Kept) -> Iterator[Finding]:
    if held.unwritten:
        text = (
            f"the collection that is there keeps its own metadata: {named(held.unwritten)} would not be written to it"
        )
        yield Finding("target.metadata", text, detail={"keys": list(held.unwritten)})


def _estimates(survey: Survey, limits: SinkLimits) -> dict[str, int | float | None]:
    return {
        "rows": survey.rows,
        "bytes": survey.bytes_read,
        "read_requests": survey.pages,
        "write_requests": -(-survey.rows // limits.batch_rows),
        "read_seconds": round(survey.seconds, 3),
        "write_seconds": None,
        "usd": None,
    }
