"""Stack files with what nobody means to write: a message with its line, no traceback, and no key repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from exitramp.errors import ConfigError
from exitramp.orchestration import Application, building
from exitramp.ports import ChatModel
from tests.orchestration.vendors import write

MODEL = "version: 1\nmodels: {a: {address: 'openai:m?base_url=http://127.0.0.1:1/v1'}}\n"
ZERO_BYTES = [
    'trace: {path: "a\\0b"}',
    'idempotency: {path: "a\\0b"}',
    'idempotency: {path: j, spool: "a\\0b"}',
    'cache: {exact: {path: "a\\0b"}}',
    'prices: "a\\0b"',
    'prompts: "a\\0b"',
    'keys: {shop: "file:a\\0b"}',
]


def refused(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Application.open(path, reads_keys=True).close()
    return str(caught.value)


@pytest.mark.parametrize("line", ZERO_BYTES)
def test_a_zero_byte_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    assert "stack.yaml:3: " in (said := refused(tmp_path / "stack.yaml", f"{MODEL}{line}\n"))
    assert "zero byte" in said


@pytest.mark.parametrize("url", ["http://[::1/v1", "http://127.0.0.1:99999/v1", "http://127.0.0.1:0/v1"])
def test_a_server_that_no_address_can_have_is_refused_before_it_is_asked(tmp_path: Path, url: str) -> None:
    said = refused(tmp_path / "stack.yaml", MODEL.replace("http://127.0.0.1:1/v1", url))
    assert "stack.yaml:2: 'models.a': openai: option 'base_url'" in said


@pytest.mark.parametrize(
    "line", ["failover: {models: [KEY]}", "trace: {path: t, format: KEY}", "stacks: {s: {chat: KEY}}"]
)
def test_a_key_in_the_wrong_place_is_not_repeated(tmp_path: Path, line: str) -> None:
    key = "sk-live-abcdefghijkl12345678"
    said = refused(tmp_path / "stack.yaml", f"{MODEL}{line.replace('KEY', key)}\n")
    assert key not in said
    assert "[secret]" in said


def test_opening_asks_each_of_many_models_what_it_refuses_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    before = building._refused

    def counted(model: ChatModel) -> tuple[str, ...]:
        asked.append(model)
        return before(model)

    monkeypatch.setattr(building, "_refused", counted)
    models = {f"m{number}": {"address": "openai:m?base_url=http://127.0.0.1:9/v1"} for number in range(200)}
    models["last"] = {"address": "anthropic:m?base_url=http://127.0.0.1:9"}
    told: list[str] = []
    with Application.open(write(tmp_path / "s.yaml", {"version": 1, "models": models}), on_notice=told.append):
        assert len(asked) == len(models)
    assert [each.partition(" ")[0] for each in told] == ["models.last:"]
