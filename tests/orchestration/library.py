"""A library that is asked: real stores of the same passages, two vendors, and an application that never changes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exitramp.orchestration import Answered, Application, read_traces
from exitramp.orchestration.following import LOOKS_SECONDS
from exitramp.records import TraceRecord
from exitramp.registry import service_adapter
from tests.orchestration.libraries import QUESTION, fill
from tests.orchestration.vendors import Vendors, write

STORES = ("chroma", "qdrant", "pgvector")


class Library:
    """Two vendors, the same passages in some stores, and stack files over them."""

    def __init__(self, folder: Path, stores: Sequence[str] = STORES) -> None:
        self.folder = folder
        self.vendors = Vendors(folder)
        self.postgres = service_adapter("postgres").make(str(folder / "postgres"), 5, {})
        places = {kind: f"{kind}:{folder}/{kind}-db" for kind in stores}
        if "pgvector" in places:
            places["pgvector"] = self.postgres.start().text
        self.stores = {kind: fill(f"{place}#docs") for kind, place in places.items()}

    def end(self) -> None:
        self.postgres.stop()
        self.vendors.stop()

    def document(self, *stacks: tuple[str, str], store: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Stacks of a model and a store each, in this order; `store` is said of each store."""
        document = self.vendors.document()
        document |= {
            "embedders": {"words": {"address": "wordllama:"}},
            "stores": {
                name: {"address": self.stores[name], "embedder": "words", "depth_k": 3, **(store or {})}
                for name in dict.fromkeys(kind for _, kind in stacks)
            },
            "prompts": "packaged",
            "stacks": {f"{model}-{kind}": {"chat": model, "store": kind} for model, kind in stacks},
        }
        return document | more


def the_application(application: Application) -> Answered:
    """What a user wrote once; no test below changes a word of it."""
    return application.ask(QUESTION, use_case="docs_qa")


def after_edit(application: Application, path: Path, document: Mapping[str, Any]) -> Answered:
    """The first answer by the file as it is now."""
    before = application.file.sha256
    write(path, document)
    end = time.monotonic() + 10
    while application.file.sha256 == before:
        assert time.monotonic() < end, application.problem
        time.sleep(LOOKS_SECONDS / 2)
    return the_application(application)


def answers_of(path: Path) -> list[TraceRecord]:
    return [record for record in read_traces(path) if record.operation == "answer"]
