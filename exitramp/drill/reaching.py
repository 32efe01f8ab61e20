"""What a drill reads must be there before it begins: nothing is started, and no report written, to say it is not."""

from __future__ import annotations

from exitramp.clock import Clock
from exitramp.drill.spec import DrillSpec
from exitramp.errors import CollectionMissing
from exitramp.urls import Network
from exitramp.wrappers import OpenSettings, open_endpoint

TIMEOUT_SECONDS = 20.0


def require_primary(spec: DrillSpec, clock: Clock, network: Network) -> None:
    """Raises `CollectionMissing` where the primary's collection is not there, and `StoreError` where its store does not
    answer. One that the drill starts or fills itself cannot be there yet."""
    address = spec.primary.store.address
    if address is None or "{folder}" in address or any(step.name == "build_primary" for step in spec.steps):
        return
    settings = OpenSettings(timeout_seconds=TIMEOUT_SECONDS, network=network, clock=clock)
    with open_endpoint(address, settings) as endpoint:
        try:
            endpoint.source().count()
        except CollectionMissing as error:
            line = spec.lines.get("primary.store.address")
            where = spec.file if line is None else f"{spec.file}:{line}"
            hint = f"name the collection that your application uses in {where}, primary.store.address"
            if error.hint:
                hint += f"; {error.hint}"
            raise CollectionMissing(f"the drill has no primary: {error.message}", hint=hint) from error
