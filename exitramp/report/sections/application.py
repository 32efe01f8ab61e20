"""What was measured through the user's own application: who it is, how it switches, and what its vendors saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from exitramp.report.model import Block, Callout, Column, KeyValues, Notice, Table, code, numbers, prose, row
from exitramp.report.sections.fields import Data, count, figure, flag, objects, part, word

BY_APPLICATION: Final = (
    "Detected: the first request that ends badly. Decided: as many bad ones within the breaker’s window as the drill "
    "file says. First good answer: from then on no request of the fault ended badly; which vendor stood behind it is "
    "not seen from outside. Failed: requests without a good answer; the application is asked once, as by its users."
)


def through_application(told: Data) -> Iterator[Block]:
    """Which application was asked, and what the figures of this section are therefore of."""
    name, kind = word(told, "name"), word(told, "kind")
    yield prose(
        f"The application “{name}” ({kind}) was asked under load, as its users ask it; the stacks were not asked. What "
        "follows is of its answers: its own retries, caches and failover are in them."
    )
    switches = objects(told, "switches")
    by_command = word(told, "switch") == "by a command"
    yield KeyValues(
        (
            ("Application", name),
            ("Kind", kind),
            ("Its server", "started by this run" if flag(told, "started_by_the_drill") else "not started by this run"),
            ("SHA-256 of its file", code(word(told, "file_sha256"))),
            (
                "Tells what it retrieved",
                "yes" if flag(told, "tells_sources") else "no, so no answer is held to rest on any",
            ),
            ("How it switches", "switched by a command of the drill file" if by_command else "by itself"),
        )
    )
    if switches:
        yield Table(
            "Runs of the command that switches",
            (Column("Which"), numbers("Took", "s", 3), Column("Ended with")),
            tuple(
                row(
                    word(each, "what"),
                    figure(each, "seconds"),
                    "no end in time" if count(each, "exit_code") is None else str(count(each, "exit_code")),
                )
                for each in switches
            ),
        )
    if flag(told, "mock"):
        yield Callout(
            Notice.MOCK, "this application is none that anybody uses", (prose("Its file says that it is a mock."),)
        )


def accounts_by_fault(phases: Sequence[Data]) -> Iterator[Block]:
    """What the vendors’ own accounts have of each fault: the evidence that it met the application at all."""
    rows = tuple(
        row(
            word(each, "fault"),
            side,
            count(part(each, "accounts", side), "answered") or 0,
            sum(
                count(part(each, "accounts", side), outcome) or 0 for outcome in ("failed", "hung", "cut", "abandoned")
            ),
        )
        for each in phases
        for side in ("primary", "substitute")
        if side in part(each, "accounts") or part(each, "accounts", side)
    )
    if not rows:
        yield prose("No vendor of this drill keeps an account that can be read.")
        return
    yield Table(
        "What the vendors’ accounts have, while each fault lasted",
        (Column("Fault"), Column("Vendor of the"), numbers("Answered"), numbers("Not answered")),
        rows,
        note="An application’s requests to its vendors carry ids of its own, so they are counted here and not matched "
        "one by one. A closed port counts nothing.",
    )


def who_decided(told: Data) -> str:
    """Who decided in the outage; of an application, `told`, as far as it is seen from outside."""
    if not told:
        return "In the outage nobody decided by hand: the orchestration layer noticed, decided and switched."
    if objects(told, "switches"):
        return "In the outage nobody decided by hand: the drill counted bad answers, and ran the switch’s command."
    return "In the outage nobody decided by hand here: what the application noticed and decided was not seen."
