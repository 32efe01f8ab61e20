"""The documents, read as they come and embedded batch by batch, each kept before the next is counted on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from decimal import Decimal

import pyarrow as pa

from exitramp.arrow import record_keys
from exitramp.clock import Clock
from exitramp.errors import SpendExceeded
from exitramp.ports import EmbedderLimits
from exitramp.reindex.calling import Caller
from exitramp.reindex.costing import Price
from exitramp.reindex.looking import IDS_SHOWN, Texts, texts_of
from exitramp.reindex.spool import Received, Spool, text_hash


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a run ends. `usd` is of all runs together, `minutes` of this one; None is no bound."""

    usd: Decimal | None = None
    minutes: float | None = None


@dataclass(slots=True)
class Refusals:
    """Texts that the model makes no vector of: how many by class, and the first ids."""

    count: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)


class Embedding:
    """Sends what the spool lacks. `parallel` batches are on their way at most, and as many are held in memory."""

    def __init__(
        self,
        spool: Spool,
        caller: Caller,
        *,
        price: Price,
        bounds: Bounds,
        clock: Clock,
        parallel: int = 1,
        texts: Texts = texts_of,
        progress: Callable[[int], None] = lambda texts: None,
    ) -> None:
        self._spool, self._caller = spool, caller
        self._price, self._bounds, self._clock = price, bounds, clock
        self._parallel, self._progress, self._texts = parallel, progress, texts
        self._limits: EmbedderLimits = caller.embedder.limits()
        self._began = clock.monotonic()
        self._queue: dict[bytes, str] = {}
        self._queued_tokens = 0
        self._flying: dict[Future[Received], tuple[str, dict[bytes, str], int]] = {}
        self._airborne: set[bytes] = set()
        self._ids: dict[bytes, str] = {}
        self._failed: BaseException | None = None
        self._done = 0
        self._spent_tokens = spool.account().tokens
        self.refusals = Refusals()

    def run(self, pages: Iterator[pa.RecordBatch]) -> None:
        """Embed every text of `pages` that has no vector yet. Raises `ModelError`, and `SpendExceeded` at a bound; what
        was received by then is kept."""
        waiting = _Waiting(self._spool.unfinished())
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="exitramp-embed") as pool:
            try:
                for batch in pages:
                    self._take(batch, waiting, pool)
                self._leftover(waiting, pool)
                if self._queue:
                    self._send(pool, self._cut())
            finally:
                # Whatever ends the run, what is on its way is waited for: it is paid for.
                self._drain(0)
            self._require_sound()

    def _take(self, batch: pa.RecordBatch, waiting: _Waiting, pool: ThreadPoolExecutor) -> None:
        rows = {
            text_hash(text): (str(key), text)
            for key, text in zip(record_keys(batch), self._texts(batch), strict=True)
            if text is not None
        }
        known = self._spool.known(list(rows))
        for digest, (key, text) in rows.items():
            if known.get(digest, "wanted") != "wanted" or digest in self._queue or digest in self._airborne:
                continue
            self._ids[digest] = key
            again = waiting.take(digest, text)
            if again is not None:
                if again:
                    self._send(pool, again)
                continue
            tokens = self._tokens(text)
            if self._queue and self._over(tokens):
                self._send(pool, self._cut())
            self._queue[digest] = text
            self._queued_tokens += tokens
            if len(self._queue) >= self._limits.batch_texts:
                self._send(pool, self._cut())

    def _tokens(self, text: str) -> int:
        if self._limits.batch_tokens is None:
            return 0
        return self._caller.embedder.count_tokens([text]).prompt_tokens

    def _over(self, tokens: int) -> bool:
        most = self._limits.batch_tokens
        return most is not None and self._queued_tokens + tokens > most

    def _cut(self) -> dict[bytes, str]:
        batch, self._queue, self._queued_tokens = self._queue, {}, 0
        return batch

    def _leftover(self, waiting: _Waiting, pool: ThreadPoolExecutor) -> None:
        """Of a batch that a killed run had sent some texts are gone by now: the others go out anew."""
        for key, texts in waiting.rest():
            self._spool.drop(key)
            if texts:
                self._send(pool, texts)

    def _send(self, pool: ThreadPoolExecutor, texts: dict[bytes, str]) -> None:
        self._drain(self._parallel - 1)
        self._require_sound()
        tokens = self._caller.embedder.count_tokens(list(texts.values())).prompt_tokens if self._bounds.usd else 0
        self._require_room(tokens)
        key = self._caller.key(list(texts))
        self._spool.sending(key, list(texts))
        self._airborne |= texts.keys()
        self._flying[pool.submit(self._caller.call, texts)] = (key, texts, tokens)

    def _require_room(self, tokens: int) -> None:
        minutes = (self._clock.monotonic() - self._began) / 60
        again = "what was embedded is kept; the same command again goes on behind it"
        if self._bounds.minutes is not None and minutes >= self._bounds.minutes:
            raise SpendExceeded(f"{minutes:.1f} minutes, and --max-minutes is {self._bounds.minutes:g}", hint=again)
        if self._bounds.usd is None:
            return
        flying = sum(each for _, _, each in self._flying.values())
        next_usd = self._price.usd(self._spent_tokens + flying + tokens)
        if next_usd is not None and next_usd > self._bounds.usd:
            raise SpendExceeded(
                f"the next batch would make it {next_usd:.6f} USD, and --max-usd is {self._bounds.usd}",
                hint=f"{again}, with a higher --max-usd",
            )

    def _drain(self, most: int) -> None:
        """Keep what has come until at most `most` batches are on their way; the first failure is told later on."""
        while len(self._flying) > most:
            done, _ = wait(self._flying, return_when=FIRST_COMPLETED)
            for future in done:
                key, texts, _ = self._flying.pop(future)
                error = future.exception()
                if error is None:
                    self._keep(key, texts, future.result())
                else:
                    self._failed = self._failed or error

    def _require_sound(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _keep(self, key: str, texts: Mapping[bytes, str], what: Received) -> None:
        self._spool.received(key, what)
        self._airborne -= texts.keys()
        self._spent_tokens += what.tokens
        for digest, kind in what.refused.items():
            self.refusals.count += 1
            self.refusals.kinds[kind] = self.refusals.kinds.get(kind, 0) + 1
            if len(self.refusals.ids) < IDS_SHOWN:
                self.refusals.ids.append(self._ids.get(digest, "?"))
        for digest in texts:
            self._ids.pop(digest, None)
        self._done += len(texts)
        self._progress(self._done)


class _Waiting:
    """Batches of an earlier run that were on their way when it ended, filled up again as their texts are read."""

    def __init__(self, batches: list[tuple[str, list[bytes]]]) -> None:
        self._batches = dict(batches)
        self._owner = {digest: key for key, hashes in batches for digest in hashes}
        self._texts: dict[str, dict[bytes, str]] = {key: {} for key in self._batches}

    def take(self, digest: bytes, text: str) -> dict[bytes, str] | None:
        """None: the text is of no such batch. Else what can now be sent as it was, or an empty mapping."""
        key = self._owner.get(digest)
        if key is None or key not in self._batches:
            return None
        have = self._texts[key]
        have[digest] = text
        if len(have) < len(self._batches[key]):
            return {}
        order = self._batches.pop(key)
        del self._texts[key]
        return {each: have[each] for each in order}

    def rest(self) -> list[tuple[str, dict[bytes, str]]]:
        return [(key, self._texts[key]) for key in self._batches]
