"""What is asked under load: the golden questions, or, where there are none, the store's own records."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt

from exitramp.arrow import dense_matrix, record_keys
from exitramp.drill.run import DrillRun
from exitramp.drill.stacks import QueryVectors
from exitramp.embedding_identity import Identified, require_same
from exitramp.errors import ConfigError, DataInvalid
from exitramp.orchestration.stack import Question
from exitramp.parity.alignment import read_all
from exitramp.ports import Embedder, Purpose, embed_all
from exitramp.records import DType, VectorKind

RECORD_QUESTIONS = 200


def query_vectors(run: DrillRun, stack: str = "primary") -> QueryVectors:
    """The vectors of all questions of this run; embedded once, before anything is cut. A stack that was embedded anew
    by a model of its own is asked by that one's."""
    if f"vectors:{stack}" in run.shared:
        own: QueryVectors = run.shared[f"vectors:{stack}"]
        return own
    if "vectors" not in run.shared:
        run.shared["vectors"] = QueryVectors({})
        _embed_golden(run, run.shared["vectors"])
    found: QueryVectors = run.shared["vectors"]
    return found


def load_questions(run: DrillRun) -> list[tuple[str, str]]:
    """Pairs of question text and use case for the stream of requests.

    Without golden questions records drawn from the primary stand in: the question
    is then a record's own vector, and its text only a name for it.
    """
    vectors = query_vectors(run)
    if run.golden:
        return [(case.text, case.use_case) for case in run.golden]
    if any(stack.chat is not None for stack in run.stacks.values()):
        raise ConfigError(
            "a chat model is asked golden questions, and there are none",
            file=run.spec.file,
            hint="give data.golden and data.embedder and the step 'load_golden', or leave the chat models away",
        )
    if "record_questions" not in run.shared:
        run.shared["record_questions"] = _sample(run, vectors)
    found: list[tuple[str, str]] = run.shared["record_questions"]
    return found


def one_question(run: DrillRun, id_: str, text: str, use_case: str, tag: str) -> Question:
    """A question of a stream, as deep and as long as the drill file has it."""
    given = run.spec.orchestration
    return Question(id_, text, use_case, given.depth_k, given.maximum_tokens, tags=(tag,), stop=given.stop)


def _embed_golden(run: DrillRun, found: QueryVectors) -> None:
    """Each question's own vector, or what the drill's embedder makes of it."""
    for case in run.golden:
        if case.vector is not None:
            found.vectors[case.text] = np.asarray(case.vector, np.float32)
    texts = [case.text for case in run.golden if case.vector is None]
    embedder = run.embedder() if texts else None
    if embedder is not None:
        _require_model(run, embedder)
        for text, vector in zip(texts, embed_all(embedder, texts, purpose=Purpose.QUERY), strict=True):
            found.vectors[text] = vector
    _require_dimensions(run, found)


def _require_model(run: DrillRun, embedder: Embedder) -> None:
    """Raises `ModelDiffers` where the primary's vectors are known to be of another model than the questions'."""
    primary = run.endpoint("primary")
    fields = [each for each in primary.source().describe().vectors if each.kind is VectorKind.DENSE]
    if fields:
        given = Identified(embedder.model(), embedder.dimensions)
        unshown = require_same(Identified.of(fields[0]), given, doing="the questions", where=str(primary.address))
        # A vendor's weights are hidden, and yet what this run embedded itself a minute ago is of its own model.
        if unshown is not None and run.shared.get("built_by") != given:
            run.say(unshown.message)


def _require_dimensions(run: DrillRun, found: QueryVectors) -> None:
    """Raises `ConfigError` naming the first question whose vector no search of the primary can take."""
    if not run.golden:
        return
    fields = [each for each in run.endpoint("primary").source().describe().vectors if each.kind is VectorKind.DENSE]
    wanted = fields[0].dimensions if fields else None
    for case in run.golden:
        items = len(found.vectors[case.text]) if case.text in found.vectors else wanted
        if items != wanted:
            raise ConfigError(
                f"the golden question {case.id!r} has a vector of {items} numbers, the primary's vectors have {wanted}",
                file=run.spec.data.golden,
                hint="embed the questions by the model that embedded the store",
            )


def _sample(run: DrillRun, vectors: QueryVectors) -> list[tuple[str, str]]:
    """A uniform sample of the primary's records by reservoir (Vitter's algorithm R, 1985)."""
    source = run.endpoint("primary").source()
    fields = [each for each in source.describe().vectors if each.kind is VectorKind.DENSE]
    if not fields or fields[0].dtype is DType.BINARY:
        raise DataInvalid("the primary has no dense vectors of numbers to ask with", hint="give golden questions")
    column = fields[0].column
    rng = random.Random(run.seed)
    kept: list[tuple[str, npt.NDArray[np.generic]]] = []
    seen = 0
    for batch in read_all(source, batch_rows=1000):
        matrix = dense_matrix(batch.column(column))
        valid = np.asarray(batch.column(column).is_valid())
        for row, key in enumerate(record_keys(batch)):
            if not valid[row]:
                continue
            seen += 1
            place = len(kept) if len(kept) < RECORD_QUESTIONS else rng.randrange(seen)
            if place < RECORD_QUESTIONS:
                item = (f"record {key}", np.array(matrix[row]))
                kept[place : place + 1] = [item]
    if not kept:
        raise DataInvalid("the primary holds no vectors to ask with")
    vectors.vectors.update(dict(kept))
    return [(name, "records") for name, _ in kept]
