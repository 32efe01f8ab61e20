"""What each step found, in one line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from exitramp.records import Verdict
from exitramp.report.sections.fields import Data, count, figure, flag, money, objects, part, word, words
from exitramp.report.sections.journal import StepRun
from exitramp.report.sections.words import bytes_text, counted, finding_words, listed, metric_words
from exitramp.report.text import number_text


def in_one_line(step: StepRun) -> str:
    """What came out of the step: what speaks against it, else its figures, else its findings; "" where it is silent."""
    against = [finding_words(each, step.name) for each in step.findings if word(each, "verdict") == step.verdict]
    if against and step.verdict in {Verdict.FAIL, Verdict.INCONCLUSIVE}:
        more = f" ({len(against) - 2} more)" if len(against) > 2 else ""
        return "; ".join(against[:2]) + more
    line = _LINES[step.name](step.data) if step.name in _LINES else ""
    return line or "; ".join(finding_words(each, step.name) for each in step.findings[:2])


def plan_classes(data: Data) -> dict[str, int]:
    """How many lines of a plan are in each class, best class first."""
    classes = [word(line, "class") for line in objects(data, "plan")]
    return {name: classes.count(name) for name in ("exact", "reversible", "rounded", "lossy") if name in classes}


def same_digests(one: Data, other: Data) -> bool | None:
    """Whether two collections' digests are equal in every part; None where one of them is missing."""
    if not one or not other:
        return None
    return all(one.get(name) == other.get(name) for name in ("rows", "ids", "payloads", "vectors"))


def _start(data: Data) -> str:
    parts = [
        part(data, "stacks", stack, kind) for stack in part(data, "stacks") for kind in part(data, "stacks", stack)
    ]
    ours = sum(bool(flag(each, "started_by_the_drill")) for each in parts)
    return f"{ours} of {counted(len(parts), 'part')} started as services of this run" if parts else ""


def _build(data: Data) -> str:
    landed, written = count(data, "landed"), count(data, "documents")
    if landed is None or written is None:
        return ""
    return f"{number_text(landed)} of {counted(written, 'document')} landed in the primary store"


def _golden(data: Data) -> str:
    cases, usable = count(data, "cases"), count(data, "usable")
    if not cases or usable is None:
        return ""
    return f"{number_text(usable)} of {counted(cases, 'golden question')} can be asked"


def _hypothesis(data: Data) -> str:
    checks = objects(data, "checks")
    silent = [f"the {word(each, 'stack')}'s {word(each, 'part')}" for each in checks if not flag(each, "answers")]
    when = word(data, "when") or "before"
    if not checks:
        return ""
    told = f"silent: {listed(silent)}" if silent else "every part of both stacks answered"
    return f"{told}, {'beforehand' if when == 'before' else 'afterwards'}"


def _dump(data: Data) -> str:
    rows = count(data, "rows_landed")
    size = bytes_text(figure(data, "bytes"))
    return "" if rows is None else f"{counted(rows, 'record')} in the dump" + (f", {size}" if size else "")


def _verify(data: Data) -> str:
    rows, shards = count(data, "rows"), count(data, "shards")
    if rows is None or shards is None:
        return ""
    return f"{counted(rows, 'record')} in {counted(shards, 'file')}, by the files' hashes and the digests"


def _plan(data: Data) -> str:
    classes = plan_classes(data)
    told = listed([f"{number} {name}" for name, number in classes.items()])
    return f"of the plan’s {counted(sum(classes.values()), 'line')}, {told}{by_consent(data)}" if told else ""


def by_consent(data: Data) -> str:
    """`, where a loss of “vector” was agreed to`, so that nothing given up reads as kept; "" where nothing was."""
    lossy = {word(line, "subject") for line in objects(data, "plan") if word(line, "class") == "lossy"}
    agreed = [f"“{each}”" for each in words(data, "accepted_loss") if each in lossy or "plan" not in data]
    return f", where a loss of {listed(agreed)} was agreed to" if agreed else ""


def _restore(data: Data) -> str:
    rows = count(data, "rows_landed")
    same = same_digests(part(data, "digests"), part(data, "target_digests"))
    told = {True: ", read back with equal digests", False: ", read back with other digests", None: ""}[same]
    return "" if rows is None else f"{counted(rows, 'record')} in the substitute{told}{by_consent(data)}"


def _parity(data: Data) -> str:
    compared = count(data, "records", "rows", "compared")
    vectors = vectors_line(data)
    told = "; ".join(filter(None, ("" if compared is None else f"{counted(compared, 'record')} compared", vectors)))
    return told and told + by_consent(data)


def vectors_line(data: Data) -> str:
    """In words whether every vector came back as it was, then the lowest cosine and the greatest distance of each
    vector field, rounded so that both still hold."""
    fields = [each for each in objects(data, "records", "fields") if count(each, "rows") != 0]
    told = [text for each in fields if (text := _vector_field(each))]
    numbers = "; ".join(told)
    if fields and all(map(_is_bit_equal, fields)):
        return "every vector came back bit for bit" + (f" ({numbers})" if numbers else "")
    return numbers


