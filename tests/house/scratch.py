"""Environments outside the checkout: they see the dependencies that are installed here, and not the checkout itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


def build_wheel(tree: Path, folder: Path) -> Path:
    """The wheel of the project in `tree`, built into `folder` by the build backend alone: no isolation, no network."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(folder)], cwd=tree, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@dataclass(frozen=True, slots=True)
class Scratch:
    """A virtual environment of its own in `folder`, and how to run something in it."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Scratch:
        """An environment that finds what is installed beside the running interpreter, editable installs excepted.

        The line of a .pth file puts the folder on the path without reading the .pth files in it, and those are what
        an editable install consists of.
        """
        venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
        scratch = cls(folder)
        (scratch.site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        return scratch

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.folder), "platbase": str(self.folder)}))

    def install(self, *wheels: Path) -> None:
        """Install wheels, without what they depend on, without a network."""
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-cache", "--no-deps"]
        done = subprocess.run(
            [*command, "--python", str(self.python), *map(str, wheels)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        timeout_seconds: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run this environment's interpreter with `arguments`, with nothing of ours in its variables."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return subprocess.run(
            [str(self.python), *arguments],
            cwd=cwd,
            env=kept | dict(environment or {}),
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    def where(self, module: str, *, cwd: Path) -> Path:
        """The file that `module` is imported from in this environment."""
        done = self.run(["-c", f"import {module}, json; print(json.dumps({module}.__file__))"], cwd=cwd)
        assert done.returncode == 0, done.stderr
        return Path(json.loads(done.stdout))
