"""An application as a command: one process a question, the question on stdin, the answer on stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from exitramp.errors import ConfigError, ModelError
from exitramp.evals.apps.file import AppFile
from exitramp.evals.apps.paths import case_json
from exitramp.evals.runs.subject import Prompted, Reply
from exitramp.evals.sets.case import Case
from exitramp.ports import ModelIdentity


class CommandApp:
    """Runs the file's command without a shell, in a process group of its own that ends with the deadline."""

    def __init__(self, app: AppFile) -> None:
        self._app = app

    def identity(self) -> ModelIdentity:
        return ModelIdentity("app", self._app.name, self._app.command[0], self._app.is_mock)

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "app", "app": "command", "name": self._app.name, "file_sha256": self._app.sha256}

    def sent(self, case: Case) -> Prompted:
        return Prompted(case.asked())

    def ask(self, case: Case, *, key: str, timeout_seconds: float) -> Reply:
        started = time.monotonic()
        out = self._run(case, key, timeout_seconds)
        latency_ms = (time.monotonic() - started) * 1000.0
        ids: tuple[str, ...] | None = None
        if self._app.answer is None and self._app.sources is None:
            text = out.strip()
        else:
            try:
                data = json.loads(out)
            except (ValueError, RecursionError) as error:
                raise ModelError("what the application printed is not JSON", error_class="malformed") from error
            text = self._app.answer.text_in(data) if self._app.answer is not None else out.strip()
            ids = self._app.sources.ids_in(data) if self._app.sources is not None else None
        if not text:
            raise ModelError("the application printed no answer", error_class="malformed")
        return Reply(text, None, self._app.name, latency_ms, retrieved_ids=ids)

    def close(self) -> None:
        pass

    def _run(self, case: Case, key: str, timeout_seconds: float) -> str:
        given = json.dumps(case_json(case)) if self._app.input == "json" else case.asked()[-1].content
        try:
            process = subprocess.Popen(
                self._app.command,
                cwd=self._app.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # it may hold the question, and nobody would read it
                env=os.environ | self._app.environment | {"EXITRAMP_IDEMPOTENCY_KEY": key},
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigError(f"the command {self._app.command[0]!r} cannot be run: {error.strerror}") from error
        try:
            out, _ = process.communicate(given.encode("utf-8", "replace"), timeout=timeout_seconds)
        except BaseException as error:
            # Its children too: one that holds stdout open would be waited for without end.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise ModelError("the application did not answer in time", error_class="timeout") from error
            raise
        if process.returncode != 0:
            raise ModelError(f"the application ended with {process.returncode}", error_class="server_error")
        try:
            return out.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelError("what the application printed is not UTF-8", error_class="malformed") from error
