"""A model's adapter with a fault of its own is a vendor that fails: the next one answers, and it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exitramp import registry
from exitramp.orchestration import NotAnswered
from exitramp.orchestration.application import Application
from exitramp.ports import ChatAnswer, ChatRequest, ModelAdapter, ModelIdentity
from tests.orchestration.vendors import WHOLE, Vendors, request, write


class Faulty:
    def __init__(self, address: Any, network: Any) -> None: ...

    def identity(self) -> ModelIdentity:
        return ModelIdentity("faulty", "faulty-1", "faulty:x")

    def answer(self, request: ChatRequest, **_: Any) -> ChatAnswer:
        found: dict[str, Any] = {"error": request.messages[0].content}
        raise KeyError(f"choices; it said {found}")

    def close(self) -> None: ...


@pytest.fixture(name="vendors")
def _vendors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendors]:
    adapter = ModelAdapter("faulty", "has a fault", "faulty:x", ("chat",), Faulty)
    inner = registry.load
    monkeypatch.setattr(registry, "load", lambda group, name: adapter if name == "faulty" else inner(group, name))
    vendors = Vendors(tmp_path)
    yield vendors
    vendors.stop()


def _document(vendors: Vendors, *more: str) -> dict[str, Any]:
    found = vendors.document("backup")
    models = {name: found["models"][name] for name in more}
    return {"version": 1, "models": {"faulty": {"address": "faulty:x", "tier": "large"}, **models}}


def test_the_next_one_answers(vendors: Vendors, tmp_path: Path) -> None:
    stack = write(tmp_path / "stack.yaml", _document(vendors, "backup"))
    with Application.open(stack) as application:
        answered = application.chat(request("k-1"))
    first, *_ = answered.outcome.attempts
    assert (answered.name, answered.text) == ("backup", WHOLE)
    assert (first.stack, first.error_class, first.maybe_billed) == ("faulty", "malformed", True)
    assert len(answered.outcome.attempts) == 2  # a program's fault is there the next time too: not tried again
    assert "KeyError at test_unforeseen_adapter.py" in (first.error or "")
    assert "pathname" not in (first.error or "")


def test_where_nobody_else_is_there_it_is_an_error_and_no_crash(vendors: Vendors, tmp_path: Path) -> None:
    stack = write(tmp_path / "stack.yaml", _document(vendors))
    with Application.open(stack) as application, pytest.raises(NotAnswered) as caught:
        application.chat(request("k-1"))
    assert caught.value.error_class == "malformed"
    assert "pathname" not in str(caught.value)
