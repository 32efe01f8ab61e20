"""Whether the files of an embedded Chroma hold lists of records that are gone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def leftovers(folder: Path) -> bool:
    """Whether a list may turn up in a record that it was never written to; where the files do not tell, True.

    Chroma deletes a collection's records and leaves their lists, keyed by row numbers that it gives out again.
    """
    file = (folder / "chroma.sqlite3").absolute().as_uri()
    try:
        with closing(sqlite3.connect(f"{file}?mode=ro", uri=True)) as connection:
            [(found,)] = connection.execute(
                "SELECT EXISTS (SELECT 1 FROM embedding_metadata_array WHERE id NOT IN (SELECT id FROM embeddings))"
            )
    except sqlite3.Error:
        return True
    return bool(found)
