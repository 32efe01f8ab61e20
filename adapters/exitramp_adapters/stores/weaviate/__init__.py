"""Weaviate over REST and gRPC. Wire mocked: tested against a mock of the published contract.

In the order of reading:

    adapter     the entry: what an address opens
    client      a connection by the official client
    collection  a collection behind a connection, and the requests that reading is made of
    schema      a collection's definition as ours, and back
    records     records as the contract's messages, and back
    values      values of a payload as properties
    search      nearest records
    filters     filters as the contract's messages
    sink        writing
"""
