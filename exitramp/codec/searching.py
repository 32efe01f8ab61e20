"""A search whose hits carry the records' own ids, whatever ids the store keeps them under, and whose filters mean what
they mean on the records themselves, or are refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from exitramp.arrow import record_keys
from exitramp.codec.decoding import DecodingSource, decode_batch
from exitramp.codec.filtering import NativeFilters
from exitramp.codec.noticed import Noticed
from exitramp.codec.views import View, filter_behind, seen, seen_keys, vector_behind
from exitramp.errors import DataInvalid, StoreProtocolError
from exitramp.filters import Filter
from exitramp.ports import DEFAULT_SETTINGS, Hits, IndexState, Query, SearchSettings, VectorSearch, VectorSource
from exitramp.records import IdKind, RecordKey, VectorKind

# What `codec.ids` derives: a hashed text, or a UUID of version 8. Only such hits need a look at their record.
_DERIVED = re.compile(r"x-[0-9a-f]{40}|[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class DecodingSearch:
    """`VectorSearch` around a `VectorSearch`; `source` is the undecoded source of the same store."""

    def __init__(
        self,
        search: VectorSearch,
        source: VectorSource,
        *,
        verbatim: bool = False,
        views: Sequence[View] = (),
        peeks: bool = True,
    ) -> None:
        self._search = search
        self._views = tuple(views)
        self._native = source
        self._verbatim = verbatim
        self._source = DecodingSource(source, verbatim=verbatim, peeks=peeks)
        self._filters = NativeFilters(source, self._source)

    def index_state(self) -> IndexState:
        return self._search.index_state()

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        """As the port says; `UsageError` as well for a filter that hangs on what the store keeps in another form."""
        if self._views:
            query = replace(query, field=vector_behind(self._views, query.field, self._source.layout.original))
        behind = where if where is None or not self._views else filter_behind(self._views, where)
        hits = self._decoded(query, k, behind, settings, with_records)
        if not self._views:
            return hits
        records = None if hits.records is None else seen(self._views, hits.records)
        return Hits(tuple(seen_keys(self._views, hits.keys)), hits.scores, records)

    def _decoded(
        self, query: Query, k: int, where: Filter | None, settings: SearchSettings, with_records: bool
    ) -> Hits:
        if self._verbatim:
            return self._search.search(query, k=k, where=where, settings=settings, with_records=with_records)
        query = replace(query, field=self._native_field(query))
        hits = self._search.search(query, k=k, where=where, settings=settings, with_records=with_records)
        if where is not None:  # asked for only now, since the store itself refuses at once what it cannot honour
            self._filters.require_exact(where)
        layout = self._source.layout
        records = None
        if with_records:
            if hits.records is None:
                raise StoreProtocolError("the store's search was asked for whole records and returned none")
            records = hits.records
        elif any(self._looks_derived(key) for key in hits.keys):
            records = self._native.fetch(hits.keys)
        if records is None:
            return hits
        originals = decode_batch(records, layout, Noticed())
        names = dict(zip(record_keys(records), record_keys(originals), strict=True))
        try:
            keys = tuple(names[key] for key in hits.keys)
        except KeyError as error:
            raise StoreProtocolError(f"the store found the record {error.args[0]} but does not return it") from error
        return Hits(keys, hits.scores, originals if with_records else None)

    def _looks_derived(self, key: RecordKey) -> bool:
        kind = self._source.layout.native.id_kind
        return kind is IdKind.INT64 or _DERIVED.fullmatch(key.id) is not None

    def _native_field(self, query: Query) -> str:
        """What the store calls the field that is asked; of several of one name, the one of the query's kind."""
        vectors = {VectorKind.DENSE: query.dense, VectorKind.MULTI: query.multi, VectorKind.SPARSE: query.sparse}
        named = [field for field in self._source.layout.fields if field.original.name == query.field]
        asked = [field for field in named if vectors[field.original.kind] is not None]
        if not named:
            self._source.layout.original.vector(query.field)  # raises, naming those there are
            return query.field
        field = (asked or named)[0]
        if field.native is None:
            raise DataInvalid(
                f"the vector field {field.original.column!r} is kept in the payload here and cannot be searched"
            )
        return field.native.name
