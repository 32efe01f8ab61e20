"""Golden sets where questions are put to a store: drills, and `reindex --golden`.

They are the sets of `exitramp eval`, read by the same rules (`exitramp.evals.sets.case` has the keys of a case): JSON
lines, or Parquet. What is written for another tool is converted first, so that what does not carry over is listed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Final, Protocol

from exitramp.errors import ConfigError
from exitramp.evals.sets.case import Case
from exitramp.evals.sets.own import decoded, parse_jsonl, read_jsonl, read_parquet
from exitramp.records import Finding, RecordKey
from exitramp.wording import counted

ABSENT_SHARE_LIMIT: Final = 0.05
_OF_OTHERS: Final = (".yaml", ".yml", ".csv")


class ReadableText(Protocol):
    """A file inside an installed package, as `importlib.resources` hands it out."""

    @property
    def name(self) -> str: ...
    def read_bytes(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class GoldenCoverage:
    """Which golden ids the corpus at hand lacks.

    `questions` are the different ones among the cases, and `affected_questions` those of them that ask for such an id:
    a question under a hundred ids is one. `present` is each case's `relevant` without them; a case that keeps none is
    still listed, with an empty mapping.
    """

    questions: int
    affected_questions: int
    affected_cases: tuple[str, ...]
    absent_ids: tuple[str, ...]
    present: Mapping[str, Mapping[str, int]] = field(hash=False)

    @property
    def affected_share(self) -> float:
        return self.affected_questions / self.questions if self.questions else 1.0

    @property
    def too_many_absent(self) -> bool:
        """Whether more than 5 % of the questions are affected, which makes the comparison inconclusive."""
        return self.affected_share > ABSENT_SHARE_LIMIT


def load_golden(source: str | PathLike[str] | ReadableText, *, name: str | None = None) -> tuple[Case, ...]:
    """The cases of a golden set, in the file's order.

    A `str` is the JSON lines themselves; a path is Parquet where its name ends so, else JSON lines; a packaged file is
    JSON lines. `name` is what errors call the file. Raises `ConfigError` naming file and line: no case at all, unknown
    key, duplicate id or key, wrong hash, bad grade, bad check; and `PathUnusable`. No message holds a question's or a
    phrase's text.
    """
    if isinstance(source, str):
        return parse_jsonl(source, name or "golden set")
    if not isinstance(source, PathLike):
        return parse_jsonl(decoded(source.read_bytes(), name or source.name), name or source.name)
    path = Path(source)
    if path.suffix.lower() in _OF_OTHERS:
        raise ConfigError(
            f"a golden set is JSON lines or Parquet here, and not {path.suffix.lower()}",
            file=name or str(path),
            hint=f"make one of it: exitramp eval sets convert {path.name} {path.stem}.jsonl",
        )
    return (read_parquet if path.suffix.lower() == ".parquet" else read_jsonl)(path, name=name)


def require_relevant(cases: Sequence[Case], file: str) -> None:
    """Raises `ConfigError` where no case names relevant documents: nothing could be judged by what is found."""
    if not any(case.relevant for case in cases):
        raise ConfigError(
            f"none of its {len(cases)} cases says what is to be found, and that alone is judged here",
            file=file,
            hint='give cases "relevant": {"ID OF A RECORD": 3, …}, the records that answer them, with grades 1 to 3',
        )


def asked_again(questions: Iterable[tuple[str, str]]) -> Finding | None:
    """A finding that names the cases (id and what it asks) that ask what an earlier one asks already; None of none."""
    known: set[str] = set()
    same, count = [], 0
    for case, question in questions:
        count += 1
        if question in known:
            same.append(case)
        known.add(question)
    if not same:
        return None
    text = (
        f"{len(same)} of {counted(count, 'golden case')} {'asks' if len(same) == 1 else 'ask'} what another one asks "
    )
    text += f"already: averaged with it, so that {counted(len(known), 'question counts', 'questions count')}"
    return Finding("golden.doubles", text, None, tuple(same[:20]), len(same))


def keys_of(text: str) -> tuple[RecordKey, ...]:
    """The records that an id of a golden set can mean in a collection with namespaces: `NAMESPACE/ID`, or an id that is
    in none. Both parts may have a `/` of their own, so that there may be several."""
    cuts = [at for at, sign in enumerate(text) if sign == "/"]
    return (RecordKey(text), *(RecordKey(text[at + 1 :], text[:at]) for at in cuts if at + 1 < len(text)))


def golden_coverage(cases: Iterable[Case], present_ids: Collection[str]) -> GoldenCoverage:
    """Compare the golden ids with those the corpus holds; a golden set may name ids that this corpus lacks."""
    known = present_ids if isinstance(present_ids, (set, frozenset, dict)) else set(present_ids)
    questions, asking, affected, absent, present = set(), set(), [], set(), {}
    for case in cases:
        questions.add(case.question_sha256)
        missing = {document for document in case.relevant if document not in known}
        if missing:
            affected.append(case.id)
            asking.add(case.question_sha256)
            absent |= missing
        present[case.id] = {document: grade for document, grade in case.relevant.items() if document not in missing}
    return GoldenCoverage(len(questions), len(asking), tuple(affected), tuple(sorted(absent)), present)
