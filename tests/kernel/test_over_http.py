"""What adapters of models behind HTTP have in common: an error that only the adapter can read, and what is public."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from exitramp.errors import ModelError
from exitramp.ports import over_http
from exitramp.ports.over_http import ModelHttp, SaidError
from exitramp.testing.scripted import Reply, ScriptedServer
from exitramp.urls import Address, Network


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def _read(status: int | None, data: object) -> SaidError | None:
    if not isinstance(data, dict) or "fault" not in data:
        return None
    return SaidError("quota_exhausted", data["fault"], data.get("wait"))


def _fails(server: ScriptedServer, body: object, **headers: str) -> ModelError:
    server.answer(Reply((json.dumps(body).encode(),), status=400, headers=headers))
    address = Address("own", "m", None, {"base_url": server.base_url})
    http = ModelHttp(address, Network(), provider="own", example_url="http://127.0.0.1:1", read_error=_read)
    try:
        with pytest.raises(ModelError) as caught:
            http.post("/ask", {}, {}, idempotency_key=None, timeout_seconds=5.0, prompt="a kingfisher over the river")
    finally:
        http.close()
    return caught.value


def test_an_adapter_reads_the_errors_of_its_vendor(server: ScriptedServer) -> None:
    error = _fails(server, {"fault": "no more for a kingfisher over the river", "wait": 7.5})
    assert (error.error_class, error.http_status, error.retry_after_seconds) == ("quota_exhausted", 400, 7.5)
    assert "no more for" in error.message
    assert "kingfisher" not in error.message, "what the adapter hands over is masked as any other words"


def test_what_the_adapter_does_not_read_is_left_to_status_and_headers(server: ScriptedServer) -> None:
    error = _fails(server, {"error": {"message": "No."}}, **{"retry-after": "3"})
    assert (error.error_class, error.retry_after_seconds) == ("invalid_request", 3.0)
    error = _fails(server, {"fault": "No."}, **{"retry-after": "3"})
    assert (error.error_class, error.retry_after_seconds) == ("quota_exhausted", 3.0)


def test_an_error_inside_an_answer_is_read_alike_and_may_be_billed(server: ScriptedServer) -> None:
    address = Address("own", "m", None, {"base_url": server.base_url})
    http = ModelHttp(address, Network(), provider="own", example_url="http://127.0.0.1:1", read_error=_read)
    error = http.error_inside({"fault": "over"}, "prompt")
    http.close()
    assert (error.error_class, error.http_status, error.maybe_billed) == ("quota_exhausted", None, True)


def test_a_class_of_error_that_is_none_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="unknown model error class 'quota'"):
        SaidError("quota")


def test_the_public_names_are_these_and_no_httpx_comes_with_them() -> None:
    assert over_http.__all__ == [
        "WRONG_SHAPE",
        "Endpoint",
        "ModelHttp",
        "Pieces",
        "Received",
        "SaidError",
        "ServerEvent",
        "StreamParts",
        "consistent",
        "count",
        "estimated_tokens",
        "fields",
        "optional_count",
        "optional_text",
        "said_in",
        "text",
        "word",
    ]
    code = "import sys, exitramp.ports.over_http; assert 'httpx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
