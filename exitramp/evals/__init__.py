"""Golden sets, scorers and paired comparison: is the substitute worse, and by how much at most?

`golden` reads cases, `scorers` and `retrieval` put values on answers and hits, `paired` holds the statistics and
`verdicts` turns a confidence bound into pass, fail or inconclusive. Nothing here talks to a store or a model, and
scipy, numpy and ir-measures load only inside the functions that use them.
"""
