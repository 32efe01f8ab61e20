"""Finding a drill's real input: packaged golden sets, prompts, price books and drills, or the user's own files."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from exitramp.drill.spec import DrillSpec
from exitramp.errors import ConfigError
from exitramp.evals.golden import GoldenCase, load_golden
from exitramp.finops.prices import PriceBook, load_price_book

FIXTURES = "exitramp_fixtures"
DRILLS = "exitramp_drills"


def load_cases(spec: DrillSpec) -> tuple[GoldenCase, ...]:
    """The golden questions of a drill; none where it names none."""
    if spec.data.golden is None:
        return ()
    return load_golden(_found(spec, spec.data.golden, "golden", ".jsonl"), name=spec.data.golden)


def load_prices(spec: DrillSpec) -> PriceBook | None:
    """The price book of a drill; None where it names none."""
    if spec.data.prices is None:
        return None
    return load_price_book(_found(spec, spec.data.prices, "pricebooks", ".yaml"), name=spec.data.prices)


def prompt_folder(spec: DrillSpec) -> Traversable | Path | None:
    """The folder of a drill's prompts: the packaged one for `packaged`, else a folder beside the drill file."""
    name = spec.data.prompts
    if name is None:
        return None
    if name == "packaged":
        return files(FIXTURES) / "prompts"
    folder = (spec.folder or Path()) / name
    if not folder.is_dir():
        raise ConfigError(f"data.prompts: there is no folder {folder}", file=spec.file)
    return folder


def check_inputs(spec: DrillSpec) -> None:
    """Raises `ConfigError` for a file of the drill that is missing or wrong: before anything is started."""
    load_cases(spec)
    load_prices(spec)
    prompt_folder(spec)


def packaged_drills() -> dict[str, str]:
    """The YAML text of every packaged drill, by name."""
    found = {}
    for entry in files(DRILLS).iterdir():
        if entry.name.endswith(".yaml"):
            found[entry.name.removesuffix(".yaml")] = entry.read_text(encoding="utf-8")
    return dict(sorted(found.items()))


def _found(spec: DrillSpec, name: str, folder: str, ending: str) -> Traversable | Path:
    beside = (spec.folder or Path()) / name
    if spec.folder is not None and beside.is_file():
        return beside
    packaged = files(FIXTURES) / folder / (name + ending)
    if packaged.is_file():
        return packaged
    raise ConfigError(f"data: there is neither a file {beside} nor a packaged {folder} named '{name}'", file=spec.file)
