"""Whoever opens an adapter's folder finds what to read first, and what each part is about."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ADAPTERS = Path(__file__).parents[2] / "adapters" / "exitramp_adapters"
PACKAGES = sorted(path.parent for floor in ("stores", "services") for path in ADAPTERS.glob(f"{floor}/*/__init__.py"))
ENTRIES = re.findall(r'= "(exitramp_adapters\.[\w.]+):', (ADAPTERS.parents[1] / "pyproject.toml").read_text())


def parts_told(package: Path) -> list[str]:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    return re.findall(r"^    (\w+)  +\S", text, re.MULTILINE)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_lists_every_part_once_and_begins_with_what_entry_points_name(package: Path) -> None:
    told = parts_told(package)
    assert sorted(told) == sorted(path.stem for path in package.glob("*.py") if path.stem != "__init__")
    floor = package.parent.name
    named = {
        entry.rsplit(".", 1)[1] for entry in ENTRIES if entry.startswith(f"exitramp_adapters.{floor}.{package.name}.")
    }
    assert named
    assert set(told[: len(named)]) == named
