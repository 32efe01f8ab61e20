"""Faults that a proxy does, between the application and a store or a chat vendor that is not touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from exitramp.drill.catalogue import STEPS, find_drill, how_held, read_drill
from exitramp.drill.engine import DrillResult, run_drill
from exitramp.drill.log_reading import read_events
from exitramp.drill.touching import touches
from exitramp.errors import ConfigError
from exitramp.records import Verdict
from exitramp.registry import service_adapter
from exitramp.report.writing import write_reports
from tests.drill.small_stacks import drill_text, fill, write_drill

OUTAGE = """
  - outage:
      rate_per_second: 20
      warm_up_seconds: 0.5
      after_seconds: 0.3
      heal_seconds: 6
      phases: [PHASES]
"""
STEPS_TEXT = f"""
  - start: {{}}
  - load_golden: {{}}
  - dump: {{}}
  - plan: {{}}
  - restore: {{}}{OUTAGE.rstrip()}
  - rollback: {{sync: false, seconds: 1}}
"""
LATE = "{fault: latency, on: store, seconds: 1.5, options: {latency_ms: 1500}}"
PHASES = ", ".join(
    (
        LATE,
        "{fault: reset, on: store, seconds: 1.2}",
        "{fault: latency, on: chat, seconds: 1.5, options: {latency_ms: 1500}}",
        "{fault: reset, on: chat, by: proxy, seconds: 1.2}",
        "{fault: down, on: store, seconds: 1.2}",
    )
)


def _golden(folder: Path) -> None:
    cases = [
        {"id": f"q{place}", "question": f"Question {place}?", "relevant": {}, "vector": [1.0 + place, *[0.5] * 11],
         "use_case": "docs_qa", "assertion": {"kind": "contains_any", "phrases": ["a"]}}
        for place in range(5)
    ]  # fmt: skip
    (folder / "golden.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases), encoding="utf-8")


def _text(primary: str, phases: str) -> str:
    data = "{golden: golden.jsonl, prompts: packaged}"
    steps = STEPS_TEXT.replace("PHASES", phases)
    return drill_text(primary, "qdrant:{folder}/substitute#articles", steps, data=data, chat=True,
                      objectives="{rto_seconds: 5}")  # fmt: skip


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DrillResult, str, Path, bool]]:
    """A drill over a server that it did not start, and whether that server still answers as it did."""
    folder = tmp_path_factory.mktemp("proxied")
    server = service_adapter("chroma-run").make(str(folder / "server"), 0, {})
    try:
        address = fill(server.start().with_collection("articles").text)
        _golden(folder)
        file = write_drill(folder, _text(address, PHASES))
        pid = server.pid  # type: ignore[attr-defined]
        result = run_drill(find_drill(str(file)), folder / "run", seed=1)
        report = write_reports(folder / "run")["markdown"].read_text(encoding="utf-8")
        yield result, " ".join(report.split()), folder, server.pid == pid  # type: ignore[attr-defined]
    finally:
        server.stop()


def test_a_store_given_by_address_and_a_chat_vendor_are_lost_for_real_without_being_touched(
    theirs: tuple[DrillResult, str, Path, bool],
) -> None:
    result, _, folder, is_the_same = theirs
    assert result.verdict is Verdict.PASS, result.findings
    assert is_the_same
    phases = result.results["outage"]["phases"]
    assert [(each["fault"], each["on"], each["how"], each["by"]) for each in phases] == [
        ("latency", "store", "live", "fault-proxy"),
        ("reset", "store", "live", "fault-proxy"),
        ("latency", "chat", "live", "fault-proxy"),
        ("reset", "chat", "live", "fault-proxy"),
        ("down", "store", "live", "fault-proxy"),
    ]
    for each in phases:
        assert each["failures"] > 0, each
        assert each["recovery_seconds"] is not None, each
    assert [each["healed"] for each in phases] == [True] * 4 + [None]
    assert result.results["rollback"]["traffic"]["back_on_primary"] is True
    started = [each.data for each in read_events(folder / "run" / "journal.jsonl") if each.kind == "proxy.started"]
    assert [each["on"] for each in started] == ["store", "chat"], "one proxy for a part, however many phases"


def test_answers_that_come_late_are_given_up_on_and_not_before(theirs: tuple[DrillResult, str, Path, bool]) -> None:
    """The attempt's time is 0.5 s and the delay 1.5 s; a reset is seen at once."""
    late, reset = theirs[0].results["outage"]["phases"][:2]
    assert 0.4 < late["detect_seconds"] < 1.4
    assert reset["detect_seconds"] < 0.4


