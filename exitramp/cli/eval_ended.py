"""How a run ended: its exit code, and what there is to tell of it in words and in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exitramp.cli import output
from exitramp.errors import ExitCode
from exitramp.wording import counted

if TYPE_CHECKING:
    from exitramp.evals.runs.running import Finished
    from exitramp.ports import ModelIdentity

_UNANSWERED_LIMIT = 0.05
_SHOWN = 10
_ERROR_WIDTH = 300
_WHY = {
    "too_slow": "too_slow: a check's pattern took more than 2 s of computing; write it without repeats in repeats",
    "malformed": "malformed: the judge said neither pass nor fail",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has ended, and what there is to tell of it."""

    folder: Path
    finished: Finished
    identity: ModelIdentity
    margins: Mapping[str, float]

    @property
    def code(self) -> int:
        outcomes, results = self.finished.totals["outcomes"], self.finished.totals["results"]
        failed = sum(self.finished.totals["error_classes"].values())
        if results and failed == results:
            return int(ExitCode.REMOTE)
        unanswered = failed + outcomes.get("truncated", 0) + outcomes.get("unscored", 0)
        if self.finished.state != "complete" or unanswered > _UNANSWERED_LIMIT * results:
            return int(ExitCode.INCONCLUSIVE)
        return int(ExitCode.PASS)

    def to_json(self) -> dict[str, Any]:
        return {
            "run": str(self.folder),
            "state": self.finished.state,
            "asked_now": self.finished.asked_now,
            "mock": self.identity.is_mock,
            "margins": dict(self.margins),
            **self.finished.totals,
            "exit_code": self.code,
        }


def tell(ended: Ended) -> None:
    """What came of a run, in words."""
    folder, finished, identity, margins = ended.folder, ended.finished, ended.identity, ended.margins
    totals = finished.totals
    mock = "  (a mock: its answers come from a rule or a cassette)" if identity.is_mock else ""
    output.say(f"{identity.provider} {output.visible(identity.model)}{mock}")
    shown = [(name, count) for name, count in totals["outcomes"].items()]
    shown += [(f"  {name}", count) for name, count in totals["error_classes"].items()]
    output.say(output.table(shown, ("outcome", "results")))
    _tell_who(finished)
    for why, ids in totals["unscored"].items():
        shown_ids = ", ".join(output.visible(each, 60) for each in ids[:_SHOWN]) + (" …" if len(ids) > _SHOWN else "")
        output.say(f"not judged ({_WHY.get(why, why)}): {shown_ids}")
    for name, mean in totals["means"].items():
        output.say(f"{name}: {mean:.3f} over {totals['measured'][name]} results")
    if totals["usd"] is not None:
        unpriced = totals["unpriced_results"] + totals["unpriced_lost"]
        more = f", and {unpriced} results without a price" if unpriced else ""
        output.say(f"models, embedding and reranking too: {totals['usd']} USD{more}")
        if float(totals["usd_held"]):
            output.say(f"at most {totals['usd_held']} USD more, for calls that may have been billed without an answer")
    for gap in totals["prices_missing"]:
        output.say(f"no price, so that its cost is unknown: {gap}")
    if totals["replayed"]:
        output.say(f"{totals['replayed']} results came from the replay cache")
    if totals["possibly_billed_twice"]:
        places = ", ".join(output.visible(f"{case}#{repeat}") for case, repeat in totals["possibly_billed_twice"])
        output.say(f"possibly billed twice, since the process ended while they were being asked: {places}")
    if margins:
        output.say("margins fixed before: " + ", ".join(f"{name} {value:g}" for name, value in margins.items()))
    if finished.state != "complete":
        output.say(f"not finished: {finished.stopped_by}; the same command goes on")
    output.say(f"{finished.state}: {folder}")


def _tell_who(finished: Finished) -> None:
    """Who answered, where more than one might have; and why nobody did, where a store tells."""
    totals = finished.totals
    if names := totals["answered_by"]:
        output.say("answered by: " + ", ".join(f"{output.visible(name)} {count}" for name, count in names.items()))
    for each in finished.stand_ins:
        output.say(f"stood in: {output.visible(str(each), _ERROR_WIDTH)}")
    if totals["answered_by_unknown"]:
        output.say(f"who gave {counted(totals['answered_by_unknown'], 'answer')} was not kept")
    if totals["asked_of_nobody"]:
        cases = counted(totals["asked_of_nobody"], "question")
        output.say(f"asked of nobody, since every breaker was open after those failures: {cases}")
    for said in totals["store_said"][:_SHOWN]:
        output.say(f"the store said: {output.visible(said, _ERROR_WIDTH)}")
