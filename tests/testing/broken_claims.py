"""Stores that do what they do, and tell users something else of it."""

from __future__ import annotations

from dataclasses import replace

from exitramp.ports import NameRule
from exitramp.records import Metric, VectorKind
from exitramp.testing.memory import ADAPTER, LIMITS
from tests.testing.broken import Broken

NAMES = "test_the_rule_for_names_has_room_for_ordinary_ones"
ROLES = "test_the_roles_that_are_claimed_are_those_there_are"
FAITH = "test_vectors_are_kept_as_faithfully_as_is_claimed"
HARDLY_ANY = replace(LIMITS, names=NameRule("[A-Z]+", 1, 3))
CLAIMS = (
    Broken("has a search that it does not claim", (ROLES,), adapter=replace(ADAPTER, roles=("source", "sink"))),
    Broken(
        "claims to be bit-exact and normalises",
        (FAITH,),
        limits=replace(LIMITS, normalises=frozenset({Metric.COSINE})),
    ),
    Broken(
        "claims kinds of vectors that it has not",
        (FAITH,),
        limits=replace(LIMITS, vector_kinds=frozenset({VectorKind.DENSE})),
    ),
    Broken("is another than it says", ("test_who_answers_is_who_was_asked",), adapter=replace(ADAPTER, scheme="memo")),
    Broken("takes hardly any name", (NAMES,), limits=HARDLY_ANY),
)
