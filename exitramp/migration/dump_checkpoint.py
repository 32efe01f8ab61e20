"""A dump keeps the copy's place itself: its journal says which shards stand and behind which cursor to go on."""

from __future__ import annotations

from exitramp.digests import CollectionDigests
from exitramp.dump.writer import DumpSink
from exitramp.ports import VectorSink
from exitramp.transfer.checkpoint import Checkpoint, Progress, Reached


class DumpCheckpoint:
    """The dump's own journal as a `Checkpoint`. Shards are cut at the cursors noted; one flush at the end is enough."""

    def __init__(self, sink: DumpSink) -> None:
        self._sink = sink
        self.flush_rows = 2**62

    def progress(self) -> Progress:
        state = self._sink.resume_state()
        return Progress({index: Reached(cursor) for index, cursor in state.cursors.items()}, state.rows)

    def expecting(self, rows: int) -> None:
        self._sink.expect(rows)

    def reaching(self, index: int, reached: Reached) -> None:
        if reached.cursor is not None:
            self._sink.note_cursor(index, reached.cursor)

    def acknowledge(self, progress: Progress) -> None:
        """The sink's flush has written it down already."""

    def digests(self) -> CollectionDigests | None:
        return self._sink.resume_state().digests

    def close(self, *, complete: bool) -> None:
        """Lets the folder go, so that another run can take it up."""
        self._sink.close()


def checkpoint_of(sink: VectorSink) -> Checkpoint | None:
    """The checkpoint that a sink keeps itself, or None."""
    return DumpCheckpoint(sink) if isinstance(sink, DumpSink) else None