def test_an_answer_that_a_proxy_kept_is_counted_as_billed_twice_and_is_no_fault_of_anybodys(
    theirs: tuple[DrillResult, str, Path, bool],
) -> None:
    result, report, _, _ = theirs
    told = result.results["outage"]["reconciliation"]
    assert told["kept_from_arriving"] == told["answered_unseen"] > 0
    assert (told["unbacked"], told["foreign"]) == (0, 0)
    codes = {each.code: each for each in result.findings}
    assert codes["outage.billed_twice"].count == told["answered_twice"]
    assert "outage.answered_twice" not in codes
    assert "the proxy in front of it kept the answer" in report


def test_the_report_says_that_a_proxy_in_front_of_it_did_it(theirs: tuple[DrillResult, str, Path, bool]) -> None:
    _, report, folder, _ = theirs
    assert report.count("live, by a proxy in front of it") >= 10, "with the faults, and with their results"
    assert "a proxy of this run did every fault" in report
    assert "5 of 5 faults were live, by a proxy in front" in report.replace("\u00a0", " ")
    assert "vector store is reached late" in report
    assert "simulated in exitramp" not in report
    spec = find_drill(str(folder / "small.yaml"))
    [outage] = [each for each in spec.steps if each.name == "outage"]
    touched = touches(STEPS["outage"], outage, spec)
    assert (touched.cuts, touched.simulates) == ((), ())
    assert touched.between == ("primary.store", "primary.chat")
    assert how_held(spec) == "live, mock vendors"


@pytest.mark.parametrize(
    ("primary", "phase", "said"),
    [
        ("memory:p#c", LATE, "no network between"),
        ("qdrant:{folder}/p#c", LATE, "no network between"),
        ("qdrant+http://db.example.com:6333#c", LATE, "is not on this machine"),
        ("memory:p#c", "{fault: reset, on: store, by: proxy}", "no network between"),
        ("memory:p#c", "{fault: latency, on: store}", "needs 'latency_ms'"),
        ("memory:p#c", "{fault: latency, on: chat, options: {latency: 3}}", "has no 'latency'"),
        ("memory:p#c", "{fault: hang, on: chat, by: proxy}", "a proxy cannot do 'hang'"),
        ("memory:p#c", "{fault: bandwidth, on: chat, options: {kilobytes_per_second: 0}}", "above 0"),
        ("memory:p#c", "{fault: down, on: chat, by: me}", "can be proxy"),
    ],
)
def test_what_no_proxy_can_do_is_told_before_anything_starts(primary: str, phase: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_drill(_text(primary, phase), "mine.yaml", Path())
    assert str(caught.value).startswith("mine.yaml:")
    assert said in str(caught.value)


def test_a_reset_is_played_where_no_proxy_can_stand_and_done_by_the_vendor_that_can() -> None:
    spec = read_drill(_text("memory:p#c", "{fault: reset, on: store}, {fault: reset, on: chat}"), "mine.yaml", Path())
    [outage] = [each for each in spec.steps if each.name == "outage"]
    touched = touches(STEPS["outage"], outage, spec)
    assert (touched.cuts, touched.between, touched.simulates) == (("primary.chat",), (), ("primary.store",))
