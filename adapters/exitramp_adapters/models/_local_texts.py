"""What embedders in this process have in common: which texts they take, and when they stop."""

from __future__ import annotations

import hashlib
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path

from exitramp.errors import DataInvalid, DependencyMissing, ModelError, UsageError


def check_texts(texts: Sequence[str], batch_texts: int) -> None:
    """Raises `DataInvalid` for too many, and naming the first that is no text of Unicode."""
    if len(texts) > batch_texts:
        raise DataInvalid(f"{len(texts)} texts in one call, of which {batch_texts} are allowed")
    for row, text in enumerate(texts):
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise DataInvalid(
                f"text {row} of {len(texts)} holds half a surrogate pair and has no vector",
                hint="decode it with errors='replace' where it comes from",
            )


class Deadline:
    """When a call has to be over. What runs in this process is asked between texts."""

    def __init__(self, timeout_seconds: float, provider: str) -> None:
        self.began = time.monotonic()
        self._timeout_seconds = timeout_seconds
        self._provider = provider

    def check(self) -> None:
        """Raises `ModelError` of class `timeout` when it is over."""
        if time.monotonic() - self.began > self._timeout_seconds:
            raise self.passed()

    def passed(self) -> ModelError:
        return ModelError(
            f"{self._provider}: no vectors within {self._timeout_seconds:g} s",
            error_class="timeout",
            hint="embed fewer texts a call, or allow more time",
        )

    @property
    def latency_ms(self) -> float:
        return (time.monotonic() - self.began) * 1000.0


def pinned(path: Path, sha256: str, *, what: str) -> bytes:
    """A file's bytes, if they have this hash: what was checked is what is loaded. Raises `UsageError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{what}: {path} cannot be read ({error.strerror})") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UsageError(
            f"{what}: {path} is another file than the one named: sha256 {found}, expected {sha256}",
            hint="if the file was changed on purpose, name its new hash; what it embedded before is of another model",
        )
    return data


def package_folder(module: str, *, adapter: str, extra: str) -> Path:
    """Where an installed package's files are; nothing of it is imported."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise DependencyMissing(adapter, extra, module=module)
    return Path(spec.origin).parent
