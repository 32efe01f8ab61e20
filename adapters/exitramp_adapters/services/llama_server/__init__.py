"""A real language model on a loopback port: llama.cpp's own server in a process of its own."""
