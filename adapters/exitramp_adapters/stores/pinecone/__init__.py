"""Pinecone's serverless indexes. Wire mocked: tested against a mock of the published contract.

In the order of reading:

    adapter  the entry: what an address opens
    opened   one opened address, as all roles need it
    client   the way to Pinecone: its own client, its errors translated once
    reading  requests that read an index, and how all of its ids are divided
    lanes    listing and fetching at the same time, several lists side by side
    budget   what reading costs, and the limits that end it before they are exceeded
    records  what Pinecone can hold, and records between its columns and a stream's
    search   nearest records, and records by their keys
    filters  filters as metadata filters
    sink     writing
"""
