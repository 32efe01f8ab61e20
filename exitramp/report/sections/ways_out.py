"""An embedding vendor that is gone: what the golden questions found without it, by a mapping, and embedded anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from exitramp.report.model import (
    Block,
    Bullets,
    Cell,
    Column,
    Inline,
    KeyValues,
    Quantity,
    Row,
    Subheading,
    Table,
    numbers,
    prose,
    row,
    strong,
)
from exitramp.report.sections.fields import Data, count, figure, flag, money, part, verdict, word
from exitramp.report.sections.journal import Journal
from exitramp.report.sections.promises import recovery_places
from exitramp.report.sections.words import counted, fault_words, true_minus
from exitramp.report.text import seconds_text

_WAYS: Final = (
    ("map_embeddings", "questions_mapped", "Questions mapped into the old space"),
    ("map_embeddings", "documents_mapped", "Documents mapped into the new space"),
    ("reembed", "reembedded", "Every document embedded anew"),
)


def ways_out(journal: Journal) -> Iterator[Block]:
    """Nothing where no embedding vendor was cut off."""
    gone = journal.data("embedding_gone")
    if not gone:
        return
    yield Subheading("Without the embedding vendor")
    yield prose(_cut(gone))
    before, after = part(gone, "before"), part(gone, "gone")
    found = [(title, part(journal.data(step), key)) for step, key, title in _WAYS]
    rows = [_before(before), _state("Nobody embeds", after), *(_state(title, each) for title, each in found if each)]
    yield Table(
        "The same golden questions in every state, each embedded when it is asked",
        (
            Column("State"),
            numbers("Embedded"),
            numbers(f"nDCG@{count(before, 'k')}", "", 3),
            Column("Difference to before, and its two bounds"),
            numbers("First answer, after the cut", "s", recovery_places(journal)),
            numbers("Of that, this way alone", "s", 2),
        ),
        tuple(rows),
        note="The verdict is that of the lower bound against the margin. Only the last state decides the drill, in"
        " section 10; a mapping is recommended where its own is a pass. The ways were walked one after the other, so"
        " the time after the cut contains those before it.",
    )
    yield Bullets(tuple(_recommendations(journal)))
    yield _money(journal, gone)


def came_back(journal: Journal) -> list[str]:
    """For the first page, where the vendor was cut off and everything embedded anew; else nothing."""
    gone, anew = journal.data("embedding_gone"), part(journal.data("reembed"), "reembedded")
    before, after = figure(gone, "before", "ndcg", "primary"), figure(anew, "ndcg", "substitute")
    asked, embedded = count(gone, "gone", "asked"), count(gone, "gone", "embedded")
    seconds = figure(anew, "recovered_seconds")
    if before is None or after is None or asked is None or embedded is None or seconds is None:
        return []
    came = f"{seconds_text(seconds, recovery_places(journal))} after the cut"
    found = f"nDCG@{count(anew, 'k')} was {after:.3f} (before: {before:.3f}), {came}"
    told = [f"With the vendor gone {embedded or 'none'} of {counted(asked, 'golden question')} could be embedded."]
    told.append(f"With every document embedded anew by the substitute’s model {found}.")
    if journal.data("map_embeddings"):
        told.append("That time contains the mappings that were tried first.")
    return told


def _cut(gone: Data) -> str:
    how = fault_words(word(gone, "fault"), word(gone, "how"))
    errors = part(gone, "gone", "errors")
    asked = count(gone, "gone", "asked") or 0
    failed = sum(number for key in errors if (number := count(errors, key)) is not None)
    kinds = ", ".join(sorted(errors)) or "none"
    told = (
        f"The collection stands and can be searched; the vendor that embeds the questions {how}. Of"
        f" {counted(asked, 'golden question')} {failed} could not be embedded ({kinds})."
    )
    as_it_is = part(gone, "as_it_is")
    if flag(as_it_is, "refused"):
        return f"{told} To ask with the substitute’s model as it is was refused: its vectors are of another space."
    return f"{told} That the substitute’s model is another one could not be shown, so nothing would have refused it."


def _before(data: Data) -> Row:
    value = figure(data, "ndcg", "primary")
    unheld = ("what it is held against", "before the cut", "before the cut")
    return row("Before: the vendor answers", _embedded(data), value, *unheld)


def _state(title: str, data: Data) -> Row:
    ndcg = part(data, "ndcg")
    difference = figure(ndcg, "difference")
    shown: Cell = None
    if difference is not None:
        shown = Quantity(difference, "", 3, figure(ndcg, "lower"), figure(ndcg, "upper"))
    times: list[Cell] = [figure(data, key) for key in ("recovered_seconds", "own_seconds")]
    if "recovered_seconds" not in data:
        times = ["never", "nothing was done"]
    return row(title, _embedded(data), figure(ndcg, "substitute"), shown, *times, verdict=verdict(ndcg, "verdict"))


def _embedded(data: Data) -> Cell:
    asked, embedded = count(data, "asked"), count(data, "embedded")
    return None if asked is None or embedded is None else f"{embedded} of {asked}"


def _recommendations(journal: Journal) -> Iterator[tuple[Inline, ...]]:
    mapped, anew = journal.data("map_embeddings"), journal.data("reembed")
    if mapped:
        fitted = counted(count(mapped, "fitted_on") or 0, "document")
        yield (f"The mapping was fitted on {fitted} that the vendor had embedded before; it was asked nothing.",)
    for key, title in (("questions_mapped", "Questions mapped"), ("documents_mapped", "Documents mapped")):
        found = part(mapped, key)
        if not found:
            continue
        word_ = "recommended" if flag(found, "recommended") else "not recommended"
        text = f"{word_}: {true_minus(word(found, 'ndcg', 'reason'))}."
        against = part(anew, f"{key}_against_reembedded")
        cost = figure(against, "difference")
        if cost is not None:
            text += f" Against embedding everything anew it cost {max(0.0, -cost):.3f} of nDCG."
        yield (strong(f"{title}: "), text)


def _money(journal: Journal, gone: Data) -> Block:
    mapped, anew = part(journal.data("map_embeddings"), "once"), part(journal.data("reembed"), "once")
    facts: list[tuple[str, Cell]] = [
        ("Asked of the vendor to fill the store, and to try it", _spent(part(gone, "filled"))),
        ("A thousand questions before", _questions(part(gone, "before"))),
        ("The mapping, once", _spent(mapped)),
        ("Embedding everything anew, once", _spent(anew)),
        ("A thousand questions afterwards", _questions(part(journal.data("reembed"), "reembedded"))),
    ]
    account = part(gone, "account")
    if account:
        ours, theirs = count(account, "ours"), count(account, "vendors")
        facts.append(("Tokens by our count, and by the vendor’s own account", f"{ours:,} and {theirs:,}"))
    return KeyValues(tuple(facts))


def _spent(data: Data) -> Cell:
    texts, tokens = count(data, "texts"), count(data, "tokens")
    if texts is None or tokens is None:
        return None
    return f"{counted(texts, 'text')}, {counted(tokens, 'token')}, {_usd(data)}"


def _questions(data: Data) -> Cell:
    asked, tokens = count(data, "embedded"), count(data, "question_tokens")
    if not asked or tokens is None:
        return None
    price = part(data, "question_price")
    usd = money(price, "usd")
    told = _usd(price) if not usd else f"{usd / asked * 1000:.6f} USD{_illustrative(price)}"
    return f"{round(tokens / asked * 1000):,} tokens, {told}"


def _usd(data: Data) -> str:
    usd = money(data, "usd")
    if usd is None:
        return f"cost unknown: {word(data, 'price')}"
    return f"{usd:.6f} USD{_illustrative(data)}" if usd else "nothing: the weights are on this machine"


def _illustrative(data: Data) -> str:
    return " by illustrative prices" if flag(data, "illustrative") else ""
