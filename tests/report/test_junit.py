"""JUnit XML: red where it must be red, and the anchor of the event log."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from exitramp.clock import ManualClock
from exitramp.drill.event_log import EventLog
from exitramp.drill.log_reading import verify_against_anchor
from exitramp.errors import JournalCorrupt
from exitramp.records import Verdict
from exitramp.report.junit import render_junit
from exitramp.report.model import Document
from exitramp.report.sample import HEAD, OBJECTIVES_HASH, RUN_ID, sample_document


def suite_of(document: Document) -> Element:
    root = ElementTree.fromstring(render_junit(document))
    [suite] = root
    return suite


def properties_of(suite: Element) -> dict[str, str]:
    return {item.attrib["name"]: item.attrib["value"] for item in suite.iter("property")}


def check_shape(text: str) -> None:
    """What the two common schemas have in common: elements in order, required attributes, no others at the root."""
    root = ElementTree.fromstring(text)
    assert (root.tag, root.attrib) == ("testsuites", {})
    [suite] = root
    required = {"name", "id", "package", "tests", "failures", "errors", "time", "timestamp", "hostname"}
    assert required <= suite.attrib.keys() <= required | {"skipped"}
    assert suite.attrib["name"].strip()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    assert re.fullmatch(r"\d+\.\d+", suite.attrib["time"])
    tags = [child.tag for child in suite]
    assert tags == ["properties", *["testcase"] * (len(tags) - 3), "system-out", "system-err"]
    for case in suite.iter("testcase"):
        assert case.attrib.keys() == {"name", "classname", "time"}
        assert len(case) <= 1
        for outcome in case:
            assert outcome.tag in {"failure", "error"}
            assert outcome.attrib.keys() == {"message", "type"}
    cases = list(suite.iter("testcase"))
    assert int(suite.attrib["tests"]) == len(cases)
    assert int(suite.attrib["failures"]) == len(list(suite.iter("failure")))
    assert int(suite.attrib["errors"]) == len(list(suite.iter("error")))


@pytest.mark.parametrize("verdict", Verdict)
def test_the_shape_is_what_build_servers_read(verdict: Verdict) -> None:
    check_shape(render_junit(sample_document(verdict)))


def test_the_same_document_gives_the_same_text() -> None:
    assert render_junit(sample_document()) == render_junit(sample_document())


def test_there_is_a_case_for_each_objective() -> None:
    names = [case.attrib["name"] for case in suite_of(sample_document()).iter("testcase")]
    assert names == [objective.key for objective in sample_document().objectives]


def test_a_pass_has_neither_failure_nor_error() -> None:
    suite = suite_of(sample_document(Verdict.PASS))
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("0", "0")


def test_a_fail_is_a_failure_that_says_what_was_measured_and_wanted() -> None:
    [failure] = suite_of(sample_document(Verdict.FAIL)).iter("failure")
    assert failure.attrib["type"] == "fail"
    assert "−0.188 (−0.256 to −0.125)" in failure.attrib["message"]
    assert "target lower bound ≥ −0.100" in failure.attrib["message"]
    assert "96 questions" in (failure.text or "")


def test_inconclusive_is_an_error_and_never_skipped() -> None:
    suite = suite_of(sample_document(Verdict.INCONCLUSIVE))
    [error] = suite.iter("error")
    assert error.attrib["type"] == "inconclusive"
    assert "not measured" in error.attrib["message"]
    assert not list(suite.iter("skipped"))
    assert (suite.attrib["errors"], suite.attrib["skipped"]) == ("1", "0")


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE])
def test_a_run_worse_than_its_objectives_is_red_all_the_same(verdict: Verdict) -> None:
    aborted = replace(sample_document(Verdict.PASS), verdict=verdict, verdict_reason="stopped: too many errors")
    check_shape(render_junit(aborted))
    [last] = [case for case in suite_of(aborted).iter("testcase") if case.attrib["name"] == "verdict"]
    assert [child.tag for child in last] == ["failure" if verdict is Verdict.FAIL else "error"]
    assert "stopped: too many errors" in last[0].attrib["message"]


def test_no_objectives_are_red(of: Callable[..., Document]) -> None:
    text = render_junit(of())
    check_shape(text)
    assert len(list(ElementTree.fromstring(text).iter("error"))) == 1


def test_the_properties_identify_the_run_and_anchor_its_log() -> None:
    properties = properties_of(suite_of(sample_document()))
    assert properties["exitramp.run_id"] == RUN_ID
    assert properties["exitramp.objectives.sha256"] == OBJECTIVES_HASH
    assert properties["exitramp.event_log.head"] == HEAD
    assert properties["exitramp.event_log.events"] == "214"
    stamps = [value for name, value in properties.items() if name.startswith("exitramp.stamp.")]
    assert stamps == ["made-up numbers", "mock vendors", "unsigned"]


def test_what_is_not_known_has_no_property(of: Callable[..., Document]) -> None:
    properties = properties_of(suite_of(of()))
    assert "exitramp.event_log.head" not in properties
    assert "exitramp.objectives.sha256" not in properties


def test_a_log_is_verified_against_the_file_that_was_written(tmp_path: Path) -> None:
    log = EventLog.create(tmp_path / "events.jsonl", ManualClock())
    log.append("run.started", {"run_id": RUN_ID})
    head = log.finish()
    sample = sample_document()
    junit = tmp_path / "report.xml"
    junit.write_text(render_junit(replace(sample, meta=replace(sample.meta, event_log_head=head, event_count=2))))
    assert verify_against_anchor(log.path, junit) == head
    log.path.write_bytes(log.path.read_bytes().split(b"\n")[0] + b"\n")
    with pytest.raises(JournalCorrupt, match=r"events\.jsonl:1: .*the last line there is 1, 'run.started', and 1 of 2"):
        verify_against_anchor(log.path, junit)


def test_the_head_of_a_log_without_an_anchor_is_not_handed_on() -> None:
    sample = sample_document()
    text = render_junit(replace(sample, meta=replace(sample.meta, is_anchored=False)))
    assert HEAD not in text
    assert "event log head: not anchored" in text


def test_whatever_is_in_a_text_the_xml_stays_whole(hard: Document, hard_texts: dict[str, str]) -> None:
    text = render_junit(hard)
    check_shape(text)
    text.encode("utf-8")
    messages = [item.attrib["message"] for item in ElementTree.fromstring(text).iter("failure")]
    assert hard_texts["script"] in messages[0]


def test_an_untitled_report_still_has_a_name(of: Callable[..., Document]) -> None:
    check_shape(render_junit(replace(of(), title="")))


def test_a_secret_does_not_reach_the_file(of: Callable[..., Document]) -> None:
    document = replace(of(), verdict_reason="401 for Bearer abcdef0123456789")
    assert "abcdef0123456789" not in render_junit(document)
