"""Payload columns: many canonical texts decoded, or checked, in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from exitramp import canonical
from exitramp.errors import DataInvalid

_NEWLINE: Final = "\n"
"""Stands in no canonical text but escaped, so that texts joined by it fall apart in one way only."""


def payload_array(values: Sequence[object | None]) -> pa.Array:
    """The canonical texts of payloads that came out of JSON (every key is text), null where one is None.

    The look for what canonical.dumps writes in a way of its own is one for all of them: 2.8 us for a payload of 450
    bytes where one by one takes 4.2. Raises `DataInvalid` naming the path of what has no canonical form.
    """
    try:
        texts = [None if value is None else canonical.fast_text(value) for value in values]
        joined = _NEWLINE.join([text for text in texts if text is not None])
        for value in _nested(values, texts):
            canonical.require_depth(value)
        if canonical.TAG_PREFIX not in joined and not _has_long_integer(joined.encode("utf-8")):
            return pa.array(texts, pa.string())
    except DataInvalid:
        raise
    except (TypeError, ValueError, RecursionError):
        pass  # one of them needs the slow look, which also finds the words for what has no form
    dumps = canonical.dumps
    return pa.array([None if value is None else dumps(value, keys_are_text=True) for value in values], pa.string())


def _nested(values: Sequence[object | None], texts: Sequence[str | None]) -> Iterator[object]:
    """Those that may be nested too deep: so many brackets are opened in their texts, 0.1 us for 450 bytes."""
    for value, text in zip(values, texts, strict=True):
        if text is None or len(text) <= 2 * canonical.MOST_DEPTH:  # every level takes two characters
            continue
        if text.count("[") + text.count("{") > canonical.MOST_DEPTH:
            yield value


def _has_long_integer(text: bytes) -> bool:
    """Whether sixteen digits follow one another that are not those behind a float's point.

    It may find one inside a string, never miss one: 0.1 us for 450 bytes, where the pattern takes 1.1.
    """
    codes = np.frombuffer(text, np.uint8)
    digits: npt.NDArray[np.bool_] = (codes - np.uint8(ord("0"))) < 10
    runs = digits
    for step in (1, 2, 4, 8):  # after each, `runs` says where twice as many digits begin
        if len(runs) <= step:
            return False
        runs = runs[:-step] & runs[step:]
    [starts] = np.nonzero(runs)
    before = codes[starts[starts > 0] - 1]
    return bool((starts == 0).any() or np.isin(before, _BEFORE_INTEGER).any())


_BEFORE_INTEGER: Final = np.frombuffer(b":,[-\n \t\r", np.uint8)


def parsed_payloads(batch: pa.RecordBatch) -> list[Any]:
    """The decoded payloads of the rows that have one. Raises `DataInvalid` naming the id of one that is no JSON."""
    payloads = batch.column("payload")
    try:
        return decoded_payloads(payloads.drop_null())
    except DataInvalid:
        for row, text in enumerate(payloads.to_pylist()):
            try:
                None if text is None else canonical.loads(text)
            except DataInvalid as error:
                name = batch.column("id")[row].as_py()
                raise DataInvalid(f"the payload of record {name!r} is no JSON") from error
        raise


def decoded_payloads(payloads: pa.Array | pa.ChunkedArray) -> list[Any]:
    """What `canonical.loads` makes of each text, None for null; at 450 bytes 0.6 us each, where that takes 2.1.

    Raises `DataInvalid` like it.
    """
    looked = _Looked(payloads)
    if looked.tags or looked.long_integers:
        return [None if text is None else canonical.loads(text) for text in payloads.to_pylist()]
    return [None if text is None else _value_of(text) for text in looked.texts]


def _value_of(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # it refuses lone surrogates as well, which canonical.loads lets pass
        return canonical.loads(text.decode("utf-8"))


def canonical_faults(payloads: pa.Array) -> list[int]:
    """The numbers of the rows whose payload text is not the canonical text of what it holds; null is in order.

    orjson's text is the canonical one but for exponents and floats below 0.0001, tags and long integers: where none of
    them stands, one that comes out of it as it went in is canonical, at 90 bytes in 0.5 us. All others are looked at by
    our own rules.
    """
    looked = _Looked(payloads)
    rows = [row for row, text in enumerate(looked.texts) if text is not None]
    if not (looked.tags or looked.long_integers or looked.escapes):
        suspects: list[int] = []
        if looked.may_have_odd_float():
            odd = pc.match_substring_regex(payloads, _OTHER_FLOAT).to_pylist()
            suspects = [row for row in rows if odd[row]]
            rows = [row for row in rows if not odd[row]]
        texts = [looked.texts[row] for row in rows]
        if not _all_come_out_same(texts):
            suspects += [row for row, text in zip(rows, texts, strict=True) if not _comes_out_same(text)]
            suspects.sort()
        rows = suspects
    return [row for row in rows if not canonical.is_canonical(looked.texts[row].decode("utf-8"))]


def _all_come_out_same(texts: Sequence[bytes]) -> bool:
    """Whether orjson writes the value of each of them as it stands, in one go: 0.4 us at 90 bytes, one by one 0.7.

    What is compared is all of its texts, an end of a line between each two, with all that are given. It writes none of
    its own, so that both are the same only if each text is the one it writes for some value, whatever it read them as.
    """
    if not texts:
        return True
    try:
        values = orjson.loads(b"[" + b",".join(texts) + b"]")
        whole = orjson.dumps(_with_lines(values), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return False
    return len(values) == len(texts) and whole == b"[" + b",\n,".join(texts) + b"]"


def _with_lines(values: Sequence[Any]) -> list[Any]:
    parts: list[Any] = [_LINE] * (2 * len(values) - 1)
    parts[::2] = values
    return parts


def _comes_out_same(text: bytes) -> bool:
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS) == text
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return False


_OTHER_FLOAT: Final = r"[0-9][eE][+-]?[0-9]|0\.0000"
"""Where a float may stand that orjson writes in another way than `canonical.dumps`: RE2 takes 0.6 us for 450 bytes."""


def canonical_objects(texts: pa.Array, named: Callable[[int], str], *, tags: bool) -> pa.Array:
    """The canonical texts of JSON objects that somebody else wrote; null, and the JSON text `null`, are none.

    `tags` says whether exitramp made the collection, as its origin or its marker there tells: only then is an object
    such as `{"$exitramp:decimal":"1"}` a decimal. Elsewhere it is somebody's own key, and comes out escaped.

    Raises `DataInvalid` for what is no JSON, no object, or has a key twice; `named` of the row begins its message.
    At 90 bytes 0.8 us each and at 450 bytes 2, where to parse by our own rules and to write again takes 4 and 7.
    """
    odd = pc.match_substring_regex(texts, _OWN_RULES).to_pylist()
    held = texts.cast(pa.binary()).to_pylist()
    plain = [row for row, text in enumerate(held) if text is not None and not odd[row]]
    rewritten = _all_rewritten([held[row] for row in plain])
    if len(plain) == len(held) and None not in rewritten:
        return pa.array(rewritten, pa.binary()).cast(pa.string())
    found = dict(zip(plain, rewritten, strict=True))
    for row, text in enumerate(held):
        if text is not None:
            fast = found.get(row)
            held[row] = _object_text(text, partial(named, row), tags) if fast is None else fast
    return pa.array(held, pa.binary()).cast(pa.string())


_OWN_RULES: Final = r"0\.0000|\$exitramp:|\\u|[:,\[\s]-?[0-9]{16}|[:,\[\s]-?[0-9][0-9.]*[eE]"
"""What orjson reads or writes in another way than our rules say: exponents and the floats that are written with one,
tags, escapes that may hide one, and integers that may be beyond 2^53. RE2 takes 0.6 us for 450 bytes."""
_SPACE: Final = b" \t\n\r"


def _all_rewritten(texts: Sequence[bytes]) -> Sequence[bytes | None]:
    """What `_rewritten` makes of each, in one go where nothing is to be told of any of them: at 450 bytes 1.3 us."""
    if not texts:
        return []
    try:
        values = [orjson.loads(text) for text in texts]
        whole = orjson.dumps(_with_lines(values), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return [_rewritten(text) for text in texts]
    written = [line[1:-1] for line in whole.split(b"\n")]  # a bracket or a comma stands on either side
    # As in `_rewritten`: no text becomes longer, so that all together are as long as before only if each of them is.
    as_long = _visible(whole) - 2 * len(texts) == _visible(b"".join(texts))
    are_shallow = max(map(len, written)) <= 2 * canonical.MOST_DEPTH or all(map(_is_shallow, written))
    if as_long and are_shallow and {*map(type, values)} == {dict}:
        return written
    return [_rewritten(text) for text in texts]


_LINE: Final = orjson.Fragment(b"\n")
"""Put between values it tells their texts apart: orjson writes the end of a line nowhere else."""


def _visible(text: bytes) -> int:
    """How many bytes of a JSON text are no white space between its parts, or in its strings."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) > ord(" ")))


