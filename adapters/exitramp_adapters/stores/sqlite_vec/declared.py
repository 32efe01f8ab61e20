"""What a vec0 table is, by the words it was made with: `CREATE VIRTUAL TABLE x USING vec0(id text primary key, …)`.

SQLite keeps those words as they were written, comments and all; the extension reads each argument by rules of its own:
words may be cut short (`t` is `text`), case does not matter, and no name is quoted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from exitramp.errors import DataInvalid
from exitramp.records import DType, Metric

DEFAULT_CHUNK_ROWS: Final = 1024
METRICS: Final = {"cosine": Metric.COSINE, "l2": Metric.EUCLIDEAN, "l1": Metric.MANHATTAN}
TYPES: Final = {DType.FLOAT32: "float", DType.INT8: "int8", DType.BINARY: "bit"}
ELEMENT_SQL: Final = {DType.FLOAT32: "?", DType.INT8: "vec_int8(?)", DType.BINARY: "vec_bit(?)"}
"""How a BLOB is given to vec0 for each type."""

_SQL: Final = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|[(),]|[^\s'"`\[(),/-]+|\s+|.""",
    re.DOTALL,
)
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*|[0-9]+|[\[\]+=(),]")
_ELEMENTS: Final = (("float", DType.FLOAT32), ("f32", DType.FLOAT32), ("int8", DType.INT8), ("i8", DType.INT8))
_METADATA: Final = (
    ("boolean", ("boolean", "bool")),
    ("integer", ("int64", "integer64", "integer", "int")),
    ("float", ("float", "double", "float64", "f64")),
    ("text", ("text",)),
)


@dataclass(frozen=True, slots=True)
class VectorColumn:
    """`dimensions` are bits for binary; its metric is hamming then."""

    name: str
    dtype: DType
    dimensions: int
    metric: Metric


@dataclass(frozen=True, slots=True)
class OtherColumn:
    """`role` is metadata, auxiliary or partition; `type` is the word for it, in full."""

    name: str
    role: str
    type: str


@dataclass(frozen=True, slots=True)
class Vec0:
    """`key` is the column of the primary key, None where it is the rowid without a name of its own."""

    table: str
    key: str | None
    key_is_text: bool
    vectors: tuple[VectorColumn, ...]
    others: tuple[OtherColumn, ...]
    chunk_rows: int


def vec0_arguments(sql: str) -> list[str] | None:
    """The arguments of a vec0 table's declaration without comments; None for a table of any other kind."""
    words: list[str] = []
    found: list[str] = []
    depth = 0
    for token in _SQL.findall(sql):
        is_blank = token.isspace() or token.startswith(("--", "/*"))
        if depth == 0:
            if token == "(":
                if len(words) < 2 or words[-2].lower() != "using" or words[-1].strip("\"'`[]").lower() != "vec0":
                    return None
                depth, found = 1, [""]
            elif not is_blank:
                words.append(token)
            continue
        depth += (token == "(") - (token == ")")
        if depth == 0:
            return [argument.strip() for argument in found if argument.strip()]
        if token == "," and depth == 1:
            found.append("")
        else:
            found[-1] += " " if is_blank else token
    return None


def parse_vec0(table: str, sql: str) -> Vec0 | None:
    """What the table is; None if it is of another kind. Raises `DataInvalid` naming an argument that is not known."""
    arguments = vec0_arguments(sql)
    if arguments is None:
        return None
    key: tuple[str, bool] | None = None
    vectors: list[VectorColumn] = []
    others: list[OtherColumn] = []
    chunk_rows = DEFAULT_CHUNK_ROWS
    for argument in arguments:
        words = _WORD.findall(argument)
        if "".join(words) != re.sub(r"\s", "", argument):
            raise _unknown(table, argument)
        if len(words) > 2 and words[2] == "[":
            vectors.append(_vector(table, argument, words))
        elif len(words) == 4 and _is_key(words, "partition"):
            others.append(OtherColumn(words[0], "partition", _text_or_integer(table, argument, words[1])))
        elif len(words) == 4 and _is_key(words, "primary"):
            key = words[0], _text_or_integer(table, argument, words[1]) == "text"
        elif len(words) == 3 and words[0] == "+":
            kinds = {"text": ("text",), "integer": ("int", "integer"), "float": ("float", "double"), "blob": ("blob",)}
            others.append(OtherColumn(words[1], "auxiliary", _kind(table, argument, words[2], tuple(kinds.items()))))
        elif len(words) == 3 and words[1] == "=" and _is(words[0], "chunk_size") and words[2].isdigit():
            chunk_rows = int(words[2])
        elif len(words) == 2:
            others.append(OtherColumn(words[0], "metadata", _kind(table, argument, words[1], _METADATA)))
        else:
            raise _unknown(table, argument)
    return Vec0(table, key[0] if key else None, bool(key and key[1]), tuple(vectors), tuple(others), chunk_rows)


def _vector(table: str, argument: str, words: list[str]) -> VectorColumn:
    kind = words[1].lower()
    dtype = next((dtype for word, dtype in _ELEMENTS if kind.startswith(word)), None)
    if dtype is None and kind.startswith("bit"):
        dtype = DType.BINARY
    if dtype is None or len(words) < 5 or not words[3].isdigit() or words[4] != "]":
        raise _unknown(table, argument)
    metric = Metric.HAMMING if dtype is DType.BINARY else Metric.EUCLIDEAN  # vec0's own, where nothing is said
    options = words[5:]
    while options:
        if len(options) >= 3 and _is(options[0], "distance_metric") and options[1] == "=":
            named = [found for word, found in METRICS.items() if _is(options[2], word)]
            if not named or dtype is DType.BINARY:
                raise DataInvalid(f"the table {table!r} has a vector column of the metric {options[2]!r}: not known")
            metric, options = named[0], options[3:]
        elif len(options) >= 3 and _is(options[0], "indexed") and _is(options[1], "by"):
            if options[2:5] != [options[2], "(", ")"] or not _is(options[2], "flat"):
                raise DataInvalid(
                    f"the table {table!r} has a vector column with an index of the kind {options[2]!r}: not known",
                    hint="a later sqlite-vec made it; copy its vectors into a table without such an index",
                )
            options = options[5:]
        else:
            raise _unknown(table, argument)
    return VectorColumn(words[0], dtype, int(words[3]), metric)


def _is(word: str, whole: str) -> bool:
    """The extension compares no more letters than were written."""
    return whole.startswith(word.lower())


def _is_key(words: list[str], role: str) -> bool:
    return _is(words[2], role) and _is(words[3], "key")


def _text_or_integer(table: str, argument: str, word: str) -> str:
    return _kind(table, argument, word, (("text", ("text",)), ("integer", ("int", "integer"))))


def _kind(table: str, argument: str, word: str, kinds: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    for kind, spelt in kinds:
        if any(_is(word, whole) for whole in spelt):
            return kind
    raise _unknown(table, argument)


def _unknown(table: str, argument: str) -> DataInvalid:
    return DataInvalid(
        f"the vec0 table {table!r} is declared with {argument!r}, which is not known here",
        hint="was it made by a later sqlite-vec than this adapter knows?",
    )
