"""An application behind HTTP: one request a question, within a deadline of ours."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

import httpx

from exitramp.backoff import parse_retry_after
from exitramp.errors import ModelError
from exitramp.evals.apps.file import AppFile
from exitramp.evals.apps.paths import filled
from exitramp.evals.runs.subject import Prompted, Reply
from exitramp.evals.sets.case import Case
from exitramp.ports import ModelIdentity
from exitramp.secrets import redact, resolve

_LIMIT_BYTES: Final = 8 * 1024 * 1024
_CLASSES: Final[Mapping[int, str]] = {
    401: "auth",
    403: "auth",
    408: "timeout",
    413: "context_length",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}


class HttpApp:
    """Asks by the file's request template and takes the answer and the source ids from where its paths say."""

    def __init__(self, app: AppFile) -> None:
        self._app = app
        headers = dict(app.headers)
        if app.key is not None:
            key = resolve(app.key, what="'key' of the application")
            headers[app.key_header] = f"Bearer {key}" if app.key_header.lower() == "authorization" else key
        host = httpx.URL(app.url).host
        # On loopback a proxy of the environment would carry the questions out of the machine.
        self._client = httpx.Client(headers=headers, trust_env=host not in ("127.0.0.1", "localhost", "::1"))

    def identity(self) -> ModelIdentity:
        return ModelIdentity("app", self._app.name, redact(self._app.url), self._app.is_mock)

    def describe(self) -> Mapping[str, Any]:
        return {
            "kind": "app",
            "app": "http",
            "name": self._app.name,
            "url": redact(self._app.url),
            "file_sha256": self._app.sha256,
        }

    def sent(self, case: Case) -> Prompted:
        return Prompted(case.asked())

    def ask(self, case: Case, *, key: str, timeout_seconds: float) -> Reply:
        started = time.monotonic()
        data = self._exchange(filled(self._app.request, case), key, started + timeout_seconds)
        answer = self._app.answer.text_in(data) if self._app.answer is not None else ""
        finish = self._app.finish_reason
        return Reply(
            text=answer,
            finish_reason=finish.text_in(data) if finish is not None else None,
            model_id=self._app.name,
            latency_ms=(time.monotonic() - started) * 1000.0,
            retrieved_ids=self._app.sources.ids_in(data) if self._app.sources is not None else None,
        )

    def close(self) -> None:
        self._client.close()

    def _exchange(self, body: Any, key: str, ends: float) -> Any:
        how: dict[str, Any] = {"params": body} if self._app.method == "GET" else {"json": body}
        try:
            with self._client.stream(
                self._app.method,
                self._app.url,
                headers={"idempotency-key": key},
                timeout=max(0.001, ends - time.monotonic()),
                **how,
            ) as response:
                raw = b""
                for piece in response.iter_bytes():
                    raw += piece
                    # A timeout of each read begins anew with every byte; the deadline does not.
                    if time.monotonic() > ends:
                        raise httpx.ReadTimeout("the deadline is over")
                    if len(raw) > _LIMIT_BYTES:
                        raise ModelError("the application's answer is longer than 8 MB", error_class="malformed")
                status, headers = response.status_code, response.headers
        except httpx.TimeoutException as error:
            raise ModelError("the application did not answer in time", error_class="timeout") from error
        except httpx.RemoteProtocolError as error:
            raise ModelError("the application's answer broke off", error_class="truncated") from error
        except httpx.HTTPError as error:
            raise ModelError(
                f"the application cannot be reached ({type(error).__name__})", error_class="connection"
            ) from error
        if status >= 300:
            raise ModelError(
                f"the application answered HTTP {status}",
                error_class=_CLASSES.get(status, "server_error" if status >= 500 else "invalid_request"),
                http_status=status,
                retry_after_seconds=parse_retry_after(headers.get("retry-after")),
            )
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise ModelError("the application's answer is not JSON", error_class="malformed") from error
