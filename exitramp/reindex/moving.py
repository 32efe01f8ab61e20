"""Look, plan, embed, move, check: a collection's documents embedded anew by another model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.clock import Clock, SystemClock
from exitramp.dump.layout import MANIFEST
from exitramp.errors import CollectionExists, DataInvalid, SpendExceeded, UsageError
from exitramp.migration import (
    announced_tolerances,
    compare_endpoints,
    count_or_none,
    migrate,
    plan_move,
    synchronise_endpoints,
)
from exitramp.ports import Embedder
from exitramp.records import Finding, Verdict
from exitramp.reindex.calling import Caller
from exitramp.reindex.costing import price_of
from exitramp.reindex.embedding import Embedding
from exitramp.reindex.looking import Look, Standing, look, pages_of, standing_of, texts_under
from exitramp.reindex.result import Estimate, How, ReindexResult, account_findings
from exitramp.reindex.shape import require_room, shape_of
from exitramp.reindex.source import ReindexedSource, Vectors, reindexed_endpoint, require_all, stand_ins
from exitramp.reindex.spool import Spool, text_hash
from exitramp.transfer.checkpoint import FileCheckpoint
from exitramp.transfer.plan import Plan
from exitramp.wording import counted
from exitramp.wrappers import Endpoint

BATCH_ROWS = 1000


def reindex(
    source: Endpoint,
    target: Endpoint,
    embedder: Embedder,
    how: How,
    *,
    state: Path,
    dry_run: bool = False,
    clock: Clock | None = None,
    told: Callable[[Estimate], None] = lambda estimate: None,
    progress: Callable[[str, int], None] = lambda what, done: None,
) -> ReindexResult:
    """Embed what `source` holds by `embedder` into `target`, or with `dry_run` say what it would take.

    `state` is the folder where an interrupted run keeps what it paid for. `told` hears the estimate before the first
    text is sent. Raises `DataInvalid` where documents are missing and nobody said to skip them, `ModelDiffers` for a
    target of another model, `SpendExceeded` at a bound, `ModelError` where the vendor fails for good.
    """
    if source.estimates() is not None:
        raise UsageError(
            f"reading {source.address} costs by request, and embedding anew reads it several times",
            hint="take it out once with 'exitramp dump', and embed from the dump",
        )
    run = _Run(source, target, embedder, how, state, clock or SystemClock(), progress)
    try:
        return run.plan() if dry_run else run.whole(told)
    finally:
        run.close()


class _Run:
    def __init__(
        self,
        source: Endpoint,
        target: Endpoint,
        embedder: Embedder,
        how: How,
        state: Path,
        clock: Clock,
        progress: Callable[[str, int], None],
    ) -> None:
        self._source, self._target, self._embedder, self._how = source, target, embedder, how
        self._clock, self._progress, self._state = clock, progress, state
        self._reader = source.source()
        self._shape = shape_of(
            self._reader.describe(), embedder.model(), embedder.dimensions,
            beside=how.beside, replaced=how.replaced, metric=how.metric,
        )  # fmt: skip
        require_room(self._shape, target.raw_sink().limits())
        self._price = price_of(embedder, how.book, day=clock.now().date())
        if how.bounds.usd is not None and not self._price.known:
            raise UsageError(
                f"--max-usd cannot be held: {self._price.told}", hint="give a price book that has it with --prices"
            )
        model = f"{embedder.identity().address} {self._shape.given}"
        self._caller = Caller(
            embedder, model, backoff=how.backoff, clock=clock, timeout_seconds=how.timeout_seconds,
            seed=how.settings.seed,
        )  # fmt: skip
        self._identity = {"model": model, "field": self._shape.new.column}
        self._texts = texts_under(how.document_key)
        self._spool: Spool | None = None
        self._place: FileCheckpoint | None = None
        self._seconds: dict[str, float] = {}

    def close(self) -> None:
        if self._place is not None:
            self._place.close(complete=False)
        if self._spool is not None:
            self._spool.close()

    # ------------------------------------------------------------------ the steps

    def plan(self) -> ReindexResult:
        """Reads, counts and plans; sends and keeps nothing."""
        kept = self._state / "spool.sqlite"
        self._spool = Spool(kept if kept.exists() else None, self._identity)
        found = self._look(probing=None)
        result = ReindexResult(self._shape, found, self._planned(found.look.missing), seconds=self._seconds)
        result.findings += self._missing(found.look, stops=False)
        return result

    def whole(self, told: Callable[[Estimate], None]) -> ReindexResult:
        self._require_target()
        self._spool = spool = Spool(self._state / "spool.sqlite", self._identity)
        if self._target.address.scheme != "dump":
            identity = {"source": str(self._source.address), "target": str(self._target.address), **self._identity}
            self._place = FileCheckpoint(self._state / "copy.jsonl", identity)
        estimate = self._look(probing=self._caller)
        missing = self._missing(estimate.look, stops=not self._how.skip_missing)
        plan = self._planned(estimate.look.missing)
        if plan is not None:
            plan.require_consent(self._how.accept_loss)
        told(estimate)
        self._require_affordable(estimate)
        result = ReindexResult(self._shape, estimate, plan, seconds=self._seconds)
        result.findings += missing
        self._embed(result)
        self._move(result)
        result.account = spool.account()
        result.usd = self._price.usd(result.account.tokens)
        result.findings += account_findings(result.account, billed=not self._price.is_free)
        if result.verdict is not Verdict.FAIL:
            spool.remove()
            self._spool = None
            if self._state.is_dir() and not any(self._state.iterdir()):
                self._state.rmdir()
        return result

    def _require_target(self) -> None:
        folder = self._target.address
        if folder.scheme == "dump" and (folder.path / MANIFEST).exists():
            raise CollectionExists(f"{folder} is there already and whole", hint="name another folder, or remove it")

    def _look(self, *, probing: Caller | None) -> Estimate:
        assert self._spool is not None
        began = self._clock.monotonic()
        found = look(
            self._reader,
            self._spool,
            self._embedder,
            standing=self._standing(),
            probing=probing,
            batch_rows=BATCH_ROWS,
            texts=self._texts,
            progress=lambda rows: self._progress("look", rows),
        )
        self._seconds["look"] = self._clock.monotonic() - began
        requests = -(-found.texts_left // self._embedder.limits().batch_texts)
        return Estimate(found, requests, self._price, self._price.usd(found.tokens_left))

    def _standing(self) -> Standing | None:
        if self._target.address.scheme == "dump" or not count_or_none(self._target):
            return None
        return standing_of(self._target.source(), self._shape.new, str(self._target.address), self._texts)

    def _missing(self, found: Look, *, stops: bool) -> list[Finding]:
        if not found.missing:
            return []
        have, no = counted(found.missing, "record has", "records have"), "no document to embed"
        if stops:
            shown = ", ".join(found.missing_ids[:5]) + (", …" if found.missing > 5 else "")
            raise DataInvalid(
                f"{have} {no}, of {found.rows:,} (ids: {shown}); nothing was sent to the model",
                hint="if the texts stand in the payload, name their key with --document-key; --skip-missing goes on "
                "without a new vector for these records",
            )
        goes = "kept with the old vector alone" if self._shape.keeps_old else "left out of the new collection"
        verdict = None if self._how.skip_missing else Verdict.INCONCLUSIVE
        return [
            Finding(
                "documents.missing", f"{have} {no} and {'is' if found.missing == 1 else 'are'} {goes}", verdict,
                tuple(found.missing_ids), found.missing,
            )
        ]  # fmt: skip

    def _planned(self, missing: int) -> Plan | None:
        """What the target would do to everything but the new vectors' own numbers, which nobody has yet."""
        if self._target.raw_sink().limits().verbatim:
            return None
        began = self._clock.monotonic()
        found = plan_move(self._endpoint(stand_ins(self._shape, self._texts), left_out=missing), self._target)
        self._seconds["plan"] = self._clock.monotonic() - began
        return found

    def _require_affordable(self, estimate: Estimate) -> None:
        assert self._spool is not None
        most = self._how.bounds.usd
        if most is None or estimate.usd is None:
            return
        whole = self._price.usd(self._spool.account().tokens + estimate.look.tokens_left)
        if whole is not None and whole > most:
            raise SpendExceeded(
                f"embedding everything would cost {whole:.6f} USD in all, and --max-usd is {most}; nothing was sent",
                hint="raise --max-usd, or choose a cheaper model",
            )

    def _embed(self, result: ReindexResult) -> None:
        assert self._spool is not None
        began = self._clock.monotonic()
        self._spool.forget_refusals()
        work = Embedding(
            self._spool,
            self._caller,
            price=self._price,
            bounds=self._how.bounds,
            clock=self._clock,
            parallel=self._how.parallel,
            texts=self._texts,
            progress=lambda texts: self._progress("embed", texts),
        )
        work.run(pages_of(self._reader, BATCH_ROWS))
        self._seconds["embed"] = self._clock.monotonic() - began
        result.refusals = refused = work.refusals
        if not refused.count:
            return
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(refused.kinds.items()))
        text = f"the model made no vector of {counted(refused.count, 'text')} ({kinds})"
        if not self._how.skip_missing:
            raise DataInvalid(
                f"{text}; ids: {', '.join(refused.ids[:5])}",
                hint="shorten or mend them at their source, or add --skip-missing; what was embedded is kept",
            )
        result.findings.append(Finding("texts.refused", text, None, tuple(refused.ids), refused.count))

    def _move(self, result: ReindexResult) -> None:
        began = self._clock.monotonic()
        endpoint = self._endpoint(self._vectors, left_out=self._count_left_out())
        fresh = self._place is None or self._place.progress().is_fresh
        if fresh and self._place is not None and count_or_none(self._target):
            self._catch_up(endpoint, result)
            self._place.close(complete=True)
        else:
            result.move = migrate(
                endpoint,
                self._target,
                accept_loss=self._how.accept_loss,
                checkpoint=self._place,
                progress=self._progress,
                clock=self._clock,
            )
            result.findings += result.move.findings
        self._seconds["move"] = self._clock.monotonic() - began

    def _catch_up(self, endpoint: Endpoint, result: ReindexResult) -> None:
        """Only what is missing or changed is written; then both sides are compared."""
        plan = plan_move(endpoint, self._target)
        result.sync = synchronise_endpoints(endpoint, self._target, plan=plan, accept_loss=self._how.accept_loss)
        given = announced_tolerances(plan, self._how.accept_loss)
        after = compare_endpoints(endpoint, self._target, given=given)
        extra = [each for each in after.records.findings if each.code == "records.extra"]
        result.findings += result.sync.findings
        result.findings += [each for each in after.records.findings if each not in extra]

    # ------------------------------------------------------------------ its source

    def _endpoint(self, vectors: Vectors, *, left_out: int) -> Endpoint:
        without = 0 if self._shape.keeps_old else left_out
        source = ReindexedSource(self._reader, self._shape, vectors, left_out=without)
        return reindexed_endpoint(self._source, source, replace(self._how.settings, timeout_seconds=600.0))

    def _count_left_out(self) -> int:
        """Records that get no new vector, of which a text that stands in several is several."""
        if self._shape.keeps_old:
            return 0
        return sum(int((~self._vectors(batch)[1]).sum()) for batch in pages_of(self._reader, BATCH_ROWS))

    def _vectors(self, batch: pa.RecordBatch) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        assert self._spool is not None
        hashes = [None if text is None else text_hash(text) for text in self._texts(batch)]
        wanted = [each for each in dict.fromkeys(hashes) if each is not None]
        have = self._spool.vectors(wanted)
        if len(have) < len(wanted):
            known = self._spool.known([each for each in wanted if each not in have])
            require_all(sum(not known.get(each, "").startswith("refused") for each in wanted if each not in have))
        matrix = np.zeros((batch.num_rows, self._shape.new.dimensions or 0), np.float32)
        valid = np.zeros(batch.num_rows, np.bool_)
        for row, digest in enumerate(hashes):
            vector = None if digest is None else have.get(digest)
            if vector is not None:
                matrix[row], valid[row] = vector, True
        return matrix, valid
