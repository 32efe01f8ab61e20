"""What a refusal of the system becomes: a path that will not do is the asker's to mend, a broken disk is not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from exitramp.durable import READ, WRITTEN, make_folder, path_error, storage_errors, write_atomically
from exitramp.errors import ExitCode, PathUnusable, StoreRejected

HERE = Path("here")


@pytest.mark.parametrize(
    ("number", "next_step"),
    [
        (errno.EACCES, "allow yourself to write it"),
        (errno.EPERM, "allow yourself to write it"),
        (errno.EROFS, "that disk is read only"),
        (errno.ENOENT, "make its folder first"),
        (errno.ENOTDIR, "a file is where a folder is wanted"),
        (errno.EEXIST, "a file is where a folder is wanted"),
        (errno.EISDIR, "a folder is where a file is wanted"),
        (errno.ENAMETOOLONG, "a shorter name"),
        (errno.ELOOP, "lead in a circle"),
    ],
)
def test_a_path_that_will_not_do_ends_with_2_and_a_next_step(number: int, next_step: str) -> None:
    found = path_error(HERE, OSError(number, os.strerror(number)), WRITTEN)
    assert isinstance(found, PathUnusable)
    assert found.exit_code is ExitCode.USAGE
    assert found.message == f"here: cannot be written: {os.strerror(number)}"
    assert next_step in (found.hint or "")


@pytest.mark.parametrize(("number", "next_step"), [(errno.ENOSPC, "make room"), (errno.EIO, "sound")])
def test_a_disk_that_fails_ends_with_5_and_a_next_step(number: int, next_step: str) -> None:
    found = path_error(HERE, OSError(number, os.strerror(number)), WRITTEN)
    assert isinstance(found, StoreRejected)
    assert found.exit_code is ExitCode.REMOTE
    assert next_step in (found.hint or "")


def test_the_next_step_says_what_was_to_be_done() -> None:
    refusal = OSError(errno.EACCES, "Permission denied")
    assert "allow yourself to read it" in str(path_error(HERE, refusal, READ))
    assert str(path_error(HERE, refusal, READ, hint="copy it")).endswith("next: copy it")
    with pytest.raises(PathUnusable, match=r"cannot be read: Permission denied"), storage_errors(HERE, READ):
        raise refusal


def test_a_file_in_a_folders_place_is_named_and_not_its_temporary_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(PathUnusable, match=r"file/inside: cannot be written: Not a directory"):
        write_atomically(tmp_path / "file" / "inside", b"")
    for folder in ("file", "file/inside"):
        with pytest.raises(PathUnusable, match="a file is where a folder is wanted"):
            make_folder(tmp_path / folder / "deeper")
