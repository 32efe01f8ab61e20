"""Secrets: fetched by reference, and masked in everything that is written.

Four things are masked: values that were fetched, in whichever spelling they come back; the shapes of well-known keys;
user info in addresses; and what follows a word that names a secret. Entropy is not looked at, since it would mask the
hashes and ids that a report consists of. Texts are masked before they are cut short and before they are escaped: half a
secret, or one that begins behind an escape, is one that no pattern knows.
"""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, unquote

from exitramp.errors import ConfigError, DataInvalid

MASK = "[secret]"
RECORD_IDS = frozenset({"ids", "id", "missing", "stale", "undeleted", "upserted", "deleted"})
"""Keys under which record ids stand. An id is never masked: a lost record that is not named is not proved."""

# Where a key may begin: not inside a word (`task-…` holds `sk-…`), but behind \n and \u0022 all the same.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt])|(?<=\\u[0-9A-Fa-f]{4}))"
_BLOCK = r"-----BEGIN {0}-----.*?(?:-----END {0}-----|\Z)"  # one that is cut off is masked to the end of the text
_KEYS = (
    r"sk-[A-Za-z0-9_\-]{8,}",
    r"[sr]k_(?:live|test)_[A-Za-z0-9]{8,}",
    r"(?:AKIA|ASIA)(?:[A-Z0-9]{16,}|(?=[A-Z]*[0-9])[A-Z0-9]{12,})",
    r"gh[pousr]_[A-Za-z0-9]{10,}",
    r"github_pat_[A-Za-z0-9_]{10,}",
    r"glpat-[A-Za-z0-9_\-]{10,}",
    r"xox[abeprs]-[A-Za-z0-9\-]{8,}",
    r"AIza[A-Za-z0-9_\-]{20,}",
    r"(?:hf|gsk|npm)_[A-Za-z0-9]{16,}",
    r"pcsk_[A-Za-z0-9_]{16,}",
    r"(?:xai|pplx|nvapi)-[A-Za-z0-9_\-]{16,}",
    r"eyJ[A-Za-z0-9_\-]{8,8192}\.[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]*",
)
_SHAPES = re.compile(
    "|".join(
        (
            _BLOCK.format(r"[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?"),
            _BLOCK.format("CERTIFICATE"),
            f"{_START}(?:{'|'.join(_KEYS)})",
        )
    ),
    re.DOTALL,
)

# `bearer` and `basic` are words too: what follows must look like a credential, by digits, mixed case or length.
_MIXED = r"(?=[^\s\"']*(?:[0-9]|[a-z][A-Z]))"
_BEARER = re.compile(
    rf"({_START}(?i:bearer)\s+)(?:{_MIXED}[\w.~+/\-]{{6,}}|[\w.~+/\-]{{16,}})=*"
    rf"|({_START}(?i:basic)\s+){_MIXED}(?:[A-Za-z0-9+/]{{4}}){{2,}}(?:[A-Za-z0-9+/]{{2,3}}={{1,2}})?(?![\w+/=\-])"
)

# After a user's name and a colon everything up to the last @ is user info, even a slash that should have been escaped;
# but what looks like a host's port is none. Without a colon it goes to the end of the host. An address that was taken
# for a path has one slash.
_USER_INFO = re.compile(
    r"(//|(?<=:)/)(?:(?![^\s/?#@:]*:\d+(?:[/?#\"'\s]|\Z))[^\s/?#@:\[\"'<>]*:[^\s\"'<>]{0,512}@|[^\s/?#\"'<>]{1,512}@)"
)
_OPTION = re.compile(r"(?i)([?&](?:key|auth|pass|pw|sig|signature|jwt|sas)=)(?!env:|file:|cmd:|\[secret)[^\s&#\"'<>]+")

_NAMES = (
    r"(?:api|access|secret|private|signing|encryption|account|shared)[_\-]?key|secret|token|password|passwd|passphrase"
    r"|pwd|credentials?|authorization"
)
_NAME = re.compile(rf"(?i)(?:{_NAMES})\Z")
_NAMED = re.compile(
    rf"(?P<said>(?P<name>(?i:{_NAMES}))\\*[\"']?[ \t]*[=:][ \t]*)"
    r"(?:(?P<quote>\\+[\"'])(?P<escaped>.*?)(?=\\+[\"']|\Z)"
    r"|\"(?P<double>(?:\\.|[^\"\\])*)|'(?P<single>(?:\\.|[^'\\])*)"
    r"|(?P<plain>(?i:bearer|basic|token|digest|apikey)[ \t]+[^\s\"'&<>}]+|[^\s\"'&<>}]{4,}))"
)
_REFERENCE = re.compile(r"(?:env|file|cmd):")
_NO_SECRET = re.compile(r"(?i)(?:null|none|true|false)\b")
_MASKED = re.compile(rf"(?:\w+[ \t]+)?{re.escape(MASK)}\W*\Z")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w-])")

