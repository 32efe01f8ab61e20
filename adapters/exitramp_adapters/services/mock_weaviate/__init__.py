"""A mock of Weaviate: part of its published contract over a store of the mock's own. Wire mocked.

In the order of reading:

    adapter      the entry: the mock as a service
    server       the process and its REST side
    grpc         its gRPC side
    schema       what it takes as a collection and as a value
    collections  collections, tenants and objects
    messages     properties, vectors and distances in messages
    filters      its filters
"""
