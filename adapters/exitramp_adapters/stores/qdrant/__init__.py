"""Qdrant: its engine in process, and a server over REST.

In the order of reading:

    edge           entry of `qdrant:`, the engine in process
    rest           entry of `qdrant+http:`, a server
    roles          what a collection is to whoever reads and writes it, by either way
    forms          what Qdrant can hold, its ids, and its own JSON for vector fields
    records        points to and from Arrow
    settings       indexes, quantisation, storage and limits of a collection
    filters        filters in REST form
    index          whether an answer comes from the index
    client         a connection to a server
    shards         the folders of the engine, and who has them open
    engine         REST JSON as objects of the engine
    engine_config  a collection's configuration as objects of the engine
    edge_sink      writing to the engine
"""
