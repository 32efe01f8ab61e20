"""What can be set on a mock vendor, read strictly: an unknown option is an error, never ignored."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from exitramp.errors import UsageError
from exitramp.faults import PROCESS_FAULTS, VENDOR_FAULTS, Fault, ScheduledFault
from exitramp_adapters.services.extractive import QUALITIES, Rule
from exitramp_adapters.services.mock_vendor.shape import MODEL_OF_QUALITY

RETRY_AFTER_FORMS: Final = ("seconds", "milliseconds", "date")
_DELAYS = frozenset({"delay_seconds"})
_CUTS = frozenset({"after_bytes"})
_ERRORS = frozenset({"message", "retry_after_seconds", "retry_after_form"})
FAULT_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "none": frozenset(),
    "rate_limit": _ERRORS,
    "quota": _ERRORS,
    "error_500": _ERRORS,
    "unavailable": _ERRORS,
    "overloaded": _ERRORS,
    "auth": frozenset({"message"}),
    "model_gone": frozenset({"message"}),
    "hang": frozenset(),
    "refuse": frozenset(),
    "reset": _CUTS,
    "slow_first_token": _DELAYS,
    "slow_stream": _DELAYS,
    "truncate": _CUTS,
    "malformed": frozenset(),
    "quality_drift": frozenset({"quality"}),
    "partial_region": frozenset({"share", "by", "fault", *_ERRORS}),
}
REGION_FAULTS: Final = ("unavailable", "error_500", "overloaded", "rate_limit", "hang")


@dataclass(frozen=True, slots=True)
class VendorOptions:
    """How a mock vendor behaves.

    quality: `good`, `slightly_worse` or `poor`: the rule it answers by, and thereby the name of its model.
    sentences: how many units an answer has; None takes the rule's own number.
    latency_ms_median, latency_ms_sigma: simulated time before an answer: lognormal, median in milliseconds, sigma of
        the logarithm; drawn from `seed` and the number of the call. 0 simulates none.
    context_tokens: a longer prompt is refused as too long for the context.
    prompt_cache: whether a system prompt seen before is reported as read from the vendor's cache.
    key: reference (`env:NAME`, `file:PATH`) to the one key that is accepted; None accepts any key that is not empty.
    cassette: file of recorded exchanges to answer from, in place of the rule. forward: base URL of a real model's
        server on this machine, asked in place of the rule, and forward_model its name there; None takes the first.
    embedder: address of an embedding model on this machine, whose vectors its embeddings are in place of the rule's.
    listen: the port to serve on; 0 takes one that is free.
    schedule: faults by call number, window of seconds since the process started, or probability.
    """

    quality: str = "good"
    sentences: int | None = None
    latency_ms_median: float = 0.0
    latency_ms_sigma: float = 0.0
    context_tokens: int = 32_768
    prompt_cache: bool = False
    key: str | None = None
    cassette: str | None = None
    forward: str | None = None
    forward_model: str | None = None
    embedder: str | None = None
    listen: int = 0
    schedule: tuple[ScheduledFault, ...] = ()
    seed: int = 0

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, seed: int = 0, quality: str = "good") -> Self:
        """From a mapping such as a drill file holds; `quality` is what stands there if nothing does."""
        known = set(cls.__slots__) - {"seed"}
        for name in data:
            if name not in known:
                raise UsageError(
                    f"a mock vendor has no option {name!r}", hint=f"its options are: {', '.join(sorted(known))}"
                )
        values = {"quality": quality} | dict(data)
        scheduled = values.pop("schedule", None) or ()
        if isinstance(scheduled, Mapping | str):
            raise UsageError("a mock vendor's option 'schedule' must be a list of faults")
        options = replace(cls(seed=seed), **values, schedule=tuple(ScheduledFault.parse(item) for item in scheduled))
        options._check()
        return options

    def _check(self) -> None:
        if self.quality not in QUALITIES:
            raise UsageError(
                f"a mock vendor has no quality {self.quality!r}", hint=f"known are: {', '.join(QUALITIES)}"
            )
        for name in ("latency_ms_median", "latency_ms_sigma", "context_tokens", "sentences"):
            value = getattr(self, name)
            wrong = not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value)
            if not (name == "sentences" and value is None) and (wrong or value < 0):
                raise UsageError(f"a mock vendor's option {name!r} must be a number of at least 0")
        if not isinstance(self.prompt_cache, bool):
            raise UsageError("a mock vendor's option 'prompt_cache' must be true or false")
        for name in ("key", "cassette", "forward", "forward_model", "embedder"):
            if not isinstance(getattr(self, name), str | None):
                raise UsageError(f"a mock vendor's option {name!r} must be a text")
        if not isinstance(self.listen, int) or isinstance(self.listen, bool) or not 0 <= self.listen < 65536:
            raise UsageError("a mock vendor's option 'listen' is a port, or 0 for a free one")
        if self.cassette is not None and self.forward is not None:
            raise UsageError("a mock vendor answers from a cassette or by forwarding, not both")
        if self.embedder is not None and self.forward is not None:
            raise UsageError("a mock vendor embeds by the model that it forwards to, or by 'embedder', not both")
        if self.forward_model is not None and self.forward is None:
            raise UsageError("a mock vendor's option 'forward_model' needs 'forward'")
        for item in self.schedule:
            check_fault(item.fault)
            if item.fault.kind == "refuse" and not item.is_window:
                raise UsageError(
                    "the fault 'refuse' closes the port, so no call can be counted while it lasts",
                    hint="schedule it with from_seconds and to_seconds",
                )

    @property
    def model(self) -> str:
        """The name of its model; a change of quality behind it (`quality_drift`) leaves the name."""
        return MODEL_OF_QUALITY[self.quality]

    def rule(self, fault: Fault) -> Rule:
        """The rule to answer by, under `fault`."""
        if fault.kind == "quality_drift":
            return QUALITIES[fault.options.get("quality", "poor")]
        rule = QUALITIES[self.quality]
        return rule if self.sentences is None else replace(rule, sentences=self.sentences)

    def in_region(self, fault: Fault, value: str) -> bool:
        """Whether what a request names (its key, or a header) lies in the part that a `partial_region` takes: the
        first 64 bits of SHA-256(seed, colon, value) as a share of all."""
        digest = hashlib.sha256(f"{self.seed}:{value}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2.0**64 < float(fault.options.get("share", 0.5))

    def latency_ms(self, call: int) -> float:
        """The simulated time of call number `call`: median * exp(sigma * z), z standard normal."""
        if not self.latency_ms_median:
            return 0.0
        z = random.Random(f"{self.seed}:{call}").gauss(0.0, 1.0)
        return self.latency_ms_median * math.exp(self.latency_ms_sigma * z)

    def to_json(self) -> dict[str, Any]:
        """Everything but the schedule's inside, for a report; `key` is a reference, never a value."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "schedule"}
        return values | {"model": self.model, "scheduled_faults": [item.fault.kind for item in self.schedule]}


