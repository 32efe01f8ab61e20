"""LanceDB tables in a folder.

In the order of reading:

    adapter    the entry: what an address opens
    engine     its library: what it is told, and what it raises
    source     reading
    doubled    ids that stand in more than one row
    tables     a version of a table as a collection, and its rows as records
    layout     what a table of exitramp's own can hold, and its columns
    json_form  payloads: LanceDB's own JSON, or JSON in texts
    search     nearest records
    sink       writing
"""
