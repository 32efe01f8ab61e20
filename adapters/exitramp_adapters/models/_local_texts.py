"""What embedders in this process have in common: which texts a call takes, when it stops, and what it gives back."""

from __future__ import annotations

import hashlib
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exitramp.errors import AddressError, DataInvalid, DependencyMissing, ModelError, UsageError
from exitramp.ports import Embedded, check_texts
from exitramp.records import Usage
from exitramp.urls import Address

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Call:
    """One call of `embed`: the texts are looked at, the clock runs, and the vectors are filled in and given back here.

    What runs in this process is stopped by nobody, so that an adapter asks `check` between texts.
    """

    def __init__(
        self, texts: Sequence[str], *, dimensions: int, batch_texts: int, timeout_seconds: float, provider: str
    ) -> None:
        """Raises as `check_texts` does."""
        import numpy as np

        check_texts(texts, batch_texts)
        self.vectors: npt.NDArray[np.float32] = np.empty((len(texts), dimensions), np.float32)
        self._began = time.monotonic()
        self._timeout_seconds = timeout_seconds
        self._provider = provider

    def check(self) -> None:
        """Raises `ModelError` of class `timeout` when it is over."""
        if time.monotonic() - self._began > self._timeout_seconds:
            raise self.passed()

    def passed(self) -> ModelError:
        return ModelError(
            f"{self._provider}: no vectors within {self._timeout_seconds:g} s",
            error_class="timeout",
            hint="embed fewer texts a call, or allow more time",
        )

    def no_vector(self, row: int, why: str) -> DataInvalid:
        """That a text has none: the same words whichever model it is."""
        return DataInvalid(f"text {row} of {len(self.vectors)} has {why} and so no vector")

    def embedded(self, name: str, *, tokens: int, cut: int = 0) -> Embedded:
        """What the call gives, once every row of `vectors` is filled in. Raises `ModelError` where it took too long or
        a vector is not finite."""
        import numpy as np

        self.check()
        bad = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        if len(bad):
            raise ModelError(
                f"{self._provider}: the vector of text {bad[0]} of {len(self.vectors)} is not finite",
                error_class="malformed",
            )
        took_ms = (time.monotonic() - self._began) * 1000.0
        return Embedded(self.vectors, Usage(tokens, 0), took_ms, name, cut_texts=cut)


def one_model(address: Address, *options: str) -> None:
    """Raises `AddressError` where an address of a single model names another, or an option that it has not."""
    address.only_options(*options)
    if address.location:
        scheme = address.scheme
        raise AddressError(f"{scheme}: is one model and has no '{address.location}'", hint=f"write {scheme}:")


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
