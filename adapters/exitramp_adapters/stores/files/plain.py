"""Plain columns of files: which one is what, by what the address says and by types that can mean one thing only."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from exitramp.errors import DataInvalid, UsageError
from exitramp.ports.tables import roles_in
from exitramp.records import DType, Metric, VectorField, VectorKind
from exitramp.urls import Address
from exitramp_adapters.stores.files.cells import Field, Part, Table
from exitramp_adapters.stores.files.json_rows import JsonRows
from exitramp_adapters.stores.files.number_forms import is_certain, may_be
from exitramp_adapters.stores.files.options import dtype_said, metric_said, nulls_said, types_said

_INDEX_COLUMN: Final = re.compile(r"__index_level_\d+__")
"""What a data frame's index is called in the files that pandas writes, where it has no name of its own."""


def plain_table(
    address: Address, parts: Sequence[Part], name: str, *, vectors: bool = True, row_ids: bool = False
) -> Table:
    """What the columns of plain files are, by what the address says. `vectors`: whether they hold the vectors too."""
    names: dict[str, None] = {}
    kinds: dict[str, pa.DataType] = {}
    dropped: dict[str, None] = {}
    for part in parts:
        if part.file.schema is None:
            assert isinstance(part.file, JsonRows)
            names.update(dict.fromkeys(part.file.names()))
            continue
        left = _left_behind(part.file.schema)
        dropped.update(dict.fromkeys(left))
        for field in part.file.schema:
            if field.name not in left:
                names[field.name] = None
                kinds.setdefault(field.name, field.type)
    if isinstance(parts[0].file, JsonRows):  # a key may come up later than in the first lines
        said = [address.option(role) for role in ("id", "namespace", "document", "payload")]
        names.update(dict.fromkeys(each for each in said if each))
    known = _vector_columns(address, kinds, names) if vectors else []
    placeholder = {column: VectorField(column, VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 1) for column in known}
    key = ["row number"] if row_ids and address.option("id") is None else []
    roles = roles_in(address, [*names, *key], key=key, vectors=placeholder)
    read = [column for column in known if column in roles.vectors]
    if vectors and not read:
        raise UsageError(
            f"{address}: nothing says which column holds vectors",
            hint=f"add ?vectors=COLUMN; there are {', '.join(names)}",
        )
    dense = [column for column in read if column not in kinds or not _is_special(kinds[column])]
    fields = []
    for column in read:
        called = "" if dense == [column] else column
        dtype = dtype_said(address, called, column)
        metric = metric_said(address, called, column)
        fields.append(Field(column, called, metric, dtype, rounded=dtype is not None))
    types = types_said(address)
    for column in types:
        if column not in roles.values and kinds:
            raise UsageError(f"{address}: types={column}: that is no column of the payload")
    return Table(
        address.collection or name,
        parts,
        roles,
        fields,
        namespaced=roles.namespace is not None,
        nulls_absent=nulls_said(address, absent=False),
        types=types,
        row_ids=bool(key),
        dropped=list(dropped),
        index={"file": _about(parts, kinds)},
    )


def _vector_columns(address: Address, kinds: dict[str, pa.DataType], names: dict[str, None]) -> list[str]:
    """Columns that can be nothing else, and those that the address names and that can be."""
    found = {name: None for name, kind in kinds.items() if is_certain(kind)}
    for name in (address.option("vectors") or "").split(","):
        if name and name in kinds and not may_be(kinds[name]):
            raise UsageError(f"{address}: vectors={name}: a column of {kinds[name]} holds no vectors")
        if name and (name in names or not kinds):
            found[name] = None
    return list(found)


def _is_special(kind: pa.DataType) -> bool:
    """Whether it holds sparse vectors, or several for each record: fields that always have a name."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(pa.types.is_struct(kind) or pa.types.is_map(kind) or (is_list and pa.types.is_nested(kind.value_type)))


def _left_behind(schema: pa.Schema) -> list[str]:
    """Columns that were a data frame's index: that pandas' own metadata names as such, and that had no name."""
    told = (schema.metadata or {}).get(b"pandas")
    if told is None:
        return []
    try:
        columns = json.loads(told).get("index_columns", [])
    except (ValueError, AttributeError) as error:
        raise DataInvalid("the metadata that pandas left in the file is no JSON") from error
    return [name for name in columns if isinstance(name, str) and _INDEX_COLUMN.fullmatch(name)]


def _about(parts: Sequence[Part], kinds: dict[str, pa.DataType]) -> dict[str, Any]:
    return {
        "files": [part.file.path.name for part in parts],
        "columns": {name: str(kind) for name, kind in kinds.items()},
    }
