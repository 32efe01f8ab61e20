"""Who may ask: keys by name, each behind a reference of the stack file, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Mapping

from exitramp.secrets import resolve


class Keys:
    """The keys of the version of the file in force; they are fetched again when the file changes. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = ""
        self._hashes: dict[str, bytes] = {}

    def fetch(self, version: str, references: Mapping[str, str]) -> None:
        """Raises `ConfigError` for a reference behind which there is nothing."""
        with self._lock:
            if version == self._version:
                return
            self._hashes = {
                name: _digest(resolve(reference, what=f"keys.{name}")) for name, reference in references.items()
            }
            self._version = version

    @property
    def is_empty(self) -> bool:
        with self._lock:
            return not self._hashes

    def name_of(self, key: str) -> str | None:
        """Whose key it is. Every key is compared, so that time tells nothing."""
        digest = _digest(key)
        with self._lock:
            found = [name for name, known in self._hashes.items() if hmac.compare_digest(digest, known)]
        return found[0] if found else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
