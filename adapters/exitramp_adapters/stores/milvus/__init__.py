"""Milvus: a server, or a folder of milvus-lite.

In the order of reading:

    adapter       the entry: what an address opens
    client        a connection in either form
    schema        what a collection is, and what one of exitramp's looks like
    column_types  Milvus's types and metrics, and its limits by version
    columns       columns of its answers as columns of a stream
    rows          records as the columns of an upsert
    wait          count, load, keys and segments, as every role asks for them
    search        nearest records
    filters       filters as expressions
    sink          writing
"""
