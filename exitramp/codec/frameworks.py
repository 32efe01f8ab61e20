"""How frameworks lay records out, store by store, and the plain form in between: the text as the document, the metadata
as the payload.

LangChain keeps a text and its metadata as a store's own document and payload where it has both (Chroma, SQL tables),
and in Qdrant under `page_content` and `metadata` of the payload. LlamaIndex keeps a node as JSON in the key
`_node_content` beside its metadata: without the text where the store has a place for that, and in Qdrant with it.
(langchain-qdrant 1.1, langchain-chroma 1.1, llama-index-vector-stores-qdrant 0.10, -chroma 0.6, -postgres 0.9.)
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from exitramp.arrow import record_keys
from exitramp.errors import DataInvalid, UsageError
from exitramp.filters import Field
from exitramp.payloads import decoded_payloads, payload_array
from exitramp.records import CollectionSpec, RecordKey, VectorKind

LANGCHAIN: Final = "langchain"
LLAMA_INDEX: Final = "llama-index"
PLAIN: Final = "plain"
LAYOUTS: Final = (LANGCHAIN, LLAMA_INDEX, PLAIN)

_CONTENT, _METADATA, _NODE = "page_content", "metadata", "_node_content"
_OURS: Final = "_exitramp"

Payload = dict[str, Any] | None


class Arrangement(ABC):
    """A framework's arrangement in one kind of store. As a view it shows the plain form; `arranged` is the way back."""

    framework = ""
    beside = True  # whether documents stand beside the payload, and not in it

    @abstractmethod
    def plain(self, document: str | None, payload: Payload) -> tuple[str | None, Payload]:
        """Document and payload of a record of this arrangement. Raises `ValueError` saying why it is none."""

    @abstractmethod
    def arrange(self, document: str | None, payload: Payload) -> tuple[str | None, Payload]:
        """A plain record in this arrangement. Raises `ValueError` for one that the framework could not have written."""

    def spec(self, spec: CollectionSpec) -> CollectionSpec:
        """With its documents, and its one dense field without a name: a framework has no other."""
        named = _only_dense(spec)
        vectors = tuple(replace(field, name="") if field.name == named else field for field in spec.vectors)
        return replace(spec, has_documents=True, vectors=vectors)

    def arranged_spec(self, spec: CollectionSpec) -> CollectionSpec:
        return replace(spec, has_documents=self.beside)

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        found = self._changed(batch, self.plain, True)
        dense = [name for name in found.schema.names if name == "vector" or name.startswith("vector:")]
        if len(dense) != 1 or dense == ["vector"]:
            return found
        return found.rename_columns(["vector" if name == dense[0] else name for name in found.schema.names])

    def arranged(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return self._changed(batch, self.arrange, self.beside)

    def target_keys(self, keys: Sequence[RecordKey]) -> Sequence[RecordKey]:
        return keys

    def source_key(self, key: RecordKey) -> RecordKey | None:
        return key

    def source_field(self, field: Field) -> Field:
        return field

    def source_vector(self, name: str, spec: CollectionSpec) -> str:
        return (_only_dense(spec) or "") if name == "" else name

    def _changed(
        self,
        batch: pa.RecordBatch,
        change: Callable[[str | None, Payload], tuple[str | None, Payload]],
        has_documents: bool,
    ) -> pa.RecordBatch:
        names = batch.schema.names
        documents = batch.column("document").to_pylist() if "document" in names else [None] * batch.num_rows
        found: list[tuple[str | None, Payload]] = []
        for row, (document, payload) in enumerate(
            zip(documents, decoded_payloads(batch.column("payload")), strict=True)
        ):
            try:
                found.append(change(document, payload))
            except ValueError as error:
                key = record_keys(batch.slice(row, 1))[0]
                raise DataInvalid(
                    f"the record '{key}' is not as {self.framework} writes it: {error}",
                    hint="leave out --layout, and it is taken as it is",
                ) from error
        columns = {name: batch.column(name) for name in names if name != "document"}
        columns["payload"] = payload_array([payload for _, payload in found])
        if has_documents:
            columns["document"] = pa.array([document for document, _ in found], pa.string())
        first = [name for name in ("id", "namespace", "document", "payload") if name in columns]
        order = [*first, *(name for name in names if name not in (*first, "document"))]
        fields = [batch.schema.field(name) if name in names else pa.field(name, pa.string()) for name in order]
        return pa.RecordBatch.from_arrays([columns[name] for name in order], schema=pa.schema(fields))


class LangChainBeside(Arrangement):
    """LangChain where a store has documents: nothing but empty metadata, which is the same to it as none."""

    framework = LANGCHAIN

    def plain(self, document: str | None, payload: Payload) -> tuple[str | None, Payload]:
        if document is None:
            raise ValueError("it has no document")
        return document, payload or None

    def arrange(self, document: str | None, payload: Payload) -> tuple[str | None, Payload]:
        if document is None:
            raise ValueError("it has no document")
        return document, payload or None


class LangChainInPayload(Arrangement):
    """LangChain in Qdrant: `{"page_content": text, "metadata": {…}}`."""

    framework = LANGCHAIN
    beside = False

    def plain(self, document: str | None, payload: Payload) -> tuple[str | None, Payload]:
        text = (payload or {}).get(_CONTENT)
        if not isinstance(text, str):
            raise ValueError(f"its payload has no text under '{_CONTENT}'")
        others = sorted(payload.keys() - {_CONTENT, _METADATA}) if payload else []
        metadata = (payload or {}).get(_METADATA)
        if others or not isinstance(metadata, dict | None):
            raise ValueError(f"its payload has the key '{others[0]}'" if others else f"its '{_METADATA}' is no object")
        return text, metadata or None

    def arrange(self, document: str | None, payload: Payload) -> tuple[str | None, Payload]:
        if document is None:
            raise ValueError("it has no document")
        return None, {_CONTENT: document, _METADATA: payload or {}}

    def source_field(self, field: Field) -> Field:
        return (_METADATA, *field)


class LlamaIndexBeside(Arrangement):
    """LlamaIndex where a store has documents: the node without its text."""

    framework = LLAMA_INDEX

    def plain(self, document: str | None, payload: Payload) -> tuple[str | None, Payload]:
        _node(payload)
        return document, payload

    def arrange(self, document: str | None, payload: Payload) -> tuple[str | None, Payload]:
        _node(payload)
        return document, payload


class LlamaIndexInTable(LlamaIndexBeside):
    """LlamaIndex in PostgreSQL: a table whose columns have names of its own, told to the sink as if it had been one."""

    def arranged_spec(self, spec: CollectionSpec) -> CollectionSpec:
        dense = [field.name for field in spec.vectors if field.kind is VectorKind.DENSE]
        columns = [
            _column("id", "int8", "unread", counts=True),
            _column("text", "varchar", "document"),
            _column("metadata_", "json", "payload"),
            _column("node_id", "varchar", "id"),
            *(_column("embedding", "vector", "vector", field=name) for name in dense[:1]),
        ]
        table = {"columns": columns, "indexes": (spec.index.get("pgvector") or {}).get("indexes", [])}
        return replace(spec, has_documents=True, index={**spec.index, "pgvector": table})


def _column(name: str, base: str, role: str, **more: Any) -> dict[str, Any]:
    schema = "public" if base == "vector" else "pg_catalog"
    plain = {"name": name, "base": base, "schema": schema, "modifier": -1, "array": False, "role": role}
    return plain | more


class LlamaIndexInPayload(Arrangement):
    """LlamaIndex in Qdrant: the node with its text in it, and no document beside."""

    framework = LLAMA_INDEX
    beside = False

    def plain(self, document: str | None, payload: Payload) -> tuple[str | None, Payload]:
        node = _node(payload)
        text = node.get("text")
        if not isinstance(text, str):
            raise ValueError(f"its '{_NODE}' has no text")
        resource = node.get("text_resource")
        if (
            isinstance(resource, dict)
            and resource.get("text") == text
            and not any(value for name, value in resource.items() if name != "text")
        ):
            del node["text_resource"]
        return text, {**(payload or {}), _NODE: _json(node | {"text": ""})}

    def arrange(self, document: str | None, payload: Payload) -> tuple[str | None, Payload]:
        node = _node(payload)
        return None, {**(payload or {}), _NODE: _json(node | {"text": document or ""})}


def _only_dense(spec: CollectionSpec) -> str | None:
    """The name of the only dense field, if it has one."""
    dense = [field.name for field in spec.vectors if field.kind is VectorKind.DENSE]
    return dense[0] if len(dense) == 1 and dense[0] else None


def _node(payload: Payload) -> dict[str, Any]:
    text = (payload or {}).get(_NODE)
    try:
        node = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        node = None
    if not isinstance(node, dict):
        raise ValueError(f"its payload holds no node under '{_NODE}'")
    return node


def _json(node: dict[str, Any]) -> str:
    """As LlamaIndex writes it."""
    return json.dumps(node, ensure_ascii=False)


def arrangement(framework: str, scheme: str) -> Arrangement | None:
    """How `framework` lays records out in stores of this kind; None where they stay as they are.

    Dumps and the stores that it has no arrangement of its own for hold the plain form.
    """
    if framework not in LAYOUTS:
        raise UsageError(f"--layout {framework}: no such layout", hint=f"there are: {', '.join(LAYOUTS)}")
    in_payload = scheme.partition("+")[0] == "qdrant"
    if framework == LANGCHAIN:
        return LangChainInPayload() if in_payload else LangChainBeside()
    if framework == LLAMA_INDEX:
        if scheme == "pgvector":
            return LlamaIndexInTable()
        return LlamaIndexInPayload() if in_payload else LlamaIndexBeside()
    return None
