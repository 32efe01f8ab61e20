"""Qdrant's REST contract in part over Qdrant's own engine: engine real, wire emulated.

In the order of reading:

    adapter      the entry: the shim as a service
    server       the process
    collections  its collections: shards of the engine with a description
    points       the routes of points
"""
