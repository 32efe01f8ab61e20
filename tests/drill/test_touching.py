"""What a drill says that it will do is what it does: nothing is said to be cut or written that is not."""

from __future__ import annotations

from pathlib import Path

from exitramp.drill.catalogue import STEPS, find_any, find_drill, read_drill
from exitramp.drill.engine import run_drill
from exitramp.drill.inputs import packaged_drills
from exitramp.drill.log_reading import read_events
from exitramp.drill.spec import DrillSpec
from exitramp.drill.touching import Touches, touches, writes_elsewhere
from tests.drill.small_stacks import drill_text, fill

OUTAGE = """  - start: {}
  - outage: {rate_per_second: 20, warm_up_seconds: 0.2, after_seconds: 0.2,
             phases: [{fault: refuse, on: store, seconds: 0.5}]}
  - rollback: {sync: false, seconds: 0}
"""


def _touched(spec: DrillSpec) -> dict[str, Touches]:
    return {step.name: touches(STEPS[step.name], step, spec) for step in spec.steps}


def _spec(steps: str, *, primary: str = "memory:p#c", substitute: str = "memory:s#c", chat: bool = False) -> DrillSpec:
    return read_drill(drill_text(primary, substitute, steps, chat=chat), "small.yaml", Path())


def test_what_the_drill_starts_itself_is_cut_and_what_it_does_not_is_simulated() -> None:
    ours = _touched(find_drill("vendor_outage"))["outage"]
    assert (set(ours.cuts), ours.simulates) == ({"primary.store", "primary.chat"}, ())
    theirs = _touched(_spec(OUTAGE))["outage"]
    assert (theirs.cuts, theirs.simulates) == ((), ("primary.store",))
    both = OUTAGE.replace("}]}", "}, {fault: hang, on: chat, seconds: 0.5}]}")
    mixed = _touched(_spec(both, chat=True))["outage"]
    assert (mixed.cuts, mixed.simulates) == (("primary.chat",), ("primary.store",))


def test_only_parts_that_there_are_and_that_the_phases_name_are_named() -> None:
    for spec in (_spec(OUTAGE), *(each for name in packaged_drills() if isinstance(each := find_any(name), DrillSpec))):
        has_chat = spec.primary.chat is not None
        for each in _touched(spec).values():
            named = {*each.reads, *each.writes, *each.cuts, *each.simulates}
            assert has_chat or not any(name.endswith(".chat") for name in named)
    assert _touched(_spec(OUTAGE, chat=True))["outage"].cuts == ()


def test_a_way_back_that_brings_nothing_over_writes_nothing() -> None:
    assert _touched(_spec(OUTAGE))["rollback"].writes == ()
    assert _touched(_spec(OUTAGE.replace("sync: false", "sync: true")))["rollback"].writes == ("substitute.store",)


def test_what_is_written_on_another_machine_is_named_with_its_address() -> None:
    far = "qdrant+http://db.example.com:6333#c"
    written = ("primary.store", "substitute.store")
    assert writes_elsewhere(_spec(OUTAGE, substitute=far), written) == {"substitute.store": far}
    assert writes_elsewhere(_spec(OUTAGE, substitute="qdrant+http://127.0.0.1:6333#c"), written) == {}
    assert writes_elsewhere(_spec(OUTAGE, substitute="faiss:{folder}/s.faiss"), written) == {}


def test_the_journal_of_a_run_says_of_a_step_what_it_did(tmp_path: Path) -> None:
    primary = fill(f"memory:{tmp_path.name}-p#articles")
    substitute = fill(f"memory:{tmp_path.name}-s#articles")
    spec = _spec(OUTAGE, primary=primary, substitute=substitute)
    run_drill(spec, tmp_path / "run")
    events = read_events(tmp_path / "run" / "journal.jsonl")
    [began] = [each.data for each in events if each.kind == "step.started" and each.data["step"] == "outage"]
    [injected] = [each.data for each in events if each.kind == "fault.injected"]
    assert (began["cuts"], began["simulates"], injected["how"]) == ([], ["primary.store"], "simulated")
