"""A mock of Pinecone: its published API over records of this machine. Wire mocked.

In the order of reading:

    adapter  the entry: the mock as a service
    server   the wire
    records  what it holds, and what may be written
    query    what a query is answered with
"""
