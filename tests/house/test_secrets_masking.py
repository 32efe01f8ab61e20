"""Masking itself: every planted secret in every spelling, and nothing that only looks random.

Where secrets turn up in practice is tested in `test_secrets.py`.
"""

from __future__ import annotations

import hashlib
import html
import json
import random
import shlex
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from exitramp.errors import ConfigError
from exitramp.secrets import MASK, redact, redacted, remember, resolve
from tests.house.planted import CONTEXTS, assert_none_shown, planted, planted_values

SECRETS = planted(200, seed=20)
VALUES = planted_values(50, seed=21)
# How a text is written down: as it is, in JSON (and in JSON that stands in JSON), by repr(), with its white space gone.
WRITTEN: dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps({"error": text})),
    "repr": repr,
    "collapsed": lambda text: " ".join(text.split()),
}
ELSEWHERE: dict[str, Callable[[str], str]] = {"HTML": html.escape, "URL": quote, "form": quote_plus}


@pytest.fixture(autouse=True)
def nothing_was_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test fetches must not hide what another leaks."""
    monkeypatch.setattr("exitramp.secrets._fetched", set())


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("form", WRITTEN)
def test_every_planted_secret_is_masked_however_it_is_written(context: str, form: str) -> None:
    for secret in SECRETS:
        text = WRITTEN[form](CONTEXTS[context](secret.text))
        assert_none_shown([secret], redact(text))
        assert redact(redact(text)) == redact(text), "masking twice is not masking once"


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("form", {**WRITTEN, **ELSEWHERE})
def test_a_value_that_was_fetched_is_masked_in_every_spelling(context: str, form: str) -> None:
    if form in ELSEWHERE and context == "behind an escaped line feed":
        pytest.skip("an escape inside an escape: nothing writes that")
    for secret in VALUES:
        remember(secret.text)
        for line in secret.text.splitlines():
            remember(line)
    for secret in VALUES:
        assert_none_shown([secret], redact((WRITTEN | ELSEWHERE)[form](CONTEXTS[context](secret.text))))


def test_a_text_under_a_key_that_names_a_secret_is_masked_whole_and_a_reference_is_not() -> None:
    data = {"api_key": "plain words", "nested": [{"password": "a,b;c&d"}], "key": "env:VENDOR_KEY", "token": "file:x"}
    assert redacted(data) == {
        "api_key": MASK,
        "nested": [{"password": MASK}],
        "key": "env:VENDOR_KEY",
        "token": "file:x",
    }


def test_hashes_ids_and_random_names_are_never_taken_for_secrets() -> None:
    rng = random.Random(3)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    ids = [hashlib.sha256(rng.randbytes(8)).hexdigest() for _ in range(300)]
    ids += [hashlib.sha1(rng.randbytes(8)).hexdigest() for _ in range(300)]
    ids += [str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(300)]
    ids += [f"x-{rng.randbytes(20).hex()}" for _ in range(300)]
    ids += ["".join(rng.choice(alphabet + "_-") for _ in range(rng.randint(8, 40))) for _ in range(2000)]
    ids += ["".join(rng.choice("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for _ in range(26)) for _ in range(500)]
    for id_ in ids:
        for text in (id_, f"ids: {id_}, {id_}", json.dumps({"id": id_, "sha256": id_}), f"runs/{id_}/report.html"):
            assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "token",
        "a secret garden",
        "tokens: 12",
        "tokens=12, prompt_tokens: 4096",
        '{"token": 12, "first_token": 12.5, "max_tokens": 512}',
        "time_to_first_token: 18.25 ms",
        '"slow_first_token": "is slow to begin"',
        "password or secret: none",
        "the bearer of bad news, basic information, basic responsibilities, bearer tokens",
        "task-management-systems, risk-adjusted-returns, disk-based-indexes, ask-me-anything-here",
        "ASIAPACIFIC and AKIA",
        "an idempotency_key_sha256 of 3f2a, the key=lambda row: row.id",
        "qdrant+http://127.0.0.1:6333?api_key=env:QDRANT_KEY#articles",
        "openai:gpt?base_url=https://vendor.example/v1&key=file:~/key.txt",
        "http://127.0.0.1:8000/path/@someone and https://example.com/@user/a:b",
        "http://[::1]:8000/a@b",
        "someone@example.com wrote to me: hello@example.com",
        "the PRIVATE KEY of a house, -----BEGIN MESSAGE-----",
        "auth: check the key that the address names with ?key=",
        "(auth): authorization was refused",
        "shelf_life, self_reference, npm_config and hf_hub",
    ],
)
def test_ordinary_words_and_counts_survive(text: str) -> None:
    assert redact(text) == text


def test_a_text_that_was_made_to_take_long_does_not() -> None:
    """What a vendor answers is masked whole: patterns that try again at every place would take hours for 64 KB."""
    pieces = (
        "a",
        "%",
        "//a:",
        ":/",
        "eyJ-",
        "eyJaaaaaaaa.",
        'token="',
        "'token': ",
        "bearer ",
        "Basic a",
        "sk-",
        "AKIA",
    )
    pieces += (
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "//a@b",
        "?key=",
        "token=[secret]",
        "=:",
        "\\",
        '{"password": "',
    )
    for piece in pieces:
        began = time.process_time()
        redact((piece * 2**16)[: 2**16])
        assert time.process_time() - began < 2.0, f"64 KB of {piece!r}"


def test_values_behind_variables_files_and_commands_are_masked_once_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number, secret in enumerate(VALUES):
        file = tmp_path / f"value {number}"
        file.write_text(secret.text + "\n", encoding="utf-8")
        monkeypatch.setenv("PLANTED", secret.text)
        for reference in (
            "env:PLANTED",
            f"file:{file}",
            shlex.join(["cmd:cat", str(file)]).replace("'cmd:cat'", "cmd:cat"),
        ):
            assert resolve(reference, what="a key") == secret.text
            assert_none_shown([secret], redact(f"the vendor repeats: {secret.text}."))


def test_a_secret_given_as_a_value_or_by_a_command_that_fails_is_not_repeated(tmp_path: Path) -> None:
    for secret in SECRETS:
        word = secret.core.replace(":", "_")
        failing = f"cmd:{sys.executable} -c {shlex.quote(f'import sys; print({word!r}); sys.exit({word!r})')}"
        for reference in (word, f"file:{tmp_path}/absent", *((failing,) if secret is SECRETS[0] else ())):
            with pytest.raises(ConfigError) as caught:
                resolve(reference, what="option 'key'")
            assert_none_shown([secret], str(caught.value))
