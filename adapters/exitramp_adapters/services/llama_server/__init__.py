"""A real language model on a loopback port: llama.cpp's own server in a process of its own.

In the order of reading:

    adapter  the entry: the service, its options and its address
    server   the process: checks the weights, loads them, serves until it is told to end
"""
