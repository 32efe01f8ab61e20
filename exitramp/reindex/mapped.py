"""Fit a mapping on a sample, judge it on another, and move the collection through it where that is asked for."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_matrix, record_keys
from exitramp.clock import Clock, SystemClock
from exitramp.embedding_identity import Identified
from exitramp.errors import DataInvalid, SpendExceeded, UsageError
from exitramp.evals.golden import asked_again
from exitramp.evals.sets.case import Case
from exitramp.migration import MoveResult, migrate
from exitramp.ports import Embedder, Purpose, embed_all
from exitramp.records import Finding, Verdict
from exitramp.reindex.calling import Caller
from exitramp.reindex.costing import price_of
from exitramp.reindex.embedding import Embedding
from exitramp.reindex.judging import Judgement, judge_neighbours, judge_questions, scores_of
from exitramp.reindex.looking import Texts, pages_of, texts_under
from exitramp.reindex.mapping import MapKind, SpaceMap, fit
from exitramp.reindex.moving import BATCH_ROWS
from exitramp.reindex.result import How, spent_json
from exitramp.reindex.shape import dense_field, require_room, shape_of
from exitramp.reindex.source import ReindexedSource, reindexed_endpoint
from exitramp.reindex.spool import Account, Spool, text_hash
from exitramp.transfer.checkpoint import FileCheckpoint
from exitramp.wording import counted
from exitramp.wrappers import Endpoint

QUESTIONS = 400
"""So many held-out documents ask for their neighbours."""
CONSENT = "mapping"
WAYS = ("documents", "questions")
_RECOMMENDED = {Verdict.PASS: "yes", Verdict.FAIL: "no", Verdict.INCONCLUSIVE: "not shown"}


@dataclass(frozen=True, slots=True)
class MapHow:
    """`sample` texts to fit on and half as many, 1,500 at most, to judge by; `kind` None: whichever is nearer."""

    sample: int = 2000
    margin: float = 0.05
    kind: MapKind | None = None
    golden: Sequence[Case] = ()
    seed: int = 0

    @property
    def held(self) -> int:
        return max(1, min(1500, self.sample // 2))


@dataclass(slots=True)
class MapResult:
    """The mapping and what it costs in quality. `recommended` is of each way by itself."""

    map: SpaceMap
    judgements: list[Judgement]
    account: Account
    usd: Decimal | None
    fitted: int
    held: int
    asked: MapHow
    move: MoveResult | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def decides(self, way: str) -> Judgement:
        """The golden questions where there are any, else the neighbours."""
        return [each for each in self.judgements if each.way == way][-1]

    def recommended(self, way: str) -> str:
        return _RECOMMENDED[self.decides(way).verdict]

    @property
    def sampled(self) -> str:
        """How many texts the mapping was fitted on, and why not as many as were asked for."""
        fitted, held = counted(self.fitted, "text"), f"{self.held:,} others were held back to judge it by"
        if self.fitted >= self.asked.sample:
            return f"fitted on {fitted}; {held}"
        beside = " beside those that the golden questions ask for" if self.asked.golden else ""
        return (
            f"fitted on {fitted} and not the {self.asked.sample:,} of --sample: there are "
            f"{self.fitted + self.held:,} different ones with a vector{beside}, and {held}"
        )

    @property
    def verdict(self) -> Verdict:
        moved = self.move.verdict if self.move is not None else Verdict.PASS
        told = [each.verdict for each in self.findings if each.verdict is not None]
        return Verdict.worst([moved, *told, self.decides("documents").verdict])

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "old": str(self.map.old),
            "new": str(self.map.new),
            "map_sha256": self.map.digest(),
            "kind": {"documents": self.map.documents.kind.value, "questions": self.map.questions.kind.value},
            "fitted_on": self.fitted,
            "judged_on": self.held,
            "sample_asked": self.asked.sample,
            "recommended": {way: self.decides(way).verdict is Verdict.PASS for way in WAYS},
            "judgements": [each.to_json() for each in self.judgements],
            "spent": spent_json(self.account, self.usd),
            "move": self.move.to_json() if self.move is not None else None,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "findings": [each.to_json() for each in self.findings],
        }


@dataclass(slots=True)
class _Sample:
    """Records drawn: their ids, texts and old vectors."""

    names: list[str]
    texts: list[str]
    old: npt.NDArray[np.float32]

    def at(self, rows: Sequence[int]) -> _Sample:
        return _Sample([self.names[row] for row in rows], [self.texts[row] for row in rows], self.old[list(rows)])


def map_spaces(
    source: Endpoint,
    embedder: Embedder,
    how: How,
    asked: MapHow,
    *,
    state: Path,
    clock: Clock | None = None,
) -> MapResult:
    """Fit and judge; embeds the sample, the relevant documents and the questions, and nothing else.

    Raises `DataInvalid` for a collection of which too few records have a text and a vector.
    """
    clock = clock or SystemClock()
    reader = source.source()
    spec = reader.describe()
    old_field = dense_field(spec, how.replaced, option="--replace")
    given = Identified(embedder.model(), embedder.dimensions)
    golden = [case for case in asked.golden if case.relevant]
    wanted = {name for case in golden for name in case.relevant}
    began = clock.monotonic()
    drawn, relevant = _draw(
        pages_of(reader, BATCH_ROWS), old_field.column, asked, wanted, texts_under(how.document_key)
    )
    cases = [case for case in golden if any(name in relevant.names for name in case.relevant)]
    if asked.golden and not cases:
        raise DataInvalid(
            f"of the records that {counted(len(asked.golden), 'golden question')} ask for none is in the collection "
            "with a text and a vector, so that they cannot decide",
            hint="name records of this collection by their ids under 'relevant', or leave --golden away",
        )
    fitting, held = _parted(drawn, asked)
    everything = [*fitting.texts, *held.texts, *relevant.texts]
    seconds = {"read": clock.monotonic() - began}
    began = clock.monotonic()
    price = price_of(embedder, how.book, day=clock.now().date())
    if how.bounds.usd is not None:
        estimate = price.usd(embedder.count_tokens(everything).prompt_tokens)
        if estimate is None:
            raise UsageError(f"--max-usd cannot be held: {price.told}", hint="give a price book with --prices")
        if estimate > how.bounds.usd:
            raise SpendExceeded(f"the sample would cost {estimate} USD, and --max-usd is {how.bounds.usd}")
    model = f"{embedder.identity().address} {given}"
    caller = Caller(embedder, model, backoff=how.backoff, clock=clock, timeout_seconds=how.timeout_seconds)
    spool = Spool(state / "spool.sqlite", {"model": model, "field": "the sample of a mapping"})
    try:
        work = Embedding(spool, caller, price=price, bounds=how.bounds, clock=clock, parallel=how.parallel)
        work.run(iter([_documents(everything)]))
        new = [_vectors(spool, each, embedder.dimensions) for each in (fitting, held, relevant)]
        questions = embed_all(embedder, [case.text for case in cases], purpose=Purpose.QUERY)
        account = spool.account()
    finally:
        spool.close()
    seconds["embed"] = clock.monotonic() - began
    began = clock.monotonic()
    found = SpaceMap(
        Identified.of(old_field),
        given,
        fit(fitting.old, new[0], asked.kind, seed=asked.seed),
        fit(new[0], fitting.old, asked.kind, seed=asked.seed),
    )
    metric = how.metric or old_field.metric
    rows = random.Random(asked.seed).sample(range(len(held.names)), min(QUESTIONS, len(held.names)))
    made = found.documents.apply(held.old)
    judgements = [
        judge_neighbours(
            "documents", scores_of(new[1][rows], new[1], metric), scores_of(new[1][rows], made, metric),
            rows, held.names, margin=asked.margin, seed=asked.seed,
        ),
        judge_neighbours(
            "questions", scores_of(held.old[rows], held.old, old_field.metric),
            scores_of(found.questions.apply(new[1][rows]), held.old, old_field.metric),
            rows, held.names, margin=asked.margin, seed=asked.seed,
        ),
    ]  # fmt: skip
    if cases:
        pool = list(dict.fromkeys([*relevant.names, *held.names]))
        place = {name: row for row, name in enumerate([*relevant.names, *held.names])}
        at = [place[name] for name in pool]
        new_pool, old_pool = np.vstack([new[2], new[1]])[at], np.vstack([relevant.old, held.old])[at]
        grades = {case.id: case.relevant for case in cases}
        anew = scores_of(questions, new_pool, metric)
        for way, scores in (
            ("documents", scores_of(questions, found.documents.apply(old_pool), metric)),
            ("questions", scores_of(found.questions.apply(questions), old_pool, old_field.metric)),
        ):
            judgements.append(
                judge_questions(
                    way, grades, anew, scores, pool,
                    asked={case.id: case.text_sha256 for case in cases}, margin=asked.margin, seed=asked.seed,
                )
            )  # fmt: skip
    seconds["fit and judge"] = clock.monotonic() - began
    result = MapResult(
        found,
        judgements,
        account,
        price.usd(account.tokens),
        len(fitting.names),
        len(held.names),
        asked,
        seconds=seconds,
    )
    told = {"fitted_on": result.fitted, "margin": asked.margin, "seed": asked.seed}
    result.map = replace(found, told=told | {"recommended": {way: result.recommended(way) for way in WAYS}})
    result.findings += _left_out(asked.golden, golden, cases)
    return result


def _left_out(every: Sequence[Case], labelled: Sequence[Case], asked: Sequence[Case]) -> list[Finding]:
    """What of a golden set does not count, or not as often as it stands there, by the names of its cases."""
    found = []
    bare = [case.id for case in every if not case.relevant]
    if bare:
        text = f"{counted(len(bare), 'golden question names', 'golden questions name')} no relevant document: left out"
        found.append(Finding("golden.unlabelled", text, None, tuple(bare[:20]), len(bare)))
    absent = [case.id for case in labelled if case not in asked]
    if absent:
        lost = counted(len(absent), "golden question has", "golden questions have")
        text = f"{lost} no relevant document in the collection"
        found.append(Finding("golden.absent", text, None, tuple(absent[:20]), len(absent)))
    same = asked_again((case.id, case.text_sha256) for case in asked)
    return found + ([] if same is None else [same])


def move_mapped(
    source: Endpoint, target: Endpoint, found: MapResult, how: How, *, state: Path, clock: Clock | None = None
) -> None:
    """Write the collection with its vectors mapped into the new space."""
    clock = clock or SystemClock()
    reader = source.source()
    shape = shape_of(
        reader.describe(), found.map.model(), found.map.new.dimensions or 1,
        beside=how.beside, replaced=how.replaced, metric=how.metric,
    )  # fmt: skip
    require_room(shape, target.raw_sink().limits())
    assert shape.old is not None
    column = shape.old.column

    def vectors(batch: pa.RecordBatch) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        old = batch.column(column)
        valid = np.asarray(old.is_valid())
        made = found.map.documents.apply(np.where(valid[:, None], dense_matrix(old), 0))
        return made, valid

    inner = ReindexedSource(reader, shape, vectors)
    endpoint = reindexed_endpoint(source, inner, replace(how.settings, timeout_seconds=600.0))
    place = None
    if target.address.scheme != "dump":
        identity = {"source": str(source.address), "target": str(target.address), "map": found.map.digest()}
        place = FileCheckpoint(state / "copy.jsonl", identity)
    began = clock.monotonic()
    found.move = migrate(endpoint, target, accept_loss=set(how.accept_loss) - {CONSENT}, checkpoint=place, clock=clock)
    found.findings += found.move.findings
    found.seconds["move"] = clock.monotonic() - began


def _draw(pages: Any, column: str, asked: MapHow, wanted: Collection[str], texts: Texts) -> tuple[_Sample, _Sample]:
    """A uniform sample by reservoir (Vitter's algorithm R, 1985) of records with a text and a vector, each text once;
    and of all records those that golden questions ask for."""
    rng = random.Random(asked.seed)
    most = asked.sample + asked.held
    kept: list[tuple[str, str, npt.NDArray[np.float32]]] = []
    relevant: dict[str, tuple[str, str, npt.NDArray[np.float32]]] = {}
    seen = 0
    hashes: set[bytes] = set()
    for batch in pages:
        old = batch.column(column)
        matrix, valid = dense_matrix(old), np.asarray(old.is_valid())
        for row, (key, text) in enumerate(zip(record_keys(batch), texts(batch), strict=True)):
            if text is None or not valid[row]:
                continue
            if str(key) in wanted:
                # Never among those that the mapping is fitted on: it is judged by them.
                relevant[str(key)] = (str(key), text, matrix[row].astype(np.float32))
                continue
            seen += 1
            place = len(kept) if len(kept) < most else rng.randrange(seen)
            if place >= most:
                continue
            digest = text_hash(text)
            if digest in hashes:
                continue
            hashes.add(digest)
            drawn = (str(key), text, matrix[row].astype(np.float32))
            if place == len(kept):
                kept.append(drawn)
            else:
                hashes.discard(text_hash(kept[place][1]))
                kept[place] = drawn
    rng.shuffle(kept)
    return _sample(kept), _sample(list(relevant.values()))


def _sample(rows: Sequence[tuple[str, str, npt.NDArray[np.float32]]]) -> _Sample:
    old = np.stack([row[2] for row in rows]) if rows else np.zeros((0, 1), np.float32)
    return _Sample([row[0] for row in rows], [row[1] for row in rows], old)


def _parted(drawn: _Sample, asked: MapHow) -> tuple[_Sample, _Sample]:
    """Two thirds to fit on and a third to judge by, or as many as were asked for."""
    count = len(drawn.names)
    held = min(asked.held, count // 3)
    if held < 30:
        raise DataInvalid(
            f"{counted(count, 'record has', 'records have')} a text and a vector, too few to judge a mapping"
        )
    return drawn.at(range(held, count)), drawn.at(range(held))


def _documents(texts: Sequence[str]) -> pa.RecordBatch:
    ids = pa.array([str(row) for row in range(len(texts))], pa.string())
    return pa.RecordBatch.from_arrays([ids, pa.array(texts, pa.string())], names=["id", "document"])


def _vectors(spool: Spool, sample: _Sample, dimensions: int) -> npt.NDArray[np.float32]:
    hashes = [text_hash(text) for text in sample.texts]
    have: Mapping[bytes, npt.NDArray[np.float32]] = spool.vectors(list(dict.fromkeys(hashes)))
    lost = [name for name, digest in zip(sample.names, hashes, strict=True) if digest not in have]
    if lost:
        raise DataInvalid(f"the model made no vector of {counted(len(lost), 'text')} of the sample; ids: {lost[:5]}")
    return np.stack([have[digest] for digest in hashes]) if hashes else np.zeros((0, dimensions), np.float32)
