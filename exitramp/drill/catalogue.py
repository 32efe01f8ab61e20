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
    drifting,
    embedding,
    judging,
    late_writes,
    leaving,
    outage,
    parallel,
    returning,
    vendor_data,
)
from exitramp.drill.steps.base import Step
from exitramp.drill.tabletop.reading import is_tabletop, parse_tabletop
from exitramp.drill.tabletop.spec import TabletopSpec
from exitramp.drill.touching import parts_of, touches
from exitramp.errors import UsageError
from exitramp.registry import service_adapter

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
        vendor_data.VENDOR_DATA,
        drifting.DRIFT,
        drifting.AGAIN,
        embedding.GONE,
        embedding.MAP,
        embedding.REEMBED,
    )
}


def read_drill(text: str, file: str, folder: Path | None) -> DrillSpec:
    """Parse a drill with all known steps."""
    return parse_drill(text, file, folder=folder, steps={name: step.parse for name, step in STEPS.items()})


def find_drill(name_or_path: str) -> DrillSpec:
    """`find_any` for drills that do something. Raises `UsageError` for one that is talked through at a table."""
    found = find_any(name_or_path)
    if isinstance(found, TabletopSpec):
        raise UsageError(f"'{found.name}' is a table-top drill: it has no steps that a program could run")
    return found


def find_any(name_or_path: str) -> DrillSpec | TabletopSpec:
    """The drill file at a path, or the packaged drill of that name. Raises `UsageError` naming the packaged ones."""
    path = Path(name_or_path)
    packaged = packaged_drills()
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        return _read_any(_text(path), str(path), path.resolve().parent)
    if name_or_path in packaged:
        return _read_any(packaged[name_or_path], f"{name_or_path}.yaml", None)
    if path.is_dir():
        inside = path / DRILL_FILE
        hint = f"its drill is {inside}" if inside.is_file() else f"it holds no {DRILL_FILE}; name the drill file"
        raise UsageError(f"no drill '{name_or_path}': it is a folder", hint=hint)
    raise UsageError(f"no drill '{name_or_path}'", hint=f"packaged are: {', '.join(packaged) or 'none'}")


def how_held(spec: DrillSpec | TabletopSpec) -> str:
    """`table-top`, `simulated`, `live` or `live in part`, and whether vendors are mocks: by what the drill would do,
    whatever its file says of it."""
    if isinstance(spec, TabletopSpec):
        return "table-top"
    touched = [touches(STEPS[step.name], step, spec) for step in spec.steps]
    cuts, played = any(each.cuts or each.between for each in touched), any(each.simulates for each in touched)
    services = [part.service for part in parts_of(spec).values() if part.service is not None]
    stand_ins = ", mock vendors" if any(service_adapter(each).is_mock for each in services) else ""
    return ("live in part" if cuts and played else "simulated" if played else "live") + stand_ins


def _read_any(text: str, file: str, folder: Path | None) -> DrillSpec | TabletopSpec:
    return parse_tabletop(text, file, folder=folder) if is_tabletop(text, file) else read_drill(text, file, folder)


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