def _is_shallow(text: bytes) -> bool:
    return len(text) <= 2 * canonical.MOST_DEPTH or text.count(b"[") + text.count(b"{") <= canonical.MOST_DEPTH


def _rewritten(text: bytes) -> bytes | None:
    """orjson's text of an object; None where our own rules have to tell, or have something against it."""
    try:
        written = orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return None
    if not written.startswith(b"{"):
        return None
    if not _is_shallow(written):
        return None
    # Of a key that stands twice orjson keeps the last: the text is then shorter, and nothing here makes one longer.
    if written != text and len(written.translate(None, _SPACE)) != len(text.translate(None, _SPACE)):
        return None
    return written


def _object_text(text: bytes, named: Callable[[], str], tags: bool) -> bytes | None:
    try:
        value = canonical.parse(text.decode("utf-8"), tags=tags)
        if value is not None and not isinstance(value, dict):
            raise DataInvalid(f"no object but a {canonical.type_name(value)}")
        return None if value is None else canonical.dumps(value, keys_are_text=True).encode("utf-8")
    except DataInvalid as error:
        raise DataInvalid(f"{named()} is {error.message}", hint=error.hint) from error


def has_tags(payloads: pa.Array | pa.ChunkedArray) -> bool:
    """Whether something in the column may be a value that JSON has no type for: 0.1 us for 450 bytes."""
    return _Looked(payloads).tags


class _Looked:
    """A payload column's texts, and what one look at all their bytes together tells of them."""

    def __init__(self, payloads: pa.Array | pa.ChunkedArray) -> None:
        self.texts: list[Any] = payloads.cast(pa.binary()).to_pylist()
        self._joined = joined = b"\n".join([text for text in self.texts if text is not None])
        self.tags = canonical.TAG_PREFIX.encode() in joined
        # One byte is looked for at once; for two, of which one is common, it takes as long as for all the rest.
        self.escapes = b"\\" in joined and b"\\u" in joined
        self.long_integers = _has_long_integer(joined)

    def may_have_odd_float(self) -> bool:
        """Whether `_OTHER_FLOAT` may be found in one of them: 0.03 us for 90 bytes, where RE2 takes 0.13."""
        codes = np.frombuffer(self._joined, np.uint8)
        [marks] = np.nonzero((codes | 0x20) == ord("e"))
        behind_digit = (codes[marks[marks > 0] - 1] - np.uint8(ord("0"))) < 10
        return bool(behind_digit.any()) or b"0.0000" in self._joined
