"""What has to be true of an answer: the checks of a case, one JSON object each, read strictly.

Every check has a `kind`; all checks of a case have to hold. Those that need another model (`similarity`, `judge`) are
measured in `exitramp.evals.measuring`; the others are decided here, from the answer's text alone.

| kind | its keys | holds if |
|---|---|---|
| `exact` | `text` or `texts` | the answer is that text, or one of them |
| `starts_with` | `text` or `texts` | it begins so |
| `contains` | `text` | it holds the text |
| `contains_any`, `contains_all` | `phrases` | it holds one of them, all of them |
| `regex` | `pattern` | `re.search` finds it in the answer as it came, within `bounded.SECONDS` |
| `json_schema` | `schema`, `within` | the answer is JSON that fits; with `within`, some JSON value in it is |
| `number` | `value`, `tolerance`, `relative`, `take` | its last (`take: first`, `only`) number is as near as that |
| `choice` | `text` or `texts` | the letter it chooses is that one |
| `similarity` | `text`, `threshold`, `embedder` | the cosine of both texts' vectors reaches the threshold |
| `judge` | `criterion` | a judging model says that it meets the criterion |

Texts are compared after Unicode NFC, casefold and collapsing of white space, unless the check says `as_written`;
`not` turns a check round.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from exitramp.errors import DataInvalid, DependencyMissing
from exitramp.evals import bounded
from exitramp.evals.unfailing import unfailing

_TEXTS: Final = frozenset({"text", "texts"})
_PLAIN: Final = frozenset({"not", "as_written"})
_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "exact": _TEXTS | _PLAIN,
    "starts_with": _TEXTS | _PLAIN,
    "contains": frozenset({"text"}) | _PLAIN,
    "contains_any": frozenset({"phrases"}) | _PLAIN,
    "contains_all": frozenset({"phrases"}) | _PLAIN,
    "regex": frozenset({"pattern", "not"}),
    "json_schema": frozenset({"schema", "within", "not"}),
    "number": frozenset({"value", "tolerance", "relative", "take"}),
    "choice": _TEXTS,
    "similarity": frozenset({"text", "threshold", "embedder"}),
    "judge": frozenset({"criterion"}),
}
KINDS: Final = tuple(_KEYS)
_PATTERNS: Final = frozenset({"pattern", "patternProperties"})
ASKS_A_MODEL: Final = frozenset({"similarity", "judge"})
_NUMBER: Final = re.compile(
    r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:(?<=\d)\.\d+|\.\d+)?(?<=\d)(?:[eE][-+]?\d+)?"
)
_TAKES: Final = ("last", "first", "only")
_SAID_CHOICE: Final = re.compile(r"(?i:answer|choice|option)\s*(?:is|:)?\s*[(\[*]*([A-Z])(?![A-Za-z])")
_BARE_CHOICE: Final = re.compile(r"^\W*(?:([A-Za-z])\W*\Z|([A-Za-z])[).:\]*])")


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `data` is its JSON object as the set holds it, `kind` included."""

    kind: str
    data: Mapping[str, Any] = field(hash=False, repr=False)

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.data["text"],) if "text" in self.data else tuple(self.data.get("texts", ()))

    def holds(self, answer: str) -> bool:
        """Whether `answer` satisfies it. Raises `DataInvalid` for a kind that needs a model, `bounded.TooSlow` for a
        pattern that takes too long."""
        if self.kind in ASKS_A_MODEL:
            raise DataInvalid(f"a check of kind {self.kind} asks a model")
        held = bounded.decide(self.data, answer) if self._has_pattern else self.decided_here(answer)
        return held is not bool(self.data.get("not", False))

    @property
    def _has_pattern(self) -> bool:
        """Whether somebody's regular expression decides, which may never come to an end."""
        return self.kind == "regex" or (self.kind == "json_schema" and _names(self.data["schema"], _PATTERNS))

    def decided_here(self, answer: str) -> bool:
        """The same without `not` and without a bound on the time that it takes."""
        fold = _as_written if self.data.get("as_written") else folded
        match self.kind:
            case "exact":
                return fold(answer) in {fold(text) for text in self.texts}
            case "starts_with":
                return any(fold(answer).startswith(fold(text)) for text in self.texts)
            case "contains":
                return fold(self.data["text"]) in fold(answer)
            case "contains_any":
                return any(fold(phrase) in fold(answer) for phrase in self.data["phrases"])
            case "contains_all":
                return all(fold(phrase) in fold(answer) for phrase in self.data["phrases"])
            case "regex":
                return re.search(self.data["pattern"], answer) is not None
            case "json_schema":
                return _fits(answer, self.data["schema"], within=bool(self.data.get("within", False)))
            case "number":
                return _near(answer, self.data)
            case _:
                return chosen_letter(answer) in {text.upper() for text in self.texts}


