"""The sample report's later sections, from results to annex."""

from __future__ import annotations

from exitramp.records import Verdict
from exitramp.report.model import (
    NOT_APPLICABLE,
    Blank,
    Block,
    Bullets,
    Callout,
    Code,
    Column,
    Fold,
    KeyValues,
    Notice,
    Objective,
    Quantity,
    Section,
    Subheading,
    Table,
    VerdictTable,
    code,
    emphasis,
    numbers,
    prose,
    row,
)
from exitramp.report.sample_charts import (
    COST_PARTS,
    QUERY_COUNT,
    cost_chart,
    distance_histogram,
    recall_chart,
    token_chart,
)

_SHARDS = (
    ("data/part-00000.parquet", 600, "c1d7"),
    ("data/part-00001.parquet", 600, "9be2"),
    ("data/part-00002.parquet", 412, "04fa"),
)


def later_sections(objectives: tuple[Objective, ...]) -> tuple[Section, ...]:
    """Sections 9 to 18."""
    return (
        Section(9, "Results by objective and fault", _results(objectives), "results", new_page=True),
        Section(10, "Quality parity", _quality(objectives), "quality"),
        Section(11, "Portability inventory", _INVENTORY, "portability"),
        Section(12, "Cost before, after and once", _cost(), "cost"),
        Section(13, "Contract and time windows", _CONTRACT, "contract"),
        Section(14, "Rollback", _ROLLBACK, "rollback"),
        Section(15, "Findings and lessons", _FINDINGS, "findings"),
        Section(16, "Action plan", _ACTIONS, "actions"),
        Section(17, "Sign-off", _SIGN_OFF, "sign-off", new_page=True),
        Section(18, "Annex", _ANNEX, "annex"),
    )


def _results(objectives: tuple[Objective, ...]) -> tuple[Block, ...]:
    return (
        VerdictTable("Results by objective", objectives),
        Table(
            "Results by fault",
            (
                Column("Fault"),
                numbers("From", "s", 1),
                numbers("Requests"),
                numbers("Failed"),
                numbers("Answered twice"),
                numbers("Detected after", "s", 2),
            ),
            (
                row("vendor answers 503", 10.0, 60, 11, 0, 0.31, verdict=Verdict.PASS),
                row("vendor hangs", 15.0, 60, 0, 0, None, verdict=Verdict.PASS),
                row("vendor refuses connections", 20.0, 60, 0, 0, None, verdict=Verdict.PASS),
                row("store stopped (SIGSTOP)", 25.0, 60, 0, 0, None, verdict=Verdict.PASS),
                row("store killed", 30.0, 60, 0, 0, NOT_APPLICABLE, verdict=Verdict.PASS),
                row("region partly away", NOT_APPLICABLE, None, None, None, None, verdict=Verdict.INCONCLUSIVE),
            ),
            note="After the first fault traffic was on the substitute: no request met the later ones.",
        ),
        KeyValues(
            (
                ("Requests sent, by our count", 576),
                ("Answers given, by the vendors' own counters", 565),
                ("Possibly billed twice", Quantity(0, "requests")),
            )
        ),
    )


