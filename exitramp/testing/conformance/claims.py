"""What the registry tells users of a store is what the store does."""

from __future__ import annotations

import pytest

from exitramp.errors import RoleUnsupported
from exitramp.testing.conformance.harness import Feature, StoreHarness
from exitramp.testing.conformance.steps import NAME, limits_of, opened, write
from exitramp.testing.within import rows_within, spec_within


class ClaimConformance:
    def test_the_roles_that_are_claimed_are_those_there_are(self, harness: StoreHarness) -> None:
        adapter = harness.adapter()
        limits = limits_of(harness)
        write(harness, spec_within(limits, NAME), rows_within(spec_within(limits, NAME), limits, 3, 1))
        with opened(harness) as store:
            for role, ask in (("source", store.source), ("sink", store.sink), ("search", store.search)):
                if role in adapter.roles:
                    ask()
                    continue
                with pytest.raises(RoleUnsupported):
                    ask()
                    pytest.fail(f"the adapter does not claim the role '{role}', and has it")
        assert ("search" in adapter.roles) is (Feature.SEARCH not in harness.lacks), "SEARCH in `lacks` is another word"

    def test_vectors_are_kept_as_faithfully_as_is_claimed(self, harness: StoreHarness) -> None:
        adapter, limits = harness.adapter(), limits_of(harness)
        assert sorted(adapter.vector_kinds) == sorted(limits.vector_kinds), "other kinds of vectors than the limits say"
        changes = limits.normalises | limits.rounds
        if adapter.fidelity == "bit-exact":
            assert not changes, f"'bit-exact' is claimed, and vectors change under {sorted(changes)}"
        for metric in changes:
            assert metric in adapter.fidelity, f"what becomes of vectors under {metric} is not said in `fidelity`"

    def test_who_answers_is_who_was_asked(self, harness: StoreHarness) -> None:
        adapter, limits = harness.adapter(), limits_of(harness)
        write(harness, spec_within(limits, NAME), rows_within(spec_within(limits, NAME), limits, 3, 1))
        with opened(harness) as store:
            identity = store.source().identity()
        assert identity.adapter == adapter.scheme
        assert identity.evidence == adapter.evidence or adapter.evidence != "real", "it claims to be real and says not"
        assert identity.server_version, "an unknown version is 'unknown'"
        assert identity.client_version, "an unknown version is 'unknown'"
