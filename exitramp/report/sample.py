"""A whole report with made-up numbers, for tests and documentation: all 18 sections and every kind of block.

Nothing in it was measured, and it says so in its title and on its stamps.
"""

from __future__ import annotations

from datetime import UTC, datetime

from exitramp.records import Verdict
from exitramp.report.model import (
    Blank,
    Block,
    Bullets,
    Callout,
    Code,
    Column,
    Document,
    Fold,
    KeyValues,
    Meta,
    Moment,
    Notice,
    Objective,
    Quantity,
    Section,
    Stamp,
    Subheading,
    Table,
    Timeline,
    VerdictTable,
    code,
    numbers,
    prose,
    row,
    strong,
)
from exitramp.report.sample_charts import latency_chart
from exitramp.report.sample_sections import later_sections

RUN_ID = "sample-2030-01-14-0930"
HEAD = "7c3f0e5ad1b94c2886d0a3f95b1e7742c6d8e90f1a2b3c4d5e6f708192a3b4c5"
OBJECTIVES_HASH = "19d2c4b6a8f0e1d3c5b7a9f8e6d4c2b0a1f3e5d7c9b8a6f4e2d0c1b3a5f7e9d8"

_REASONS = {
    Verdict.PASS: "The substitute answered well 1.34 s after the vendor failed; 36 announced records had to follow.",
    Verdict.FAIL: "The substitute's answers are worse than the margin allows; the other six objectives were met.",
    Verdict.INCONCLUSIVE: "Five questions are too few to judge answer quality; the other six objectives were met.",
}


def sample_document(verdict: Verdict = Verdict.PASS) -> Document:
    """The sample with that verdict; the objective that decides it is answer quality."""
    objectives = _objectives(verdict)
    return Document(
        title="Sample with made-up numbers: the documentation assistant leaves its vendors",
        subtitle="Drill “vendor outage”: the model vendor and the vector store fail together, under load",
        verdict=verdict,
        verdict_reason=_REASONS[verdict],
        meta=Meta(
            run_id=RUN_ID,
            program="exitramp 0.1.0",
            generated_at=datetime(2030, 1, 14, 9, 32, 6, tzinfo=UTC),
            started_at=datetime(2030, 1, 14, 9, 30, 0, tzinfo=UTC),
            ended_at=datetime(2030, 1, 14, 9, 31, 47, 400_000, tzinfo=UTC),
            objectives_sha256=OBJECTIVES_HASH,
            event_log_head=HEAD,
            is_anchored=True,
            event_count=214,
        ),
        objectives=objectives,
        sections=(*_first_sections(objectives), *later_sections(objectives)),
        stamps=(Stamp(Notice.WARNING, "made-up numbers"), Stamp(Notice.MOCK, "mock vendors")),
    )


def _objectives(verdict: Verdict) -> tuple[Objective, ...]:
    quality = {
        Verdict.PASS: (Quantity(-0.021, "", 3, -0.063, 0.021), "96 questions, paired; Tango's interval"),
        Verdict.FAIL: (Quantity(-0.188, "", 3, -0.256, -0.125), "96 questions, paired; the whole interval is below"),
        Verdict.INCONCLUSIVE: (None, "5 questions: even without a miss the bound would be −0.451"),
    }[verdict]
    passed = Verdict.PASS
    return (
        Objective("rto_seconds", "Recovery time", "≤ 15 s", Quantity(1.34, "s", 2), passed, "to the first good answer"),
        Objective("rpo_records", "Recovery point", "≤ 50 records", Quantity(36, "records"), passed, "named in §14"),
        Objective("error_rate", "Failed requests", "≤ 5%", Quantity(1.9, "%", 1, 1.0, 3.4), passed, "11 of 576"),
        Objective("p95_latency_ms", "Latency, 95th percentile", "≤ 1,500 ms", Quantity(412, "ms"), passed),
        Objective(
            "records_restored", "Records restored", "all, proven", "1,612 of 1,612", passed, "three digests equal"
        ),
        Objective(
            "quality_margin", "Answer quality, difference", "lower bound ≥ −0.100", quality[0], verdict, quality[1]
        ),
        Objective("cost_cap_usd", "Cost of a request", "≤ 0.00400 USD", Quantity(0.00238, "USD", 5), passed),
    )


