"""A store that is lost for good: killed, its data destroyed, and put back from the last dump while requests go on.

Only what the drill itself started is destroyed. A store that was given by address is not touched: calls to it are
refused in our own layer, and everything that is written down says so.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exitramp.drill.heard import Heard
from exitramp.drill.run import DrillRun
from exitramp.drill.steps.leaving import dump_address
from exitramp.errors import ConfigError, ConsentMissing, StoreUnavailable
from exitramp.faults import Fault
from exitramp.migration import migrate
from exitramp.orchestration.breaker import BreakerState
from exitramp.orchestration.router import Router
from exitramp.orchestration.stack import Passage, Retriever
from exitramp.records import Finding, Verdict
from exitramp.wrappers import open_endpoint

LOST: Final = "lost"
"""The fault of a phase after which the store is gone for good."""
NOTICE_SECONDS: Final = 30.0
"""How long the stream is given to notice the loss by itself before the restore begins all the same."""
POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What was destroyed for real; nothing where the loss is played in our own layer."""

    how: str
    files: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class Gate:
    """Keeps requests from a store that is not whole yet: an answer from half of the records is no good answer."""

    def __init__(self, retrieve: Retriever) -> None:
        self._retrieve = retrieve
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    def __call__(self, question_text: str, k: int, /) -> Sequence[Passage]:
        if not self._opened.is_set():
            raise StoreUnavailable("the substitute is not restored yet")
        return self._retrieve(question_text, k)


def lose_store(run: DrillRun, stack: str) -> Destroyed:
    """Kill the stack's store and destroy its data, or play it where the drill did not start it. Returns what it did."""
    part = run.stack(stack).store
    run.shared["lost_at"] = run.clock.monotonic()
    if part.service is None:
        part.simulated.injected = Fault("refuse")
        return Destroyed("simulated", 0, 0)
    part.service.inject(Fault("sigkill"))
    files, size = _destroy(run, run.folder / "services" / f"{stack}-store")
    return Destroyed("live", files, size)


def _destroy(run: DrillRun, folder: Path) -> tuple[int, int]:
    """Remove a service's files but for its log, which holds no data. Raises `ConfigError` outside the run's folder."""
    root = run.folder.resolve()
    if folder.is_symlink() or not folder.resolve().is_relative_to(root) or folder.resolve() == root:
        raise ConfigError(f"{folder} is not in the folder of this run, and nothing there is destroyed")
    doomed = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.suffix != ".log"]
    size = sum(path.stat().st_size for path in doomed)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.suffix != ".log":
            path.unlink()
    left = [path for path in doomed if path.exists()]
    if left:
        raise ConfigError(f"{len(left)} files of {folder} are still there after they were destroyed")
    return len(doomed), size


def restore_meanwhile(
    run: DrillRun,
    router: Router,
    heard: Heard,
    gate: Gate,
    *,
    accept_loss: tuple[str, ...],
    idle: Callable[[float], None],
) -> tuple[dict[str, Any], tuple[Finding, ...]]:
    """Verify the last dump and put it into the substitute, once the stream noticed the loss; then open the gate.

    A dump that does not verify is not restored. `idle(seconds)` waits and writes down what was heard meanwhile.
    """
    clock, lost = run.clock, run.shared["lost_at"]
    gives_up = lost + NOTICE_SECONDS
    while router.state("primary") is BreakerState.CLOSED and clock.monotonic() < gives_up:
        idle(POLL_SECONDS)
    data: dict[str, Any] = {"noticed_after_seconds": clock.monotonic() - lost, "restored": False}
    run.log.append("restore.began", {"from": "dump", "after_seconds": data["noticed_after_seconds"]})
    findings = _verified(run, data)
    if not findings:
        findings = _restored(run, heard, data, accept_loss)
    data["ready_after_seconds"] = clock.monotonic() - lost if data["restored"] else None
    if data["restored"]:
        gate.open()
    run.log.append("restore.ended", {"restored": data["restored"], "after_seconds": clock.monotonic() - lost})
    return data, findings


def _verified(run: DrillRun, data: dict[str, Any]) -> tuple[Finding, ...]:
    from exitramp.dump.integrity import verify_dump

    began = run.clock.monotonic()
    report = verify_dump(run.folder / "dump")
    data["verify_seconds"] = run.clock.monotonic() - began
    data["dump_verified"] = report.verdict is Verdict.PASS
    if report.verdict is Verdict.PASS:
        return ()
    text = "the last dump does not verify, so it was not restored, and nothing else is left of the primary"
    return (Finding("restore.unverified", text, Verdict.FAIL), *report.findings)


def _restored(run: DrillRun, heard: Heard, data: dict[str, Any], accept_loss: tuple[str, ...]) -> tuple[Finding, ...]:
    def each_batch(what: str, rows: int) -> None:
        run.check_stop()
        heard.write()

    began = run.clock.monotonic()
    target = run.writable("substitute")
    with open_endpoint(dump_address(run)) as source:
        try:
            result = migrate(source, target, accept_loss=accept_loss, plan=run.shared.get("plan"), progress=each_batch)
        except ConsentMissing as error:
            hint = "name it in the drill file, in the phase 'lost': options: {accept_loss: [NAME]}"
            raise ConsentMissing(error.message, hint=hint) from error
    run.shared["plan"], run.shared["accepted_loss"] = result.plan, accept_loss
    data["restore_seconds"] = run.clock.monotonic() - began
    data["restored"] = result.verdict is Verdict.PASS
    data["rows"] = result.to_json().get("rows")
    findings = tuple(result.findings)
    if result.verdict is not Verdict.PASS:
        text = f"what was restored is not what the dump holds ({result.verdict.value}), so no traffic was sent there"
        findings = (Finding("restore.doubtful", text, result.verdict), *findings)
    return findings