def check_fault(fault: Fault) -> None:
    """Raises `UsageError` for a fault no vendor has, or an option that fault does not take."""
    if fault.kind in PROCESS_FAULTS - {"none"}:
        raise UsageError(
            f"{fault.kind!r} is done to the vendor's process from outside: its control address and a schedule, which "
            f"are inside of it, cannot",
            hint="name it as the fault of a drill's phase, call inject() in Python, or by hand send SIGSTOP, SIGCONT "
            "or SIGKILL to the 'pid' of control.json",
        )
    if fault.kind not in VENDOR_FAULTS:
        raise UsageError(
            f"a mock vendor cannot fail by {fault.kind!r}", hint=f"known are: {', '.join(sorted(VENDOR_FAULTS))}"
        )
    known = FAULT_OPTIONS[fault.kind]
    for name, value in fault.options.items():
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise UsageError(f"the fault {fault.kind!r} has no option {name!r}", hint=f"its options are: {listed}")
        if name == "share":
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
                raise UsageError(f"the fault {fault.kind!r}: {name!r} must be a number from 0 to 1")
        elif name == "by" and not (isinstance(value, str) and value):
            raise UsageError(f"the fault {fault.kind!r}: 'by' is 'key' or the name of a header")
        elif name == "fault" and value not in REGION_FAULTS:
            raise UsageError(f"the fault {fault.kind!r}: 'fault' is one of: {', '.join(REGION_FAULTS)}")
        elif name in ("delay_seconds", "retry_after_seconds", "after_bytes"):
            if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
                raise UsageError(f"the fault {fault.kind!r}: {name!r} must be a number of at least 0")
        elif name == "retry_after_form" and value not in RETRY_AFTER_FORMS:
            raise UsageError(f"the fault {fault.kind!r}: {name!r} is one of: {', '.join(RETRY_AFTER_FORMS)}")
        elif name == "quality" and value not in QUALITIES:
            raise UsageError(f"the fault {fault.kind!r}: {name!r} is one of: {', '.join(QUALITIES)}")