def _first_sections(objectives: tuple[Objective, ...]) -> tuple[Section, ...]:
    return (
        Section(1, "Verdict", _verdict(objectives), "verdict"),
        Section(2, "Identity", _IDENTITY, "identity", new_page=True),
        Section(3, "Scope", _SCOPE, "scope"),
        Section(4, "Mode and scenario", _MODE, "mode"),
        Section(5, "Participants", _PARTICIPANTS, "participants"),
        Section(6, "Objectives, fixed before the run", _targets(objectives), "objectives"),
        Section(7, "Baseline", _BASELINE, "baseline"),
        Section(8, "Event log", _EVENTS, "events"),
    )


def _verdict(objectives: tuple[Objective, ...]) -> tuple[Block, ...]:
    return (
        VerdictTable("Objectives and how they came out", objectives),
        Callout(
            Notice.WARNING,
            "What this report does not prove",
            (
                Bullets(
                    (
                        (
                            "Both chat vendors were ",
                            strong("mocks"),
                            ": their answers follow a documented rule and say nothing about a real vendor's model.",
                        ),
                        ("The substitute's engine is real, its network protocol was emulated.",),
                        ("It was one outage, once, at twelve requests a second: neither every failure nor real load.",),
                        ("Prices of mock vendors are illustrative. The one-off cost leaves out people's time.",),
                        ("Whether the contract lets you do this is for people to judge: §13 and §17 are blank.",),
                    )
                ),
            ),
        ),
    )


_IDENTITY: tuple[Block, ...] = (
    KeyValues(
        (
            ("Drill", code("vendor_outage")),
            ("Run", code(RUN_ID)),
            ("Seed", code("20300114")),
            ("Program", "exitramp 0.1.0, commit 4f1d2aa"),
            ("Drill file, SHA-256", code("5b0c9e77a1d24f3386c1e0b9d8f7a6c5e4d3b2a190817263544536271809fae1")),
            ("Started by", Blank("Operator")),
            ("Machine", "2 cores, 8 GB, Linux, Python 3.11"),
        )
    ),
)

_SCOPE: tuple[Block, ...] = (
    prose(
        "The drill covers the retrieval and the answering of one assistant in three use cases. It leaves out its"
        " user interface, sign-in and billing."
    ),
    Table(
        "Stacks",
        (Column("Part"), Column("Primary"), Column("Substitute")),
        (
            row("Vector store", code("chroma+http://127.0.0.1:8123/docs"), code("qdrant+http://127.0.0.1:6433/docs")),
            row("Chat model", "mock vendor, OpenAI's shape", "mock vendor, Anthropic's shape"),
            row("Embedding model", "wordllama, 256 dimensions", "the same: nothing is embedded anew"),
            row("Documents", 1612, 1612),
        ),
    ),
)

_MODE: tuple[Block, ...] = (
    KeyValues(
        (
            ("Mode", "stressed: the vendor is lost without notice"),
            ("Kind", "live on this machine: processes were really stopped and killed"),
            ("Load", Quantity(12, "requests/s")),
            ("Simulated latency", "log-normal, median 180 ms, seed 20300114"),
        )
    ),
    Callout(
        Notice.SIMULATED,
        "the vendors' latency",
        (prose("The mock vendors wait before they answer, as set above; their own overhead is below 2 ms."),),
    ),
)

