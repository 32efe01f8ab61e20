"""Dependencies are locked by hash and name no index; nothing in the tree knows the machine that it was written on."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKED = ("dev.txt", "models.txt", "uv.txt")
# Formats that write down where each file was fetched from, which is nobody's business and wrong behind a mirror.
ADDRESSED_LOCKS = re.compile(
    r"(uv|poetry|pdm|pixi)\.lock|pylock(\..+)?\.toml|Pipfile\.lock|package-lock\.json|yarn\.lock"
)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
# Put together here so that this file does not hold what it looks for.
HOMES = re.compile("|".join(rf"(?<![\w.)}}\]~])/{name}(?![\w-])" for name in ("root", "work")).encode())


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout, so nothing says which files belong to the tree")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=60)
    found = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [path for path in found if path.is_file()]


def _entries(name: str) -> dict[str, tuple[Requirement, int]]:
    """Every requirement of a lock file by its name, and how many hashes it has."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    logical = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    found = {}
    for line in filter(None, map(str.strip, logical.splitlines())):
        requirement = Requirement(HASH.sub("", line).strip())
        found[canonicalize_name(requirement.name)] = (requirement, len(HASH.findall(line)))
    return found


@pytest.mark.parametrize("name", LOCKED)
def test_every_locked_requirement_is_one_version_held_by_hashes(name: str) -> None:
    entries = _entries(name)
    assert entries
    for requirement, hashes in entries.values():
        assert hashes, f"{requirement} has no hash"
        assert requirement.url is None, f"{requirement} is taken from an address"
        assert [each.operator for each in requirement.specifier] == ["=="], f"{requirement} is not one version"


def test_no_lock_file_names_an_address_or_an_index() -> None:
    files = sorted((ROOT / "requirements").iterdir())
    assert {path.name for path in files} == set(LOCKED)
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            where = f"{path.name}:{number}"
            assert "://" not in line, f"{where} names an address"
            if not line.startswith("#"):
                options = re.findall(r"--[a-z-]+", line)
                assert set(options) <= {"--hash"}, f"{where}: only --hash is said in a lock file"


def test_what_fetches_dependencies_names_no_address_either() -> None:
    for name in ("Makefile", "pyproject.toml", ".ci/run"):
        for address in re.findall(r"\w+://[^\s'\"]*", (ROOT / name).read_text(encoding="utf-8")):
            assert re.match(r"https?://(127\.0\.0\.1|localhost)\b", address), f"{name} names {address}"


def test_the_lock_holds_everything_that_the_project_asks_for() -> None:
    """A dependency that was added without `make lock` would be fetched unlocked, or be missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = _entries("dev.txt")
    wanted = [
        *project["dependencies"],
        *(each for group in project["optional-dependencies"].values() for each in group),
    ]
    for text in wanted:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) == project["name"]:
            continue  # an extra of its own: its parts stand in this list too
        held = locked.get(canonicalize_name(requirement.name))
        assert held is not None, f"{text} is not in requirements/dev.txt: run `make lock`"
        [version] = [each.version for each in held[0].specifier]
        assert requirement.specifier.contains(version), f"{text} is locked at {version}: run `make lock`"


def test_there_is_no_lock_file_of_a_kind_that_holds_addresses() -> None:
    found = [path.relative_to(ROOT) for path in _tracked() if ADDRESSED_LOCKS.fullmatch(path.name)]
    assert not found, f"{found}: requirements/*.txt are the lock files here"


def test_no_tracked_file_holds_a_path_of_the_machine_it_was_written_on() -> None:
    held = []
    for path in _tracked():
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            match = HOMES.search(line)
            if match:
                held.append(f"{path.relative_to(ROOT)}:{number}: {match[0].decode()}")
    assert not held, held[:20]
