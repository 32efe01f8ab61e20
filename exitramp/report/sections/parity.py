"""Parity, as part of section 11: are the records the same, and do both stores find the same neighbours?"""

from __future__ import annotations

from collections.abc import Iterator

from exitramp.report.model import (
    Block,
    Bullets,
    Callout,
    Cell,
    Column,
    Fold,
    KeyValues,
    Notice,
    Quantity,
    Row,
    Subheading,
    Table,
    code,
    numbers,
    prose,
    row,
    strong,
)
from exitramp.report.sections.charts import neighbours_chart
from exitramp.report.sections.checks import vectors_line
from exitramp.report.sections.consent import given_up
from exitramp.report.sections.coverage import how_found
from exitramp.report.sections.fields import Data, count, figure, flag, objects, part, verdict, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.words import counted, not_measured, sentence
from exitramp.report.text import number_text

ALL = "all"
"""What the journal calls the part without a filter."""
_KINDS = {
    "sparse": "These are sparse vectors: a record that scores nothing with a query is nobody’s neighbour, and counts "
    "neither way where a store returns it or leaves it out. ",
    "multi": "These are lists of vectors, compared by MaxSim: for each vector of a query the nearest of the record’s, "
    "added up. ",
}


def records_parity(journal: Journal) -> Iterator[Block]:
    yield Subheading("Primary and substitute, record by record")
    parity = journal.data("parity")
    records = part(parity, "records")
    if not records:
        yield not_measured(journal, "parity")
        return
    counts, rows = part(records, "counts"), part(records, "rows")
    both = count(rows, "compared")
    of = "" if both is None else f"Of the {counted(both, 'record')} on both sides: "
    yield prose(of, strong(vectors_line(parity) or "no vectors were compared"), ".")
    lost = tuple((strong(f"“{each.subject}”: "), each.text) for each in given_up(journal))
    if lost:
        title = "what was given up by consent is granted below, and counts as no difference"
        yield Callout(Notice.WARNING, title, (Bullets(lost),))
    yield Table(
        "Records compared, and those that differ",
        (Column("What"), numbers("Records")),
        (
            row("In the primary", count(rows, "a")),
            row("In the substitute", count(rows, "b")),
            row("Compared", count(rows, "compared")),
            row("Missing from the substitute", count(counts, "missing")),
            row("In the substitute only", count(counts, "extra")),
            row("Ids that stand more than once", count(counts, "duplicate")),
            row("Another document", count(counts, "document")),
            row("Another payload", count(counts, "payload")),
            row("A vector beyond the tolerance", count(counts, "vector")),
        ),
        note=f"Every differing id stands in {word(parity, 'ids_file')}." if word(parity, "ids_file") else "",
    )
    yield from (_field(each) for each in objects(records, "fields"))
    paths = part(records, "payload_paths")
    if paths:
        told = [
            row(code(path), ", ".join(f"{kind} {number_text(paths[path][kind])}" for kind in part(paths, path)))
            for path in paths
        ]
        yield Table("Payload paths that differ", (Column("Path"), Column("How, and in how many")), tuple(told))


def _field(each: Data) -> Fold:
    tolerance = part(each, "tolerance")
    bound = ", ".join(
        f"{name} {value:g}" for name in ("cosine", "l2", "ulp") if (value := figure(tolerance, name)) is not None
    )
    facts: list[tuple[str, Cell]] = [
        ("Vectors compared", count(each, "rows")),
        ("Equal bit for bit", count(each, "bit_equal")),
        ("Beyond the tolerance", count(each, "beyond_tolerance")),
        ("On one side only", count(each, "one_sided")),
        ("Largest difference of a number", figure(each, "max_abs")),
        ("Cosine, lowest", _cosine(figure(each, "cosine", "min"))),
        ("Cosine, mean", _cosine(figure(each, "cosine", "mean"))),
        ("Without a cosine (a vector of zeros)", count(each, "cosine", "undefined")),
        ("L2 distance, highest", figure(each, "l2", "max")),
        ("L2 distance, mean", figure(each, "l2", "mean")),
        ("Tolerance", bound or "none: equal bit for bit"),
        ("Where it comes from", word(tolerance, "source") or "the plan"),
    ]
    return Fold(f"The vectors of “{word(each, 'column')}” in figures", (KeyValues(tuple(facts)),))


