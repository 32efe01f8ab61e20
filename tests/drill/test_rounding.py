"""A substitute that rounds more than the plan announced is found by every step that holds the two sides together.

The primary is one that scales vectors to unit length, so its class would allow what the plan from it did not announce.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.drill import engine
from exitramp.drill.catalogue import STEPS
from exitramp.drill.engine import DrillResult, run_drill
from exitramp.drill.reading import parse_drill
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.steps.base import NoArguments, Step
from exitramp.records import Metric
from exitramp.testing.memory_records import MemoryCollection, Stored, collections_of
from exitramp.wrappers import open_endpoint
from tests.drill.small_stacks import FIELD, SPEC, drill_text, fill

ROWS = 30
UNIT_SPEC = replace(SPEC, vectors=(replace(FIELD, metric=Metric.COSINE),))
LEAVE = "  - start: {}\n  - dump: {}\n  - plan: {}\n  - restore: {}\n  - round: {}\n"


@pytest.fixture(name="play")
def _play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    kept = MemoryCollection.put

    def rounded(held: MemoryCollection, record: Stored) -> None:
        if held is collections_of(f"{tmp_path.name}-s").get("articles"):
            beside = np.nextafter(record.vectors["vector"], np.float32(2))
            record = replace(record, vectors={"vector": beside})
        kept(held, record)

    def begin_to_round(run: DrillRun, arguments: NoArguments) -> StepOutcome:
        """From here on the substitute gives back every number one unit in the last place off."""
        monkeypatch.setattr(MemoryCollection, "put", rounded)
        held = collections_of(f"{tmp_path.name}-s")["articles"]
        for record in list(held.records.values()):
            held.put(record)
        return StepOutcome({})

    def arrive(run: DrillRun, arguments: NoArguments) -> StepOutcome:
        """Records reach a primary that was empty when the plan was made."""
        fill(str(run.stack("primary").store.address), rows=ROWS, spec=UNIT_SPEC)
        held = collections_of(f"{tmp_path.name}-p")["articles"]
        for record in list(held.records.values()):
            vector = record.vectors["vector"]
            # So near to unit length is rounded only, and so far from it is not given back bit for bit.
            nearly = vector / np.linalg.norm(vector) * np.float32(1 + 3e-6)
            held.put(replace(record, vectors={"vector": nearly}))
        return StepOutcome({})

    steps = {
        **STEPS,
        "round": Step("round", "round more than was said", begin_to_round),
        "arrive": Step("arrive", "write into an empty primary", arrive),
    }
    monkeypatch.setattr(engine, "STEPS", steps)

    def play(body: str, *, into: str = f"memory:{tmp_path.name}-s#articles", rows: int = ROWS) -> DrillResult:
        scaling = f"qdrant:{tmp_path}/primary#articles"
        primary = fill(scaling if rows else f"memory:{tmp_path.name}-p#articles", rows=rows, spec=UNIT_SPEC)
        text = drill_text(primary, into, body)
        parse = {name: each.parse for name, each in steps.items()}
        return run_drill(parse_drill(text, "small.yaml", folder=tmp_path, steps=parse), tmp_path / "run")

    yield play
    for side in "ps":
        collections_of(f"{tmp_path.name}-{side}").clear()


def test_parity_grants_what_the_plan_announced_and_not_what_either_store_could_do(play: Any) -> None:
    result = play(LEAVE + "  - parity: {queries: 5, k: 3, filters: 0}\n")
    assert result.aborted is None
    found = result.results["parity"]
    assert found["verdict"] == "fail"
    [field] = found["records"]["fields"]
    assert field["beyond_tolerance"] == ROWS


def test_what_came_back_otherwise_than_announced_counts_as_lost(play: Any) -> None:
    assert play(LEAVE + "  - measure_loss: {}\n").results["measure_loss"]["records"] == ROWS


def test_the_comparison_after_the_way_back_is_as_strict(play: Any, tmp_path: Path) -> None:
    result = play(LEAVE + "  - rollback: {sync: true, seconds: 0}\n")
    assert result.results["rollback"]["sync"]["changed"] == ROWS, "they were brought over again, and rounded again"
    assert result.results["rollback"]["parity"]["verdict"] == "fail"
    with open_endpoint(f"memory:{tmp_path.name}-s#articles") as endpoint:
        assert endpoint.source().count() == ROWS


def test_what_was_brought_over_is_held_to_a_plan_that_has_seen_it(play: Any, tmp_path: Path) -> None:
    leave = "  - start: {}\n  - dump: {}\n  - plan: {}\n  - restore: {}\n  - arrive: {}\n"
    into = f"qdrant:{tmp_path}/substitute#articles"
    result = play(leave + "  - rollback: {sync: true, seconds: 0}\n", into=into, rows=0)
    assert result.results["rollback"]["sync"]["upserted"] == ROWS
    assert result.results["rollback"]["parity"]["verdict"] == "pass", "the plan of nothing had nothing to announce"
