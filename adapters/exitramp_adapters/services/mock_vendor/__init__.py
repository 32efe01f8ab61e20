"""Mock model vendors: real HTTP on loopback, answers by a documented rule, failures on command.

In the order of reading:

    adapter     the entry: the mocks as services
    options     what can be set
    server      the process: a port that serves and one that controls
    calls       one call: which fault meets it, and what is answered
    delivery    how an answer leaves, whole or broken
    replies     where the words come from
    elsewhere   words from a cassette or a real model
    speaking    the rule: text, JSON, calls of tools
    filling     a value that a JSON Schema allows
    embeddings  vectors of texts, by a rule
    real_vectors  vectors by a model of this machine
    reranking   scores of documents
    shape       what both shapes have in common
    openai      the chat completions shape
    anthropic   the messages shape
    account     one line for every request it took
"""
