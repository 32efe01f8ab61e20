"""A prompt's side-car: what stands in it is read as it is written, or refused with its line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from exitramp.errors import ConfigError
from exitramp.orchestration.prompts import load_prompts

TEMPLATE = b"{{{question}}}"


def _folder_with(folder: Path, more: str) -> Path:
    (folder / "default.mustache").write_bytes(TEMPLATE)
    text = f"name: default\nsha256: {hashlib.sha256(TEMPLATE).hexdigest()}\n{more}"
    (folder / "default.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("version: 1.10\n", r"default\.yaml:3: 'version' must be a text or a whole number"),
        ("version: true\n", r"default\.yaml:3: 'version' must be a text or a whole number"),
        ("version: 1\nmodel_hints: {max_tokens: 2.9}\n", r"default\.yaml:4: 'model_hints\.max_tokens' must be a whole"),
        (
            "version: 1\nmodel_hints: {max_tokens: true}\n",
            r"default\.yaml:4: 'model_hints\.max_tokens' must be a whole",
        ),
        (
            "version: 1\nmodel_hints: {max_tokens: 0}\n",
            r"default\.yaml:4: 'model_hints\.max_tokens' must be at least 1",
        ),
        (
            "version: 1\nmodel_hints: {temperature: .nan}\n",
            r"default\.yaml:4: 'model_hints\.temperature' must be a num",
        ),
        ("version: 1\nmodel_hints: many\n", r"default\.yaml:4: 'model_hints' must hold keys and values"),
        ("", r"default\.yaml:1: 'version' is missing"),
    ],
)
def test_what_is_wrong_in_a_side_car_is_named_with_its_line(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_prompts(_folder_with(tmp_path, more))


@pytest.mark.parametrize("version", ["'1.10'", "2026-11-01", "7"])
def test_a_version_is_what_is_written(tmp_path: Path, version: str) -> None:
    [prompt] = load_prompts(_folder_with(tmp_path, f"version: {version}\n"))
    assert prompt.version == version.strip("'")
