"""The mock vendors' "model": it answers with sentences of the passages it is given, and with nothing else.

The prompt holds passages and a question:

    [passage os.path.join#0]
    Join one or more path segments intelligently. …
    [/passage]
    Question: How do I join two paths?

The rule, in full:

1. A passage is split into units. A blank line ends a unit; so does a line that begins with `>>>`, `-` or `*`, that
   looks like `name : type`, or that is indented less than the line before it, each of which begins the next one. The
   lines of a unit are joined by spaces and cut into sentences after `.`, `!` or `?` before a capital, a digit, a quote
   or a bracket. Lines that only underline a heading are dropped.
2. A term is a word of letters, digits and underscores in lower case, a name with underscores being its parts as well,
   without stop words, and with a plural `s`, `ing` or `ed` cut off. The weight of a term is ln(1 + U / u), where U is
   the number of units in the prompt and u of those that hold the term.
3. A passage's coverage is the share of the question's weight that stands in its text or its id; the weight counts only
   terms that some passage holds. Passages of coverage 0 are not used.
4. A unit's score is the share of the question's weight that it holds, divided by 1 + (terms / 60), plus half of its
   passage's coverage, plus 0.15 / rank of the passage, plus 0.10 / place of the unit in its passage (both from 1).
5. The best units are taken, a fixed number of them, ties going to the earlier one; a text is taken once. The answer
   gives them in the order of the prompt, those of one passage on one line that ends with its id as `[id]`.

Without passages, or without one that holds a term of the question, the answer is "I do not know." Nothing is drawn at
random. A prompt of five passages of 1,500 characters takes some 0.4 ms when its passages were seen before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

UNKNOWN_ANSWER: Final = "I do not know."

_PASSAGE = re.compile(r"^\[passage (?P<id>[^\n]+)\]\n(?P<text>.*?)\n?^\[/passage\]", re.MULTILINE | re.DOTALL)
_QUESTION = re.compile(r"^Question:[ \t]*(?P<text>.*?)(?:\n[ \t]*\n|\Z)", re.MULTILINE | re.DOTALL)
_WORD = re.compile(r"[A-Za-z0-9_]+")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_OWN_LINE = re.compile(r">>>|[-*]\s|\w[\w, *]* : ")
_RULER = re.compile(r"[-=~^]{2,}$")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'`(\[])")
_STOP_WORDS: Final = (
    "a an and are as at be been but by can could did do does for from given has have how i if in into is it its "
    "me my not of on or should so than that the their them then there these they this to use used using was we were "
    "what when where which who why will with would you your"
)
_STOP: Final = frozenset(_STOP_WORDS.split())


@dataclass(frozen=True, slots=True)
class Rule:
    """How much of the prompt is read and how much is said.

    `sentences` units make an answer; the last `passages_unread` passages are not read, but never all of them;
    `reads_question` false takes the first units of the first passage whatever was asked.
    """

    sentences: int
    passages_unread: int = 0
    reads_question: bool = True


# Measured on the golden set of the packaged drills (119 questions, five passages each): 68 % right for `good`, three
# questions fewer for `slightly_worse`, which is within a margin of 0.10 and visible; 34 % for `poor`.
QUALITIES: Final = {
    "good": Rule(sentences=4),
    "slightly_worse": Rule(sentences=3),
    # What a silent change of the model behind a name looks like: fluent, cited, and beside the point.
    "poor": Rule(sentences=1, passages_unread=64, reads_question=False),
}


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence or line of a passage, and its terms."""

    text: str
    terms: frozenset[str]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What was found in a prompt: `passages` as (id, text), in order, and the last question."""

    passages: tuple[tuple[str, str], ...]
    question: str


def count_tokens(text: str) -> int:
    """Words and punctuation marks: the number of matches of `\\w+|[^\\w\\s]`. A stand-in for a real tokeniser."""
    return len(_TOKEN.findall(text))


def cut_tokens(text: str, maximum: int) -> str:
    """`text` up to and including its `maximum`-th token."""
    for number, match in enumerate(_TOKEN.finditer(text), start=1):
        if number == maximum:
            return text[: match.end()]
    return text


def parse_prompt(text: str) -> Prompt:
    """The passages and the last question of `text`; a question ends at a blank line."""
    passages = tuple((match["id"], match["text"]) for match in _PASSAGE.finditer(text))
    questions = _QUESTION.findall(_PASSAGE.sub("", text))
    return Prompt(passages, questions[-1].strip() if questions else "")


def question_of(text: str) -> str:
    """The last question of `text`, or, where nothing is marked as one, all of it but its passages."""
    return parse_prompt(text).question or _PASSAGE.sub("", text).strip()


def answer(prompt: str, rule: Rule) -> str:
    """What the mock says to `prompt` by `rule`."""
    parsed = parse_prompt(prompt)
    kept = parsed.passages[: max(1, len(parsed.passages) - rule.passages_unread)]
    if not rule.reads_question:
        kept = kept[:1]
        chosen = [(0, place) for place in range(min(rule.sentences, len(units_of(kept[0][1])) if kept else 0))]
    else:
        chosen = _choose(terms_of(parsed.question), kept, rule.sentences)
    if not chosen:
        return UNKNOWN_ANSWER
    lines = []
    for rank in dict.fromkeys(rank for rank, _ in chosen):
        said = " ".join(units_of(kept[rank][1])[place].text for at, place in chosen if at == rank)
        lines.append(f"{said} [{kept[rank][0]}]")
    return "\n".join(lines)


def _choose(question: frozenset[str], passages: Sequence[tuple[str, str]], wanted: int) -> list[tuple[int, int]]:
    """(passage, unit) of the best units, in the order of the prompt: steps 2 to 5 of the rule."""
    units = [units_of(text) for _, text in passages]
    total = sum(len(parts) for parts in units)
    weights = {}
    for term in question:
        holding = sum(term in unit.terms for parts in units for unit in parts)
        if holding or any(term in terms_of(name) for name, _ in passages):
            weights[term] = math.log(1.0 + total / max(1, holding))
    mass = math.fsum(weights[term] for term in sorted(weights))
    scored: list[tuple[float, int, int]] = []
    for rank, (name, _) in enumerate(passages):
        in_passage = terms_of(name).union(*(unit.terms for unit in units[rank]))
        covered = _share(weights, in_passage, mass)
        if covered == 0.0:
            continue
        for place, unit in enumerate(units[rank]):
            score = _share(weights, unit.terms, mass) / (1.0 + len(unit.terms) / 60.0)
            score += 0.5 * covered + 0.15 / (rank + 1) + 0.10 / (place + 1)
            scored.append((-score, rank, place))
    scored.sort()
    chosen: list[tuple[int, int]] = []
    said: set[str] = set()
    for _, rank, place in scored:
        text = units[rank][place].text
        if text not in said and len(chosen) < wanted:
            said.add(text)
            chosen.append((rank, place))
    return sorted(chosen)


def _share(weights: dict[str, float], terms: frozenset[str], mass: float) -> float:
    # fsum and a sorted order: sets iterate differently from process to process, and rounding would follow.
    return math.fsum(weights[term] for term in sorted(weights) if term in terms) / mass if mass else 0.0


@lru_cache(maxsize=4096)
def terms_of(text: str) -> frozenset[str]:
    """The terms of `text`: step 2 of the rule."""
    return frozenset().union(*map(terms_of_word, _WORD.findall(text.lower())))


@lru_cache(maxsize=65536)  # halves the time of a prompt whose passages are new: words repeat, passages do not
def terms_of_word(word: str) -> frozenset[str]:
    """The terms of one word in lower case: none for a stop word, more than one for a name with underscores."""
    parts = {word, *word.split("_")}
    return frozenset(_stem(part) for part in parts if len(part) > 1 and part not in _STOP)


def _stem(word: str) -> str:
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


@lru_cache(maxsize=4096)
def units_of(text: str) -> tuple[Unit, ...]:
    """The units of a passage: step 1 of the rule."""
    blocks: list[list[str]] = [[]]
    indent_before = 0
    for line in text.split("\n"):
        bare = line.strip()
        if not bare or _RULER.match(bare):
            blocks.append([])
            continue
        indent = len(line) - len(line.lstrip())
        if blocks[-1] and (indent < indent_before or _OWN_LINE.match(bare)):
            blocks.append([])
        blocks[-1].append(bare)
        indent_before = indent
    sentences = (part for block in blocks if block for part in _SENTENCE_END.split(" ".join(block)))
    return tuple(Unit(sentence, terms_of(sentence)) for sentence in sentences if sentence)
