"""One run of a drill: what its steps share, and how they reach stacks, data and the log."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exitramp.backoff import Backoff
from exitramp.clock import Clock, SystemClock
from exitramp.drill.between import PROGRAM, PROXY
from exitramp.drill.embedder import DrilledEmbedder, embedding_address
from exitramp.drill.event_log import EventLog
from exitramp.drill.spec import DrillSpec, Part, StackSpec
from exitramp.errors import ConfigError, ExitrampError, SpendExceeded
from exitramp.faults import NO_FAULT, Fault, FaultSchedule
from exitramp.ports import Embedder, ModelIdentity, Service, ServiceAdapter
from exitramp.records import Finding, TraceRecord, Verdict
from exitramp.registry import model_adapter, service_adapter
from exitramp.urls import Address, Network, path_address, same_place
from exitramp.wording import counted
from exitramp.wrappers import Endpoint, Faulty, OpenSettings, open_endpoint, require_write_allowed

if TYPE_CHECKING:
    from exitramp.evals.sets.case import Case

EMBEDDED_DEADLINE_SECONDS = 60.0
"""Deadline of a store call outside the outage, where being patient costs nothing."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What a step found. `data` goes into the journal and is all that the report knows of the step."""

    data: Mapping[str, Any]
    findings: tuple[Finding, ...] = ()
    verdict: Verdict | None = None


@dataclass(slots=True)
class RunningPart:
    """A store or chat model of a stack as it stands in this run.

    `simulated` faults are played in our own layer, for what may not be cut for real.
    `proxy` is the one that stands between it and the application, if a drill put one there.
    """

    address: Address
    service: Service | None = None
    adapter: ServiceAdapter | None = None
    simulated: FaultSchedule = field(default_factory=FaultSchedule)
    proxy: Service | None = None
    through: Address | None = None
    """Where the application finds it once a proxy stands in front; steps that move data go past the proxy."""

    @property
    def is_mock(self) -> bool:
        return self.adapter is not None and self.adapter.is_mock


@dataclass(slots=True)
class RunningStack:
    """One stack of this run."""

    spec: StackSpec
    store: RunningPart
    chat: RunningPart | None
    embedding: RunningPart | None = None