def parse_check(data: object) -> Check:
    """The check that a JSON object describes. Raises `DataInvalid`; no message holds a text of it."""
    if not isinstance(data, Mapping):
        raise DataInvalid("a check is not an object")
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise DataInvalid("a check's 'kind' is not known", hint=f"known are: {', '.join(KINDS)}")
    unknown = sorted(str(key) for key in data if key != "kind" and key not in _KEYS[kind])
    if unknown:
        raise DataInvalid(
            f"a check of kind {kind} has the unknown key {unknown[0]!r}",
            hint=f"its keys are: {', '.join(sorted(_KEYS[kind]))}",
        )
    for key in ("not", "as_written", "within"):
        if key in data and not isinstance(data[key], bool):
            raise DataInvalid(f"{key!r} of a check is neither true nor false")
    _PARSERS.get(kind, _check_texts)(kind, data)
    if (why := unfailing(kind, data)) is not None:
        raise DataInvalid(
            f"a check of kind {kind} judges nothing: {why}",
            hint="write what a wrong answer would not meet, or leave the check away",
        )
    return Check(kind, dict(data))


def folded(text: str) -> str:
    """After Unicode NFC, casefold and collapsing of white space: a line break or a capital does not decide."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def numbers_in(answer: str) -> list[float]:
    """Every number of a text, in order: with a decimal point, an exponent, and commas between thousands."""
    found = (match[0].replace(",", "") for match in _NUMBER.finditer(answer) if match[0])
    return [float(each) for each in found]


def chosen_letter(answer: str) -> str | None:
    """The letter of a multiple-choice answer: what last follows the word answer, choice or option, else the letter it
    begins with; None where it names none."""
    said = _SAID_CHOICE.findall(answer)
    if said:
        return str(said[-1]).upper()
    bare = _BARE_CHOICE.match(answer)
    return (bare[1] or bare[2]).upper() if bare else None


def _as_written(text: str) -> str:
    return text


def _near(answer: str, data: Mapping[str, Any]) -> bool:
    found = numbers_in(answer)
    take = data.get("take", "last")
    if not found or (take == "only" and len(set(found)) != 1):
        return False
    number = found[-1] if take == "last" else found[0]
    # A tolerance is written in decimals: 0.3 is within 0.1 of 0.2, whatever its binary form says.
    wanted = float(data["value"])
    allowed = max(float(data.get("tolerance", 0.0)), abs(wanted) * float(data.get("relative", 0.0)))
    return abs(number - wanted) <= allowed * (1 + 1e-12) + 1e-15 * abs(wanted)


def _fits(answer: str, schema: Any, *, within: bool) -> bool:
    from referencing.exceptions import Unresolvable

    validator = _validator(schema)
    try:
        return any(bool(validator.is_valid(value)) for value in _json_values(answer, within=within))
    except Unresolvable as error:
        raise DataInvalid(
            "'schema' of a check refers to a schema that it does not hold",
            hint="put what it refers to under its $defs; nothing is fetched",
        ) from error


def _json_values(answer: str, *, within: bool) -> Sequence[Any]:
    try:
        return [json.loads(answer)]
    except (ValueError, RecursionError):
        if not within:
            return []
    decoder, values, at = json.JSONDecoder(), [], 0
    while (opened := re.compile(r"[{\[]").search(answer, at)) is not None:
        try:
            value, at = decoder.raw_decode(answer, opened.start())
            values.append(value)
        except (ValueError, RecursionError):
            at = opened.end()
    return values


def _validator(schema: Any) -> Any:
    try:
        import jsonschema
        import referencing
    except ImportError as error:
        raise DependencyMissing("checks by JSON Schema", "evals", module="jsonschema") from error
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise DataInvalid(f"'schema' is no JSON Schema: {error.validator} at {error.json_path}") from None
    # An empty registry: a schema that refers to another address must not make us fetch it.
    return kind(schema, registry=referencing.Registry())


def _check_texts(kind: str, data: Mapping[str, Any]) -> None:
    named = [key for key in ("text", "texts", "phrases") if key in data]
    if len(named) != 1:
        wanted = " or ".join(sorted(_KEYS[kind] & {"text", "texts", "phrases"}))
        raise DataInvalid(f"a check of kind {kind} needs {wanted}")
    value = data[named[0]]
    texts = [value] if named[0] == "text" else value
    if not isinstance(texts, list) or not texts:
        raise DataInvalid(f"'{named[0]}' of a check is not a list with something in it")
    # An empty text is in every answer: the check could not fail.
    fold = _as_written if data.get("as_written") else folded
    if not all(isinstance(text, str) and fold(text) for text in texts):
        raise DataInvalid(f"'{named[0]}' of a check holds something that is not a text, or an empty one")
    if kind == "choice" and not all(len(text) == 1 and text.isalpha() for text in texts):
        raise DataInvalid("a check of kind choice needs letters")


def _check_pattern(kind: str, data: Mapping[str, Any]) -> None:
    pattern = data.get("pattern")
    if not isinstance(pattern, str) or not pattern:
        raise DataInvalid("'pattern' of a check is not a text with something in it")
    try:
        re.compile(pattern)
    except re.error as error:
        raise DataInvalid(f"'pattern' of a check does not compile: {error.msg} at {error.pos}") from None
    except (OverflowError, RecursionError):
        raise DataInvalid(
            "'pattern' of a check does not compile: it repeats too often, or is nested too deep"
        ) from None


def _check_schema(kind: str, data: Mapping[str, Any]) -> None:
    if not isinstance(data.get("schema"), Mapping | bool):
        raise DataInvalid("a check of kind json_schema needs 'schema', a JSON Schema")
    for place in _references(data["schema"]):
        if not place.startswith("#"):
            raise DataInvalid(
                "'schema' of a check refers to a schema that it does not hold",
                hint="put what it refers to under its $defs; nothing is fetched",
            )
    _validator(data["schema"])


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            yield from _references(value)
    elif isinstance(schema, list):
        for each in schema:
            yield from _references(each)


def _names(schema: Any, keys: frozenset[str]) -> bool:
    if isinstance(schema, Mapping):
        return not keys.isdisjoint(schema) or any(_names(value, keys) for value in schema.values())
    return isinstance(schema, list) and any(_names(each, keys) for each in schema)


def _check_number(kind: str, data: Mapping[str, Any]) -> None:
    for key in ("value", "tolerance", "relative"):
        value = data.get(key, 0 if key != "value" else None)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
            raise DataInvalid(f"{key!r} of a check is not a number")
        if key != "value" and value < 0:
            raise DataInvalid(f"{key!r} of a check is below 0")
    if data.get("take", "last") not in _TAKES:
        raise DataInvalid(f"'take' of a check is none of: {', '.join(_TAKES)}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of 400 digits
        return False


def _check_similarity(kind: str, data: Mapping[str, Any]) -> None:
    _check_texts(kind, data)
    threshold = data.get("threshold")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not -1 <= threshold <= 1:
        raise DataInvalid("a check of kind similarity needs 'threshold', a cosine above 0 and up to 1")
    if not isinstance(data.get("embedder", ""), str):
        raise DataInvalid("'embedder' of a check is not the name of a model")


def _check_judge(kind: str, data: Mapping[str, Any]) -> None:
    if not isinstance(data.get("criterion"), str) or not data["criterion"].strip():
        raise DataInvalid("a check of kind judge needs 'criterion', a text")


_PARSERS: Final = {
    "regex": _check_pattern,
    "json_schema": _check_schema,
    "number": _check_number,
    "similarity": _check_similarity,
    "judge": _check_judge,
}
