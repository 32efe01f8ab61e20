"""Section 11: what can be carried out, in which format, how much of it, and what proved that it can be put back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from exitramp import canonical
from exitramp.records import Verdict
from exitramp.report.model import (
    NOT_APPLICABLE,
    Block,
    Cell,
    Column,
    Row,
    Section,
    Table,
    code,
    numbers,
    row,
)
from exitramp.report.sections.asked import application_asked
from exitramp.report.sections.checks import plan_classes
from exitramp.report.sections.consent import given_up
from exitramp.report.sections.fields import NOTHING, Data, count, figure, flag, objects, part, word, words
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.parity import neighbours_parity, records_parity
from exitramp.report.sections.setting import NOT_RECORDED, model_words, named_embedder, recorded_model
from exitramp.report.sections.stacks import has_chat, mocks_answered
from exitramp.report.sections.words import bytes_text, counted, listed, not_measured, singular

_NO_RESTORE = "not proven"
_UNKNOWN = "unknown"
_UNSEEN = "not seen from outside"
_NO_HASH = "none: its weights are not here"
_COLUMNS = (
    Column("What"),
    Column("Format"),
    numbers("Count"),
    Column("SHA-256"),
    Column("Restore proven by"),
)


def inventory_section(journal: Journal) -> Section:
    rows = [*_stored(journal), *_embedding(journal), *_prompts(journal), *_golden(journal), *_chat(journal)]
    blocks: list[Block] = [
        Table(
            "What can be carried out, and what proved that it can be put back",
            _COLUMNS,
            tuple(rows),
            note="Digests are sums over the hashes of all records, whatever their order: two sides that agree on them"
            " hold the same data, unless somebody set out to make other data agree. The files’ own SHA-256 stand in the"
            " dump’s manifest.",
        )
    ]
    if not journal.data("dump"):
        blocks.append(not_measured(journal, "dump"))
    blocks += [*records_parity(journal), *neighbours_parity(journal)]
    return Section(11, "Portability inventory", tuple(blocks), "portability")


def _stored(journal: Journal) -> Iterator[Row]:
    dump = journal.data("dump")
    digests = part(dump, "digests")
    rows = count(digests, "rows")
    for key, title in (("ids", "Ids"), ("payloads", "Documents and payloads")):
        proven, found = _proof(journal, key)
        yield row(title, "Parquet, dump format 1", rows, _digest(word(digests, key)), proven, verdict=found)
    columns = part(digests, "vectors")
    for column in columns:
        proven, found = _proof(journal, "vectors", column)
        yield row(
            f"Vectors: {column}", "Parquet, dump format 1", rows, _digest(word(columns, column)), proven, verdict=found
        )


def _digest(text: str) -> Cell:
    return code(text) if text else None


def _proof(journal: Journal, key: str, column: str = "") -> tuple[Cell, Verdict | None]:
    """What showed that this part of the dump can be put back; a dump that nobody restored proves nothing yet."""
    dumped, restored = journal.data("dump"), journal.data("restore")
    path = (key, column) if column else (key,)
    before, after = word(dumped, "digests", *path), word(restored, "target_digests", *path)
    if not dumped:
        return None, None
    if not before or not after:
        return _unproven(journal)
    if before == after:
        return "read back from the substitute: the same digest", Verdict.PASS
    field = next((each for each in _fields(journal) if word(each, "column") == column), None) if column else None
    lost = [each for each in given_up(journal) if each.subject == column] if column else []
    if lost:
        kept = field is not None and count(field, "beyond_tolerance") == 0 and not count(field, "one_sided")
        rest = "; what was to be kept was read back" if kept else "; read back: another digest"
        return f"not put back as it was: given up by consent ({lost[0].how}){rest}", None if kept else Verdict.FAIL
    if field is not None and count(field, "beyond_tolerance") == 0 and not count(field, "one_sided"):
        return "read back: within the plan’s tolerance, record by record", Verdict.PASS
    return "read back: another digest", Verdict.FAIL


def _unproven(journal: Journal) -> tuple[Cell, Verdict | None]:
    """Inconclusive where the drill was to prove it; where it has no such step, it judges nothing of it."""
    if journal.wanted("restore"):
        return _NO_RESTORE, Verdict.INCONCLUSIVE
    if _is_restored_meanwhile(journal):
        given = [each for phase in _phases(journal) for each in words(phase, "options", "accept_loss")]
        told = "put back while the outage ran, read back and compared (section 9)"
        return (f"{told}, where a loss of {listed(given)} was agreed to", None) if given else (told, Verdict.PASS)
    if part(journal.data("outage"), "restore"):
        return f"{_NO_RESTORE}: it was not put back whole while the outage ran (section 9)", Verdict.INCONCLUSIVE
    return f"{_NO_RESTORE}: no step of this drill puts it back", None


def _is_restored_meanwhile(journal: Journal) -> bool:
    return flag(journal.data("outage"), "restore", "restored") is True


def _phases(journal: Journal) -> Iterator[Data]:
    for each in objects(journal.drill, "steps"):
        yield from objects(each, "phases")


def _fields(journal: Journal) -> tuple[Data, ...]:
    return objects(journal.data("parity"), "records", "fields")


def _embedding(journal: Journal) -> Iterator[Row]:
    model = part(journal.data("build_primary"), "model")
    recorded = recorded_model(journal)
    if not model and recorded is not None and not recorded:
        named = named_embedder(journal)
        file = (
            f"the drill file names {named}: whether it made these is not shown here"
            if named
            else "nor does the drill file name one"
        )
        yield row("Embedding model", f"unknown: {NOT_RECORDED}", _UNKNOWN, _UNKNOWN, file)
        return
    model = model or recorded or NOTHING
    name = model_words(model)
    revision = word(model, "revision")
    is_restored = bool(journal.data("restore")) or _is_restored_meanwhile(journal)
    proven = "both stores take the same vectors: nothing is embedded anew" if is_restored else _NO_RESTORE
    # Its fingerprint, two spaces, then what it is: the first words of that name it.
    other = word(journal.data("reembed"), "model").rpartition("  ")[2].partition(",")[0]
    if other:
        proven = f"left: everything was embedded anew by {other} (section 9)"
    known = name is not None and "unknown" not in word(model, "name")
    yield row(
        f"Embedding model: {name}" if known else "Embedding model",
        _weights(revision, known=known),
        "one model" if known else _UNKNOWN,
        code(revision.removeprefix("sha256:")) if revision.startswith("sha256:") else _NO_HASH,
        proven if known else None,
    )


def _weights(revision: str, *, known: bool) -> str:
    """In which form the model can be carried out; of one whose weights nobody here has, what the exit is instead."""
    if revision.startswith("sha256:"):
        return "weights pinned by hash"
    return "cannot be exported: weights not at hand; its exit is “exitramp reindex”" if known else "unknown"


def _prompts(journal: Journal) -> Iterator[Row]:
    if application_asked(journal):
        yield row("Prompts", "the application’s own", _UNSEEN, _UNSEEN, _UNSEEN)
        return
    if not has_chat(journal):
        yield row("Prompts", NOT_APPLICABLE, NOT_APPLICABLE, NOT_APPLICABLE, "no chat vendor, so no prompts")
        return
    found = objects(journal.data("start"), "prompts") or objects(journal.data("load_golden"), "prompts")
    asked = count(journal.data("replay"), "answered")
    proven = "the same files rendered for both stacks (section 10)" if asked else _NO_RESTORE
    if not found:
        named = word(journal.drill, "data", "prompts")
        yield row(f"Prompts: {named}" if named else "Prompts", "Mustache and YAML side-car", None, None, proven)
        return
    for each in found:
        version = word(each, "version")
        title = f"Prompt: {word(each, 'name')}" + (f", version {version}" if version else "")
        yield row(title, "Mustache and YAML side-car", 1, _digest(word(each, "sha256")), proven)


def _golden(journal: Journal) -> Iterator[Row]:
    loaded = journal.data("load_golden")
    cases, hashes = count(loaded, "cases"), words(loaded, "case_sha256")
    if not cases:
        if journal.wanted("load_golden") and not loaded:
            yield row("Golden set", "JSON Lines", None, None, None)
        else:
            yield row("Golden set", NOT_APPLICABLE, NOT_APPLICABLE, NOT_APPLICABLE, "no golden questions in this drill")
        return
    whole = hashlib.sha256(canonical.dumps(list(hashes)).encode("utf-8")).hexdigest() if hashes else ""
    asked = count(journal.data("replay"), "asked")
    of = "application" if application_asked(journal) else "substitute"
    proven = f"asked again of the {of}: {counted(asked, 'question')}" if asked else _NO_RESTORE
    yield row("Golden set (hash over its cases’ hashes)", "JSON Lines", cases, _digest(whole), proven)


def _chat(journal: Journal) -> Iterator[Row]:
    if not has_chat(journal) and application_asked(journal):
        yield row("Chat model", "the application’s own, if it has one", _UNSEEN, _UNSEEN, _UNSEEN)
        return
    if not has_chat(journal):
        yield row("Chat model", NOT_APPLICABLE, NOT_APPLICABLE, NOT_APPLICABLE, "no chat vendor in this drill")
        return
    kind = "a mock; a real one’s weights stay with its vendor" if mocks_answered(journal) else "held by the vendor"
    yield row("Chat model", kind, "one model", _NO_HASH, "cannot be carried out: replaced, see section 10")


def plan_block(journal: Journal) -> tuple[Block, ...]:
    """The whole plan, line by line, for the annex."""
    plan = journal.data("plan") or journal.data("restore")
    lines = objects(plan, "plan")
    if not lines:
        return (not_measured(journal, "plan"),)
    classes = listed([f"{number} {name}" for name, number in plan_classes(plan).items()])
    size = bytes_text(figure(plan, "estimates", "bytes"))
    table = Table(
        "The plan: what the substitute keeps, changes or loses",
        (Column("What"), Column("Class"), numbers("Records"), Column("How")),
        tuple(
            row(code(word(line, "subject")), word(line, "class"), _rows(line), singular(word(line, "how")))
            for line in lines
        ),
        note=f"Lines: {classes}." + (f" Estimated beforehand: {size} to read." if size else ""),
    )
    return (table,)


def _rows(line: Data) -> Cell:
    rows = count(line, "rows")
    return "of the collection" if rows is None else rows
