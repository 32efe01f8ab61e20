"""A comparison as JUnit XML: one case for each metric that decides, and one for the whole.

An inconclusive metric is an `<error>` and not a `<skipped>`, which build servers show as green.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from exitramp.evals.comparing.comparison import Comparison
from exitramp.evals.comparing.side import Side
from exitramp.records import Verdict
from exitramp.secrets import redact

_CLASS = "exitramp.eval.compare"
_UNSEEN = re.compile("[^\\x09\\x0a\\x20-\\x7e\\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(comparison: Comparison) -> str:
    """The XML, ending in a line feed; no question's and no answer's text is in it."""
    cases = [
        _case(metric.judged.metric, metric.judged.verdict, metric.judged.reason)
        for metric in comparison.metrics
        if metric.decides
    ]
    then = "" if comparison.next_step is None else f"\nnext: {comparison.next_step}"
    cases.append(_case("verdict", comparison.verdict, comparison.reason, then))
    root = Element("testsuites")
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
        "skipped": "0",
    }
    suite = SubElement(root, "testsuite", {"name": _CLASS, **counts, "time": "0"})
    properties = SubElement(suite, "properties")
    for name, value in (
        ("exitramp.verdict", comparison.verdict.value),
        ("exitramp.margin_fixed", comparison.margin_fixed),
        ("exitramp.first.run_id", comparison.first.run_id),
        ("exitramp.second.run_id", comparison.second.run_id),
        ("exitramp.first.answered_by", _who(comparison.first)),
        ("exitramp.second.answered_by", _who(comparison.second)),
        ("exitramp.judges_order", str(comparison.judges_order).lower()),
        ("exitramp.mock", str(comparison.first.is_mock or comparison.second.is_mock).lower()),
    ):
        SubElement(properties, "property", {"name": name, "value": _clean(value)})
    suite.extend(cases)
    lines = [f"{flip.direction}: {flip.case_id}" for flip in comparison.flipped]
    SubElement(suite, "system-out").text = _clean("\n".join([*comparison.notes, *lines]))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _who(side: Side) -> str:
    """Who answered, where a stack file was asked: `main 60, backup 10; 'backup' for 'main' 10 times (auth)`."""
    found = side.answerers
    named = [f"{name} {count}" for name, count in found.answered_by.items()]
    named += [f"not known {found.unknown}"] if found.unknown else []
    return "; ".join([", ".join(named), *map(str, found.stand_ins)])


def _case(name: str, verdict: Verdict, reason: str, then: str = "") -> Element:
    case = Element("testcase", {"name": name, "classname": _CLASS, "time": "0"})
    if verdict is not Verdict.PASS:
        kind = "failure" if verdict is Verdict.FAIL else "error"
        child = SubElement(case, kind, {"message": _clean(reason), "type": verdict.value})
        child.text = _clean(reason + then)
    return case


def _clean(text: str) -> str:
    """Without secrets, and without what XML cannot hold."""
    return _UNSEEN.sub("\ufffd", redact(text))
