"""The user's own application in a drill: questions put to it, and the hook that tells it to switch."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass, replace
from typing import Any, Final

from exitramp.drill.application_file import application_path, load_application, on_port, port_of
from exitramp.drill.between import between_of
from exitramp.drill.run import DrillRun
from exitramp.errors import ConfigError, ModelError
from exitramp.evals.apps.file import AppFile, open_app
from exitramp.evals.runs.subject import Subject
from exitramp.evals.sets.case import parse_case
from exitramp.orchestration.load import LoadEnd, LoadRequest
from exitramp.orchestration.outcome import Outcome
from exitramp.orchestration.stack import Question
from exitramp.ports import ChatAnswer
from exitramp.records import Usage

APPLICATION: Final = "application"
"""Who answered, as far as a drill can say of an application: not which side stood behind it."""
_ENDED: Final = "ended"


@dataclass(frozen=True, slots=True)
class SwitchRun:
    """One run of the hook. `exit_code` None: it was not through in time, and was stopped."""

    what: str
    began: float
    seconds: float
    exit_code: int | None

    @property
    def worked(self) -> bool:
        return self.exit_code == 0

    def to_json(self) -> dict[str, Any]:
        return {"what": self.what, "seconds": round(self.seconds, 3), "exit_code": self.exit_code}


class DrilledApplication:
    """Asks as users do: one request a question, no retry of ours. Thread-safe."""

    def __init__(self, run: DrillRun, file: AppFile, subject: Subject) -> None:
        self._run = run
        self._subject = subject
        self.file = file
        self.timeout_seconds = run.spec.orchestration.deadline_seconds

    @property
    def tells_sources(self) -> bool:
        return self.file.sources is not None

    def describe(self) -> dict[str, Any]:
        """What the report names it by."""
        given = self._run.spec.application
        switch = None if given is None else given.switch
        return {
            "name": self.file.name,
            "kind": self.file.kind,
            "file_sha256": self.file.sha256,
            "mock": self.file.is_mock,
            "tells_sources": self.tells_sources,
            "switch": "by itself" if switch is None else "by a command",
            "started_by_the_drill": given is not None and given.start is not None,
        }

    def ask(self, question: Question, *, queue_ms: float = 0.0) -> Outcome:
        """The outcome of one question; `queue_ms` is in the load's own latency already."""
        case = parse_case({"id": question.id, "question": question.text, "use_case": question.use_case_id})
        clock = self._run.clock
        asked_at, began = clock.now(), clock.monotonic()
        answer: ChatAnswer | None = None
        ids: tuple[str, ...] = ()
        failed: ModelError | None = None
        try:
            reply = self._subject.ask(case, key=question.id, timeout_seconds=self.timeout_seconds)
            ids = reply.retrieved_ids or ()
            # An application that tells no finish reason and answers in its shape has ended its answer.
            finish, usage = reply.finish_reason or _ENDED, reply.usage or Usage(0, 0, source="estimated")
            answer = ChatAnswer(reply.text, finish, reply.model_id, usage, reply.latency_ms)
        except ModelError as error:
            failed = error
        return Outcome(
            question.id,
            APPLICATION if answer is not None else None,
            answer,
            ids,
            (),
            (),
            asked_at,
            clock.monotonic() - began,
            None if failed is None else failed.error_class,
            None if failed is None else failed.message,
            self.file.is_mock,
        )

    def is_good(self, request: LoadRequest) -> bool:
        """Whether it answered, and by sources, where it tells any."""
        found = request.outcome
        is_answered = request.end is LoadEnd.ANSWERED and found is not None and found.is_answered
        return is_answered and found is not None and (bool(found.retrieved_ids) or not self.tells_sources)

    def switch(self, what: str) -> SwitchRun | None:
        """Run the hook: `command` or `back`; None where the drill file names none.

        The command gets addresses in its environment, as references and never with a secret, and no shell.
        """
        spec = self._run.spec.application
        hook = None if spec is None else spec.switch
        words = () if hook is None else getattr(hook, what)
        if hook is None or not words:
            return None
        clock, began = self._run.clock, self._run.clock.monotonic()
        try:
            process = subprocess.Popen(
                words,
                cwd=self._run.spec.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | addresses(self._run),
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigError(f"application.switch: {words[0]!r} cannot be run: {error.strerror}") from error
        try:
            code: int | None = process.wait(hook.seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        done = SwitchRun(what, began, clock.monotonic() - began, code)
        self._run.log.append("application.switch", done.to_json())
        return done

    def close(self) -> None:
        self._subject.close()


def addresses(run: DrillRun) -> dict[str, str]:
    """What an application finds in its environment: where each part answers, through the proxy if one stands there.
    Keys in the addresses are references, never secrets."""
    found = {"EXITRAMP_DRILL_FOLDER": str(run.folder.resolve())}
    for name, stack in run.stacks.items():
        for kind, part in (("STORE", stack.store), ("CHAT", stack.chat), ("EMBEDDING", stack.embedding)):
            if part is not None:
                found[f"EXITRAMP_{name.upper()}_{kind}"] = str(part.through or part.address)
    return found


def _started(run: DrillRun) -> AppFile:
    """The application's file; its server is started first, where the drill file says how."""
    file, path = load_application(run.spec), application_path(run.spec)
    assert file is not None
    assert path is not None
    assert run.spec.application is not None
    start = run.spec.application.start
    if start is None:
        return file
    run.stack("primary")  # without addresses there is nothing to tell it
    options = {"command": list(start.command), "seconds": start.seconds, "folder": str(path.parent.resolve()),
               "environment": addresses(run), "listen": port_of(file), "name": APPLICATION}  # fmt: skip
    port = run.start_program(APPLICATION, options)
    run.log.append("application.started", {"name": file.name, "port": port})
    return on_port(file, port)


def application_of(run: DrillRun) -> DrilledApplication | None:
    """The drill's application, opened once; None where the drill file names none."""
    if run.spec.application is None:
        return None
    if APPLICATION not in run.shared:
        for on in between_of(run.spec):  # before it is told where to ask
            run.put_between("primary", on)
        file = replace(_started(run), environment=addresses(run))
        run.shared[APPLICATION] = DrilledApplication(run, file, open_app(file))
        run.on_close(run.shared[APPLICATION].close)
    found: DrilledApplication = run.shared[APPLICATION]
    return found
