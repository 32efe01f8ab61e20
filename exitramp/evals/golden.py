"""Golden sets: questions with the ids that answer them, read strictly from JSON lines.

One object a line. `id`, `question` and `relevant` (document id to grade 1, 2 or 3) are required; `use_case` (default
`all`), `assertion`, `logged_ids` (what an application once retrieved for it: with them `relevant` may be left away, and
the case is judged by overlap, which is no truth), `vector` (the question embedded by the model that embedded the
store), `token_overlap` (share of the question's tokens that the relevant text repeats, 0 to 1) and `sha256` are
optional. `sha256` is that of the case without it, as JSON with sorted keys, no spaces and non-ASCII characters kept; a
file that states it and does not match it is refused, a file without it gets it computed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Final, Protocol

from exitramp.errors import ConfigError, DataInvalid
from exitramp.evals.scorers import Assertion, parse_assertion
from exitramp.records import RecordKey

GRADES: Final = (1, 2, 3)
DEFAULT_USE_CASE: Final = "all"
ABSENT_SHARE_LIMIT: Final = 0.05
_GREATEST_FLOAT32: Final = 3.4028234663852886e38

_REQUIRED: Final = ("id", "question", "relevant")
_KNOWN: Final = frozenset({*_REQUIRED, "logged_ids", "use_case", "assertion", "vector", "token_overlap", "sha256"})


class ReadableText(Protocol):
    """A file inside an installed package, as `importlib.resources` hands it out."""

    @property
    def name(self) -> str: ...
    def read_bytes(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One question and what a good stack returns for it. `relevant` maps document ids to grades 1 to 3.

    `vector` is for stores whose embedding model is not at hand: the question as that model embedded it.
    """

    id: str
    use_case: str
    question: str = field(repr=False)
    relevant: Mapping[str, int] = field(hash=False)
    assertion: Assertion | None = field(repr=False)
    token_overlap: float | None
    sha256: str
    vector: tuple[float, ...] | None = field(default=None, repr=False)
    logged_ids: tuple[str, ...] = ()

    @property
    def is_labelled(self) -> bool:
        """Whether somebody said what is right; otherwise only overlap with what was logged can be measured."""
        return bool(self.relevant) or self.assertion is not None


@dataclass(frozen=True, slots=True)
class GoldenCoverage:
    """Which golden ids the corpus at hand lacks.

    `present` is each case's `relevant` without them; a case that keeps none is still listed, with an empty mapping.
    """

    cases: int
    affected_cases: tuple[str, ...]
    absent_ids: tuple[str, ...]
    present: Mapping[str, Mapping[str, int]] = field(hash=False)

    @property
    def affected_share(self) -> float:
        return len(self.affected_cases) / self.cases if self.cases else 1.0

    @property
    def too_many_absent(self) -> bool:
        """Whether more than 5 % of the questions are affected, which makes the comparison inconclusive."""
        return self.affected_share > ABSENT_SHARE_LIMIT


def load_golden(source: str | PathLike[str] | ReadableText, *, name: str | None = None) -> tuple[GoldenCase, ...]:
    """The cases of a golden set, in the file's order.

    A `str` is the JSON lines themselves; a path or a packaged file is read as UTF-8. `name` is what errors call the
    file. Raises `ConfigError` naming file and line: no case at all, unknown key, duplicate id or key, wrong hash,
    bad grade, or a case with neither relevant ids nor an assertion. No message holds a question's or a phrase's text.
    """
    text, file = _read(source, name)
    cases: list[GoldenCase] = []
    first_line: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            case = _parse_case(line)
            if case.id in first_line:
                raise DataInvalid(f"the id {case.id!r} was already used on line {first_line[case.id]}")
        except DataInvalid as error:
            raise ConfigError(error.message, file=file, line=number, hint=error.hint) from error
        first_line[case.id] = number
        cases.append(case)
    if not cases:
        raise ConfigError("no case in it", file=file, hint="write one JSON object a line: id, question, relevant")
    return tuple(cases)


def keys_of(text: str) -> tuple[RecordKey, ...]:
    """The records that an id of a golden set can mean in a collection with namespaces: `NAMESPACE/ID`, or an id that is
    in none. Both parts may have a `/` of their own, so that there may be several."""
    cuts = [at for at, sign in enumerate(text) if sign == "/"]
    return (RecordKey(text), *(RecordKey(text[at + 1 :], text[:at]) for at in cuts if at + 1 < len(text)))


def case_sha256(case: Mapping[str, Any]) -> str:
    """The hash that belongs into a case's `sha256`; `case` is its JSON object, with or without that key.

    Raises `DataInvalid` for what UTF-8 cannot hold (lone surrogates).
    """
    bare = {key: value for key, value in case.items() if key != "sha256"}
    canonical = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        return hashlib.sha256(canonical.encode("utf-8")).hexdigest()
    except UnicodeEncodeError:
        raise DataInvalid("a text in the case holds a lone surrogate") from None