_PARTICIPANTS: tuple[Block, ...] = (
    prose("R does it, A answers for it, C is asked, I is told. A program cannot name people; please do."),
    Table(
        "Roles in the drill",
        (Column("Role"), Column("Name"), Column("Detect"), Column("Decide"), Column("Switch"), Column("Restore")),
        (
            row("Owner", Blank("Owner's name"), "I", "A", "A", "A"),
            row("Coordinator", Blank("Coordinator's name"), "A", "R", "C", "C"),
            row("Operator", Blank("Operator's name"), "R", "C", "R", "R"),
            row("Observer", Blank("Observer's name"), "I", "I", "I", "I"),
        ),
    ),
)


def _targets(objectives: tuple[Objective, ...]) -> tuple[Block, ...]:
    return (
        prose("They were hashed before the first request, and the hash is the log's second event."),
        Table(
            "Objectives as they were fixed",
            (Column("Objective"), Column("Key"), Column("Target")),
            tuple(row(one.name, code(one.key), one.target) for one in objectives),
        ),
        KeyValues((("SHA-256 of the objectives", code(OBJECTIVES_HASH)),)),
    )


_BASELINE: tuple[Block, ...] = (
    prose("Before anything was broken both stacks answered, and the primary met every objective."),
    Table(
        "The golden set on the primary",
        (
            Column("Use case"),
            numbers("Questions"),
            numbers("nDCG@10", "", 3),
            numbers("Recall@10", "", 3),
            numbers("Assertions met", "%", 1),
            numbers("p95", "ms", 0),
        ),
        (
            row("docs_qa", 40, 0.7124, 0.8613, 82.5, 388.2, verdict=Verdict.PASS),
            row("api_lookup", 34, 0.7941, 0.9012, 88.2352, 342.9, verdict=Verdict.PASS),
            row("error_triage", 22, 0.6402, None, 72.7272, 401.7, verdict=Verdict.INCONCLUSIVE),
        ),
        note="Per use case the numbers are descriptive; only the whole set decides.",
    ),
)

_EVENTS: tuple[Block, ...] = (
    Timeline(
        "What happened, from the event log",
        (
            Moment(0.0, "Run started, objectives hashed", reference="#1–#2"),
            Moment(22.412, "Dump written and verified", ("1,612 records, 3 shards, SHA-256 of each in §18",), "#31"),
            Moment(31.875, "Restored into the substitute, parity proven", reference="#58"),
            Moment(48.0, "Vendor begins to answer 503", ("nothing is told to the orchestration layer",), "#97", True),
            Moment(48.31, "Detected", ("three failures in a row",), "#101", True),
            Moment(48.93, "Switch decided", ("the breaker opened; model and store go together",), "#104", True),
            Moment(49.34, "First good answer", ("complete, retrieved from the substitute",), "#106", True),
            Moment(76.4, "Back on the primary", ("36 records brought over, digests equal",), "#181", True),
            Moment(None, "People told", ("no step of this drill measures it",)),
        ),
    ),
    latency_chart(),
    Subheading("Is this the log that was written?"),
    prose(
        "Each line holds the hash of the line before. A chain can be recomputed by whoever can write the file, so"
        " the head also stands in the JUnit file, which a build server keeps. ",
        code("exitramp report RUN --verify"),
        " compares the two.",
    ),
    Fold(
        "The last six of 214 events",
        (
            Table(
                "Events",
                (numbers("Number"), numbers("At", "s", 3), Column("Kind"), Column("Hash, first 16 characters")),
                tuple(
                    row(number, at_seconds, kind, code(start))
                    for number, at_seconds, kind, start in (
                        (209, 104.218, "sync.finished", "b31f58c09d27e46a"),
                        (210, 104.871, "digests.compared", "0e94c7d1526fa83b"),
                        (211, 105.402, "hypothesis.checked", "f8206b3e9ac1574d"),
                        (212, 106.115, "load.summarised", "41d9e0a7c8365bf2"),
                        (213, 106.907, "cost.added", "9a5c3f1e7b80d264"),
                        (214, 107.4, "log.finished", HEAD[:16]),
                    )
                ),
            ),
        ),
    ),
    Code("exitramp report runs/sample-2030-01-14-0930 --verify", "sh", "To check the log"),
)
