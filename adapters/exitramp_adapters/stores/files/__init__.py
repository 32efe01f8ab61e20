"""Collections that lie in files; each kind has its entry here, and they share the rest.

In the order of reading:

    tables        entry of `file:`, plain Parquet, Arrow, CSV and JSON lines, and vendors' exports in Parquet
    vdf           entry of `vdf:`, dumps in the format of vdf-io
    hdf5          entry of `hdf5:`, files in the layout of ann-benchmarks
    npy           entries of `npy:` and `fvecs:`, matrices with a side-car
    ahead         reading one batch ahead of whoever uses them
    store         one state of a collection in files, and the roles that every kind has
    options       what an address says of files in which nothing else says it
    formats       rows out of files, a chunk at a time
    chunks        rows that follow one another, and what goes wrong when a file is read
    json_rows     rows of JSON
    rows          files of rows as one collection, looked through once and then read in order
    plain         which column is what, where nothing but types and the address says so
    layouts       Parquet as three vendors write it
    cells         keys, documents and payloads of a chunk
    number_forms  the forms that vectors have in columns
    vectors       vector fields: the type of a whole column, and the stream's columns
    matrix        collections whose vectors are the rows of one matrix
    search        exact search
    sink          writing: rows are made durable beside a file, and `finish` writes it anew
    syncing       files that go to the disk while they are being written
    growing       the vectors of segments in a file that is to be the matrix
    staging       the segments in which written rows wait for that
    merged        files and segments as one collection
    vdf_form      what exitramp writes into a dump in VDF
    vdf_part      one namespace of it as it is written
    hdf5_form     what exitramp writes into an HDF5 file beside the vectors
"""