def _cosine(value: float | None) -> Cell:
    """To four significant digits 0.99999994 would read 1, which it is not."""
    return None if value is None else Quantity(value, "", 0 if value == 1 else 9)


def neighbours_parity(journal: Journal) -> Iterator[Block]:
    """Whether the stores answer alike, each against exact truth computed from the primary's data."""
    if not journal.data("parity"):
        return
    first = part(journal.data("parity"), "neighbours")
    further = objects(journal.data("parity"), "further_neighbours")
    yield Subheading("Do both stores find the same neighbours?")
    for each in (first, *further):
        yield from _neighbours(each, f"“{word(each, 'column')}”: " if further else "")


def _neighbours(found: Data, field: str) -> Iterator[Block]:
    """The neighbours by one vector field; `field` begins what is said of it, where there are several."""
    parts = objects(found, "parts")
    if not parts:
        remarks = " ".join(sentence(word(each, "message")) for each in objects(found, "findings"))
        yield prose(strong(f"{field}Not measured."), f" {remarks or 'The journal holds no figures of it.'}")
        return
    k = figure(found, "k")
    yield prose(field, *_how(found, k))
    yield Table(
        f"{field}Recall of the nearest {k}, against exact truth"
        if k is not None
        else f"{field}Recall against exact truth",
        (
            Column("Among"),
            numbers("Records"),
            numbers("Queries"),
            numbers("Primary", "", 4),
            Column("Substitute, and its bounds"),
            Column("Difference, and its bounds"),
            numbers("Overlap", "", 4),
        ),
        tuple(_part(each) for each in parts),
        note=_demands(found),
    )
    chart = neighbours_chart(found)
    if chart is not None and any(one != other for one, other in (item.values for item in chart.items)):
        yield chart
    elif chart is not None:  # a row of marks on marks shows less than this sentence
        yield prose(chart.alternative)


def _how(found: Data, k: int | float | None) -> Iterator[str]:
    metrics = [word(found, "metric_a"), word(found, "metric_b")]
    yield f"The truth was computed from the data by {metrics[0] or 'the primary’s metric'}, without any index. "
    yield _KINDS.get(word(found, "kind"), "")
    if flag(found, "own_records"):
        yield "Queries are the records’ own vectors, each left out of its own answer. "
    if all(metrics) and metrics[0] != metrics[1]:
        shared = figure(found, "metric_overlap")
        yield f"The substitute ranks by {metrics[1]}, the primary by {metrics[0]}"
        yield f": by the truth they share {shared:.2f} of the nearest {k}. " if shared is not None else ". "
    yield " ".join(how_found(found))


def _part(each: Data) -> Row:
    name = word(each, "name")
    return row(
        "all records" if name == ALL else code(name),
        count(each, "matching"),
        count(each, "queries"),
        figure(each, "recall_a"),
        _bounds(part(each, "recall_b")),
        _bounds(part(each, "difference")),
        figure(each, "overlap"),
        verdict=verdict(each, "verdict"),
    )


def _bounds(data: Data) -> Cell:
    mean = figure(data, "mean")
    return None if mean is None else Quantity(mean, "", 4, figure(data, "lower"), figure(data, "upper"))


def _demands(found: Data) -> str:
    floor, margin = figure(found, "recall_floor"), figure(found, "recall_margin")
    told = []
    if floor is not None:
        told.append(f"The substitute’s lower bound must reach {floor:g}.")
    if margin is not None:
        told.append(f"Its difference to the primary must lie above −{margin:g}.")
    filters = sum(word(each, "name") != ALL for each in objects(found, "parts"))
    if filters:
        told.append(f"{counted(filters, 'filter')} on payload keys; no payload value is shown.")
    return " ".join(told)
