"""Sections 2 to 5: which run this is, what it covers, how real it was, and who took part."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from exitramp import canonical
from exitramp.report.model import (
    Blank,
    Block,
    Callout,
    Cell,
    Column,
    KeyValues,
    Notice,
    Quantity,
    Section,
    Subheading,
    Table,
    code,
    numbers,
    prose,
    row,
)
from exitramp.report.sections.application import who_decided
from exitramp.report.sections.clocks import clocks
from exitramp.report.sections.fields import NOTHING, Data, count, figure, objects, part, word
from exitramp.report.sections.journal import Journal, moment
from exitramp.report.sections.stack_table import stack_table
from exitramp.report.sections.stacks import (
    PRIMARY,
    SUBSTITUTE,
    faults,
    mock_embedders,
    mocks,
    proxied_faults,
    simulated_faults,
    stack_parts,
)
from exitramp.report.sections.words import MODES, PARTS, counted, fault_words, how_words, listed, not_measured
from exitramp.report.text import number_text

NOT_RECORDED: Final = "the store does not record which model made the vectors"
_ROLES: Final = (
    ("owner", "A", "answers for the service and for the decision to leave"),
    ("coordinator", "R", "runs the drill and may stop it"),
    ("reporter", "R", "writes down what people did and said"),
    ("observer", "I", "watches and does not act"),
)


def identity(journal: Journal) -> Section:
    started = journal.started
    operator, seed = word(started, "operator"), figure(started, "seed")
    text = canonical.dumps(journal.drill)
    facts: list[tuple[str, Cell]] = [
        ("Drill", code(word(journal.drill, "name"))),
        ("Run", code(word(started, "run_id"))),
        ("Started", moment(journal.events[0])),
        ("Ended", moment(journal.last) if journal.is_finished else "did not end"),
        *clocks(journal),
        ("Seed of everything drawn", _seed(journal, seed)),
        ("Program", _program(started)),
        ("Python and platform", " · ".join(filter(None, (word(started, "python_version"), word(started, "platform"))))),
        ("Drill file", code(word(started, "file"))),
        ("Drill as run, SHA-256", code(hashlib.sha256(text.encode("utf-8")).hexdigest())),
        ("Started by", operator or Blank("Operator")),
        ("Events in the journal", len(journal.events)),
        ("Its last event, by which this report is dated", moment(journal.last)),
        ("Head of the journal", code(journal.head)),
        ("Objectives, SHA-256", code(word(started, "objectives_sha256"))),
    ]
    note = prose(
        "The drill’s hash is over the canonical JSON of the drill as it stands in the first event. The report is made"
        " from the journal and from whether an anchor holds it (section 8), and dated by the journal: the same journal"
        " always gives the same report."
    )
    return Section(2, "Identity", (KeyValues(tuple(facts)), note), "identity")


def _seed(journal: Journal, seed: int | float | None) -> Cell:
    if seed is None and word(journal.drill, "mode") == "tabletop":
        return "none: people decide, and nothing is drawn"
    return None if seed is None else code(f"{seed}")


def _program(started: Data) -> Cell:
    version = word(started, "tool_version")
    return f"exitramp {version}" if version else None


def scope(journal: Journal) -> Section:
    blocks: list[Block] = []
    for text in (word(journal.drill, "scope"), word(journal.drill, "description")):
        if text.strip():
            blocks.append(prose(text.strip()))
    if not blocks:
        blocks.append(Blank("What the drill covers, and what it leaves out", 2))
    blocks.append(stack_table(journal))
    blocks += _data(journal)
    return Section(3, "Scope", tuple(blocks), "scope")


def _data(journal: Journal) -> list[Block]:
    built, wanted = journal.data("build_primary"), part(journal.drill, "data")
    facts: list[tuple[str, Cell]] = []
    corpus = part(built, "corpus")
    if built:
        facts += [
            ("Corpus", word(corpus, "name") or word(wanted, "corpus")),
            ("Documents", count(built, "landed")),
            ("Corpus, SHA-256", code(word(corpus, "documents_sha256")) if word(corpus, "documents_sha256") else None),
            ("Origin and licence", word(corpus, "licence") or None),
            ("Embedding model", model_words(part(built, "model"), figure(built, "dimensions"))),
            ("Its weights", code(word(built, "model", "revision")) if word(built, "model", "revision") else None),
            ("Metric", word(built, "metric") or None),
            ("Vector lengths", _lengths(built)),
        ]
    else:
        rows = count(journal.data("dump"), "rows")
        facts += [
            ("Data", "what stood in the primary store already"),
            ("Records", rows),
            ("Embedding model", _model_of_the_store(journal)),
        ]
    return [Subheading("The data"), KeyValues(tuple(facts))]


def model_words(model: Data, dimensions: int | float | None = None) -> Cell:
    """`wordllama l2_supercat_256, 256 dimensions`; None where nothing is known."""
    name = " ".join(filter(None, (word(model, "provider"), word(model, "name"))))
    return None if not name else name + (f", {counted(dimensions, 'dimension')}" if dimensions is not None else "")


def named_embedder(journal: Journal) -> str:
    """The embedder of the drill file, `wordllama` for `wordllama:`; "" where none is named."""
    return word(journal.drill, "data", "embedder").removesuffix(":")


def recorded_model(journal: Journal) -> Data | None:
    """The model that a store which was there before records for its vectors; empty for one that records none, None
    while nobody has looked."""
    vectors = objects(journal.data("plan"), "target", "vectors")
    if not vectors:
        return None
    model = part(vectors[0], "model")
    return NOTHING if word(model, "name") in {"", "unknown"} else model


def _model_of_the_store(journal: Journal) -> Cell:
    recorded, named = recorded_model(journal), named_embedder(journal)
    file = f"the drill file names {named}" if named else "the drill file names none"
    if recorded is None:
        return file
    return f"the store records {model_words(recorded)}; {file}" if recorded else f"{NOT_RECORDED}; {file}"


def _lengths(built: Data) -> Cell:
    low, high = figure(built, "norm_minimum"), figure(built, "norm_maximum")
    return None if low is None or high is None else f"{low:.7f} to {high:.7f}"


def _mode_words(name: str, injected: Sequence[Data]) -> str:
    """A journal of an older version may call an exit planned and break the vendor meanwhile."""
    if name == "planned" and injected:
        return f"called planned by the drill file; {counted(len(injected), 'fault')} befell the vendor all the same"
    return MODES.get(name, name)


def how_held(journal: Journal) -> str:
    """Table-top, simulated or live, by what happened: no drill file can claim it."""
    injected, played = faults(journal), simulated_faults(journal)
    if injected and len(played) == len(injected):
        return "simulated: data was truly moved and questions truly asked, and every fault was played"
    stand_ins = ", against a mock embedding vendor" if mock_embedders(journal) else ""
    stand_ins = ", against mock vendors" if mocks(journal) else stand_ins
    if played:
        return f"live in part, in part simulated{stand_ins}: see the faults"
    if journal.step("dump") is None and journal.step("baseline") is None and not injected:
        return "nothing was done before the run ended"
    return f"live{stand_ins}: what is shown was done, neither played nor talked through"


def mode(journal: Journal) -> Section:
    mode_name = word(journal.drill, "mode")
    injected, played = faults(journal), simulated_faults(journal)
    if not injected:
        kind = "no fault was injected" if journal.is_finished else "no fault was injected before the run ended"
    elif not played and len(proxied_faults(journal)) == len(injected):
        kind = "live: a proxy of this run did every fault, between the application and a part that was not touched"
    elif not played:
        kind = "live: every fault was done to a real process or server of this run"
        if proxied_faults(journal):
            kind += f", {len(proxied_faults(journal))} of them by a proxy in front of the part"
    elif len(played) == len(injected):
        kind = "simulated: every fault was played in exitramp’s own calls"
    else:
        kind = f"{counted(len(injected) - len(played), 'fault')} live, {len(played)} simulated in exitramp’s own calls"
    rate = figure(journal.data("outage") or journal.data("silent_drift"), "rate_per_second")
    blocks: list[Block] = [
        KeyValues(
            (
                ("Mode", _mode_words(mode_name, injected)),
                ("Faults", kind),
                ("How it was held", how_held(journal)),
                ("Load during the outage", _load(journal, rate)),
                ("Who was told", _told(journal, injected)),
                ("Drill ends early at", _stops(part(journal.drill, "stop"))),
            )
        )
    ]
    if injected or journal.wanted("outage") or not journal.wanted("cut_over"):
        blocks.append(_scenario(journal) if injected else not_measured(journal, "outage"))
    if mocks(journal):
        blocks += _mock_settings(journal)
    for each in mock_embedders(journal):
        told = f"{each.service} ({each.stack}) is no vendor: it answers as one would, with a real model’s vectors."
        blocks.append(Callout(Notice.MOCK, "the embedding vendor is a mock", (prose(told),)))
    return Section(4, "Mode and scenario", tuple(blocks), "mode")


def _load(journal: Journal, rate: int | float | None) -> Cell:
    if rate is not None:
        return Quantity(rate, "requests a second")
    if journal.wanted("outage"):
        return None
    stream = figure(journal.data("parallel_run") or journal.data("cut_over"), "rate_per_second")
    if journal.wanted("cut_over"):
        told = "no outage: this exit is planned"
        return told if stream is None else f"{told}; {number_text(stream)} requests a second meanwhile"
    if journal.wanted("embedding_gone"):
        return "no stream: the golden questions were asked one after the other"
    return "no outage in this drill, and no load"


def _told(journal: Journal, injected: Sequence[Data]) -> Cell:
    if word(journal.data("outage"), "application", "name"):
        return "nobody: the application, or whoever watches it, had to find out" if injected else "nothing to tell"
    if injected and journal.wanted("embedding_gone"):
        return "nobody: whoever had a question to embed found out"
    if injected:
        return "nobody: the orchestration layer had to find out"
    return "everybody: the moment was agreed" if journal.wanted("cut_over") else "nobody: nothing was broken"


def _stops(stop: Data) -> Cell:
    told = [
        f"{number_text(value)} {name if name != 'usd' else 'USD'}"
        for name in stop
        if (value := figure(stop, name)) is not None
    ]
    return " or ".join(told) if told else "no stop condition was set"


def _scenario(journal: Journal) -> Table:
    rows = []
    left = "left broken" + (" until the rollback" if journal.of_kind("rollback.healed") else "")
    healed = {(word(e.data, "on"), word(e.data, "fault")) for e in journal.of_kind("fault.healed")}
    for event in journal.of_kind("fault.injected"):
        on, fault, how = (word(event.data, key) for key in ("on", "fault", "how"))
        after = "healed" if (on, fault) in healed else left
        rows.append(
            row(
                f"The {PARTS.get(on, on)} {fault_words(fault, how)}",
                code(fault),
                how_words(event.data),
                after,
                code(f"#{event.seq}"),
            )
        )
    return Table(
        "Faults, in the order in which they were injected",
        (Column("What happens"), Column("Fault"), Column("How"), Column("Afterwards"), Column("Event")),
        tuple(rows),
        note="Live: done to a process or server that this run had started. By a proxy in front of it: one of this run"
        " spoiled what passed between the application and the part, and the part itself was not touched. Simulated:"
        " exitramp refused or delayed its own calls, and the part itself was not touched.",
    )


def _mock_settings(journal: Journal) -> list[Block]:
    many = len(mocks(journal)) > 1
    who = "the mocks answer" if many else "the mock answers"
    rows = []
    for each in mocks(journal):
        told = each.described
        rows.append(
            row(
                each.service or each.scheme,
                each.stack,
                word(told, "shape") or each.scheme,
                word(told, "quality") or None,
                figure(told, "latency_ms_median"),
                figure(told, "latency_ms_sigma"),
                figure(told, "seed"),
            )
        )
    return [
        Callout(
            Notice.MOCK,
            f"{who} by rule and wait{'' if many else 's'} on purpose",
            (
                prose(
                    "Latency is drawn from the distribution below and seeded; whatever time an answer takes in this"
                    " report contains it."
                ),
            ),
        ),
        Table(
            "Parameters of the mocks",
            (
                Column("Mock"),
                Column("Stack"),
                Column("Shape"),
                Column("Quality set to"),
                numbers("Latency, median", "ms"),
                numbers("Sigma"),
                numbers("Seed"),
            ),
            tuple(rows),
            note="Sigma is that of the logarithm: latency is log-normal about the median.",
        ),
    ]


def participants(journal: Journal) -> Section:
    named = part(journal.drill, "roles")
    rows = [
        row(role.capitalize(), letter, word(named, role) or Blank(f"Name of the {role}"), task)
        for role, letter, task in _ROLES
    ]
    rows.append(row("Contract and risk", "C", Blank("Names for contract and risk"), "are asked before anybody leaves"))
    told = "A program cannot name people: what is empty here is for you to fill in."
    if journal.data("outage"):
        told += f" {who_decided(part(journal.data('outage'), 'application'))}"
    blocks: tuple[Block, ...] = (
        prose("R does it, A answers for it, C is asked, I is told. ", told),
        Table("Roles in the drill", (Column("Role"), Column("RACI"), Column("Name"), Column("Part")), tuple(rows)),
    )
    return Section(5, "Participants", blocks, "participants")


def parts_named(journal: Journal) -> str:
    """`from chroma and a mock vendor (mock-openai) to qdrant and a mock vendor (mock-anthropic)`."""
    sides = [
        listed([each.short for each in stack_parts(journal) if each.stack == stack]) for stack in (PRIMARY, SUBSTITUTE)
    ]
    return f"from {sides[0]} to {sides[1]}" if all(sides) else ""