def _quality(objectives: tuple[Objective, ...]) -> tuple[Block, ...]:
    quality = next(one for one in objectives if one.key == "quality_margin")
    return (
        prose(
            f"{QUERY_COUNT} questions were asked of both stacks and compared in pairs. The verdict comes only from"
            " the lower bound of the paired difference, one-sided at 95%; McNemar's test is shown and decides"
            " nothing."
        ),
        Table(
            "Paired differences, substitute minus primary",
            (Column("Measure"), Column("Difference and interval"), Column("Margin"), Column("Method")),
            (
                row("Assertions met", quality.measured, "−0.100", "Tango", verdict=quality.verdict),
                row("nDCG@10", Quantity(-0.009, "", 3, -0.021, 0.004), "−0.100", "bootstrap", verdict=Verdict.PASS),
                row("Recall@10", Quantity(-0.013, "", 3, -0.030, 0.003), "−0.100", "bootstrap", verdict=Verdict.PASS),
                row("McNemar's p", Quantity(0.6875, "", 3), NOT_APPLICABLE, "exact"),
            ),
        ),
        recall_chart(),
        Table(
            "Flipped cases",
            (Column("Question"), Column("Use case"), Column("On the primary"), Column("On the substitute")),
            (
                row(code("q017"), "docs_qa", "met", "missed"),
                row(code("q041"), "api_lookup", "met", "missed"),
                row(code("q058"), "api_lookup", "missed", "met"),
                row(code("q083"), "error_triage", "met", "missed"),
            ),
            note="Texts of questions and answers are not shown: the drill file does not ask for them.",
        ),
        token_chart(),
    )


_INVENTORY: tuple[Block, ...] = (
    Table(
        "What can be carried out, and how that was proven",
        (Column("What"), Column("Format"), numbers("Count"), Column("SHA-256"), Column("Restore")),
        (
            row("Prompts", "Mustache and YAML", 3, code("ab07f19c…"), "rendered alike by two engines"),
            row("Golden set", "JSON Lines", 96, code("6d3e4410…"), "read back, hash per case"),
            row("Documents and payloads", "Parquet", 1612, code("f20a8b31…"), "digests equal"),
            row("Vectors, 256 × float32", "Parquet", 1612, code("0c9d77e5…"), "within 4 ulp"),
            row("Embedding model", "weights in a package", 1, code("88f1c02b…"), "same vectors, bit for bit"),
            row("Chat model", "held by the vendor", NOT_APPLICABLE, NOT_APPLICABLE, "replaced, see §10"),
        ),
    ),
    distance_histogram(),
)


def _cost() -> tuple[Block, ...]:
    before = sum(part[1] or 0 for part in COST_PARTS)
    after = sum(part[2] or 0 for part in COST_PARTS)
    rows = tuple(
        row(name, one, two, None if one is None or two is None else two - one) for name, one, two in COST_PARTS
    )
    return (
        Callout(
            Notice.MOCK,
            "prices",
            (prose("The mock vendors' prices are illustrative, from the price book of 1 January 2030."),),
        ),
        cost_chart(),
        Table(
            "Cost of one request by part, in USD",
            (Column("Part"), numbers("Before", "", 5), numbers("After", "", 5), numbers("Difference", "", 5)),
            (*rows, row("Sum of what was measured", before, after, after - before)),
        ),
        Table(
            "Once, and by the month",
            (Column("What"), numbers("USD", "", 2), Column("From")),
            (
                row("Egress of the dump", 0.0004, "4.1 MB at 0.09 USD a GB"),
                row("Embedding anew", 0, "nothing was embedded anew"),
                row("Parallel run of 30 days", 214.0, "both stacks at the measured rate"),
                row("People's time", None, "not part of the drill"),
                row("Monthly run-rate before", 1935.0, "30,000 requests a day"),
                row("Monthly run-rate after", 2142.0, "30,000 requests a day"),
            ),
        ),
    )


_CONTRACT: tuple[Block, ...] = (
    Table(
        "Windows that the contract gives, and what the drill took",
        (Column("Window"), Column("In the contract"), Column("In this drill"), Column("Evidence for")),
        (
            row("Notice", Blank("Notice period"), NOT_APPLICABLE, NOT_APPLICABLE),
            row("Transition", Blank("Transition period"), "1 min 47.4 s", "that the data fit the window"),
            row("Retrieval after the end", Blank("Retrieval period"), "22.4 s for 1,612 records", "reading it all out"),
            row("Deletion proof", Blank("Deletion proof"), None, NOT_APPLICABLE),
        ),
        note="What a clause means is for a lawyer; law changes, and the data file behind this section has a date.",
    ),
)

