"""The two stacks side by side: what each part is, where it stands, in which versions, and how real it was."""

from __future__ import annotations

from exitramp.report.model import NOT_APPLICABLE, Cell, Column, Table, code, row
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.stacks import PRIMARY, SUBSTITUTE, StackPart, embeds_for_real, one_part
from exitramp.report.sections.words import PARTS, sentence


def stack_table(journal: Journal) -> Table:
    rows = []
    for kind, title in PARTS.items():
        sides = [one_part(journal, stack, kind) for stack in (PRIMARY, SUBSTITUTE)]
        if not any(sides) and kind == "embedding":
            continue  # the drill's own embedder made all vectors, and is no part of either stack
        if not any(sides):
            rows.append(row(sentence(title).rstrip("."), "none in this stack", "none in this stack"))
            continue
        rows.append(row(sentence(title).rstrip("."), *(_who(each) for each in sides)))
        rows.append(row(f"{sentence(title).rstrip('.')}: address", *(_address(each) for each in sides)))
        if any(each.versions for each in sides if each is not None):
            rows.append(row(f"{sentence(title).rstrip('.')}: versions", *(_versions(each) for each in sides)))
        rows.append(row(f"{sentence(title).rstrip('.')}: how real", *(_how_real(each) for each in sides)))
    return Table("The two stacks", (Column("Part"), Column("Primary"), Column("Substitute")), tuple(rows))


def _who(each: StackPart | None) -> Cell:
    if each is None:
        return "none in this stack"
    if embeds_for_real(each):
        model = each.address.partition(":")[2].partition("?")[0]
        return f"{each.service} (a mock vendor in front of a real model), model {model}"
    if each.kind == "chat":
        return f"{each.service or each.scheme}{' (a mock)' if each.is_mock else ''}, model {each.model}"
    return f"{each.scheme}: {each.summary}" if each.summary else each.scheme


def _versions(each: StackPart | None) -> Cell:
    if each is None:
        return NOT_APPLICABLE
    return each.versions or None


def _address(each: StackPart | None) -> Cell:
    return NOT_APPLICABLE if each is None else code(each.address)


def _how_real(each: StackPart | None) -> Cell:
    if each is None:
        return NOT_APPLICABLE
    told = []
    if each.is_mock:
        told.append("a mock vendor, real vectors" if embeds_for_real(each) else "a mock")
    elif each.evidence:
        told.append(each.evidence)
    told.append("started by this run" if each.is_started else "given by address")
    return ", ".join(told)
