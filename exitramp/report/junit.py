"""The report as JUnit XML: one suite, one case for each objective, and the anchor of the event log.

JUnit knows three outcomes besides success. `pass` is a case without a child; `fail` is a `<failure>`; `inconclusive`
is an `<error type="inconclusive">` and not a `<skipped>`, because a build server shows skipped cases as green, and
what could not be measured must not look as if it had passed. A document that is worse than all its objectives (a run
that was aborted) gets a case `verdict` that says so.

The suite's properties hold the run id, the hash of the objectives and, as `exitramp.event_log.head`, the head of the
event log where the run itself anchored it: `exitramp report RUN --verify` compares the log with it. The head of a log
without an anchor is left out, since it would make one of whatever is there now.
"""

from __future__ import annotations

from datetime import UTC
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from exitramp.drill.anchor import ANCHOR_PROPERTY, COUNT_PROPERTY
from exitramp.records import Verdict
from exitramp.report.cells import cell_text
from exitramp.report.model import Document, Objective, masked
from exitramp.report.text import NOT_ANCHORED, NOT_MEASURED, visible

_CLASS = "exitramp.drill"


def render_junit(document: Document) -> str:
    """The XML, ending in a line feed. The same document gives the same text."""
    document = masked(document)
    cases = [_case(objective) for objective in document.objectives]
    overall = _overall(document)
    if overall is not None:
        cases.append(overall)
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
        "skipped": "0",
    }
    seconds = f"{document.meta.duration_seconds or 0:.3f}"
    moment = document.meta.started_at or document.meta.generated_at
    # Without attributes: the older of the two common schemas allows none here.
    root = Element("testsuites")
    suite = SubElement(
        root,
        "testsuite",
        {
            "name": visible(document.title) or "exitramp",
            "id": "0",
            "package": _CLASS,
            **counts,
            "time": seconds,
            # The schema knows no time zone: UTC, as the property says.
            "timestamp": f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}",
            "hostname": "localhost",
        },
    )
    _properties(suite, document)
    suite.extend(cases)
    SubElement(suite, "system-out").text = _summary(document)
    SubElement(suite, "system-err").text = ""
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _properties(suite: Element, document: Document) -> None:
    meta = document.meta
    properties = SubElement(suite, "properties")
    for name, value in (
        ("exitramp.run_id", meta.run_id),
        ("exitramp.verdict", document.verdict.value),
        ("exitramp.program", meta.program),
        ("exitramp.objectives.sha256", meta.objectives_sha256),
        (ANCHOR_PROPERTY, meta.event_log_head if meta.is_anchored else None),
        (COUNT_PROPERTY, None if meta.event_count is None else str(meta.event_count)),
        ("exitramp.timestamp.zone", "UTC"),
        *((f"exitramp.stamp.{number}", stamp.text) for number, stamp in enumerate(document.all_stamps, start=1)),
    ):
        if value is not None:
            SubElement(properties, "property", {"name": name, "value": visible(value)})


def _case(objective: Objective) -> Element:
    case = Element("testcase", {"name": visible(objective.key), "classname": _CLASS, "time": "0"})
    measured = cell_text(objective.measured)
    message = f"{objective.name}: {measured}, target {objective.target}"
    detail = f"{message}\n{objective.note}" if objective.note else message
    _outcome(case, objective.verdict, message, detail)
    return case


def _overall(document: Document) -> Element | None:
    """A case for a verdict that no objective accounts for."""
    if document.objectives and Verdict.worst([one.verdict for one in document.objectives]) is document.verdict:
        return None
    case = Element("testcase", {"name": "verdict", "classname": _CLASS, "time": "0"})
    reason = document.verdict_reason or f"the run as a whole is {document.verdict.value}"
    _outcome(case, document.verdict, reason, reason)
    return case


def _outcome(case: Element, verdict: Verdict, message: str, detail: str) -> None:
    if verdict is Verdict.PASS:
        return
    child = SubElement(
        case,
        "failure" if verdict is Verdict.FAIL else "error",
        {"message": visible(f"{verdict.value}: {message}"), "type": verdict.value},
    )
    child.text = visible(detail, keep_newlines=True)


def _summary(document: Document) -> str:
    meta = document.meta
    stamps = ", ".join(stamp.text for stamp in document.all_stamps) or "none"
    lines = (
        f"{document.verdict.value}: {document.verdict_reason}",
        f"run: {meta.run_id}",
        f"stamps: {stamps}",
        f"event log head: {(meta.is_anchored and meta.event_log_head) or NOT_ANCHORED}",
        f"objectives sha256: {meta.objectives_sha256 or NOT_MEASURED}",
    )
    return "\n".join(visible(line) for line in lines)
