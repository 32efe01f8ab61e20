"""Real stores of a few passages, embedded by a real model, and stack files over them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import numpy as np
import pyarrow as pa

from exitramp.arrow import dense_array, stream_schema
from exitramp.ports import Origin, Purpose, TransferAccount
from exitramp.records import CollectionSpec, DType, EmbeddingModel, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_embedder
from exitramp.wrappers import open_endpoint

PASSAGES = {
    "os.path.join#0": "os.path.join: Join two or more pathname components, inserting a slash as needed.",
    "os.path.split#0": "os.path.split: Split a pathname into head and tail.",
    "shutil.rmtree#0": "shutil.rmtree: Recursively delete a directory tree.",
    "os.rmdir#0": "os.rmdir: Remove a directory that is empty.",
    "json.loads#0": "json.loads: Deserialize a string that holds a JSON document to a Python object.",
    "json.dumps#0": "json.dumps: Serialize an object to a JSON formatted string.",
    "random.shuffle#0": "random.shuffle: Shuffle a list in place.",
    "itertools.zip_longest#0": "itertools.zip_longest: Iterate over several iterables of unequal length.",
    "functools.lru_cache#0": "functools.lru_cache: Least-recently-used cache decorator for the results of a function.",
    "tempfile.TemporaryDirectory#0": "tempfile.TemporaryDirectory: Create a temporary directory and remove it later.",
}
QUESTION = "How do I join two pathname components?"
NEAREST = "os.path.join#0"


def fill(address: str, *, model: str = "wordllama:", is_marked: bool = True, shifted: int = 0) -> str:
    """The passages at `address`, which is returned, embedded by `model`, and marked with it unless told otherwise.

    `shifted`: each has the vector of the one so many places before it, which is as good as another model's.
    """
    passages = PASSAGES
    embedder = open_embedder(model)
    field = VectorField(
        "",
        VectorKind.DENSE,
        DType.FLOAT32,
        Metric.COSINE,
        embedder.dimensions,
        embedder.model() if is_marked else EmbeddingModel(),
    )
    spec = CollectionSpec(address.partition("#")[2], IdKind.STRING, (field,), has_documents=True)
    vectors = embedder.embed(list(passages.values()), purpose=Purpose.DOCUMENT).vectors
    vectors = np.roll(vectors, shifted, axis=0)
    columns = {
        "id": pa.array(list(passages), pa.string()),
        "document": pa.array(list(passages.values()), pa.string()),
        "payload": pa.array(["{}"] * len(passages), pa.string()),
        field.column: dense_array(vectors, field),
    }
    schema = stream_schema(spec)
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(spec, Origin(spec, "test"))
        sink.upsert(pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema))
        sink.flush()
        sink.finish(TransferAccount(rows_read=len(passages), rows_written=len(passages)))
    embedder.close()
    return address


class RerankServer:
    """The rerank shape on loopback: `score` says how well a text answers; with `broken` set it answers that instead."""

    def __init__(self, score: Callable[[str, str], float]) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.broken: tuple[int, Any] | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append({**body, "path": self.path, "authorization": self.headers["authorization"]})
                scores = [score(body["query"], text) for text in body["documents"]]
                rows = sorted(enumerate(scores), key=lambda row: -row[1])
                told: Any = {
                    "model": body["model"],
                    "results": [{"index": place, "relevance_score": value} for place, value in rows],
                    "usage": {"total_tokens": 10 * len(scores)},
                }
                status, told = outer.broken or (200, told)
                data = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.address = f"rerank:judge?base_url=http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def price_book(rows: Sequence[tuple[str, str, str, str]]) -> str:
    """A price book of rows of provider, model, unit and amount."""
    lines = [
        f'  - {{id: r{number}, provider: {provider}, model: {model}, unit: {unit}, amount: "{amount}", '
        "source: a test, retrieved: 2026-01-01, valid_from: 2020-01-01, illustrative: true}\n"
        for number, (provider, model, unit, amount) in enumerate(rows)
    ]
    return "version: 1\nname: test\ncurrency: USD\nprices:\n" + "".join(lines)