def _is_bit_equal(field: Data) -> bool:
    """By the count of equal ones; nothing else in the journal may speak against it."""
    rows, equal = count(field, "rows"), count(field, "bit_equal")
    others = [count(field, "beyond_tolerance"), count(field, "one_sided"), figure(field, "l2", "max")]
    return rows is not None and rows == equal and not any(others)


def _vector_field(field: Data) -> str:
    cosine, distance = figure(field, "cosine", "min"), figure(field, "l2", "max")
    rows, equal = count(field, "rows"), count(field, "bit_equal")
    parts = []
    if rows is not None and equal is not None and not _is_bit_equal(field):
        parts.append(f"{number_text(equal)} of {counted(rows, 'vector')} came back bit for bit")
    parts += [] if cosine is None else [f"cosine at least {_no_more(cosine)}"]
    parts += [] if distance is None else [f"L2 distance at most {_no_less(distance)}"]
    return f"“{word(field, 'column')}”: {', '.join(parts)}" if parts else ""


def _no_more(value: float) -> str:
    """Six places of `value`, rounded down."""
    return "1" if value == 1 else f"{math.floor(value * 1e6) / 1e6:.6f}"


def _no_less(value: float) -> str:
    """Two digits of `value`, rounded up: `0`, `0.00012`."""
    if not 0 < value < math.inf:
        return number_text(value)
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / step - 1e-9) * step:.2g}"


def _outage(data: Data) -> str:
    asked, failed = count(data, "requests"), count(data, "failed")
    if asked is None or failed is None:
        return ""
    return f"{counted(asked, 'request')}, {number_text(failed)} failed"


def _loss(data: Data) -> str:
    records = count(data, "records")
    if not records:
        return "" if records is None else "the substitute lacked nothing"
    return f"the substitute lacked {counted(records, 'record')} or held them as they had been"


def _replay(data: Data) -> str:
    asked, answered = count(data, "asked"), count(data, "answered")
    return f"{number_text(answered)} of {counted(asked, 'golden question')} answered" if asked and answered else ""


def _quality(data: Data) -> str:
    metrics = objects(data, "metrics")
    return ", ".join(f"{metric_words(word(each, 'metric'))}: {word(each, 'verdict')}" for each in metrics)


def _cost(data: Data) -> str:
    means = [money(data, "comparison", "mean", side) for side in ("before_usd", "after_usd")]
    if means[0] is None or means[1] is None:
        return word(data, "comparison", "reason")
    return f"a request costs {means[0]:.5f} USD on the primary and {means[1]:.5f} USD on the substitute"


_NOTHING_BACK: Final = "nothing had been moved, so there was nothing to send back, to bring over or to compare"


def _rollback(data: Data) -> str:
    told = []
    back = flag(data, "traffic", "back_on_primary")
    if back is not None:
        told.append("traffic went back to the primary" if back else "traffic did not go back")
    moved = [count(data, "sync", name) for name in ("upserted", "deleted")]
    if moved[0] is not None and moved[1] is not None:
        told.append(f"{counted(moved[0] + moved[1], 'record')} brought over")
    same = same_digests(part(data, "primary_digests"), part(data, "substitute_digests"))
    if same is not None:
        told.append("digests equal on both sides" if same else "digests differ")
    return ", ".join(told) or (_NOTHING_BACK if data else "")


def _parallel(data: Data) -> str:
    asked, failed = count(data, "sides", "substitute", "requests"), count(data, "sides", "substitute", "failed")
    if asked is None or failed is None:
        return ""
    followed = counted(len(objects(data, "rounds")), "time")
    return (
        f"{counted(asked, 'request')} to each side, {number_text(failed)} failed on the substitute; followed {followed}"
    )


def _moved(data: Data) -> str:
    asked, failed = count(data, "requests"), count(data, "failed")
    if asked is None or failed is None:
        return ""
    compared = count(data, "parity", "rows", "compared")
    told = f"{counted(asked, 'request')} meanwhile, {number_text(failed)} failed"
    return told + (f"; {counted(compared, 'record')} compared" if compared is not None else "")


def _caught_up(data: Data) -> str:
    compared = count(data, "parity", "rows", "compared")
    return "" if compared is None else f"{counted(compared, 'record')} compared, one by one"


def _gone(data: Data) -> str:
    told = [(count(data, state, "embedded"), count(data, state, "asked")) for state in ("before", "gone")]
    if any(each is None for pair in told for each in pair):
        return ""
    (before, asked), (after, again) = told
    return f"{before} of {asked} golden questions could be embedded before, and {after} of {again} after"


_LINES: Final[Mapping[str, Callable[[Data], str]]] = {
    "start": _start,
    "build_primary": _build,
    "load_golden": _golden,
    "check_hypothesis": _hypothesis,
    "dump": _dump,
    "verify_dump": _verify,
    "plan": _plan,
    "restore": _restore,
    "parity": _parity,
    "outage": _outage,
    "measure_loss": _loss,
    "baseline": _replay,
    "replay": _replay,
    "compare_quality": _quality,
    "cost": _cost,
    "rollback": _rollback,
    "parallel_run": _parallel,
    "catch_up": _caught_up,
    "cut_over": _moved,
    "way_back": _moved,
    "embedding_gone": _gone,
}
