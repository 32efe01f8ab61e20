"""sqlite-vec in an SQLite file.

In the order of reading:

    adapter     the entry: what an address opens
    database    one file: which module opens it, and what its refusals mean
    found       finding what an address names
    collection  what a collection is: one of exitramp's, a vec0 table, or an ordinary one
    declared    what a vec0 table is, by the words it was made with
    rows        reading records
    texts       documents and payloads as SQLite gives them
    vectors     vectors as vec0 keeps them, and their distances
    filters     filters as SQL
    sink        writing
"""
