"""A run's report files, written from its journal and from nothing else.

`report.xml` is given the head of the journal's hash chain only where an anchor beside the journal says the same head:
the anchor is the run's own (`exitramp.drill.anchor`), and rendering again neither makes nor changes one. A journal that
an anchor beside it contradicts is not rendered at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from exitramp import canonical
from exitramp.drill.log_reading import require_anchor
from exitramp.durable import make_folder, write_atomically
from exitramp.errors import UsageError
from exitramp.report.html import render_html
from exitramp.report.json_ import render_json
from exitramp.report.junit import render_junit
from exitramp.report.markdown import render_markdown
from exitramp.report.model import Document
from exitramp.report.run_journal import JUNIT, junit_head, read_run
from exitramp.report.sections import Journal, build_document
from exitramp.report.sections.fields import count, part
from exitramp.report.sections.flips import without_texts
from exitramp.report.sections.outcome import all_findings
from exitramp.report.sections.tabletop import gap_findings, is_tabletop
from exitramp.secrets import redacted

KINDS: Final = ("html", "md", "json", "junit")
NAMES: Final[Mapping[str, str]] = {"html": "report.html", "md": "report.md", "json": "report.json", "junit": JUNIT}
_KEYS: Final[Mapping[str, str]] = {"html": "html", "md": "markdown", "json": "json", "junit": "junit"}
_LEADING: Final = ("report_version", "run_id", "verdict", "verdict_reason", "rows", "digests", "objectives", "findings")


def write_reports(folder: Path, *, kinds: Sequence[str] = KINDS, out: Path | None = None) -> dict[str, Path]:
    """Render the journal in `folder` and write the report beside it, or into `out` (made if missing).

    Returns the paths under `html`, `markdown`, `json` and `junit`, those of `kinds` alone. Everything is rendered
    before the first file is written, and each replaces an older one at once. The same journal, anchored or not, gives
    the same bytes. Raises `JournalCorrupt` when the chain is broken or an anchor in `folder` or a `report.xml` in `out`
    holds another head, `DataInvalid` for a journal that cannot be read or is not a drill's, and `UsageError` for an
    unknown kind.
    """
    unknown = [kind for kind in kinds if kind not in NAMES]
    if unknown:
        raise UsageError(f"a report cannot be written as {unknown[0]!r}", hint=f"known are: {', '.join(KINDS)}")
    run = read_run(folder)
    target = out or folder
    there = junit_head(target)
    if there is not None:
        # Written over, it could no longer show that this is another log.
        require_anchor(run.path, run.reading, there)
    document = build_document(run.journal)
    texts = {kind: _RENDERERS[kind](document, run.journal) for kind in KINDS if kind in kinds}
    make_folder(target)
    found = {}
    for kind, text in texts.items():
        path = target / NAMES[kind]
        write_atomically(path, text.encode("utf-8"))
        found[_KEYS[kind]] = path
    return found


def summary(journal: Journal) -> dict[str, Any]:
    """What stands at the top of `report.json`: rows and digests of what was taken out, and every finding."""
    taken = journal.data("dump") or journal.data("parity")
    found = {
        "rows": count(taken, "rows"),
        "digests": part(taken, "digests") or None,
        "findings": (
            [{"step": None, **each} for each in gap_findings(journal)]
            if is_tabletop(journal)
            else [{"step": step or None, **each} for step, each in all_findings(journal)]
        ),
    }
    # The journal masked secrets when it was written; one that is known only since then is masked now.
    whole: dict[str, Any] = json.loads(canonical.dumps(redacted(found)))
    return whole


def _json(document: Document, journal: Journal) -> str:
    results = {
        step.name: {
            "verdict": step.verdict.value if step.verdict else None,
            "seconds": step.seconds,
            "data": without_texts(step.data, journal),
        }
        for step in journal.steps
        if step.finished is not None
    }
    whole = json.loads(render_json(document, results)) | summary(journal)
    ordered = {name: whole[name] for name in _LEADING} | whole
    text = json.dumps(ordered, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate in an id has no UTF-8 form
        text = json.dumps(ordered, ensure_ascii=True, indent=2, allow_nan=False)
    return text + "\n"


_RENDERERS: Final[Mapping[str, Callable[[Document, Journal], str]]] = {
    "html": lambda document, journal: render_html(document),
    "md": lambda document, journal: render_markdown(document),
    "json": _json,
    "junit": lambda document, journal: render_junit(document),
}
