"""Records that are more than a store takes at once: named, and before they are sent where it says how much it takes."""

from __future__ import annotations

import pyarrow as pa

from exitramp.arrow import record_keys
from exitramp.codec import EncodingSink
from exitramp.codec.sizes import largest_of, rows_over, size_of
from exitramp.errors import DataInvalid, RequestTooLarge

_AGAIN = "then run the same command again: it goes on behind what was acknowledged"


class SizedSink(EncodingSink):
    """An `EncodingSink` that knows which record is too large, when the store only knows that a request was.

    What is refused as too large is sent again in parts: a server, or a proxy before it, may take less at once than its
    adapter thinks. A single record that is refused is named, with its size. Whatever of the batch has landed by then
    was not acknowledged, and will be written again.
    """

    def upsert(self, batch: pa.RecordBatch) -> None:
        limits = self.limits()
        over = rows_over(batch, self.layout, limits)
        if over:
            row, found = next(iter(over.items()))
            its = "'s payload" if found.what == "payload" else ""
            more = f"; there are {len(over)} such in the batch" if len(over) > 1 else ""
            raise DataInvalid(
                f"record '{record_keys(batch)[row]}'{its} takes {found.size:,} bytes as JSON, and the store takes "
                f"{found.limit:,} of one at most{more}",
                hint=f"shorten it at its source, {_AGAIN}",
            )
        try:
            super().upsert(batch)
        except RequestTooLarge:
            self._in_parts(batch)

    def _in_parts(self, batch: pa.RecordBatch) -> None:
        """The largest record first, and alone: where it is refused nothing else need be tried, and where it is not it
        is in nobody's way any more. A record of 40 MB is sent twice by that, and would be ten times in halves."""
        row = largest_of(batch)
        self._in_halves(batch.slice(row, 1))
        for rest in (batch.slice(0, row), batch.slice(row + 1)):
            if rest.num_rows:
                self._in_halves(rest)

    def _in_halves(self, batch: pa.RecordBatch) -> None:
        try:
            super().upsert(batch)
        except RequestTooLarge as error:
            if batch.num_rows < 2:
                raise self._named(batch, error) from error
            middle = batch.num_rows // 2
            self._in_halves(batch.slice(0, middle))
            self._in_halves(batch.slice(middle))

    def _named(self, record: pa.RecordBatch, error: RequestTooLarge) -> RequestTooLarge:
        size = size_of(record, self.layout, self.limits())
        return RequestTooLarge(
            f"record '{record_keys(record)[0]}' takes {size:,} bytes as JSON, and {error.message}",
            hint="shorten it at its source, or let the server (and what stands before it) take larger requests; "
            f"{_AGAIN}",
        )
