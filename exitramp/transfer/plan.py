"""What a copy would keep exactly, keep another way, round or lose: said field by field, before the first write."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from exitramp.codec import Layout, lay_out
from exitramp.codec.layout import FieldLayout
from exitramp.errors import ConsentMissing, DataInvalid
from exitramp.ports import DocumentRoom, SinkLimits
from exitramp.records import DType, EmbeddingModel, Finding, Metric, VectorKind, Verdict
from exitramp.transfer.survey import Survey, VectorSurvey

UNIT_NORM_TOLERANCE = 1e-5
MAGNITUDE, PRECISION, PLACEHOLDER = "magnitude", "precision", "placeholder"


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

    `losses` names what a lossy vector field loses: MAGNITUDE and PRECISION change what comes back, PLACEHOLDER only
    what a search may find, since the original is kept.
    """

    subject: str
    fidelity: Fidelity
    how: str
    rows: int | None = None
    losses: tuple[str, ...] = ()

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
            raise DataInvalid(f"{first.message}{ids}", hint="mend the source; nothing was written")
        known = {line.subject for line in self.lines}
        unknown = [name for name in accepted if name not in known]
        if unknown:
            raise DataInvalid(
                f"--accept-loss {unknown[0]}: the plan has no such line", hint=f"it has: {', '.join(sorted(known))}"
            )
        missing = [line for line in self.lossy() if line.subject not in accepted]
        if missing:
            listed = "; ".join(f"{line.subject}: {line.how}" for line in missing)
            consent = " ".join(f"--accept-loss {line.subject}" for line in missing)
            raise ConsentMissing(
                f"this would lose something: {listed}", hint=f"nothing was written; to accept, add {consent}"
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "rows": self.rows,
            "target": self.layout.native.to_json(),
            "plan": [line.to_json() for line in self.lines],
            "estimates": dict(self.estimates),
            "findings": [finding.to_json() for finding in self.findings],
        }


def make_plan(
    survey: Survey, limits: SinkLimits, *, name: str | None = None, metrics: Mapping[str, Metric] | None = None
) -> Plan:
    """The plan for writing what `survey` measured into a sink with `limits`."""
    spec = survey.spec
    if limits.verbatim and not metrics:
        layout = Layout(spec, spec, tuple(FieldLayout(field, field) for field in spec.vectors))
    else:
        layout = lay_out(spec, limits, name=name, metrics=metrics)
    lines = [*_identity(survey, layout, limits), *_texts(survey, layout, limits)]
    for field in layout.fields:
        lines += _vector(field, survey.vectors[field.original.column], limits)
    lines += _model(survey, limits)
    return Plan(layout, survey.rows, tuple(lines), tuple(_findings(survey, limits)), _estimates(survey, limits))


def _identity(survey: Survey, layout: Layout, limits: SinkLimits) -> Iterator[PlanLine]:
    mapped = survey.ids_mapped
    if mapped:
        yield PlanLine(
            "id", Fidelity.REVERSIBLE, "derived from the original, which is kept in the record's marker", mapped
        )
    else:
        yield PlanLine("id", Fidelity.EXACT, "taken as it is")
    if layout.native.name != survey.spec.name and limits.keeps_origin:
        yield PlanLine("name", Fidelity.REVERSIBLE, f"{layout.native.name!r} here; the original is kept beside it")
    elif layout.native.name != survey.spec.name:
        yield PlanLine("name", Fidelity.LOSSY, f"{layout.native.name!r} here, and no room for the original")
    else:
        yield PlanLine("name", Fidelity.EXACT, "taken as it is")
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
            how = f"{found.encoded} of {found.rows} values are kept in the record's marker"
            yield PlanLine(subject, Fidelity.REVERSIBLE, how, found.rows)
        else:
            yield PlanLine(subject, Fidelity.EXACT, "kept as it is", found.rows)
    if survey.payloads_encoded:
        yield PlanLine(
            "payload",
            Fidelity.REVERSIBLE,
            "absent and empty payloads are told apart by the marker",
            survey.payloads_encoded,
        )


