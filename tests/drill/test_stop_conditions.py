"""A drill stops when a stop condition is reached, takes its way back, and never calls that a pass."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run as run_command
from exitramp.clock import ManualClock
from exitramp.drill import engine
from exitramp.drill.catalogue import STEPS
from exitramp.drill.engine import DrillResult, run_drill
from exitramp.drill.log_reading import read_events
from exitramp.drill.reading import parse_drill
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.steps.base import Step
from exitramp.errors import ConfigError, StoreUnavailable
from exitramp.faults import Fault
from exitramp.records import TraceRecord, Verdict
from exitramp.report.writing import write_reports
from exitramp.yaml_reader import Block
from tests.drill.small_stacks import FIELD, SPEC, drill_text, fill, write_drill

ROLLBACK = "  - rollback: {sync: false, seconds: 0}\n"


@dataclass(frozen=True)
class Amount:
    amount: float | None

    def to_json(self) -> dict[str, Any]:
        return {"amount": self.amount}


def _trace(run: DrillRun, usd: Decimal | None) -> TraceRecord:
    return TraceRecord(
        1, "r", 1, datetime(2030, 1, 1, tzinfo=UTC), "docs_qa", "chat", "mock", "m", "m", "ok", 1.0, unit_cost_usd=usd
    )


def _fail(run: DrillRun, arguments: Amount) -> StepOutcome:
    for _ in range(int(arguments.amount or 0)):
        run.count((), failed=True)
        run.check_stop()
    return StepOutcome({})


def _spend(run: DrillRun, arguments: Amount) -> StepOutcome:
    usd = None if arguments.amount is None else Decimal(str(arguments.amount))
    run.count([_trace(run, usd)], failed=False)
    run.check_stop()
    return StepOutcome({})


def _wait(run: DrillRun, arguments: Amount) -> StepOutcome:
    run.clock.sleep((arguments.amount or 0) * 60)
    return StepOutcome({})


def _break(run: DrillRun, arguments: Amount) -> StepOutcome:
    run.inject("primary", "store", Fault("refuse"))
    return StepOutcome({})


def _note(run: DrillRun, arguments: Amount) -> StepOutcome:
    """Whether the primary serves the application now: what the way back is for."""
    try:
        run.endpoint("primary", faults=True, tries=1).source().count()
    except StoreUnavailable:
        return StepOutcome({"serves": False})
    return StepOutcome({"serves": True})


def _refuse(run: DrillRun, arguments: Amount) -> StepOutcome:
    raise StoreUnavailable("there is no way back", hint="walk")


def _amount(block: Block) -> Amount:
    return Amount(block.number("amount", None))


OURS: Mapping[str, Step] = {
    "fail": Step("fail", "count failed requests", _fail, _amount),
    "spend": Step("spend", "count money", _spend, _amount),
    "wait": Step("wait", "let minutes pass", _wait, _amount),
    "break": Step("break", "break the primary in our layer", _break, _amount),
    "note": Step("note", "does the primary serve?", _note, _amount, always=True),
    "refuse": Step("refuse", "a way back that leads nowhere", _refuse, _amount, always=True),
}


@pytest.fixture(name="play")
def _play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    steps = {**STEPS, **OURS}
    monkeypatch.setattr(engine, "STEPS", steps)
    primary = fill(f"memory:{tmp_path.name}-p#articles")

    def play(stop: str, body: str, *, data: str = "{prices: mock_vendors}") -> DrillResult:
        text = drill_text(primary, f"memory:{tmp_path.name}-s#articles", "  - start: {}\n" + body, stop=stop, data=data)
        spec = parse_drill(
            text, "small.yaml", folder=tmp_path, steps={name: each.parse for name, each in steps.items()}
        )
        return run_drill(spec, tmp_path / "run", clock=ManualClock())

    return play


def _ran(folder: Path, kind: str = "step.finished") -> list[str]:
    return [event.data["step"] for event in read_events(folder / "journal.jsonl") if event.kind == kind]


def _break_and(step: str, amount: float) -> str:
    body = f"  - break: {{}}\n  - {step}: {{amount: {amount}}}\n  - check_hypothesis: {{}}\n"
    return body + ROLLBACK + "  - note: {}\n"


@pytest.mark.parametrize(
    ("stop", "step", "amount", "said"),
    [
        ("{errors: 3}", "fail", 3, "3 errors, and 3 end the drill"),
        ("{usd: 0.3}", "spend", 0.3, "0.3000 USD spent, and 0.3 end the drill"),
        ("{minutes: 5}", "wait", 5, "5.0 minutes, and 5 end the drill"),
    ],
)
def test_a_limit_that_is_reached_ends_the_drill_and_its_way_back_is_taken(
    stop: str, step: str, amount: float, said: str, play: Any, tmp_path: Path
) -> None:
    result = play(stop, _break_and(step, amount))
    assert said in (result.aborted or "")
    assert result.verdict is Verdict.INCONCLUSIVE
    folder = tmp_path / "run"
    assert _ran(folder)[-2:] == ["rollback", "note"]
    assert "check_hypothesis" in _ran(folder, "step.skipped")
    assert result.results["note"] == {"serves": True}
    kinds = [event.kind for event in read_events(folder / "journal.jsonl")]
    assert kinds.index("run.aborted") < kinds.index("rollback.healed")
    write_reports(folder)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "inconclusive"
    assert said in report["verdict_reason"]
    assert "drill.aborted" in {finding["code"] for finding in report["findings"]}
    assert 'type="inconclusive"' in (folder / "report.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("stop", "step", "amount"),
    [
        ("{errors: 4}", "fail", 3),
        ("{usd: 0.31}", "spend", 0.3),
        ("{minutes: 5.1}", "wait", 5),
        ("{usd: 0}", "spend", 0),
    ],
)
def test_a_limit_that_is_not_reached_ends_nothing(
    stop: str, step: str, amount: float, play: Any, tmp_path: Path
) -> None:
    result = play(stop, _break_and(step, amount))
    assert result.aborted is None
    assert _ran(tmp_path / "run")[-3:] == ["check_hypothesis", "rollback", "note"]


def test_money_of_which_nobody_knows_how_much_it_was_reaches_any_limit(play: Any) -> None:
    result = play("{usd: 1000}", "  - spend: {}\n" + ROLLBACK)
    assert "1 call has no price" in (result.aborted or "")
    [finding] = [each for each in result.findings if each.code == "drill.aborted"]
    assert "price book" in (finding.detail or {})["hint"]


def test_a_limit_on_money_without_prices_is_refused_with_file_and_line(play: Any) -> None:
    with pytest.raises(ConfigError, match=r"small\.yaml:6: 'stop\.usd' needs 'data\.prices'"):
        play("{usd: 5}", ROLLBACK, data="{}")


def test_a_limit_reached_in_the_way_back_does_not_cut_it_short(play: Any, tmp_path: Path) -> None:
    result = play("{minutes: 5}", "  - wait: {amount: 4}\n" + ROLLBACK + "  - note: {}\n")
    assert result.aborted is None
    assert _ran(tmp_path / "run")[-2:] == ["rollback", "note"]


def test_a_limit_reached_before_anything_was_started_leaves_nothing_to_bring_back(play: Any, tmp_path: Path) -> None:
    result = play("{minutes: 0}", ROLLBACK)
    assert "start" in (result.aborted or "")
    assert _ran(tmp_path / "run", "step.skipped") == ["start", "rollback"]
    assert result.verdict is Verdict.INCONCLUSIVE


def test_a_way_back_that_fails_is_told_beside_the_reason_why_it_was_taken(play: Any, tmp_path: Path) -> None:
    result = play("{errors: 1}", "  - fail: {amount: 1}\n  - refuse: {}\n  - note: {}\n")
    assert "1 error, and 1 ends the drill" in (result.aborted or "")
    [finding] = [each for each in result.findings if each.code == "drill.way_back"]
    assert "there is no way back" in finding.message
    assert _ran(tmp_path / "run")[-1] == "note", "one way back that fails does not keep the next from being taken"
    write_reports(tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert "drill.way_back" in {each["code"] for each in report["findings"]}


def test_a_way_back_before_anything_was_restored_writes_nothing_to_the_substitute(play: Any, tmp_path: Path) -> None:
    result = play("{errors: 1}", "  - fail: {amount: 1}\n  - rollback: {sync: true, seconds: 0}\n")
    assert result.results["rollback"]["sync"] is None
    assert not [each for each in result.findings if each.code == "drill.way_back"]


def test_sums_of_money_are_exact(tmp_path: Path, play: Any) -> None:
    result = play(
        "{usd: 0.3}", "  - spend: {amount: 0.1}\n  - spend: {amount: 0.1}\n  - spend: {amount: 0.1}\n" + ROLLBACK
    )
    assert "0.3000 USD" in (result.aborted or "")


GOLDEN = "".join(
    json.dumps({"id": f"q{number}", "question": f"What is record {number}?", "use_case": "docs_qa", "relevant": {},
                "assertion": {"kind": "contains_any", "phrases": ["e"]}}) + "\n"
    for number in range(40)
)  # fmt: skip


def test_money_spent_on_real_calls_ends_the_drill_with_exit_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No part of it is played: questions go to a mock vendor over HTTP, each costs a cent, and the limit is reached."""
    (tmp_path / "questions.jsonl").write_text(GOLDEN, encoding="utf-8")
    (tmp_path / "prices.yaml").write_text(_prices(), encoding="utf-8")
    wide = replace(SPEC, vectors=(replace(FIELD, dimensions=256),))
    primary = fill(f"memory:{tmp_path.name}-m#articles", spec=wide)
    text = drill_text(
        primary,
        f"memory:{tmp_path.name}-n#articles",
        "  - start: {}\n  - load_golden: {}\n  - baseline: {}\n  - dump: {}\n  - rollback: {sync: false, seconds: 0}\n",
        stop="{usd: 0.05}",
        data='{golden: questions.jsonl, prompts: packaged, prices: prices.yaml, embedder: "wordllama:"}',
        chat=True,
    )
    code = run_command(["drill", "run", str(write_drill(tmp_path, text)), "--out", str(tmp_path / "run"), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert code == 3
    assert result["verdict"] == "inconclusive"
    assert "USD spent, and 0.05 end the drill" in result["aborted"]
    assert _ran(tmp_path / "run") == ["start", "load_golden", "rollback"]
    page = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "The drill was stopped in the step “baseline”" in page


def _prices() -> str:
    """One cent a query, whoever is asked, and nothing for tokens."""
    rows = []
    for provider, model, unit, amount in (
        ("mock-openai", "mock-large", "usd_per_million_input_tokens", "0"),
        ("mock-openai", "mock-large", "usd_per_million_output_tokens", "0"),
        ("memory", None, "usd_per_query", "0.01"),
        ("memory", None, "usd_per_million_vector_reads", "0"),
        ("own", None, "usd_per_request_orchestration", "0"),
    ):
        name = f"model: {model}" if model else "service: " + ("orchestration" if provider == "own" else "vector_store")
        rows.append(
            f'  - {{id: {provider}-{unit}, provider: {provider}, {name}, unit: {unit}, amount: "{amount}", '
            'source: "illustrative: a test", retrieved: 2026-11-01, valid_from: 2020-01-01, illustrative: true}\n'
        )
    return "version: 1\nname: test\ncurrency: USD\nprices:\n" + "".join(rows)
