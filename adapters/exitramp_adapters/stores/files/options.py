"""What an address says of files in which nothing else says it: metrics, types, and which files are meant."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import Any, Final

from exitramp import canonical
from exitramp.durable import READ, storage_errors
from exitramp.errors import AddressError, CollectionMissing, DataInvalid, UsageError
from exitramp.ports.tables import OPTIONS as COLUMN_OPTIONS
from exitramp.records import DType, Metric, parse_metric
from exitramp.urls import Address

TABLE_OPTIONS: Final = (*COLUMN_OPTIONS, "metric", "dtype", "types", "nulls")


def metric_said(address: Address, name: str, column: str) -> Metric:
    """The metric of the field `name`, which stands in `column`: `?metric=dot`, or `?metric=title:dot,body:cosine`.

    Raises `UsageError` where the address does not say it: files do not either, and there is no default.
    """
    said = _named(address, "metric")
    for each in (column, name, ""):
        if each in said:
            return parse_metric(said[each], where="option 'metric'")
    known = ", ".join(Metric)
    raise UsageError(
        f"{address}: nothing says by which metric the vectors of '{column}' are compared",
        hint=f"add ?metric=… (for several fields ?metric={column}:…,…); known are {known}",
    )


def dtype_said(address: Address, name: str, column: str) -> DType | None:
    """The type that the address says a field has, None where what it holds decides."""
    said = _named(address, "dtype")
    for each in (column, name, ""):
        if each in said:
            try:
                return DType(said[each])
            except ValueError:
                raise AddressError(
                    f"{address}: the dtype '{said[each]}' is not known", hint=f"known are {', '.join(DType)}"
                ) from None
    return None


def _named(address: Address, option: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for part in (address.option(option) or "").split(","):
        name, separator, value = part.rpartition(":")
        if value:
            found[name if separator else ""] = value
    return found


def yes_or_no(address: Address, option: str, *, default: bool) -> bool:
    word = address.option(option, "yes" if default else "no")
    if word not in {"yes", "no"}:
        raise AddressError(f"{address}: '{option}' is yes or no")
    return word == "yes"


def nulls_said(address: Address, *, absent: bool) -> bool:
    """Whether a null in a column means that the record does not have that key."""
    word = address.option("nulls", "absent" if absent else "keep")
    if word not in {"absent", "keep"}:
        raise AddressError(f"{address}: 'nulls' is absent or keep")
    return word == "absent"


def types_said(address: Address) -> Mapping[str, Callable[[str], Any]]:
    """`?types=price:float,year:int`: what the texts in a column are, which otherwise stay texts."""
    found = {}
    for column, kind in _named(address, "types").items():
        if kind not in _READERS or not column:
            known = ", ".join(_READERS)
            raise AddressError(f"{address}: types={column}:{kind}: no such type", hint=f"known are {known}")
        found[column] = _READERS[kind]
    return found


def as_typed(texts: list[Any], read: Callable[[str], Any], where: Callable[[int], str]) -> list[Any]:
    values = []
    for row, text in enumerate(texts):
        try:
            values.append(None if text is None else read(text))
        except (ValueError, InvalidOperation, DataInvalid) as error:
            raise DataInvalid(f"{where(row)}: it is not of the type that ?types= says") from error
    return values


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,4000}", text):
        raise ValueError(text)
    return int(text)


def _number(text: str, kind: Callable[[str], Any]) -> Any:
    """Python takes 1_000 for a thousand, and makes an infinity of 1e400."""
    value = kind(text)
    if "_" in text or (isinstance(value, float) and math.isinf(value) and "inf" not in text.lower()):
        raise ValueError(text)
    return value


def _timestamp(text: str) -> datetime:
    """Python leaves out what is finer than microseconds."""
    if re.search(r"[.,][0-9]{6}0*[1-9]", text):
        raise ValueError(text)
    return datetime.fromisoformat(text)


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "int": _integer,
    "float": lambda text: _number(text, float),
    "bool": lambda text: {"true": True, "false": False}[text.lower()] if text.lower() in {"true", "false"} else _no(),
    "decimal": lambda text: _number(text, Decimal),
    "timestamp": _timestamp,
    "date": date.fromisoformat,
    "json": partial(canonical.parse, tags=False),
}


def _no() -> Any:
    raise ValueError("neither true nor false")


def files_meant(path: Path, suffixes: tuple[str, ...], *, deep: bool = False) -> list[Path]:
    """The file at `path`, those of a folder, or those that a pattern means, sorted by name.

    Of a folder and a pattern only files of a known kind count, and none that begins with a dot or an underscore, as
    those that writers leave beside their data do. Raises `CollectionMissing` where there is none.
    """
    with storage_errors(path, READ):
        if path.is_file():
            return [path]
        if path.is_dir():
            found = list(path.rglob("*") if deep else path.iterdir())
        elif has_magic(str(path)):
            root = Path(path.anchor) if path.is_absolute() else Path()
            found = list(root.glob(str(path.relative_to(path.anchor) if path.is_absolute() else path)))
        else:
            raise CollectionMissing(f"there is no file {path}")
        meant = [
            each
            for each in sorted(found)
            if each.suffix.lower() in suffixes and each.name[0] not in "._" and each.is_file()
        ]
    if not meant:
        raise CollectionMissing(f"{path}: there is no file of a known kind", hint=f"known are {', '.join(suffixes)}")
    kinds = {each.suffix.lower() for each in meant}
    if len(kinds) > 1:
        raise UsageError(
            f"{path} holds files of several kinds: {', '.join(sorted(kinds))}", hint="name those you mean: …/*.parquet"
        )
    return meant
