"""A TCP proxy on loopback that spoils what passes through it, in the words of Toxiproxy.

In the order of reading:

    adapter  the entry: the proxy as a service
    target   what it stands in front of
    toxics   what can be spoilt, and when
    link     one connection through it
    server   the process: a port that passes on and one that controls
"""