def _vector(field: FieldLayout, found: VectorSurvey, limits: SinkLimits) -> list[PlanLine]:
    original, native = field.original, field.native
    column = original.column
    if native is None:
        how = f"{field.why}: kept in the record's marker, where it cannot be searched"
        return [PlanLine(column, Fidelity.REVERSIBLE, how, found.rows)]
    lines: list[PlanLine] = []
    if native.metric is not original.metric:
        how = f"searched by {native.metric} instead of {original.metric}: other neighbours come back"
        lines.append(PlanLine(f"metric:{column}", Fidelity.LOSSY, how))
    steps: list[_Step] = []
    if original.kind is VectorKind.DENSE:
        steps += _dense_steps(field, found, limits)
    if native.name != original.name:
        steps.append(_Step(Fidelity.REVERSIBLE, f"the field is called {native.name!r} here"))
    worst = max((step.fidelity for step in steps), key=_ORDER.index, default=Fidelity.EXACT)
    how = "; ".join(step.text for step in steps) or "kept bit for bit"
    return [*lines, PlanLine(column, worst, how, found.rows, tuple(step.loss for step in steps if step.loss))]


class _Step(NamedTuple):
    """One thing that happens to a vector field's values."""

    fidelity: Fidelity
    text: str
    loss: str = ""


def _dense_steps(field: FieldLayout, found: VectorSurvey, limits: SinkLimits) -> Iterator[_Step]:
    original, native = field.original, field.native
    assert native is not None
    if original.dtype is DType.FLOAT64 and native.dtype is DType.FLOAT32 and not found.fits_float32:
        yield _Step(Fidelity.LOSSY, "precision: float64 is rounded to float32", PRECISION)
    elif original.dtype is not native.dtype:
        exact = Fidelity.REVERSIBLE if limits.keeps_origin else Fidelity.LOSSY
        text = f"held as {native.dtype}" + ("" if limits.keeps_origin else ", and no room to say it was not")
        yield _Step(exact, text, "" if limits.keeps_origin else PRECISION)
    if native.metric in limits.normalises:
        low, high = found.norm_minimum, found.norm_maximum
        if low is None or high is None:
            yield _Step(Fidelity.EXACT, "no vectors")
        elif original.dtype in {DType.FLOAT16, DType.INT8}:
            yield _Step(Fidelity.REVERSIBLE, "scaled to unit length; the original is kept in the record's marker")
        elif max(abs(low - 1), abs(high - 1)) <= UNIT_NORM_TOLERANCE:
            yield _Step(Fidelity.ROUNDED, "scaled to unit length, which it has already: cosine >= 1-1e-6, L2 <= 2e-5")
        else:
            text = f"magnitude: scaled to unit length; norms were {low:.4g} to {high:.4g}"
            yield _Step(Fidelity.LOSSY, text, MAGNITUDE)
    elif native.metric in limits.rounds:
        yield _Step(Fidelity.ROUNDED, "up to 4 ulp")
    missing = found.null if limits.vectors_required else 0
    if missing:
        text = f"{missing} records have no vector and get a placeholder that searches can find"
        yield _Step(Fidelity.LOSSY, text, PLACEHOLDER)
    if found.placeholders:
        text = "vectors the store cannot take are kept in the marker; a placeholder is searched"
        yield _Step(Fidelity.LOSSY, f"{found.placeholders} {text}", PLACEHOLDER)
    if found.cleaned and original.dtype not in {DType.FLOAT16, DType.INT8}:
        text = "vectors with -0.0 or subnormal numbers are kept in the marker"
        yield _Step(Fidelity.REVERSIBLE, f"{found.cleaned} {text}")


def _model(survey: Survey, limits: SinkLimits) -> Iterator[PlanLine]:
    known = [field.column for field in survey.spec.vectors if field.model != EmbeddingModel()]
    if known:
        if limits.keeps_origin:
            yield PlanLine("model", Fidelity.REVERSIBLE, "kept beside the collection")
        else:
            yield PlanLine("model", Fidelity.LOSSY, f"no room to say which model made {', '.join(known)}")


def _findings(survey: Survey, limits: SinkLimits) -> Iterator[Finding]:
    if not survey.rows:
        yield Finding("source.empty", "the source holds no records", Verdict.INCONCLUSIVE)
    if survey.duplicates:
        yield Finding(
            "source.duplicates",
            f"{survey.duplicates} records share their id with another one",
            Verdict.FAIL,
            survey.duplicate_ids,
            survey.duplicates,
        )
    if survey.collisions:
        yield Finding(
            "id.collision",
            "two records would land on one native id",
            Verdict.FAIL,
            survey.collision_ids,
            survey.collisions,
        )
    for column, found in survey.vectors.items():
        if found.nonfinite:
            yield Finding(
                "vector.nonfinite",
                f"{column}: {found.nonfinite} vectors hold NaN or an infinity",
                ids=found.nonfinite_ids,
                count=found.nonfinite,
            )
        if found.zero:
            yield Finding("vector.zero", f"{column}: {found.zero} vectors are all zero", count=found.zero)
    if not limits.durable:
        yield Finding("target.volatile", "what this target acknowledges does not survive the process")


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
