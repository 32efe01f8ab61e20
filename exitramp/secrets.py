"""Secrets: fetched by reference, and masked in everything that is written.

Known shapes and the values that were fetched are masked; entropy is not looked at, since it would mask the hashes
and ids that a report consists of.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

from exitramp.errors import ConfigError

MASK = "[secret]"

_SHAPES = re.compile(
    "|".join(
        (
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)",
            r"-----BEGIN CERTIFICATE-----.*?(?:-----END CERTIFICATE-----|\Z)",
            r"\bsk-[A-Za-z0-9_\-]{8,}",
            r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}",
            r"\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{10,}",
            r"\bgithub_pat_[A-Za-z0-9_]{10,}",
            r"\bxox[abprs]-[A-Za-z0-9\-]{8,}",
            r"\bAIza[A-Za-z0-9_\-]{20,}",
            r"\bhf_[A-Za-z0-9]{16,}",
            r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]*",
        )
    ),
    re.DOTALL,
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/\-]{6,}=*")
_USER_INFO = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*://)[^/\s@?#]+@")
_ASSIGNED = re.compile(
    r"(?i)((?:api[_-]?key|apikey|access[_-]?token|auth[_-]?token|secret|password|passwd|pwd|token|x-api-key)"
    r"[\"']?\s*[=:]\s*[\"']?)(?!env:|file:|cmd:)([^\s\"'&,;}\[]{4,})"
)

_fetched: set[str] = set()


def remember(value: str) -> None:
    """Mask `value` wherever `redact` meets it from now on. Values under four characters are too common to mask."""
    stripped = value.strip()
    if len(stripped) >= 4:
        _fetched.add(stripped)


def redact(text: str) -> str:
    """`text` with every known secret masked: fetched values first, then the known shapes."""
    for value in sorted(_fetched, key=len, reverse=True):
        if value in text:
            text = text.replace(value, MASK)
    text = _SHAPES.sub(MASK, text)
    text = _USER_INFO.sub(rf"\1{MASK}@", text)
    text = _BEARER.sub(rf"\1\2{MASK}", text)
    return _ASSIGNED.sub(rf"\1{MASK}", text)


def resolve(reference: str, *, what: str) -> str:
    """The secret that `reference` names: `env:NAME`, `file:PATH` or `cmd:COMMAND`. Remembered for masking.

    Raises `ConfigError` when the reference is a bare value (secrets go by reference only) or leads nowhere; the
    message holds the reference's kind and name, never a value.
    """
    kind, separator, name = reference.partition(":")
    if not separator or kind not in {"env", "file", "cmd"}:
        remember(reference)
        raise ConfigError(
            f"{what} must be given by reference, not as a value",
            hint="write env:NAME, file:PATH or cmd:COMMAND",
        )
    if kind == "env":
        value = os.environ.get(name)
        if not value:
            raise ConfigError(f"{what}: the environment variable {name} is not set", hint=f"export {name}=…")
    elif kind == "file":
        try:
            value = Path(name).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{what}: cannot read the file {name} ({type(error).__name__})") from error
    else:
        try:
            # No shell: the command is split as a shell would, and nothing in it is expanded.
            done = subprocess.run(shlex.split(name), capture_output=True, text=True, timeout=30, check=True)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise ConfigError(f"{what}: the command did not give a value ({type(error).__name__})") from error
        value = done.stdout
    value = value.strip()
    if not value:
        raise ConfigError(f"{what}: {kind}:{name} is empty")
    for line in value.splitlines():
        remember(line)
    remember(value)
    return value
