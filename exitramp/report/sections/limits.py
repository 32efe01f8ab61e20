"""What the report does not prove: mocks first, then what was not real, too little, or left out."""

from __future__ import annotations

from collections.abc import Iterator

from exitramp.report.model import Inline, strong
from exitramp.report.sections.asked import application_asked
from exitramp.report.sections.clocks import moved_clock
from exitramp.report.sections.coverage import untested
from exitramp.report.sections.doubts import unanchored
from exitramp.report.sections.fields import Data, count, figure, flag, objects, word, words
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.stacks import (
    STACKS,
    embeds_for_real,
    faults,
    has_chat,
    latency_words,
    mocks,
    mocks_answered,
    proxied_faults,
    simulated_faults,
    stack_parts,
)
from exitramp.report.sections.words import PARTS, counted, listed
from exitramp.report.text import number_text

_USUAL_STEPS = ("dump", "verify_dump", "restore", "parity", "outage", "measure_loss", "replay", "cost", "rollback")

_TIMED = ("baseline", "outage", "replay", "cut_over", "silent_drift")
"""Steps that take the time of answers."""
_NEARLY_COPIED = 0.8
"""From this share of words on a question gives its own answer away; the packaged set has a half."""

Line = tuple[Inline, ...]


def does_not_prove(journal: Journal) -> Iterator[Line]:
    yield from _mocks(journal)
    if unanchored(journal):
        yield _line(
            "No anchor lies beside it: whoever could write to its folder could have written it anew (section 8).",
            lead="That this is the journal which the run wrote.",
        )
    if moved_clock(journal):
        yield _line(moved_clock(journal), lead="When it was.")
    yield from _not_real(journal)
    for stack, told in untested(journal):
        yield _line(told, lead=f"The index of the {stack}’s store.")
    yield from _too_little(journal)
    yield from _left_out(journal)
    yield _line(
        "Whether the contract allows this, in which windows, and who answers for it: sections 5, 13, 16 and 17 are for"
        " people to fill in. Nobody has signed this report."
    )


def _line(text: str, *, lead: str = "") -> Line:
    return (strong(lead), f" {text}") if lead else (text,)


def _mocks(journal: Journal) -> Iterator[Line]:
    if not mocks_answered(journal):
        return
    named = [f"{each.service or each.scheme} ({each.stack})" for each in mocks(journal)]
    who = f"Mocks in this run: {listed(named)}. " if named else ""
    yield _line(
        f"{who}A mock answers by a fixed rule of its own: how good its answers are, and how many it gets right, says"
        " nothing about any real vendor’s model.",
        lead=_whose(journal),
    )
    stated = [
        f"{each.service or each.scheme} {waits}" for each in mocks(journal) if (waits := latency_words(each.described))
    ]
    told = f"They wait as they are set to: {listed(stated)} (section 4)" if stated else "How long is not stated"
    yield _line(
        f"{told}. Whatever time an answer takes in this report contains it.", lead="The mocks’ latency is simulated."
    )
    if flag(journal.data("cost"), "comparison", "illustrative"):
        yield _line("Nobody charges them; the figures of section 12 show the method.", lead="Prices are illustrative.")


def _whose(journal: Journal) -> str:
    """A side that has a chat vendor, and no mock, answers by itself."""
    sides = {each.stack for each in mocks(journal) if each.kind == "chat"}
    chats = {each.stack for each in stack_parts(journal) if each.kind == "chat"}
    if len(sides) == 1 and len(chats) == len(STACKS):
        return f"The {sides.pop()}’s answers are a mock’s."
    return "The answers are mocks’."


def _not_real(journal: Journal) -> Iterator[Line]:
    for each in stack_parts(journal):
        if embeds_for_real(each):
            yield _line(
                f"{each.service} ({each.stack}) is a mock in front of a real model on this machine: the vectors are"
                " that model’s, and its price, speed and way to fail are no real vendor’s.",
                lead="The embedding vendor is a mock.",
            )
    played = simulated_faults(journal)
    proxied = proxied_faults(journal)
    every, live = len(faults(journal)), len(faults(journal)) - len(played) - len(proxied)
    if played:
        named = listed([f"{word(each, 'fault')} on the {_part(each)}" for each in played])
        yield _line(
            f"{_they(len(played))} played in exitramp’s own calls ({named}): the part itself was not touched, and how"
            " it really fails was not seen.",
            lead=f"{len(played)} of {counted(every, 'fault')} {_was(len(played))} simulated.",
        )
    if proxied:
        named = listed([f"{word(each, 'fault')} on the {_part(each)}" for each in proxied])
        yield _line(
            f"{_they(len(proxied))} done for real to the connections between the application and the part ({named});"
            " the part itself was not touched, and how it fails from within was not seen.",
            lead=f"{len(proxied)} of {counted(every, 'fault')} {_was(len(proxied))} live, by a proxy in front.",
        )
    if live:
        yield _line(
            f"{_they(live)} done to {'a process' if live == 1 else 'processes'} that this run had started on this"
            " machine, and not to a vendor’s own service.",
            lead=f"{live} of {counted(every, 'fault')} {_was(live)} live.",
        )
    for each in stack_parts(journal):
        if each.is_emulated:
            yield _line(
                "The engine behind it is the real one; its network protocol was spoken by a stand-in on this machine.",
                lead=f"The wire of the {each.stack}’s {PARTS.get(each.kind, each.kind)} was emulated.",
            )
    yield from _reached(journal)
    stores = {each.scheme for each in stack_parts(journal) if each.kind == "store"}
    if len(stores) == 1 and journal.is_finished:
        yield _line(f"Both stores are {stores.pop()}: leaving one kind of store for another was not tried.")


