"""Who may ask a gateway: keys by name, each behind a reference of the stack file, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from exitramp.orchestration.named import naming
from exitramp.orchestration.stack_file import StackFile
from exitramp.secrets import resolve


class ClientKeys:
    """The keys of one version of a stack file, as hashes."""

    def __init__(self, hashes: Mapping[str, bytes]) -> None:
        self._hashes = dict(hashes)

    @classmethod
    def of(cls, file: StackFile) -> ClientKeys:
        """Fetched now. Raises `ConfigError` at its line for a reference behind which there is nothing."""
        found = {}
        for name, reference in file.keys.items():
            with naming(file, f"keys.{name}", file.line_of(f"keys.{name}"), hint="put the key where it says"):
                found[name] = _digest(resolve(reference, what="the key"))
        return cls(found)

    @property
    def is_empty(self) -> bool:
        return not self._hashes

    def name_of(self, key: str) -> str | None:
        """Whose key it is. Every key is compared, so that time tells nothing."""
        digest = _digest(key)
        found = [name for name, known in self._hashes.items() if hmac.compare_digest(digest, known)]
        return found[0] if found else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