_ROLLBACK: tuple[Block, ...] = (
    prose(
        "The vendor came back, traffic returned, and what the substitute lacked was brought over: 36 records"
        " written or deleted after the dump, all announced in the drill file."
    ),
    Table(
        "Digests after the rollback",
        (Column("Digest"), Column("Primary"), Column("Substitute"), Column("Class")),
        (
            row("ids", code("1629:5e0f93…c1"), code("1629:5e0f93…c1"), "equal", verdict=Verdict.PASS),
            row("payloads", code("1629:a94b07…3d"), code("1629:a94b07…3d"), "equal", verdict=Verdict.PASS),
            row("vectors", code("1629:77d2e8…90"), code("1629:08c16a…4f"), "rounded, ≤ 4 ulp", verdict=Verdict.PASS),
        ),
    ),
    Fold(
        "The records the substitute lacked",
        (
            Table(
                "First 8 of 36 ids",
                (Column("Id"), Column("Change")),
                tuple(
                    row(code(f"{name}#{number}"), "written" if number else "deleted")
                    for name, number in (
                        ("asyncio.timeout", 0),
                        ("asyncio.timeout", 1),
                        ("contextlib.aclosing", 0),
                        ("itertools.batched", 1),
                        ("numpy.linalg.vector_norm", 2),
                        ("pathlib.Path.walk", 0),
                        ("statistics.kde", 1),
                        ("zoneinfo.available_timezones", 1),
                    )
                ),
            ),
        ),
    ),
)

_FINDINGS: tuple[Block, ...] = (
    Table(
        "Findings",
        (Column("Code"), Column("Finding"), numbers("Count")),
        (
            row(code("quality.flipped"), "questions answered differently on the two stacks", 4),
            row(code("payload.reversible"), "nested fields kept in the reserved key", 212),
            row(code("model.deprecation"), "the substitute's model is to be retired within a year", None),
        ),
    ),
    Subheading("Lessons"),
    Bullets(
        (
            ("All eleven failures fell before the breaker opened. A threshold of two would have saved four.",),
            (
                "The dump took most of the time to recovery ",
                emphasis("of the plan"),
                ", and none of it in the outage.",
            ),
        ),
        ordered=True,
    ),
    Blank("Lessons the people in the drill draw", 3),
)

_ACTIONS: tuple[Block, ...] = (
    Table(
        "Actions",
        (Column("Action"), Column("From"), Column("Owner"), Column("Due")),
        (
            row("Lower the breaker's threshold from three to two", "§15", Blank("Owner"), Blank("Due date")),
            row("Take the dump nightly, so that less is lost", "§14", Blank("Owner"), Blank("Due date")),
            row("Find a substitute for the model to be retired", "§15", Blank("Owner"), Blank("Due date")),
        ),
    ),
)

_SIGN_OFF: tuple[Block, ...] = (
    Callout(
        Notice.UNSIGNED,
        "nobody has signed this report",
        (prose("Sign on paper or in your own system; the program leaves these fields blank by design."),),
    ),
    Blank("Owner of the service", 2, "name, date, signature"),
    Blank("Risk function", 2, "name, date, signature"),
    Blank("Reservations", 3),
)

_ANNEX: tuple[Block, ...] = (
    Table(
        "Files of the dump",
        (Column("File"), numbers("Rows"), Column("SHA-256")),
        tuple(row(code(name), rows, code(start * 16)) for name, rows, start in _SHARDS),
    ),
    Code(
        "title: Vendor outage\n"
        "mode: stressed\n"
        "primary: chroma+http://127.0.0.1:8123/docs\n"
        "substitute: qdrant+http://127.0.0.1:6433/docs\n"
        "objectives:\n"
        "  rto_seconds: 15\n"
        "  rpo_records: 50\n"
        "  quality_margin: 0.10\n",
        "yaml",
        "The drill file, in part",
    ),
    Code("exitramp drill run vendor_outage --seed 20300114", "sh", "To run it again"),
)
