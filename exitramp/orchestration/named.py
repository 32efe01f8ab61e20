"""Errors of what a stack file names, at the line that names it: whoever mends it looks into the file first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from exitramp.errors import ConfigError, ExitrampError, IntegrityError
from exitramp.orchestration.stack_file import StackFile


@contextmanager
def naming(file: StackFile, what: str, line: int, *, hint: str | None = None) -> Iterator[None]:
    """What the block raises begins with FILE:LINE and `what`, and says what to do: `hint`, where it does not itself.

    Bytes that are damaged stay that (`IntegrityError`, with its exit code); everything else is a `ConfigError`.
    """
    try:
        yield
    except ExitrampError as error:
        step = error.hint or hint or "mend that line, or what it names; docs/stack.md has every key"
        said = f"'{what}': {error.message}"
        if isinstance(error, IntegrityError):
            raise type(error)(f"{file.file}:{line}: {said}", hint=step) from error
        raise ConfigError(said, file=file.file, line=line, hint=step) from error
    except OSError as error:
        at = f"{error.filename}: " if error.filename else ""
        step = hint or "let this program's user read and write it, or name another path"
        said = f"'{what}': {at}{error.strerror or type(error).__name__}"
        raise ConfigError(said, file=file.file, line=line, hint=step) from error
