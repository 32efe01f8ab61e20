"""All steps by name, and the drills that come with the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from exitramp.drill.inputs import packaged_drills
from exitramp.drill.reading import parse_drill
from exitramp.drill.spec import DrillSpec
from exitramp.drill.steps import build, costs, judging, late_writes, leaving, outage, returning
from exitramp.drill.steps.base import Step
from exitramp.errors import UsageError

STEPS: Mapping[str, Step] = {
    step.name: step
    for step in (
        build.START,
        build.BUILD,
        build.GOLDEN,
        returning.HYPOTHESIS,
        judging.BASELINE,
        leaving.DUMP,
        leaving.VERIFY,
        leaving.PLAN,
        leaving.RESTORE,
        leaving.LOSE,
        leaving.DISAGREE,
        leaving.PARITY,
        late_writes.LATE_WRITES,
        outage.OUTAGE,
        late_writes.MEASURE_LOSS,
        judging.REPLAY,
        judging.COMPARE,
        costs.COST,
        returning.ROLLBACK,
    )
}


def read_drill(text: str, file: str, folder: Path | None) -> DrillSpec:
    """Parse a drill with all known steps."""
    return parse_drill(text, file, folder=folder, steps={name: step.parse for name, step in STEPS.items()})


def find_drill(name_or_path: str) -> DrillSpec:
    """The drill file at a path, or the packaged drill of that name. Raises `UsageError` naming the packaged ones."""
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot be read ({type(error).__name__})") from error
        return read_drill(text, str(path), path.resolve().parent)
    packaged = packaged_drills()
    if name_or_path not in packaged:
        raise UsageError(f"no drill '{name_or_path}'", hint=f"packaged are: {', '.join(packaged) or 'none'}")
    return read_drill(packaged[name_or_path], f"{name_or_path}.yaml", None)
