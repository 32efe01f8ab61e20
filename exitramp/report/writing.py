"""A run's report files, written from its journal and from nothing else.

`report.xml` holds the head of the journal's hash chain: it is the anchor that `exitramp report RUN --verify` compares
with. So a report is never written over an anchor that the journal no longer fits: that would turn a journal that was
cut or rewritten into one that verifies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from exitramp import canonical
from exitramp.drill.event_log import ANCHOR_PROPERTY, FINISHED, LogReading, read_log
from exitramp.durable import make_folder, write_atomically
from exitramp.errors import JournalCorrupt, UsageError
from exitramp.report.html import render_html
from exitramp.report.json_ import render_json
from exitramp.report.junit import render_junit
from exitramp.report.markdown import render_markdown
from exitramp.report.model import Document
from exitramp.report.sections import Journal, build_document
from exitramp.report.sections.fields import count, part
from exitramp.report.sections.outcome import all_findings
from exitramp.secrets import redacted

JOURNAL: Final = "journal.jsonl"
KINDS: Final = ("html", "md", "json", "junit")
NAMES: Final[Mapping[str, str]] = {
    "html": "report.html",
    "md": "report.md",
    "json": "report.json",
    "junit": "report.xml",
}
_KEYS: Final[Mapping[str, str]] = {"html": "html", "md": "markdown", "json": "json", "junit": "junit"}
_LEADING: Final = ("report_version", "run_id", "verdict", "verdict_reason", "rows", "digests", "objectives", "findings")


def write_reports(folder: Path, *, kinds: Sequence[str] = KINDS, out: Path | None = None) -> dict[str, Path]:
    """Render the journal in `folder` and write the report beside it, or into `out` (made if missing).

    Returns the paths under `html`, `markdown`, `json` and `junit`, those of `kinds` alone. Everything is rendered
    before the first file is written, and each replaces an older one at once. The same journal gives the same bytes.
    Raises `JournalCorrupt` when the chain is broken or an older `report.xml` holds a head that is not of this log,
    `DataInvalid` for a journal that cannot be read or is not a drill's, and `UsageError` for an unknown kind.
    """
    unknown = [kind for kind in kinds if kind not in NAMES]
    if unknown:
        raise UsageError(f"a report cannot be written as {unknown[0]!r}", hint=f"known are: {', '.join(KINDS)}")
    reading = read_journal(folder)
    target = out or folder
    for place in dict.fromkeys((folder, target)):
        _refuse_other_head(place / NAMES["junit"], reading, folder / JOURNAL)
    document = build_document(reading.events, torn_bytes=reading.torn_bytes)
    texts = {kind: _RENDERERS[kind](document, reading) for kind in KINDS if kind in kinds}
    make_folder(target)
    found = {}
    for kind, text in texts.items():
        path = target / NAMES[kind]
        write_atomically(path, text.encode("utf-8"))
        found[_KEYS[kind]] = path
    return found


def read_journal(folder: Path) -> LogReading:
    """The verified events of the run in `folder`; a line that was never written to its end is counted and left out."""
    path = folder / JOURNAL
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file", hint="give the folder that `exitramp drill run` wrote")
    reading = read_log(path)
    if not reading.events:
        raise JournalCorrupt(f"{path}: holds no event", hint="the run ended before its first event, or it was emptied")
    return reading


def anchored_head(junit: Path) -> str | None:
    """The head that a JUnit file holds; None where there is no such file, or none in it."""
    try:
        root = ElementTree.parse(junit).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    named = [item for item in root.iter("property") if item.get("name") == ANCHOR_PROPERTY]
    return (named[0].get("value") or "") if named else None


def summary(reading: LogReading) -> dict[str, Any]:
    """What stands at the top of `report.json`: rows and digests of what was taken out, and every finding."""
    journal = Journal.of(reading.events, reading.torn_bytes)
    taken = journal.data("dump") or journal.data("parity")
    found = {
        "rows": count(taken, "rows"),
        "digests": part(taken, "digests") or None,
        "findings": [{"step": step or None, **each} for step, each in all_findings(journal)],
    }
    # The journal masked secrets when it was written; one that is known only since then is masked now.
    whole: dict[str, Any] = json.loads(canonical.dumps(redacted(found)))
    return whole


def _refuse_other_head(junit: Path, reading: LogReading, journal: Path) -> None:
    """A log may have grown since, as that of a run that is still going; anything else is another log."""
    anchor = anchored_head(junit)
    if anchor is None:
        return
    place = next((at for at, event in enumerate(reading.events) if event.hash == anchor), None)
    if place is None or (reading.events[place].kind == FINISHED and place + 1 < len(reading.events)):
        raise JournalCorrupt(
            f"{journal}: its head is {reading.head}, but {junit} says {anchor}",
            hint="the journal was cut or rewritten after that report; keep both files, and write elsewhere with --out",
        )


def _json(document: Document, reading: LogReading) -> str:
    journal = Journal.of(reading.events, reading.torn_bytes)
    results = {
        step.name: {"verdict": step.verdict.value if step.verdict else None, "seconds": step.seconds, "data": step.data}
        for step in journal.steps
        if step.finished is not None
    }
    whole = json.loads(render_json(document, results)) | summary(reading)
    ordered = {name: whole[name] for name in _LEADING} | whole
    text = json.dumps(ordered, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate in an id has no UTF-8 form
        text = json.dumps(ordered, ensure_ascii=True, indent=2, allow_nan=False)
    return text + "\n"


_RENDERERS: Final[Mapping[str, Callable[[Document, LogReading], str]]] = {
    "html": lambda document, reading: render_html(document),
    "md": lambda document, reading: render_markdown(document),
    "json": _json,
    "junit": lambda document, reading: render_junit(document),
}
