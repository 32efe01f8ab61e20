"""LlamaIndex's own vector stores return the same nodes before and after a switch, and take new ones."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.vector_stores.chroma import ChromaVectorStore
from llama_index.vector_stores.postgres import PGVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import models

from tests.cli.conftest import Cli
from tests.cli.conftest import _cli as _cli
from tests.frameworks.stores import QUESTIONS, chroma_client, embedded, qdrant_client


def node(number: int) -> TextNode:
    text = f'text {number} ü "quoted"\nin two lines'
    made = TextNode(
        id_=str(uuid.UUID(int=number)),
        text=text,
        metadata={"number": number, "tag": f"t{number % 3}"},
        embedding=embedded(text),
    )
    made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"document-{number // 10}")
    return made


NODES = [node(number) for number in range(200)]


def in_chroma(folder: Path, name: str) -> ChromaVectorStore:
    configuration: Any = {"hnsw": {"space": "cosine"}}
    collection = chroma_client(folder).get_or_create_collection(name, configuration=configuration)
    return ChromaVectorStore(chroma_collection=collection)


def in_qdrant(address: str, name: str) -> QdrantVectorStore:
    return QdrantVectorStore(name, client=qdrant_client(address))


def found(store: Any, tag: str | None = None) -> list[list[tuple[Any, ...]]]:
    filters = None if tag is None else MetadataFilters(filters=[MetadataFilter(key="tag", value=tag)])
    answers = []
    for question in QUESTIONS:
        query = VectorStoreQuery(query_embedding=embedded(question), similarity_top_k=5, filters=filters)
        nodes = store.query(query).nodes
        answers.append([(each.node_id, each.get_content(), each.metadata, each.ref_doc_id) for each in nodes])
    return answers


def test_nodes_are_the_same_in_qdrant_and_back_in_chroma(cli: Cli, qdrant: str) -> None:
    first = in_chroma(Path("old"), "nodes")
    first.add(NODES)
    before, filtered = found(first), found(first, "t1")
    cli("copy", "chroma:./old#nodes", f"{qdrant}#nodes", "--layout", "llama-index", code=0)
    second = in_qdrant(qdrant, "nodes")
    assert found(second) == before
    assert found(second, "t1") == filtered
    cli("compare", "chroma:./old#nodes", f"{qdrant}#nodes", "--layout", "llama-index", code=0)

    second.add([node(1000)])
    cli("copy", f"{qdrant}#nodes", "chroma:./new#nodes", "--layout", "llama-index", code=0)
    third = in_chroma(Path("new"), "nodes")
    assert found(third) == before
    assert found(third, "t1") == filtered
    [new] = third.get_nodes([node(1000).node_id])
    assert (new.get_content(), new.metadata) == (node(1000).get_content(), node(1000).metadata)


def test_nodes_that_were_written_into_qdrant_come_to_chroma(cli: Cli, qdrant: str) -> None:
    client = qdrant_client(qdrant)
    client.create_collection("begun", vectors_config=models.VectorParams(size=24, distance=models.Distance.COSINE))
    first = in_qdrant(qdrant, "begun")
    first.add(NODES[:50])
    before = found(first)
    cli("copy", f"{qdrant}#begun", "chroma:./new#begun", "--layout", "llama-index", code=0)
    assert found(in_chroma(Path("new"), "begun")) == before
    cli("copy", "chroma:./new#begun", f"{qdrant}#again", "--layout", "llama-index", code=0)
    assert found(in_qdrant(qdrant, "again")) == before


def in_postgres(address: str, name: str) -> PGVectorStore:
    """LlamaIndex's own class, whose tables are called data_NAME; it makes one where there is none."""
    place = urlsplit(address.partition(":")[2])
    return PGVectorStore.from_params(
        host=place.hostname, port=str(place.port), user=place.username, password="", database=place.path[1:],
        table_name=name, embed_dim=24,
    )  # fmt: skip


def test_nodes_are_the_same_in_postgres_and_back_in_chroma(cli: Cli, postgres: str) -> None:
    in_chroma(Path("old"), "nodes").add(NODES)
    before = found(in_chroma(Path("old"), "nodes"))
    cli("copy", "chroma:./old#nodes", f"{postgres}#data_nodes", "--layout", "llama-index", code=0)
    second = in_postgres(postgres, "nodes")
    assert found(second) == before
    assert found(second, "t1") == found(in_chroma(Path("old"), "nodes"), "t1")
    second.add([node(1000)])
    cli("copy", f"{postgres}#data_nodes", "chroma:./new#nodes", "--layout", "llama-index", code=0)
    third = in_chroma(Path("new"), "nodes")
    assert found(third) == before
    assert third.get_nodes([node(1000).node_id])[0].get_content() == node(1000).get_content()


def test_a_table_that_llama_index_made_goes_to_qdrant(cli: Cli, postgres: str, qdrant: str) -> None:
    first = in_postgres(postgres, "theirs")
    first.add(NODES[:50])
    before = found(first)
    options = "id=node_id&document=text&payload=metadata_&metric=cosine"
    cli("copy", f"{postgres}?{options}#data_theirs", f"{qdrant}#from-theirs", "--layout", "llama-index", code=0)
    assert found(in_qdrant(qdrant, "from-theirs")) == before


def test_records_without_a_node_are_refused_by_name(cli: Cli) -> None:
    chroma_client(Path("old")).create_collection("others").add(ids=["a"], embeddings=[[1.0, 2.0]], documents=["x"])
    ended = cli("copy", "chroma:./old#others", "chroma:./x#others", "--layout", "llama-index", code=2)
    assert "the record 'a' is not as llama-index writes it" in ended.err
    assert "_node_content" in ended.err
