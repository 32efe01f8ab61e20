"""Secrets to plant: two hundred of the shapes that are masked, and the places where a secret turns up in a text."""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_LETTERS: Final = string.ascii_letters + string.digits
FRAGMENT: Final = 8
"""So many characters of a secret in a row are as bad as all of it."""


@dataclass(frozen=True, slots=True)
class Secret:
    """`text` is what is planted, `core` the part of it that nobody may see."""

    shape: str
    text: str
    core: str

    def pieces(self) -> list[str]:
        """Every run of `FRAGMENT` characters of what nobody may see."""
        return [self.core[at : at + FRAGMENT] for at in range(len(self.core) - FRAGMENT + 1)]

    def shown_in(self, text: str) -> str | None:
        """A piece of the secret that stands in `text`, or None."""
        return next((piece for piece in self.pieces() if piece in text), None)


def _random(rng: random.Random, alphabet: str, count: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(count))


def _pem(kind: str) -> Callable[[random.Random], tuple[str, str]]:
    def make(rng: random.Random) -> tuple[str, str]:
        body = base64.b64encode(rng.randbytes(96)).decode()
        lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
        return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----", body[:40]

    return make


def _prefixed(prefix: str, alphabet: str, count: int) -> Callable[[random.Random], tuple[str, str]]:
    def make(rng: random.Random) -> tuple[str, str]:
        core = _random(rng, alphabet, count)
        return prefix + core, core

    return make


def _user_info(marks: str) -> Callable[[random.Random], tuple[str, str]]:
    def make(rng: random.Random) -> tuple[str, str]:
        core = _random(rng, _LETTERS, 8) + rng.choice(marks) + _random(rng, _LETTERS, 8)
        return f"https://operator:{core}@db.example.invalid:6333/path", core

    return make


def _basic(rng: random.Random) -> tuple[str, str]:
    core = base64.b64encode(f"operator:{_random(rng, _LETTERS, 12)}1".encode()).decode()
    return f"Basic {core}", core


# Shapes that give themselves away wherever they stand.
SHAPES: Final[dict[str, Callable[[random.Random], tuple[str, str]]]] = {
    "openai": _prefixed("sk-", _LETTERS, 40),
    "openai project": _prefixed("sk-proj-", _LETTERS + "_-", 60),
    "anthropic": _prefixed("sk-ant-api03-", _LETTERS + "_-", 48),
    "aws key id": _prefixed("AKIA", string.ascii_uppercase + "234567", 16),
    "aws session key id": _prefixed("ASIA", string.ascii_uppercase + "234567", 16),
    "github": _prefixed("ghp_", _LETTERS, 36),
    "github app": _prefixed("ghs_", _LETTERS, 36),
    "github fine-grained": _prefixed("github_pat_", _LETTERS + "_", 60),
    "bearer": _prefixed("Bearer ", _LETTERS, 32),
    "bearer, lower case": _prefixed("bearer ", string.ascii_lowercase + string.digits, 32),
    "basic": _basic,
    "jwt": lambda rng: (lambda core: (core, core[3:]))(
        ".".join(("eyJ" + _random(rng, _LETTERS, 18), _random(rng, _LETTERS, 30), _random(rng, _LETTERS + "-_", 22)))
    ),
    "private key": _pem("PRIVATE KEY"),
    "rsa key": _pem("RSA PRIVATE KEY"),
    "openssh key": _pem("OPENSSH PRIVATE KEY"),
    "user info": _user_info("-._~!"),
    "user info that is not escaped": _user_info("/?#@:"),
    "user name that is a token": lambda rng: (lambda core: (f"https://{core}@db.example.invalid/x", core))(
        _random(rng, _LETTERS, 24)
    ),
    "named in an assignment": lambda rng: (lambda core: (f"api_key={core}", core))(_random(rng, _LETTERS, 20)),
    "named in JSON": lambda rng: (lambda core: ('{"password": "' + core + '"}', core))(
        _random(rng, _LETTERS + ",;&[{ ", 20).strip() + "x"
    ),
}

# Values of referenced variables: nothing in them gives them away but having been fetched.
VALUES: Final[dict[str, Callable[[random.Random], str]]] = {
    "letters": lambda rng: _random(rng, string.ascii_lowercase, 18),
    "short": lambda rng: _random(rng, _LETTERS, 8),
    "marks": lambda rng: _mixed(rng, "\"'\\\\<>&%/+=:;, {}[]$#@!"),
    "unicode": lambda rng: _mixed(rng, "äöüßéλж漢🙂"),
    "several lines": lambda rng: "\n".join(_random(rng, _LETTERS, 24) for _ in range(3)),
}


def _mixed(rng: random.Random, marks: str) -> str:
    return _random(rng, _LETTERS, 10) + _random(rng, marks, 6) + _random(rng, _LETTERS, 10)


# How a secret comes back in somebody's words.
CONTEXTS: Final[dict[str, Callable[[str], str]]] = {
    "alone": lambda secret: secret,
    "a sentence": lambda secret: f"the vendor says that {secret} was refused",
    "quoted": lambda secret: f"Incorrect API key provided: '{secret}'. Look it up.",
    "a line of its own": lambda secret: f"first line\n{secret}\nlast line",
    "behind an escaped line feed": lambda secret: f'{{"error": "no:\\n{secret}"}}',
    "in parentheses": lambda secret: f"({secret})",
    "behind an underscore": lambda secret: f"key_{secret}",
    "between commas": lambda secret: f"1,{secret},2",
    "in a tag": lambda secret: f"<b>{secret}</b>",
    "behind an equals sign": lambda secret: f"value={secret}",
}


def planted(count: int, seed: int) -> list[Secret]:
    """`count` different secrets, of every shape in turn."""
    rng = random.Random(seed)
    names = list(SHAPES)
    return [Secret(names[at % len(names)], *SHAPES[names[at % len(names)]](rng)) for at in range(count)]


def planted_values(count: int, seed: int) -> list[Secret]:
    """`count` different values for variables, files and commands to give."""
    rng = random.Random(seed)
    names = list(VALUES)
    found = []
    for at in range(count):
        value = VALUES[names[at % len(names)]](rng)
        found.append(Secret(f"value: {names[at % len(names)]}", value, value[:10]))
    return found


def assert_none_shown(secrets: Sequence[Secret], *texts: str) -> None:
    """By every run of eight characters of every secret."""
    pieces = {piece: secret for secret in secrets for piece in secret.pieces()}
    for text in texts:
        for at in range(len(text) - FRAGMENT + 1):
            found = pieces.get(text[at : at + FRAGMENT])
            assert found is None, f"{found.shape}: …{text[max(0, at - 80) : at + 40]!r}…"