class DrillRun:
    """What the steps of one run share. Closing it stops every service and closes every endpoint."""

    def __init__(
        self,
        spec: DrillSpec,
        folder: Path,
        log: EventLog,
        *,
        seed: int,
        allow_writes: tuple[str, ...] = (),
        say: Callable[[str], None] = lambda text: None,
        clock: Clock | None = None,
        network: Network | None = None,
    ) -> None:
        self.spec = spec
        self.folder = folder
        self.log = log
        self.seed = seed
        self.say = say
        self.clock = clock or SystemClock()
        self.network = network or Network()
        self.results: dict[str, Mapping[str, Any]] = {}
        self.every_result: list[tuple[str, Mapping[str, Any]]] = []
        self.shared: dict[str, Any] = {}
        self.traces: list[TraceRecord] = []
        self.golden: tuple[Case, ...] = ()
        self.stacks: dict[str, RunningStack] = {}
        self._allow_writes = allow_writes
        self._endpoints: list[Endpoint] = []
        self._closers: list[Callable[[], None]] = []
        self._services: list[Service] = []
        self._started = self.clock.monotonic()
        self._counting = threading.Lock()
        self.errors_seen = 0
        self.usd_spent = Decimal(0)
        self.unpriced = 0
        self.aborted: str | None = None

    # ------------------------------------------------------------------ stacks

    def start_stacks(self) -> None:
        """Start what the drill file calls services; what it gives by address is taken as it is."""
        for spec in (self.spec.primary, self.spec.substitute):
            store = self._start(spec.store, f"{spec.name}-store")
            if spec.store.collection and store.address.collection is None:
                store.address = store.address.with_collection(spec.store.collection)
            chat = self._start(spec.chat, f"{spec.name}-chat") if spec.chat else None
            embedding = self._start(spec.embedding, f"{spec.name}-embedding") if spec.embedding else None
            if embedding is not None and embedding.service is not None:
                embedding.address = embedding_address(embedding.service, self.spec.file)
            self.stacks[spec.name] = RunningStack(spec, store, chat, embedding)
        if same_place(self.stacks["primary"].store.address, self.stacks["substitute"].store.address):
            raise ConfigError("primary and substitute are one and the same collection", file=self.spec.file)

    def _start(self, part: Part, name: str) -> RunningPart:
        if part.address is not None:
            return RunningPart(
                Address.parse(part.address.replace("{folder}", path_address("x", self.folder).partition(":")[2]))
            )
        assert part.service is not None
        adapter = service_adapter(part.service)
        folder = self.folder / "services" / name
        folder.mkdir(parents=True, exist_ok=True)
        service = adapter.make(str(folder), self.seed, part.options)
        return RunningPart(self._begin(service), service, adapter)

    def _begin(self, service: Service) -> Address:
        # Before it starts: a drill that is interrupted meanwhile must not leave it behind.
        self._services.append(service)
        self._closers.append(service.stop)
        return service.start()

    def start_program(self, name: str, options: Mapping[str, Any]) -> int:
        """Start a program that is no part of a stack, and return its port; it ends with the run."""
        folder = self.folder / "services" / name
        folder.mkdir(parents=True, exist_ok=True)
        return int(self._begin(service_adapter(PROGRAM).make(str(folder), self.seed, options)).port or 0)

    def stack(self, name: str) -> RunningStack:
        try:
            return self.stacks[name]
        except KeyError:
            raise ConfigError(
                f"step needs the stack '{name}', but no step has started it", file=self.spec.file
            ) from None

    def endpoint(
        self, stack: str, *, timeout_seconds: float = EMBEDDED_DEADLINE_SECONDS, tries: int = 3, faults: bool = False
    ) -> Endpoint:
        """The stack's store, opened. With `faults` as the application has it: through a proxy, if one stands in front,
        and calls first meet what is simulated in our layer."""
        part = self.stack(stack).store
        settings = OpenSettings(
            timeout_seconds=timeout_seconds,
            backoff=Backoff(tries=tries),
            network=Network(
                proxy=self.network.proxy, ca_bundle=self.network.ca_bundle, timeout_seconds=timeout_seconds
            ),
            clock=self.clock,
            seed=self.seed,
        )
        extra = Faulty(part.simulated, self.clock) if faults else None
        address = part.through if faults and part.through is not None else part.address
        endpoint = open_endpoint(address, settings, extra=extra)
        self._endpoints.append(endpoint)
        return endpoint

    def writable(self, stack: str) -> Endpoint:
        """`endpoint` for a step that writes: refused where the address is not loopback and was not allowed."""
        require_write_allowed(self.stack(stack).store.address, self._allow_writes)
        return self.endpoint(stack)

    def is_ours(self, stack: str) -> bool:
        """Whether the stack's store is one that this run itself made: a service of it, or files in its folder."""
        part = self.stack(stack).store
        if part.service is not None:
            return True
        return part.address.host is None and part.address.path.resolve().is_relative_to(self.folder.resolve())

    def put_between(self, stack: str, target: str) -> None:
        """Start a proxy in front of `target` (store, chat), which stays there until the run ends; one is enough."""
        part = self._part(stack, target)
        if part.proxy is not None:
            return
        folder = self.folder / "services" / f"{stack}-{target}-proxy"
        folder.mkdir(parents=True, exist_ok=True)
        given: Part = getattr(self.spec.primary if stack == "primary" else self.spec.substitute, target)
        options = {"target": part.address.text, "listen": given.proxy_port or 0}
        proxy = service_adapter(PROXY).make(str(folder), self.seed, options)
        part.through, part.proxy = self._begin(proxy), proxy
        self.log.append("proxy.started", {"stack": stack, "on": target, "address": str(part.through)})

    def inject(self, stack: str, target: str, fault: Fault, *, by_proxy: bool = False) -> str:
        """Break `target` (store, chat, embedding) of a stack, for real if possible; returns `live` or `simulated`.

        `none` heals it and what a proxy in front of it does.
        """
        part = self._part(stack, target)
        if part.proxy is not None and (by_proxy or fault == NO_FAULT):
            part.proxy.inject(fault)
        if by_proxy:
            return "live"
        if part.service is not None:
            part.service.inject(fault)
            return "live"
        part.simulated.injected = NO_FAULT if fault.kind in {"none", "restart", "sigcont"} else _in_our_layer(fault)
        return "simulated"

    def _part(self, stack: str, target: str) -> RunningPart:
        running = self.stack(stack)
        part = {"store": running.store, "chat": running.chat, "embedding": running.embedding}[target]
        if part is None:
            raise ConfigError(f"the stack '{stack}' has no {target} to break", file=self.spec.file)
        return part

    # ------------------------------------------------------------------ models

    def embedder(self) -> Embedder | None:
        """The embedding model of the drill file or of the primary, opened once; None where there is none."""
        if self.spec.primary.embedding is not None:
            return self.embedding_of("primary")
        if self.spec.data.embedder is None:
            return None
        if "embedder" not in self.shared:
            address = Address.parse(self.spec.data.embedder)
            adapter = model_adapter(address.scheme)
            if adapter.open_embedder is None:
                raise ConfigError(f"'{address.scheme}' is no embedding model", file=self.spec.file)
            self.shared["embedder"] = adapter.open_embedder(address, self.network)
        embedder: Embedder = self.shared["embedder"]
        return embedder

    def embedding_of(self, stack: str) -> DrilledEmbedder:
        """The embedding model that is part of a stack, opened once; its calls first meet what is simulated."""
        part = self.stack(stack).embedding
        if part is None:
            raise ConfigError(f"the stack '{stack}' has no embedding model", file=self.spec.file)
        name = f"embedder:{stack}"
        if name not in self.shared:
            opens = model_adapter(part.address.scheme).open_embedder
            if opens is None:
                raise ConfigError(f"'{part.address.scheme}' is no embedding model", file=self.spec.file)
            billed_as = part.adapter.name if part.adapter is not None and part.is_mock else None
            opened = opens(part.address, self.network)
            self.shared[name] = DrilledEmbedder(opened, part.simulated, self.clock, billed_as=billed_as)
            self.on_close(opened.close)
        embedder: DrilledEmbedder = self.shared[name]
        return embedder

    def identities(self) -> dict[str, ModelIdentity]:
        """Who answers in each stack, as far as its chat model says."""
        found: dict[str, ModelIdentity] = {}
        for name, stack in self.stacks.items():
            if stack.chat is not None:
                found[name] = ModelIdentity(
                    stack.chat.address.scheme, stack.chat.address.location, str(stack.chat.address), stack.chat.is_mock
                )
        return found

    # ------------------------------------------------------------------ limits

    def count(self, traces: Iterable[TraceRecord], *, failed: bool) -> None:
        """Count a request that ended towards the stop conditions; called from the threads that ask."""
        with self._counting:
            self.errors_seen += failed
            for trace in traces:
                self.unpriced += trace.unit_cost_usd is None
                self.usd_spent += trace.unit_cost_usd or 0

    def check_stop(self) -> None:
        """Raises `SpendExceeded` when a stop condition of the drill file is reached.

        Money of which nobody knows how much it was reaches any limit: one that is not counted would never be held.
        """
        stop = self.spec.stop
        if stop.errors is not None and self.errors_seen >= stop.errors:
            ends = counted(stop.errors, "ends", "end")
            raise SpendExceeded(f"stop condition: {counted(self.errors_seen, 'error')}, and {ends} the drill")
        if stop.usd is not None and self.unpriced:
            raise SpendExceeded(
                f"stop condition: {counted(self.unpriced, 'call has', 'calls have')} no price, so {stop.usd:g} USD "
                "cannot be held",
                hint="add their prices to the price book in 'data.prices', or leave 'stop.usd' away",
            )
        if stop.usd is not None and self.usd_spent and self.usd_spent >= Decimal(str(stop.usd)):
            raise SpendExceeded(f"stop condition: {self.usd_spent:.4f} USD spent, and {stop.usd:g} end the drill")
        minutes = (self.clock.monotonic() - self._started) / 60
        if stop.minutes is not None and minutes >= stop.minutes:
            raise SpendExceeded(f"stop condition: {minutes:.1f} minutes, and {stop.minutes:g} end the drill")

    def on_close(self, closer: Callable[[], None]) -> None:
        """Call `closer` when the run ends, in reverse order."""
        self._closers.append(closer)

    def kill_services(self) -> None:
        """End every service by force and at once, for a process that is about to end without `close`."""
        for service in self._services:
            with contextlib.suppress(Exception):  # one that never started, or is gone already
                service.inject(Fault("sigkill"))

    def close(self) -> None:
        """Close endpoints and stop services, each even if another one fails to."""
        problems: list[str] = []
        for close in [*(endpoint.close for endpoint in self._endpoints), *reversed(self._closers)]:
            try:
                close()
            except Exception as error:  # noqa: BLE001  (all must be tried; the failures are told together)
                problems.append(error.message if isinstance(error, ExitrampError) else str(error) or "a fault")
        self._endpoints.clear()
        self._closers.clear()
        if problems:
            self.say("while closing: " + "; ".join(problems))


def _in_our_layer(fault: Fault) -> Fault:
    """What a process fault looks like to the caller: a stopped store hangs, a killed one refuses."""
    return {"sigstop": Fault("hang"), "sigkill": Fault("refuse")}.get(fault.kind, fault)
