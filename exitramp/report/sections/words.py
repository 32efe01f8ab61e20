"""What the drill's names mean to somebody who did not write the drill file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from exitramp.drill.naming import with_sides
from exitramp.report.model import Paragraph, prose, strong
from exitramp.report.sections.fields import Data, word
from exitramp.report.sections.journal import Journal
from exitramp.report.text import MINUS, NO_BREAK, number_text

PARTS: Final = {"store": "vector store", "chat": "chat vendor", "embedding": "embedding model"}

_LIVE: Final = {
    "rate_limit": "answers 429, too many requests",
    "quota": "answers 429, the quota is used up",
    "error_500": "answers 500",
    "unavailable": "answers 503",
    "overloaded": "answers 529, overloaded",
    "hang": "takes requests and never answers",
    "refuse": "refuses connections",
    "reset": "resets connections",
    "slow_first_token": "is slow to begin",
    "slow_stream": "answers slowly",
    "truncate": "breaks its answers off",
    "malformed": "answers what is no JSON",
    "auth": "refuses the key (401)",
    "model_gone": "says that the model is gone (404)",
    "quality_drift": "answers with another model",
    "sigstop": "is stopped (SIGSTOP)",
    "sigkill": "is killed (SIGKILL)",
    "lost": "is lost for good, its data destroyed",
    "latency": "is reached late",
    "jitter": "is reached late, now more and now less",
    "bandwidth": "is reached over a narrow line",
    "down": "cannot be reached, its port being closed",
    "timeout": "is reached, and nothing comes back",
    "slow_close": "ends its connections late",
    "slicer": "answers in small pieces",
    "limit_data": "is cut off after so many bytes",
}
_SHORT: Final = {
    "rate_limit": "429",
    "quota": "quota",
    "error_500": "500",
    "unavailable": "503",
    "overloaded": "529",
    "hang": "hangs",
    "refuse": "refuses",
    "reset": "resets",
    "sigstop": "stopped",
    "sigkill": "killed",
    "lost": "lost for good",
    "quality_drift": "another model",
    "auth": "401",
    "model_gone": "404",
    "latency": "late",
    "down": "port closed",
    "timeout": "silent",
    "limit_data": "cut off",
}

ROUTER: Final = {
    "first_failure": "first failure noticed",
    "breaker_opened": "no more requests go there",
    "first_good_answer": "first good answer",
    "probe": "one request is sent to see",
    "breaker_closed": "serves again",
    "held": "held: traffic stays where it is",
    "released": "released: traffic may go back",
}

STEPS: Final = {
    "build_primary": "Primary store filled",
    "load_golden": "Golden questions loaded",
    "check_hypothesis": "Does every part answer?",
    "baseline": "Golden questions asked of the primary",
    "dump": "Everything taken out",
    "verify_dump": "Dump verified from its files",
    "plan": "Move into the substitute planned",
    "restore": "Put into the substitute",
    "lose_records": "Substitute damaged on purpose",
    "metrics_disagree": "Two metrics told apart",
    "parity": "Both stores compared",
    "late_writes": "Late writes reach the primary",
    "outage": "Outage, under load",
    "measure_loss": "Missing records named",
    "replay": "Golden questions asked of the substitute",
    "compare_quality": "Quality compared",
    "cost": "Cost compared",
    "rollback": "Rolled back",
    "parallel_run": "Both sides run in parallel",
    "catch_up": "Late writes brought over and compared",
    "cut_over": "Traffic moved to the substitute",
    "way_back": "The way back walked",
    "vendor_data": "What the vendor still holds",
    "silent_drift": "Another model behind the same name",
    "ask_again": "Golden questions asked of the primary again",
    "embedding_gone": "The embedding vendor cut off",
    "map_embeddings": "Asked through a mapping",
    "reembed": "Everything embedded anew",
}
"""What a step did, for the report's reader; the drill file's own names stand in the annex."""

MODES: Final = {
    "stressed": "stressed: the vendor is lost without notice",
    "planned": "planned: the vendor is left in good order",
}


_METRICS: Final = {"assertions": "Assertions met"}
_HYPHEN_MINUS: Final = re.compile(r"(?<![\w.-])-(?=\d)")


_ONE: Final = re.compile(
    r"(?<![\w.,−-])1 (?P<noun>queries|records|vectors|shards|values|requests|documents|questions|files|hits|rows|lines)"
    r"\b(?: (?P<verb>are|were|have|share|hold|stand)\b)?"
)
_ONE_DOES: Final = {"are": "is", "were": "was", "have": "has", "share": "shares", "hold": "holds", "stand": "stands"}


def singular(text: str) -> str:
    """`1 record was missing` for `1 records were missing`: the steps' messages count what they count."""
    return _ONE.sub(_one_of, text)


def _one_of(found: re.Match[str]) -> str:
    noun, verb = found["noun"], found["verb"]
    one = "query" if noun == "queries" else noun.removesuffix("s")
    return f"1 {one}" + (f" {_ONE_DOES[verb]}" if verb else "")


def metric_words(metric: str) -> str:
    """`nDCG@10` for `ndcg@10`."""
    return _METRICS.get(metric, metric.replace("ndcg", "nDCG").replace("recall", "Recall"))


def true_minus(text: str) -> str:
    """Negative numbers in a sentence of the journal, with the sign that the report's own have."""
    return _HYPHEN_MINUS.sub(MINUS, text)


def fault_words(fault: str, how: str) -> str:
    """What the fault does, as the rest of a sentence about the part."""
    does = _LIVE.get(fault, f"fails by “{fault}”")
    return does if how == "live" else f"looks as if it {does}"


def how_words(told: Data) -> str:
    """`live`, `live, by a proxy in front of it` or `simulated`: of a fault as the journal has it."""
    if word(told, "how") != "live":
        return "simulated"
    return "live, by a proxy in front of it" if word(told, "by") else "live"


def fault_short(fault: str, on: str, how: str) -> str:
    """For a chart: `chat 503`, `store killed (simulated)`."""
    return f"{on} {_SHORT.get(fault, fault.replace('_', ' '))}" + (" (simulated)" if how == "simulated" else "")


def step_words(step: str) -> str:
    """The step's title; its name where it is of a kind that this report does not know."""
    return STEPS.get(step) or sentence(step.replace("_", " ")).rstrip(".")


def finding_words(finding: Data, step: str) -> str:
    """The message of the step's finding, what it compares by its name in this drill."""
    message = singular(true_minus(word(finding, "message")))
    return with_sides(message, word(finding, "code"), step, word(finding, "detail", "source"))


def counted(number: int | float, one: str, many: str = "") -> str:
    """`1 fault`, `5 faults`."""
    return f"{number_text(number)}{NO_BREAK}{one if number == 1 else many or one + 's'}"


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def sentence(text: str) -> str:
    """`text` with a capital and a full stop."""
    text = text.strip()
    return text and text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def not_measured(journal: Journal, step: str, *more: str) -> Paragraph:
    """What stands where a result would stand: never an empty table, never a zero."""
    why = journal.absence(step) or " ".join(sentence(each) for each in journal.remarks(step))
    return prose(strong("Not measured."), " ", " ".join((why, *more)).strip())


def bytes_text(size: int | float | None) -> str | None:
    """`10.3 MB`, in powers of ten; None of None."""
    if size is None:
        return None
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{number_text(size / factor, 1)}{NO_BREAK}{unit}"
    return f"{number_text(size)}{NO_BREAK}bytes"