_RUN = re.compile(r"\S+")

_SHORTEST = 4
_WHOLE_WORD_BELOW = 12

_fetched: set[str] = set()


def remember(value: str) -> None:
    """Mask `value` wherever `redact` meets it from now on, in each spelling that a URL, JSON or HTML gives it.

    Values under four characters are too common to mask; those under twelve are masked where they stand by themselves.
    """
    stripped = value.strip()
    if len(stripped) >= _SHORTEST:
        _fetched.add(stripped)


def redact(text: str) -> str:
    """`text` with every known secret masked: fetched values first, then the known shapes. Doing it twice is once."""
    text = _redact_plain(text)
    return _RUN.sub(_masked_encoded, text) if "%" in text else text


def _redact_plain(text: str) -> str:
    if _fetched:
        text = _known(frozenset(_fetched)).sub(MASK, text)
    text = _SHAPES.sub(MASK, text)
    text = _USER_INFO.sub(_masked_user, text)
    text = _OPTION.sub(rf"\1{MASK}", text)
    text = _BEARER.sub(lambda match: (match[1] or match[2]) + MASK, text)
    return _NAMED.sub(_masked_value, text)


_DATABASE_USER = re.compile(r"(?i)(?:pgvector|postgres(?:ql)?|redis):\Z")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,31}@\Z")


def _masked_user(match: re.Match[str]) -> str:
    """A database's user is a name, without which an address leads nowhere; elsewhere a token may stand in its place."""
    if _DATABASE_USER.search(match.string[: match.start()][-12:]) and _PLAIN_NAME.match(match[0][len(match[1]) :]):
        return match[0]
    return f"{match[1]}{MASK}@"


def redacted(value: object, *, key: str = "", ids: frozenset[str] = RECORD_IDS) -> Any:
    """`value` with every text in it masked, keys too. A text under a key that names a secret is masked whole, and one
    under a key of `ids` is left as it is.

    Raises `DataInvalid` for bytes: nobody could see a secret in them.
    """
    if isinstance(value, str):
        if key in ids:
            return value
        # Seen alone a password is a word like any other: the key is what gives it away. A reference is no secret.
        return MASK if value and _NAME.search(key) and not _REFERENCE.match(value) else redact(value)
    if isinstance(value, Mapping):
        return {
            redact(name) if isinstance(name, str) else name: redacted(item, key=str(name), ids=ids)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(item, key=key, ids=ids) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        raise DataInvalid("bytes are not written down: they could hide a secret", hint="write their SHA-256")
    return value


def _masked_encoded(match: re.Match[str]) -> str:
    """A run of text without %20 and the like if there is a secret in it then, and else as it is."""
    plain = unquote(match[0])
    if plain == match[0]:
        return plain
    shown = _redact_plain(plain)
    return match[0] if shown == plain else shown


def _masked_value(match: re.Match[str]) -> str:
    found = match["plain"] or match["double"] or match["single"] or match["escaped"] or ""
    kept = (
        not found
        or _MASKED.match(found)
        or _REFERENCE.match(found)
        or (match["plain"] and _NO_SECRET.match(found))
        or (match["name"].lower() == "token" and (_NUMBER.match(found) or " " in found))  # a count, or a sentence
    )
    if kept:
        return match[0]
    opened = match["quote"] or ('"' if match["double"] else "'" if match["single"] else "")
    return f"{match['said']}{opened}{MASK}"


@lru_cache(maxsize=4)
def _known(values: frozenset[str]) -> re.Pattern[str]:
    """One pattern for all fetched values, the longest first, so that no rest of a longer one stays."""
    spellings = sorted({each for value in values for each in _spellings(value)}, key=len, reverse=True)
    return re.compile(
        "|".join(
            re.escape(each) if len(each) >= _WHOLE_WORD_BELOW else rf"{_START}{re.escape(each)}(?![A-Za-z0-9])"
            for each in spellings
        )
    )


def _spellings(value: str) -> set[str]:
    """How the value looks in a text that was collapsed, quoted, or put into JSON (once or twice), HTML or a URL."""
    inside = json.dumps(value)[1:-1]
    return {
        value,
        " ".join(value.split()),
        inside,
        json.dumps(inside)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        repr(value + "'\"")[1:-4],  # as among other quotes
        html.escape(value),
        quote_plus(value),
    }


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