def golden_coverage(cases: Iterable[GoldenCase], present_ids: Collection[str]) -> GoldenCoverage:
    """Compare the golden ids with those the corpus holds; a golden set may name ids that this corpus lacks."""
    known = present_ids if isinstance(present_ids, (set, frozenset, dict)) else set(present_ids)
    count, affected, absent, present = 0, [], set(), {}
    for case in cases:
        count += 1
        missing = {document for document in case.relevant if document not in known}
        if missing:
            affected.append(case.id)
            absent |= missing
        present[case.id] = {document: grade for document, grade in case.relevant.items() if document not in missing}
    return GoldenCoverage(count, tuple(affected), tuple(sorted(absent)), present)


def _read(source: str | PathLike[str] | ReadableText, name: str | None) -> tuple[str, str]:
    if isinstance(source, str):
        return source, name or "golden set"
    try:
        if isinstance(source, PathLike):
            file, raw = name or str(source), Path(source).read_bytes()
        else:
            file, raw = name or source.name, source.read_bytes()
        return raw.decode("utf-8-sig"), file
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=name or str(source)) from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError("not UTF-8", file=file, line=line) from error


def _parse_case(line: str) -> GoldenCase:
    try:
        data = json.loads(line, object_pairs_hook=unique_keys, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        raise DataInvalid(f"not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(data, dict):
        raise DataInvalid("not a JSON object")
    unknown = sorted(set(data) - _KNOWN)
    if unknown:
        raise DataInvalid(f"unknown key {unknown[0]!r}", hint=f"known are: {', '.join(sorted(_KNOWN))}")
    for key in _REQUIRED:
        if key not in data and not (key == "relevant" and data.get("logged_ids")):
            raise DataInvalid(f"the key {key!r} is missing")
    relevant = parse_relevant(data.get("relevant", {}))
    logged = data.get("logged_ids", [])
    if not isinstance(logged, list) or not all(isinstance(each, str) and each for each in logged):
        raise DataInvalid("'logged_ids' is not a list of texts")
    assertion = parse_assertion(data["assertion"]) if data.get("assertion") is not None else None
    if not relevant and assertion is None and not logged:
        raise DataInvalid("neither relevant ids nor an assertion: nothing could be measured")
    return GoldenCase(
        id=_text(data, "id"),
        use_case=_text(data, "use_case") if "use_case" in data else DEFAULT_USE_CASE,
        question=_text(data, "question"),
        relevant=relevant,
        assertion=assertion,
        token_overlap=parse_overlap(data.get("token_overlap")),
        sha256=_checked_sha256(data),
        vector=parse_vector(data.get("vector")),
        logged_ids=tuple(dict.fromkeys(logged)),
    )


def parse_relevant(value: object) -> dict[str, int]:
    """The grades of `relevant`, checked."""
    if not isinstance(value, dict):
        raise DataInvalid("'relevant' is not an object of document ids and grades")
    for document, grade in value.items():
        if isinstance(grade, bool) or grade not in GRADES or not isinstance(grade, int):
            raise DataInvalid(f"the grade of {document!r} is not 1, 2 or 3")
    return value


def parse_vector(value: object) -> tuple[float, ...] | None:
    """A case's `vector`, checked."""
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    if not numbers or not all(isinstance(each, int | float) and not isinstance(each, bool) for each in numbers):
        raise DataInvalid("'vector' is not a list of numbers")
    try:
        found = tuple(float(each) for each in numbers)
    except OverflowError:
        found = (math.inf,)
    if not all(abs(each) <= _GREATEST_FLOAT32 for each in found):
        raise DataInvalid("'vector' holds a number that no 32-bit float can hold")
    if not any(found):
        raise DataInvalid("'vector' is all zero, which is near to nothing")
    return found


def parse_overlap(value: object) -> float | None:
    """A case's `token_overlap`, checked."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise DataInvalid("'token_overlap' is not a number from 0 to 1")
    return float(value)


def _checked_sha256(data: Mapping[str, Any]) -> str:
    computed = case_sha256(data)
    if "sha256" in data and data["sha256"] != computed:
        raise DataInvalid(
            f"the case {data['id']!r} does not match its sha256: it was changed, or its hash was",
            hint="review the case, then write the hash of the case as it stands (`case_sha256`)",
        )
    return computed


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data[key]
    if not isinstance(value, str) or not value.strip():
        raise DataInvalid(f"{key!r} is not a text with something in it")
    return value


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object with no key twice, for `json.loads`."""
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DataInvalid(f"the key {twice!r} stands twice")
    return dict(pairs)


def no_constant(name: str) -> float:
    """NaN and the infinities are not JSON; for `json.loads`."""
    raise DataInvalid(f"{name} is not JSON")
