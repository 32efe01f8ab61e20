"""LangChain's own vector stores find the same documents before and after a switch, and go on with what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_postgres import PGEngine, PGVectorStore
from langchain_qdrant import QdrantVectorStore
from qdrant_client import models

from tests.cli.conftest import Cli
from tests.cli.conftest import _cli as _cli
from tests.frameworks.stores import QUESTIONS, chroma_client, embedded, qdrant_client

DOCUMENTS = [
    Document(f"text {number} ü", metadata={"number": number, "tag": f"t{number % 3}", "share": number / 8})
    for number in range(200)
] + [Document(f"bare {number}") for number in range(5)]
OF_THE_STORE = {"_id", "_collection_name"}


class Embedded(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [embedded(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return embedded(text)


def in_chroma(folder: Path, name: str) -> Chroma:
    configuration: Any = {"hnsw": {"space": "cosine"}}
    return Chroma(name, Embedded(), client=chroma_client(folder), collection_configuration=configuration)


def in_qdrant(address: str, name: str) -> QdrantVectorStore:
    return QdrantVectorStore(qdrant_client(address), name, Embedded())


def found(store: Any, **how: Any) -> list[list[tuple[str, dict[str, Any]]]]:
    """What its retriever returns to each question: texts and metadata, without what langchain-qdrant adds by itself."""
    answers = [store.as_retriever(search_kwargs={"k": 5, **how}).invoke(question) for question in QUESTIONS]
    return [
        [(each.page_content, {k: v for k, v in each.metadata.items() if k not in OF_THE_STORE}) for each in answer]
        for answer in answers
    ]


def test_a_retriever_finds_the_same_in_qdrant_and_back_in_chroma(cli: Cli, qdrant: str) -> None:
    first = in_chroma(Path("old"), "articles")
    first.add_documents(DOCUMENTS)
    before, filtered = found(first), found(first, filter={"tag": "t1"})
    cli("copy", "chroma:./old#articles", f"{qdrant}#articles", "--layout", "langchain", code=0)

    second = in_qdrant(qdrant, "articles")
    assert found(second) == before
    match = models.Filter(must=[models.FieldCondition(key="metadata.tag", match=models.MatchValue(value="t1"))])
    assert found(second, filter=match) == filtered
    cli("compare", "chroma:./old#articles", f"{qdrant}#articles", "--layout", "langchain", code=0)

    second.add_documents([Document("a new one", metadata={"number": 1000})])
    cli("copy", f"{qdrant}#articles", "chroma:./new#articles", "--layout", "langchain", code=0)
    third = in_chroma(Path("new"), "articles")
    assert found(third) == before
    assert found(third, filter={"tag": "t1"}) == filtered
    [new] = third.similarity_search("a new one", k=1)
    assert (new.page_content, new.metadata) == ("a new one", {"number": 1000})


def in_postgres(address: str, name: str) -> PGVectorStore:
    """LangChain's own class over the table that exitramp made, by the names of its columns."""
    engine = PGEngine.from_connection_string(f"postgresql+psycopg:{address.partition(':')[2].partition('?')[0]}")
    return PGVectorStore.create_sync(
        engine,
        Embedded(),
        name,
        id_column="id",
        content_column="document",
        embedding_column="embedding",
        metadata_json_column="payload",
    )


def test_a_retriever_finds_the_same_in_postgres_and_back_in_chroma(cli: Cli, postgres: str) -> None:
    in_chroma(Path("old"), "articles").add_documents(DOCUMENTS)
    before = found(in_chroma(Path("old"), "articles"))
    cli("copy", "chroma:./old#articles", f"{postgres}#articles", "--layout", "langchain", code=0)
    second = in_postgres(postgres, "articles")
    assert found(second) == before
    second.add_documents([Document("a new one", metadata={"number": 1000})])
    cli("copy", f"{postgres}#articles", "chroma:./new#articles", "--layout", "langchain", code=0)
    third = in_chroma(Path("new"), "articles")
    assert found(third) == before
    assert third.similarity_search("a new one", k=1)[0].metadata == {"number": 1000}


def test_a_table_that_langchain_made_goes_to_qdrant(cli: Cli, postgres: str, qdrant: str) -> None:
    engine = PGEngine.from_connection_string(f"postgresql+psycopg:{postgres.partition(':')[2].partition('?')[0]}")
    engine.init_vectorstore_table("theirs", vector_size=24)
    first = PGVectorStore.create_sync(engine, Embedded(), "theirs")
    first.add_documents(DOCUMENTS)
    before = found(first)
    options = "id=langchain_id&document=content&payload=langchain_metadata&metric=cosine"
    cli("copy", f"{postgres}?{options}#theirs", f"{qdrant}#theirs", "--layout", "langchain", code=0)
    assert found(in_qdrant(qdrant, "theirs")) == before


def test_a_dump_between_holds_texts_as_documents(cli: Cli, qdrant: str) -> None:
    in_chroma(Path("old"), "through-a-dump").add_documents(DOCUMENTS)
    before = found(in_chroma(Path("old"), "through-a-dump"))
    cli("dump", "chroma:./old#through-a-dump", "out", "--layout", "langchain", code=0)
    cli("restore", "out", f"{qdrant}#through-a-dump", "--layout", "langchain", code=0)
    assert found(in_qdrant(qdrant, "through-a-dump")) == before
    inspected = cli("inspect", f"{qdrant}#through-a-dump", "--layout", "langchain", "--json", code=0).json
    assert inspected["collection"]["has_documents"]
    assert {each["path"][0] for each in inspected["inventory"]["fields"] if each["path"]} == {"number", "tag", "share"}


def test_records_that_langchain_did_not_write_are_refused_by_name(cli: Cli, qdrant: str) -> None:
    client = qdrant_client(qdrant)
    client.create_collection("others", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    client.upsert("others", [models.PointStruct(id=7, vector=[1, 2], payload={"text": "x"})], wait=True)
    ended = cli("copy", f"{qdrant}#others", "chroma:./x#others", "--layout", "langchain", code=2)
    assert "the record '7' is not as langchain writes it" in ended.err
    assert "page_content" in ended.err
    assert not Path("x").exists()


@pytest.mark.parametrize("word", ["plain", None])
def test_without_a_framework_records_stay_as_they_are(cli: Cli, qdrant: str, name: str, word: str | None) -> None:
    collection = f"plain-{word}"
    in_chroma(Path("old"), collection).add_documents(DOCUMENTS[:3])
    more = () if word is None else ("--layout", word)
    cli("copy", f"chroma:./old#{collection}", f"{qdrant}#{collection}", *more, code=0)
    points, _ = qdrant_client(qdrant).scroll(collection, with_payload=True)
    assert all("page_content" not in (point.payload or {}) for point in points)


@pytest.fixture(name="name")
def _name(tmp_path: Path) -> str:
    return tmp_path.name
