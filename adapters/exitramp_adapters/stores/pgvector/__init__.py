"""PostgreSQL with pgvector.

In the order of reading:

    adapter    the entry: what an address opens
    session    sessions of a server, read-only where only reading is meant
    catalog    what the catalogue says of a table
    shape      what a table is as a collection
    fields     the vector columns of a table that somebody else made
    records    records out of a table
    wire       the binary copy format, both ways
    values     typed columns and what fits into them
    json_form  payloads in `jsonb`
    columns    a batch of records as columns of a table
    limits     what a table holds, measured
    tables     making a table for a collection
    sending    rows on their way to the server
    sink       writing
    search     nearest records
    filters    filters as SQL
"""
