"""Wrong edits behind a gateway: nobody is refused, the health page and the metrics say what is wrong, stderr once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.running import RunningGateway
from tests.orchestration.vendors import PROMPT, Vendors, write

BODY = {"model": "any", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 64}


def metric(root: str, name: str, key: str) -> float:
    text = httpx.get(f"{root}/metrics", headers={"authorization": f"Bearer {key}"}).text
    return float(next(line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(f"{name} ")))


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 8
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.03)


def test_an_edit_whose_keys_are_not_there_locks_nobody_out_and_is_told(tmp_path: Path) -> None:
    vendors = Vendors(tmp_path)
    stack = tmp_path / "stack.yaml"
    key = tmp_path / "key.txt"
    key.write_text("a-key-of-a-test\n")
    good = vendors.document("main", keys={"shop": f"file:{key}"})
    write(stack, good)
    gateway = RunningGateway(stack, "--host", "127.0.0.2")
    root = gateway.root

    def ask() -> int:
        return httpx.post(
            f"{root}/v1/chat/completions", json=BODY, headers={"authorization": "Bearer a-key-of-a-test"}
        ).status_code

    def health() -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{root}/healthz").json()
        return found

    try:
        assert ask() == 200
        wrong: list[tuple[dict[str, Any], str]] = [
            (vendors.document("backup", keys={"shop": "env:EXITRAMP_TEST_UNSET"}), "EXITRAMP_TEST_UNSET is not set"),
            (vendors.document("backup"), "has no keys"),
        ]
        for number, (document, said) in enumerate(wrong, start=1):
            before = health()["stack_sha256"]
            write(stack, document)
            until(lambda said=said: said in (health()["problem"] or ""), said)  # type: ignore[misc]
            told = health()
            assert (told["status"], told["stack_sha256"]) == ("edit_refused", before)
            assert told["problem"].startswith(f"{stack}:")
            assert "\n  next: " in told["problem"]
            assert ask() == 200
            assert metric(root, "exitramp_stack_edit_refused", "a-key-of-a-test") == 1
            refused = 'exitramp_stack_edits_total{result="refused"}'
            assert metric(root, refused, "a-key-of-a-test") == number
        write(stack, good)
        until(lambda: health()["status"] == "ok", "the good file is not taken")
        assert metric(root, "exitramp_stack_edit_refused", "a-key-of-a-test") == 0
    finally:
        code, said = gateway.stop()
        vendors.stop()
    assert code == 0
    assert said.count("is not in force") == len(wrong), "told once each"


def test_a_slow_edit_holds_up_no_other_request(tmp_path: Path) -> None:
    """What an edit names is opened beside the requests: one that takes long is waited for by nobody else."""
    vendors = Vendors(tmp_path)
    stack = tmp_path / "stack.yaml"
    write(stack, vendors.document("main"))
    gateway = RunningGateway(stack)
    try:
        httpx.post(f"{gateway.root}/v1/chat/completions", json=BODY).raise_for_status()
        slow = "openai:m?base_url=http://127.0.0.1:9/v1&key=cmd:sleep 2"
        document = vendors.document("main")
        document["models"]["slow"] = {"address": slow}
        write(stack, document)
        time.sleep(0.5)  # until it has rested and is due
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{gateway.root}/healthz", timeout=0.3)  # this one looks at the file, and waits
        began = time.monotonic()
        httpx.post(f"{gateway.root}/v1/chat/completions", json=BODY).raise_for_status()
        assert time.monotonic() - began < 1.5
    finally:
        gateway.stop()
        vendors.stop()


def test_a_wrong_file_or_address_is_one_message(tmp_path: Path) -> None:
    stack = tmp_path / "stack.yaml"
    stack.write_text("version: 1\nmodels:\n  main: {address: 'local:x', tiers: small}\n")
    with pytest.raises(AssertionError, match=r"stack\.yaml:3: unknown key 'models\.main\.tiers'"):
        RunningGateway(stack)
    stack.write_text("version: 1\nmodels:\n  main: {address: 'local:x'}\n")
    with pytest.raises(AssertionError, match="no keys"):
        RunningGateway(stack, "--host", "0.0.0.0")
