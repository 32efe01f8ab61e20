"""Chroma, in process and over HTTP.

In the order of reading:

    adapter    the entry: what an address opens, and how a collection is read, written and searched
    opened     one opened address: connection, collection, and what the collection says of itself
    client     the way to a Chroma in either form, its errors translated once
    records    records between a stream's columns and Chroma's
    limits     what Chroma keeps as it is, measured
    settings   what a collection is set to: its graph, and which metadata it indexes
    filters    filters as Chroma's `where`
    sink       writing
    leftovers  lists of deleted records that Chroma leaves in its files
"""
