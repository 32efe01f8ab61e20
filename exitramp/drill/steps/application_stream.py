"""The user's own application under load: the golden questions in turn, and an eye on how they end."""

from __future__ import annotations

import threading
from collections import deque

from exitramp.drill.application import DrilledApplication, SwitchRun
from exitramp.drill.costing import count_request
from exitramp.drill.heard import WATCH_SECONDS
from exitramp.drill.run import DrillRun
from exitramp.errors import ConfigError
from exitramp.orchestration.load import LoadRequest, SteadyLoad
from exitramp.orchestration.stack import Question

GOOD_IN_A_ROW = 3
"""So many good answers one after the other show that the application is back."""


class Watch:
    """Hears how each request ended, in its thread. `decided` is when the failures of the drill file's breaker came
    together: `breaker_failures` within `breaker_window_seconds`."""

    def __init__(self, run: DrillRun, application: DrilledApplication) -> None:
        self._run = run
        self._application = application
        self._given = run.spec.orchestration
        self._lock = threading.Lock()
        self._failures: deque[float] = deque()
        self._since = 0.0
        self.decided: float | None = None
        self.good_in_a_row = 0

    def begin(self, now: float) -> None:
        """Count anew, and only requests that are due from now on."""
        with self._lock:
            self._since, self.decided, self.good_in_a_row = now, None, 0
            self._failures.clear()

    def ended(self, request: LoadRequest) -> None:
        count_request(self._run, request)
        is_good = self._application.is_good(request)
        now = self._run.clock.monotonic()
        with self._lock:
            if request.due < self._since:
                return
            self.good_in_a_row = self.good_in_a_row + 1 if is_good else 0
            if is_good:
                return
            self._failures.append(now)
            while self._failures[0] < now - self._given.breaker_window_seconds:
                self._failures.popleft()
            if self.decided is None and len(self._failures) >= self._given.breaker_failures:
                self.decided = now


class ApplicationStream:
    """The load on the application, and the hook that tells it to switch."""

    def __init__(self, run: DrillRun, application: DrilledApplication, rate_per_second: float, name: str) -> None:
        if not run.golden:
            raise ConfigError(
                "an application is asked golden questions, and there are none",
                file=run.spec.file,
                hint="give data.golden, and the step 'load_golden' before this one",
            )
        self.run = run
        self.application = application
        self.watch = Watch(run, application)
        self.switches: list[SwitchRun] = []
        self.in_phase = False
        """Whether a fault is on that nobody decided about yet."""
        self.load = SteadyLoad(
            application.ask,
            lambda number: self._question(name, number),
            rate_per_second=rate_per_second,
            clock=run.clock,
            on_end=self.watch.ended,
        )

    def _question(self, name: str, number: int) -> Question:
        case = self.run.golden[number % len(self.run.golden)]
        return Question(f"{name}/{number:06d}", case.text, case.use_case, tags=(name,))

    def idle(self, seconds: float, *, until_back: bool = False) -> bool:
        """Wait, and run the hook at the decision. `until_back`: end as soon as several in a row were answered well;
        returns whether they were."""
        clock = self.run.clock
        ends = clock.monotonic() + seconds
        while (left := ends - clock.monotonic()) > 0:
            self.run.check_stop()
            if until_back and self.watch.good_in_a_row >= GOOD_IN_A_ROW:
                return True
            if self.in_phase and self.watch.decided is not None:
                self.in_phase = False  # decided once
                self.run.log.append("application.decided", {"failures": self.run.spec.orchestration.breaker_failures})
                self._switch("command")
            clock.sleep(min(left, WATCH_SECONDS / 5))
        return False

    def _switch(self, what: str) -> None:
        done = self.application.switch(what)
        if done is not None:
            self.switches.append(done)

    def back(self) -> None:
        """Tell the application that the primary is healed, if it was told to leave it."""
        if self.switches and self.switches[-1].what == "command":
            self._switch("back")
