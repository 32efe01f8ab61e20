"""FAISS index files with a side-car.

In the order of reading:

    adapter  the entry: an index and its side-car as a collection
    index    FAISS indexes as such: read, looked through, built and asked
    flat     the file of a flat index, written and read by blocks of rows
"""
