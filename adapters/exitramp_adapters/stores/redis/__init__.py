"""Redis with RediSearch.

In the order of reading:

    adapter     the entry: what an address opens
    connection  a connection, its errors translated once
    replies     many answers, read in one go
    index       what an index is, and the one that exitramp makes
    collection  an index and the keys under its prefixes
    records     hashes and JSON documents as records
    hashes      records as the commands that write hashes
    filters     filters as queries
    sink        writing
"""
