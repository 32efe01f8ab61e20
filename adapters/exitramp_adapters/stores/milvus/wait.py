"""What reading, writing and searching ask a collection for in the same words: its count, its load, keys, segments."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from exitramp.errors import CollectionMissing, StoreRejected
from exitramp_adapters.stores.milvus.client import Connection, NotLoaded
from exitramp_adapters.stores.milvus.schema import Collection

_POLL_SECONDS: Final = 0.02
# Of one list of keys in an expression, which the server parses at 2 us a key.
_KEYS_AT_ONCE: Final = 1000
_LONGEST_LIST: Final = 200_000
STRONG: Final = 0
"""The level of consistency that shows everything written before; the default of a collection may lag by 5 s."""
_LOADED: Final = 100
GROWING: Final = 2
"""The state of a segment that still takes records, and has no index."""
LEAST_KEY: Final = -(2**63)
"""An INT64 key that no expression can name."""


def count(connection: Connection, expression: str = "") -> int:
    from pymilvus.grpc_gen import milvus_pb2 as pb

    if not connection.exists():
        raise CollectionMissing(f"{connection.address}: there is no collection {connection.name!r}")
    request = pb.QueryRequest(
        collection_name=connection.name, expr=expression, output_fields=["count(*)"], consistency_level=STRONG
    )
    [column] = connection.call("Query", request).fields_data
    return int(column.scalars.long_data.data[0])


def load(connection: Connection) -> None:
    """Return when the collection can be read; whoever set a deadline ends it."""
    from pymilvus.grpc_gen import milvus_pb2 as pb

    name = connection.name
    connection.call("LoadCollection", pb.LoadCollectionRequest(collection_name=name, replica_number=1))
    progress = pb.GetLoadingProgressRequest(collection_name=name)
    while connection.call("GetLoadingProgress", progress).progress < _LOADED:
        time.sleep(_POLL_SECONDS)


def require_whole(connection: Connection) -> None:
    """Raises `NotLoaded` where some partitions are in the server's memory and some are not: it then answers and counts
    as if there were no others. A user that may not list partitions cannot know."""
    from pymilvus.grpc_gen import milvus_pb2 as pb

    if connection.is_lite:
        return
    name = connection.name
    try:
        everything = connection.call("ShowPartitions", pb.ShowPartitionsRequest(collection_name=name)).partition_names
        if len(everything) < 2:
            return
        request = pb.ShowPartitionsRequest(collection_name=name, type=pb.InMemory)
        loaded = connection.call("ShowPartitions", request).partition_names
    except NotLoaded:
        raise
    except StoreRejected:
        return
    missing = sorted(set(everything) - set(loaded))
    if missing:
        raise NotLoaded(
            f"{connection.address}: {len(missing)} of its {len(everything)} partitions are not loaded, and Milvus "
            f"reads only what is: {', '.join(missing[:20])}",
            hint="load them, or have them loaded with ?load=true: it takes the server's memory, and they stay there",
        )


def segments(connection: Connection) -> list[Any]:
    """What the nodes that answer queries have loaded."""
    from pymilvus.grpc_gen import milvus_pb2 as pb

    request = pb.GetQuerySegmentInfoRequest(collectionName=connection.name, dbName=connection.database)
    return list(connection.call("GetQuerySegmentInfo", request).infos)


def key_list(ids: Sequence[str], collection: Collection) -> Iterator[str]:
    """Expressions for all records with these ids; an id that no key here can be is that of none."""
    if collection.is_integer and str(LEAST_KEY) in ids:
        yield f"{collection.key} < {LEAST_KEY + 1}"
    literals = [text for id_ in ids if (text := key_literal(id_, collection)) is not None]
    taken: list[str] = []
    size = 0
    for text in literals:
        if taken and (len(taken) >= _KEYS_AT_ONCE or size + len(text) > _LONGEST_LIST):
            yield f"{collection.key} in [{','.join(taken)}]"
            taken, size = [], 0
        taken.append(text)
        size += len(text)
    if taken:
        yield f"{collection.key} in [{','.join(taken)}]"


def key_literal(id_: str, collection: Collection) -> str | None:
    if not collection.is_integer:
        return literal(id_)
    try:
        number = int(id_)
    except ValueError:
        return None
    return id_ if str(number) == id_ and LEAST_KEY < number < 2**63 else None


def literal(text: str) -> str:
    """A text in an expression, with those escapes alone that every Milvus knows; other characters stand as they are."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(plain, escaped)
    return f'"{text}"'
