"""usearch index files with a side-car.

In the order of reading:

    adapter   the entry: an index and its side-car as a collection
    in_bytes  keys and vectors straight out of a file's bytes
    graph     usearch's graph as such: made, filled and walked through
"""
