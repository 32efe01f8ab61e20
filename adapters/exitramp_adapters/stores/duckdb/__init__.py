"""Tables with vectors in a DuckDB file.

In the order of reading:

    adapter       the entry: what an address opens
    table         what a table is as a collection
    catalog       what DuckDB's catalogue tells of a file
    file          one file as this process has it open
    scan          reading a table by its keys
    ahead         its next pages fetched on a thread of their own
    keys          places of records as SQL compares them
    spool         rows in the order of their keys where a table does not hold them so
    records       rows as batches of a stream, and back
    column_types  which type is read as what, and which value fits into which
    limits        what a table of exitramp's own holds
    search        nearest records, by every vector or by an HNSW index
    filters       filters as SQL
    sink          writing
"""
