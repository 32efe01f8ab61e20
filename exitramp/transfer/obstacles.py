"""What stands in a copy's way, or should be known before it: found by what was measured, before the first write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from exitramp.codec import Layout
from exitramp.ports import SinkLimits
from exitramp.ports.collection_metadata import OwnMetadata
from exitramp.records import Finding, Verdict
from exitramp.transfer.survey import Survey
from exitramp.wording import counted

ANEW = "choose another collection, or remove this one and let it be made anew"


@dataclass(frozen=True, slots=True)
class Standing:
    """A collection that is in the sink already: how its records are read back from it, whether it has any, whether it
    will be told where they come from (and so keeps no word of its own), and what its user wrote down of it."""

    layout: Layout
    empty: bool
    told: bool
    metadata: OwnMetadata


def obstacles(survey: Survey, limits: SinkLimits) -> Iterator[Finding]:
    """What a reader of the plan must know; where the verdict is fail, the copy could not be made at all."""
    if not survey.rows:
        yield Finding("source.empty", "the source holds no records", Verdict.INCONCLUSIVE)
    if 0 < survey.rows < limits.records_least:
        yield Finding(
            "target.records_least",
            f"the target's index needs {counted(limits.records_least, 'record')} at least, and there are {survey.rows}",
            Verdict.FAIL,
            detail={"next": "choose another index in the target's address"},
        )
    if survey.duplicates:
        yield Finding(
            "source.duplicates",
            f"{counted(survey.duplicates, 'record shares its', 'records share their')} id with another one",
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
    if survey.too_large:
        worst = max(survey.excesses.values(), key=lambda each: each.size)
        said = " and ".join(
            f"{each.limit:,} bytes of one {what} at most, as JSON (up to {each.size:,} here)"
            for what, each in sorted(survey.excesses.items())
        )
        yield Finding(
            "record.too_large",
            f"the target takes {said}; larger ones here: {survey.too_large:,}",
            Verdict.FAIL,
            survey.too_large_ids,
            survey.too_large,
            {"bytes": worst.size, "limit": worst.limit, "next": "shorten them at their source"},
        )
    if not limits.keeps_origin:
        yield from _unsaid(survey.layout)
    for column, found in survey.vectors.items():
        if found.nonfinite:
            yield Finding(
                "vector.nonfinite",
                f"{column}: {counted(found.nonfinite, 'vector holds', 'vectors hold')} NaN or an infinity",
                ids=found.nonfinite_ids,
                count=found.nonfinite,
            )
        if found.zero:
            text = f"{column}: {counted(found.zero, 'vector is', 'vectors are')} all zero"
            yield Finding("vector.zero", text, count=found.zero)
    if limits.files:
        text = f"the target is {len(limits.files)} files, {' and '.join(limits.files)}: keep them together"
        yield Finding("target.files", text, detail={"files": list(limits.files)})
    if not limits.durable:
        yield Finding("target.volatile", "what this target acknowledges does not survive the process")


def _unsaid(layout: Layout) -> Iterator[Finding]:
    """What a store without room for the origin could not say of itself, so that no way led back."""
    for field in layout.fields:
        original, native = field.original, field.native
        if native is None:
            text = f"would be kept in the markers ({field.why})"
        elif native.name != original.name:
            text = f"would have to be called {native.name!r}"
        elif native.dtype is not original.dtype:
            text = f"would be held as {native.dtype} instead of {original.dtype}"
        else:
            continue
        yield Finding(
            "field.unsaid",
            f"{original.column} {text}, and this store has no room to say so: nobody could read it back",
            Verdict.FAIL,
            detail={"column": original.column, "next": "choose another store (or a newer version of it), or dump it"},
        )


def unexplained(survey: Survey, there: Layout, limits: SinkLimits) -> list[str]:
    """What would come back as something else from a collection that is read back as `there` says."""
    known = {each.original.column: each for each in there.fields}
    parts: list[str] = []
    for field in survey.layout.fields:
        back = known.get(field.original.column)
        same = back is not None and (back.native is None) is (field.native is None)
        if same and back is not None and back.native is not None and field.native is not None:
            same = back.native.column == field.native.column and back.original.dtype is field.original.dtype
        if not same:
            parts.append(field.original.column)
    if not limits.keeps_origin:
        return parts  # every marker says there whether the collection has the following
    if survey.documents and not there.original.has_documents:
        parts.append("document")
    if survey.rows_in_namespaces and not there.original.has_namespaces:
        parts.append("namespace")
    return parts
