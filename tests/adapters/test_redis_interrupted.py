"""Writing to a Redis whose answers are read one call later: calls given up, calls interrupted anywhere."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exitramp.errors import DataInvalid, StoreRejected, StoreUnavailable
from exitramp.records import RecordKey
from exitramp.testing import batch_from_rows
from exitramp_adapters.stores.redis import sink as sink_module
from tests.adapters.test_redis_writing import SPEC, base, client, opened, put, rows, service

__all__ = ["base", "client", "service"]


@pytest.mark.parametrize("hangs_at", ["connect", "answers"])
def test_a_call_given_up_that_comes_back_hides_nothing_of_the_next_ones(
    base: str, client: Any, monkeypatch: pytest.MonkeyPatch, hangs_at: str
) -> None:
    sink: Any = put(opened(base), rows(1))
    sink.flush()
    hanging, go_on = threading.Event(), threading.Event()

    def hung(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*given: Any) -> Any:
            found = call(*given)
            if threading.current_thread().name == "given-up":
                hanging.set()
                go_on.wait(20)
            return found

        return made

    if hangs_at == "connect":
        sink._line.wire.disconnect()
        sink._line = None
        monkeypatch.setattr(sink_module.RedisSink, "_connected", hung(sink_module.RedisSink._connected))
    else:
        sink.upsert(batch_from_rows(rows(1, 1), SPEC))
        monkeypatch.setattr(sink_module, "replies", hung(vars(sink_module)["replies"]))
    said: list[Exception] = []

    def give_up() -> None:
        try:
            sink.upsert(batch_from_rows(rows(1, 2), SPEC))
        except StoreUnavailable as error:
            said.append(error)

    given_up = threading.Thread(target=give_up, name="given-up")
    given_up.start()
    assert hanging.wait(20)
    if hangs_at == "answers":
        sink.flush()  # what that call waited for has landed, though it does not say so
    client.config_set("maxmemory", 1)
    try:
        sink.upsert(batch_from_rows(rows(2, 5), SPEC))
        go_on.set()
        given_up.join(20)
        with pytest.raises(StoreRejected, match="maxmemory"):
            sink.flush()
    finally:
        client.config_set("maxmemory", 0)
    assert said
    sink.flush()
    assert {key.decode() for key in client.scan_iter("own:*")} >= {"own:r0", "own:r5", "own:r6"}


@pytest.mark.parametrize("seed", range(6))
def test_interrupted_at_any_line_a_call_that_is_made_again_loses_nothing(base: str, client: Any, seed: int) -> None:
    sink: Any = put(opened(base), rows(1))
    left = random.Random(seed).randrange(1, 1200)
    package = str(Path(str(sink_module.__file__)).parent)

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(package):
            return None
        left -= event == "line"
        if event == "line" and left == 0:
            raise KeyboardInterrupt
        return trace

    calls: list[Callable[[], None]] = [
        lambda: sink.upsert(batch_from_rows(rows(3, 0, a="1"), SPEC)),
        lambda: sink.upsert(batch_from_rows(rows(3, 1, b="2"), SPEC)),
        lambda: sink.delete([RecordKey("r0"), RecordKey("r2")]),
        lambda: sink.upsert(batch_from_rows(rows(2, 2, c="3"), SPEC)),
    ]
    before = sys.gettrace()
    for call in calls:
        sys.settrace(trace if left > 0 else before)
        try:
            call()
        except KeyboardInterrupt:
            sys.settrace(before)
            call()
        finally:
            sys.settrace(before)
    sink.flush()
    held = {key: set(client.hgetall(key)) & {b"a", b"b", b"c"} for key in client.scan_iter("own:*")}
    assert held == {b"own:r1": {b"b"}, b"own:r2": {b"c"}, b"own:r3": {b"c"}}


def test_an_id_that_stands_twice_in_a_batch_is_refused(base: str, client: Any) -> None:
    sink = put(opened(base), rows(1))
    with pytest.raises(DataInvalid, match="stands twice"):
        sink.upsert(batch_from_rows([*rows(1, 5, a=1), *rows(1, 5, b=2)], SPEC))
    sink.flush()
    assert opened(base).source().count() == 1
