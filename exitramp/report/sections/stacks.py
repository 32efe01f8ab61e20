"""Who took part: each stack's store and chat vendor as the first step found them, and which of it was not real."""

from __future__ import annotations

import re
from dataclasses import dataclass

from exitramp.report.sections.fields import Data, figure, flag, part, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.words import PARTS

PRIMARY, SUBSTITUTE = "primary", "substitute"
STACKS = (PRIMARY, SUBSTITUTE)
EMULATED = "engine real, wire emulated"
_SAYS_MOCK = re.compile(r"[?&]mock=(?:true|1|yes)\b")


@dataclass(frozen=True, slots=True)
class StackPart:
    """A store or chat vendor. `described` is what the service says about itself; empty for an address.

    summary: what kind of thing it is, in the words of its adapter; "" in a journal that does not say. in_process: a
    store that is a library in the drill's own process, and no server. versions: what answered and what it was asked
    with, in words.
    """

    stack: str
    kind: str
    address: str
    service: str
    is_mock: bool
    is_started: bool
    described: Data
    evidence: str
    summary: str = ""
    in_process: bool | None = None
    versions: str = ""

    @property
    def scheme(self) -> str:
        return self.address.partition(":")[0].partition("+")[0] or "unknown"

    @property
    def model(self) -> str:
        """The chat model's name as it stands in the address."""
        return word(self.described, "model") or self.address.partition(":")[2].partition("?")[0]

    @property
    def title(self) -> str:
        """`mock chat vendor (mock-openai)`, `vector store (chroma)`."""
        what = "embedding vendor" if self.kind == "embedding" else PARTS.get(self.kind, self.kind)
        return f"mock {what} ({self.service or self.scheme})" if self.is_mock else f"{what} ({self.scheme})"

    @property
    def short(self) -> str:
        """`a mock vendor (mock-openai)`, `chroma`, `qdrant (in process)`."""
        if self.is_mock:
            return f"a mock vendor ({self.service or self.scheme})"
        return f"{self.scheme} (in process)" if self.in_process else self.scheme

    @property
    def is_emulated(self) -> bool:
        return "emulated" in self.evidence


def stack_parts(journal: Journal) -> tuple[StackPart, ...]:
    """All parts of both stacks; from the drill file alone where nothing was started."""
    found = part(journal.data("start"), "stacks")
    if found:
        return tuple(
            _started(stack, kind, part(found, stack, kind))
            for stack in STACKS
            for kind in PARTS
            if part(found, stack, kind)
        )
    return tuple(
        _planned(stack, kind, part(journal.drill, stack, kind))
        for stack in STACKS
        for kind in PARTS
        if part(journal.drill, stack, kind)
    )


def one_part(journal: Journal, stack: str, kind: str) -> StackPart | None:
    return next((each for each in stack_parts(journal) if (each.stack, each.kind) == (stack, kind)), None)


def mocks(journal: Journal) -> tuple[StackPart, ...]:
    """Vendors whose answers are a rule's; of one that embeds by a real model the vectors are none."""
    return tuple(each for each in stack_parts(journal) if each.is_mock and not embeds_for_real(each))


def embeds_for_real(each: StackPart) -> bool:
    return each.kind == "embedding" and bool(word(each.described, "embedder"))


def mock_embedders(journal: Journal) -> tuple[StackPart, ...]:
    """Mock vendors that embed by a real model: a mock stands in the drill, and its vectors are real."""
    return tuple(each for each in stack_parts(journal) if each.is_mock and embeds_for_real(each))


def mocks_answered(journal: Journal) -> bool:
    """Whether any answer in this run was a mock's, by what started or by what the answers themselves say."""
    told = (flag(journal.data(step), "mock") for step in ("baseline", "outage", "replay", "compare_quality"))
    return bool(mocks(journal)) or any(told)


def faults(journal: Journal) -> tuple[Data, ...]:
    """Every fault that was injected: `stack`, `on`, `fault`, `how`."""
    return tuple(event.data for event in journal.of_kind("fault.injected"))


def simulated_faults(journal: Journal) -> tuple[Data, ...]:
    return tuple(each for each in faults(journal) if word(each, "how") != "live")


def proxied_faults(journal: Journal) -> tuple[Data, ...]:
    """Those that a proxy in front of the part did, and nothing to the part itself."""
    return tuple(each for each in faults(journal) if word(each, "by"))


def has_chat(journal: Journal) -> bool:
    return any(each.kind == "chat" for each in stack_parts(journal))


def latency_words(described: Data) -> str:
    """`40 ms at the median`: what the mock waits before it answers; "" where it does not say."""
    median = figure(described, "latency_ms_median")
    return "" if median is None else f"{median:g} ms at the median"


def _started(stack: str, kind: str, data: Data) -> StackPart:
    described = part(data, "described")
    service, address = word(data, "service"), word(data, "address")
    evidence = word(data, "evidence") or word(described, "evidence")
    if not evidence and "shim" in service:
        evidence = EMULATED
    return StackPart(
        stack,
        kind,
        address,
        service,
        bool(flag(data, "mock")) or flag(described, "mock") is True or bool(_SAYS_MOCK.search(address)),
        bool(flag(data, "started_by_the_drill")),
        described,
        evidence,
        _summary(kind, described, word(data, "service_summary") or word(data, "summary")),
        _in_process(kind, address, flag(data, "in_process")),
        _versions(data),
    )


def _summary(kind: str, described: Data, told: str) -> str:
    """What kind of thing it is; a mock that stands as an embedding vendor is no chat vendor here, whatever else it can
    be."""
    if kind == "embedding" and word(described, "embedder"):
        return f"mock embedding vendor in front of the real model {word(described, 'embedder').removesuffix(':')}"
    return told


def _in_process(kind: str, address: str, told: bool | None) -> bool | None:
    if kind != "store":
        return None
    return told if told is not None else not address.partition(":")[2].startswith("//")


def _versions(data: Data) -> str:
    """`server 1.5.9 by its own account, asked through chromadb 1.5.9`; of one in process the library alone."""
    library = part(data, "library")
    client = " ".join(filter(None, (word(library, "name"), word(library, "version"))))
    identity = part(data, "identity")
    server = word(identity, "server_version")
    if flag(data, "in_process"):
        return f"{client}, engine and library in one" if client else server
    told = f"server {server} by its own account" if server not in {"", "unknown"} else ""
    if identity and not told:
        told = "its server does not tell its version"
    return ", ".join(filter(None, (told, f"asked through {client}" if client else "")))


def _planned(stack: str, kind: str, data: Data) -> StackPart:
    service, address = word(data, "service"), word(data, "address")
    mock = service.startswith("mock") or bool(_SAYS_MOCK.search(address))
    evidence = EMULATED if "shim" in service else ""
    in_process = _in_process(kind, address, None) if address else None
    given = address or f"{service}:"
    return StackPart(stack, kind, given, service, mock, False, part(data, "options"), evidence, "", in_process)