def _reached(journal: Journal) -> Iterator[Line]:
    """A library in the drill's own process and a server are not asked alike, and do not wait alike."""
    stores = [each for each in stack_parts(journal) if each.kind == "store" and each.in_process is not None]
    inside = [each for each in stores if each.in_process]
    # An application asks its stores by itself: how it reaches which, and when, was not seen.
    if len(stores) < len(STACKS) or not inside or application_asked(journal):
        return
    if len(inside) == len(stores):
        yield _line(
            "No server of either kind was asked, and no network lay between.",
            lead="Both stores ran in the drill’s own process.",
        )
        return
    served = next(each for each in stores if not each.in_process)
    how = "over HTTP" if "+http" in served.address.partition("://")[0] else "over the network"
    [library] = inside
    timed = any(key.startswith("latency_ms") for step in _TIMED for key in journal.data(step)) or journal.data(
        "parallel_run"
    )
    compare = "Their latencies compare the one with the other, and how" if timed else "How"
    yield _line(
        f"The {served.stack} is a server asked {how}; the {library.stack} is {library.summary or library.scheme}, and"
        f" no server. {compare} a server of the {library.stack}’s kind would answer, or fail, was not seen.",
        lead="The two stores are reached in different ways.",
    )


def _part(fault: Data) -> str:
    return PARTS.get(word(fault, "on"), word(fault, "on"))


def _they(number: int) -> str:
    return "It was" if number == 1 else "They were"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _too_little(journal: Journal) -> Iterator[Line]:
    outage = journal.data("outage")
    rate, asked = figure(outage, "rate_per_second"), count(outage, "requests")
    if asked is not None:
        at = f" at {number_text(rate)} a second" if rate is not None else ""
        yield _line(f"It was one run of {counted(asked, 'request')}{at}: neither every way to fail nor real load.")
    parallel = figure(journal.data("parallel_run"), "seconds")
    if parallel is not None:
        yield _line(
            f"It lasted {number_text(parallel, 0)} s: what shows only after days, such as month ends, batch jobs and"
            " bills, was not seen.",
            lead="The parallel run was short.",
        )
    if journal.data("build_primary") and objects(journal.data("compare_quality"), "metrics"):
        yield _line(
            "The seed fixes what is drawn. The primary was filled anew, and an approximate index that several threads"
            " build is put together in the order in which they come: it may find other neighbours next time. Figures of"
            " quality differ a little between runs of one seed, and times do.",
            lead="That another run would measure the same.",
        )
    overlap = figure(journal.data("load_golden"), "mean_token_overlap")
    if overlap is not None and overlap >= _NEARLY_COPIED:
        yield _line(
            f"By the set’s own account they share {number_text(overlap * 100, 0)}% of their words with the texts that"
            " answer them, and a text that stands in its own question is found by any store: that retrieval is as good"
            " says little here.",
            lead="The golden questions are nearly copies of what they are to find.",
        )
    yield from _lost(journal)
    if not has_chat(journal):
        stood = ": what was retrieved stood for the answer" if asked or count(journal.data("baseline"), "asked") else ""
        yield _line(f"No chat vendor took part{stood}, and nothing was generated.")
    if journal.is_finished and not count(journal.data("baseline"), "asked"):
        yield _line("No golden questions were asked, so nothing is known of the quality of answers.")


def _lost(journal: Journal) -> Iterator[Line]:
    late, lost = journal.data("late_writes"), journal.data("measure_loss")
    missing = {id_ for kind in ("missing", "stale", "undeleted") for id_ in words(lost, kind)}
    if not late or not missing:
        return
    own = missing <= {*words(late, "upserted"), *words(late, "deleted")}
    told = "The records that were missing or out of date are" + ("" if own else " partly")
    yield _line(
        f"{told} those that the drill itself wrote or deleted late. How many a real outage would cost depends on how"
        " old the last export is."
    )


def _left_out(journal: Journal) -> Iterator[Line]:
    if not journal.is_finished:
        yield _line("What stands here is what was known by then, and no more.", lead="The run did not end.")
        return
    if journal.aborted is not None:
        yield _line(f"It was stopped {journal.stopped_where}.", lead="The drill did not come to its end.")
    missing = [name for name in _usual(journal) if journal.step(name) is None]
    begun = [name for name in missing if any(step.name == name for step in journal.steps)]
    if begun:
        yield _line(f"Begun and broken off, and so not measured: {listed([_named(name) for name in begun])}.")
    left = [name for name in missing if name not in begun]
    if left:
        yield _line(f"Not done in this run, and so not shown: {listed([_named(name) for name in left])}.")


def _usual(journal: Journal) -> tuple[str, ...]:
    """The steps that one looks for; what an exit in good order, or a store lost for good, does otherwise is no gap."""
    done = set()
    if journal.wanted("cut_over"):
        done |= {"outage", "measure_loss", "rollback"} | ({"parity"} if journal.wanted("catch_up") else set())
    if journal.wanted("silent_drift"):
        done |= {"outage", "measure_loss"}
    if journal.wanted("embedding_gone"):
        done |= {"outage", "measure_loss"}  # a vendor was cut off, and the store stayed as it was
    if "restore" in journal.data("outage"):
        done.add("restore")
    return tuple(name for name in _USUAL_STEPS if name not in done)


def _named(step: str) -> str:
    return step.replace("_", " ")
