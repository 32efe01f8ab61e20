"""All steps by name, and the drills that come with the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from exitramp.drill.inputs import DRILL_FILE, packaged_drills
from exitramp.drill.reading import parse_drill
from exitramp.drill.spec import DrillSpec
from exitramp.drill.steps import (
    build,
    costs,
    cutting_over,
    judging,
    late_writes,
    leaving,
    outage,
    parallel,
    returning,
)
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
        parallel.PARALLEL,
        parallel.CATCH_UP,
        cutting_over.CUT_OVER,
        cutting_over.WAY_BACK,
        cutting_over.VENDOR_DATA,
    )
}


def read_drill(text: str, file: str, folder: Path | None) -> DrillSpec:
    """Parse a drill with all known steps."""
    return parse_drill(text, file, folder=folder, steps={name: step.parse for name, step in STEPS.items()})


def find_drill(name_or_path: str) -> DrillSpec:
    """The drill file at a path, or the packaged drill of that name. Raises `UsageError` naming the packaged ones."""
    path = Path(name_or_path)
    packaged = packaged_drills()
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        return read_drill(_text(path), str(path), path.resolve().parent)
    if name_or_path in packaged:
        return read_drill(packaged[name_or_path], f"{name_or_path}.yaml", None)
    if path.is_dir():
        inside = path / DRILL_FILE
        hint = f"its drill is {inside}" if inside.is_file() else f"it holds no {DRILL_FILE}; name the drill file"
        raise UsageError(f"no drill '{name_or_path}': it is a folder", hint=hint)
    raise UsageError(f"no drill '{name_or_path}'", hint=f"packaged are: {', '.join(packaged) or 'none'}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no file {path}", hint="'exitramp drill list' names the packaged drills; 'drill init' begins one"
        ) from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: cannot be read: it is no text in UTF-8") from error
