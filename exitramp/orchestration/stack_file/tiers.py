"""The part of a stack file that says which size of model a question goes to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from exitramp.orchestration.stack_file.places import one_of, seconds
from exitramp.orchestration.stack_file.values import ClassifierSpec, ModelSpec, RoutingSpec, Tier
from exitramp.yaml_reader import Block

_STANDING: Final = ClassifierSpec(Path(), 1.0, "")


def read_routing(
    top: Block, folder: Path, models: Mapping[str, ModelSpec], embedders: Mapping[str, object]
) -> RoutingSpec | None:
    block = top.block("routing", required=False)
    if block is None:
        return None
    standing = RoutingSpec()
    found = RoutingSpec(
        block.number("small_below", standing.small_below, minimum=0, maximum=1),
        block.number("medium_below", standing.medium_below, minimum=0, maximum=1),
        Tier(block.choice("pii", tuple(Tier), standing.pii)),
        _classifier(block, folder, embedders),
    )
    if found.small_below > found.medium_below:
        raise block.error("'routing.small_below' is above 'routing.medium_below'", "small_below")
    for model in models.values():
        if model.tier is None:
            raise block.error(f"routing goes by tiers, and the model '{model.name}' has none",
                              hint="write tier: small, medium or large under it")  # fmt: skip
    if all(model.tier is not found.pii for model in models.values()):
        there = [str(tier) for tier in Tier if any(model.tier is tier for model in models.values())]
        said = "is" if block.has("pii") else "is left out, and then"
        raise block.error(
            f"'routing.pii' {said} '{found.pii}', and no model is of that tier",
            "pii",
            hint=f"write pii: {' or '.join(there)} under routing; what is marked as personal goes to that tier alone",
        )
    block.finish()
    return found


def _classifier(routing: Block, folder: Path, embedders: Mapping[str, object]) -> ClassifierSpec | None:
    """What the exported file itself says is looked at when the stack file is opened."""
    block = routing.block("classifier", required=False)
    if block is None:
        return None
    block.expect("onnx", "threshold", "embedder", "tiers", "timeout_seconds")
    tiers = block.block("tiers", required=False)
    labels = [] if tiers is None else tiers.keys()
    found = ClassifierSpec(
        folder / block.text("onnx"),
        block.number("threshold", minimum=0, maximum=1),
        one_of(block, "embedder", embedders),
        {name: Tier(tiers.choice(name, tuple(Tier))) for name in labels if tiers is not None},
        seconds(block, "timeout_seconds", _STANDING.timeout_seconds, 0.001),
        block.line,
    )
    block.finish()
    return found
