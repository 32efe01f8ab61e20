"""The suite that exitramp ships, on files that only `json` has written and reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from exitramp.records import CollectionSpec
from exitramp.testing import Feature, Row, StoreConformance, StoreHarness


class JsonlHarness(StoreHarness):
    lacks = {
        Feature.SERVER_KILL: "files, no server",
        Feature.SERVER_STOP: "files, no server",
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def address(self, collection: str) -> str:
        return f"jsonl:{self.folder}#{quote(collection, safe='')}"

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        [field] = spec.vectors
        lines: list[dict[str, Any]] = [{"dimensions": field.dimensions, "metric": field.metric.value}]
        for row in rows:
            lines.append({"id": row.id} | {"vector": [float(number) for number in row.vectors["vector"]]})
            lines[-1] |= {} if row.document is None else {"document": row.document}
            lines[-1] |= {} if row.payload is None else {"payload": row.payload}
        self._write(collection, lines)

    def raw_read(self, collection: str) -> list[Row]:
        found = {record["id"]: record for record in self._lines(collection)[1:]}
        return [
            Row(id_, None, record.get("document"), record.get("payload"), _vectors(record))
            for id_, record in found.items()
        ]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        lines = self._lines(collection)
        [record] = [record for record in lines if record.get("id") == id_]
        record["payload"][key] = value
        self._write(collection, lines)

    def raw_collections(self) -> list[str]:
        return [path.stem for path in self.folder.glob("*.jsonl")]

    def _lines(self, collection: str) -> list[Any]:
        return [json.loads(line) for line in (self.folder / f"{collection}.jsonl").open("rb")]

    def _write(self, collection: str, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self.folder / f"{collection}.jsonl").write_text(text, encoding="utf-8")


def _vectors(record: dict[str, Any]) -> dict[str, Any]:
    return {"vector": np.array(record["vector"], np.float32)} if "vector" in record else {}


class TestJsonlStore(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> JsonlHarness:
        return JsonlHarness(tmp_path)
