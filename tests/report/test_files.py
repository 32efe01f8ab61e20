"""Writing all of a report's files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from exitramp.errors import DataInvalid
from exitramp.records import Verdict
from exitramp.report.files import NAMES, write_report
from exitramp.report.sample import sample_document


def test_all_formats_are_written_and_nothing_else(tmp_path: Path) -> None:
    paths = write_report(sample_document(), tmp_path / "new" / "run")
    assert paths == {name: tmp_path / "new" / "run" / file for name, file in NAMES.items()}
    assert {path.name for path in (tmp_path / "new" / "run").iterdir()} == set(NAMES.values())


def test_writing_again_replaces_and_gives_the_same_bytes(tmp_path: Path) -> None:
    write_report(sample_document(Verdict.FAIL), tmp_path)
    first = {name: path.read_bytes() for name, path in write_report(sample_document(), tmp_path).items()}
    second = {name: path.read_bytes() for name, path in write_report(sample_document(), tmp_path).items()}
    assert first == second


def test_when_one_format_cannot_be_rendered_none_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid):
        write_report(sample_document(), tmp_path, results={"x": object()})
    assert list(tmp_path.iterdir()) == []


def test_the_word_that_a_report_may_not_say_is_nowhere(tmp_path: Path) -> None:
    forbidden = "compl" + "iant"
    for path in write_report(sample_document(), tmp_path).values():
        assert forbidden not in path.read_text(encoding="utf-8").lower()


def test_the_report_room_needs_nothing_that_is_slow_to_load() -> None:
    program = (
        "import sys\n"
        "from exitramp.report.files import write_report\n"
        "from exitramp.report.sample import sample_document\n"
        "heavy = {'numpy', 'pyarrow', 'httpx', 'matplotlib', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
