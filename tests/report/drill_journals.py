"""Journals of small drills, written event by event as the engine writes them, for the report's tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from exitramp import canonical
from exitramp.clock import ManualClock
from exitramp.drill.event import Event
from exitramp.drill.event_log import EventLog
from exitramp.drill.log_reading import read_log
from exitramp.report.markdown import render_markdown
from exitramp.report.model import Document
from exitramp.report.sections import Journal, build_document

SECTIONS = [
    "Verdict",
    "Identity",
    "Scope",
    "Mode and scenario",
    "Participants",
    "Objectives, set and hashed before the run",
    "Baseline",
    "Event log",
    "Results by objective and fault",
    "Quality parity",
    "Portability inventory",
    "Cost before, after and once",
    "Contract and time windows",
    "Rollback",
    "Findings and lessons",
    "Action plan",
    "Sign-off",
    "Annex",
]
OBJECTIVES = {
    "rto_seconds": 5.0,
    "rpo_records": 10,
    "error_rate": 0.1,
    "p95_latency_ms": None,
    "quality_margin": 0.1,
    "usd_per_request": 0.02,
}
PHASE = {"fault": "unavailable", "on": "chat", "seconds": 5.0}
STEPS = (
    "start",
    "load_golden",
    "check_hypothesis",
    "baseline",
    "dump",
    "verify_dump",
    "plan",
    "restore",
    "parity",
    "outage",
    "measure_loss",
    "replay",
    "compare_quality",
    "cost",
    "rollback",
)


def drill(**changes: Any) -> dict[str, Any]:
    """The drill file of the small run that these tests play."""
    return {
        "name": "small",
        "title": "A small outage",
        "description": "A vendor goes away.",
        "scope": "One collection.",
        "mode": "stressed",
        "roles": {"owner": "", "coordinator": "", "reporter": "", "observer": ""},
        "objectives": OBJECTIVES,
        "stop": {"errors": 100, "usd": None, "minutes": 5.0},
        "data": {
            "corpus": None,
            "embedder": "wordllama:",
            "golden": "pydocs_five",
            "prompts": "packaged",
            "prices": None,
            "monthly_requests": 1000,
            "show_values": [],
        },
        "primary": {"store": {"service": "chroma-run", "collection": "c"}, "chat": {"service": "mock-openai"}},
        "substitute": {"store": {"address": "qdrant:{folder}/s#c"}, "chat": {"service": "mock-anthropic"}},
        "orchestration": {"depth_k": 10, "attempt_timeout_seconds": 1.0, "tries": 2},
        "steps": [{"name": name, **({"phases": [PHASE]} if name == "outage" else {})} for name in STEPS],
        **changes,
    }


VERDICTS = {name: "pass" for name in STEPS if name not in {"start", "baseline", "replay", "measure_loss"}}


class Play:
    """Writes the journal of a run, step by step, as the engine does."""

    def __init__(self, folder: Path, spec: dict[str, Any], objectives: Mapping[str, Any] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.clock = ManualClock()
        self.log = EventLog.create(folder / "journal.jsonl", self.clock)
        wanted = dict(spec["objectives"] if objectives is None else objectives)
        self.log.append(
            "run.started",
            {
                "run_id": "20300101T000000Z-12345678",
                "drill": spec,
                "file": "small.yaml",
                "objectives": wanted,
                "objectives_sha256": hashlib.sha256(canonical.dumps(wanted).encode()).hexdigest(),
                "seed": 7,
                "operator": "",
                "command": "",
                "tool_version": "0.1.0",
                "python_version": "3.11.7",
                "platform": "Linux x86_64",
            },
        )

    def begin(self, name: str) -> None:
        self.log.append("step.started", {"step": name, "arguments": {}, "reads": [], "writes": [], "cuts": []})
        self.clock.advance(1.5)

    def step(
        self, name: str, data: Mapping[str, Any], verdict: str | None = None, findings: tuple[Any, ...] = ()
    ) -> None:
        self.begin(name)
        for phase in data.get("phases", ()) if name == "outage" else ():
            injected = {"stack": "primary", "on": phase["on"], "fault": phase["fault"], "how": phase["how"]}
            self.log.append("fault.injected", injected)
            self.clock.advance(5.0)
        self.log.append(
            "step.finished",
            {"step": name, "seconds": 1.5, "verdict": verdict, "data": dict(data), "findings": list(findings)},
        )

    def abort(self, name: str, reason: str) -> None:
        self.begin(name)
        self.log.append("run.aborted", {"step": name, "reason": reason, "hint": None})

    def end(self, verdict: str, objectives: list[dict[str, Any]], aborted: str | None = None) -> list[Event]:
        judged = {"verdict": verdict, "objectives": objectives, "aborted": aborted, "seconds": 30.0, "traces": 3}
        self.log.append("run.judged", {**judged, "ended_at": "2030-01-01T00:01:00.000Z"})
        self.log.finish({"verdict": verdict})
        return self.events()

    def events(self) -> list[Event]:
        return list(read_log(self.folder / "journal.jsonl").events)


def judged(**changes: tuple[float | None, str]) -> list[dict[str, Any]]:
    """Objectives as the engine judges them; by default all are measured and met."""
    found = {
        "rto_seconds": (0.16, "pass"),
        "rpo_records": (2, "pass"),
        "error_rate": (0.0, "pass"),
        "quality_margin": (0.084, "pass"),
        "usd_per_request": (0.005, "pass"),
        **changes,
    }
    units = {"rto_seconds": "s", "rpo_records": "records", "usd_per_request": "USD"}
    return [
        {
            "name": name,
            "title": name.replace("_", " "),
            "unit": units.get(name, "share"),
            "target": OBJECTIVES[name],
            "measured": measured,
            "verdict": verdict,
            "note": "" if measured is not None else "not measured",
        }
        for name, (measured, verdict) in found.items()
    ]


def played(folder: Path, found: Mapping[str, Mapping[str, Any]], spec: dict[str, Any] | None = None) -> Play:
    play = Play(folder, spec or drill())
    for name, data in found.items():
        play.step(name, data, VERDICTS.get(name))
    return play


def document_of_run(events: Sequence[Event], *, torn_bytes: int = 0, is_anchored: bool = True) -> Document:
    """The report of these events, by default as one that an anchor holds."""
    return build_document(Journal.of(events, torn_bytes, is_anchored=is_anchored))


def text_of(document: Document) -> str:
    return render_markdown(document)


def section_text(document: Document, title: str) -> str:
    """One section as Markdown."""
    found = next(one for one in document.sections if one.title == title)
    return render_markdown(replace(document, sections=(found,))).partition("<a id=")[2]
