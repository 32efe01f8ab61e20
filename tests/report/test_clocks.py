"""The wall's clock may be moved while a drill runs: the report says so, and takes no duration from it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from exitramp.clock import ManualClock
from tests.report.drill_journals import Play, document_of_run, drill, judged, section_text, text_of
from tests.report.drill_results import results


class Moved(ManualClock):
    """Its wall clock can be set, as any machine's can."""

    shift = timedelta()

    def now(self) -> datetime:
        return super().now() + self.shift


@pytest.mark.parametrize("hours", [-5, 3])
def test_a_clock_that_was_moved_meanwhile_is_named_and_takes_no_duration_along(tmp_path: Path, hours: int) -> None:
    play = Play(tmp_path, drill())
    moved = Moved()
    moved.advance(play.clock.monotonic() - moved.monotonic())
    play.clock = play.log._clock = moved
    for number, (name, data) in enumerate(results().items()):
        if number == 4:
            moved.shift = timedelta(hours=hours)
        play.step(name, data, None)
    document = document_of_run(play.end("pass", judged()))
    first = section_text(document, "Verdict").replace("\u00a0", " ")
    assert "The machine’s clock was moved while the drill ran" in first
    assert "durations come from the journal’s own clock" in first
    identity = section_text(document, "Identity").replace("\u00a0", " ")
    assert "From its first event to its last by the journal’s own clock" in identity
    assert document.meta.duration_seconds == pytest.approx(moved.monotonic() - play.log._start_seconds, abs=0.01)


def test_a_clock_that_nobody_moved_is_not_spoken_of(tmp_path: Path) -> None:
    play = Play(tmp_path, drill())
    for name, data in results().items():
        play.step(name, data, None)
    text = text_of(document_of_run(play.end("pass", judged())))
    assert "clock was moved" not in text
    assert "own clock" not in text.partition("Event log")[0]
