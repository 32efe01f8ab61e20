"""Which steps can follow which: what a drill file asks for in an order that cannot work is told before it begins."""

from __future__ import annotations

from typing import Final

from exitramp.drill.between import goes_by_proxy, require_room
from exitramp.drill.spec import DrillSpec, StepSpec
from exitramp.errors import ConfigError

_AFTER_THE_LOSS: Final = frozenset({"measure_loss", "replay", "compare_quality", "cost"})
_EMBEDDING: Final = frozenset({"embedding_gone", "map_embeddings", "reembed"})
_NOT_BY_APPLICATION: Final = frozenset({"parallel_run", "cut_over", "way_back", "cost"}) | _EMBEDDING
_AGAIN: Final = {"ask_again": ("baseline",), "silent_drift": ("baseline", "replay")}
_AFTER_A_RESTORE: Final = frozenset({"parallel_run", "catch_up", "cut_over"})


def require_order(spec: DrillSpec) -> None:
    """Raises `ConfigError` with file and line."""
    for number, step in enumerate(spec.steps):
        if step.name == "outage" and getattr(step.arguments, "lost", None) is not None:
            _loss(spec, spec.steps[:number], step, spec.steps[number + 1 :])
        if step.name == "outage":
            for phase in step.arguments.phases:
                if getattr(spec.primary, phase.on) is None:
                    raise ConfigError(
                        f"'outage' has a fault on {phase.on}, and the primary has none to break",
                        file=spec.file,
                        line=step.line,
                        hint=f"name it under 'primary', as '{phase.on}', or leave the phase away",
                    )
                require_room(spec, phase.on, phase.fault, phase.by, step.line)
        if step.name in _AFTER_A_RESTORE and not any(each.name == "restore" for each in spec.steps[:number]):
            raise ConfigError(
                f"'{step.name}' needs a substitute that holds the records",
                file=spec.file,
                line=step.line,
                hint="put the steps 'dump' and 'restore' before it",
            )
        if spec.application is not None:
            _through_application(spec, step)
        if step.name in _AGAIN:
            _asked_again(spec, spec.steps[:number], step)
        if step.name in _EMBEDDING:
            _embedding(spec, spec.steps[:number], step)
        if step.name == "vendor_data" and getattr(step.arguments, "delete", None) is not None:
            _deletion(spec, spec.steps[:number], step, spec.steps[number + 1 :])


def _through_application(spec: DrillSpec, step: StepSpec) -> None:
    """Nothing is told of the application that was not asked of it, and no fault played where it does not pass."""
    if step.name in _NOT_BY_APPLICATION:
        raise ConfigError(
            f"'{step.name}' needs answers of the two stacks themselves, and this drill asks your application",
            file=spec.file,
            line=step.line,
            hint="leave the step away, or 'application'",
        )
    if step.name != "outage":
        return
    if getattr(step.arguments, "lost", None) is not None:
        raise ConfigError(
            "'lost' restores the dump into the substitute while the stacks are asked, and this drill asks your "
            "application, which the drill cannot keep from half a store",
            file=spec.file,
            line=step.line,
            hint="to see your application without its store, write 'sigkill' in the place of 'lost'; to time the "
            "restore, leave 'application' away",
        )
    for phase in step.arguments.phases:
        part = getattr(spec.primary, phase.on)
        if part is not None and part.service is None and not goes_by_proxy(part, phase.fault, phase.by):
            raise ConfigError(
                f"the primary's {phase.on} is given by its address, so a fault of it would only be played in the "
                "drill's own calls, which your application does not make",
                file=spec.file,
                line=step.line,
                hint="name a fault that a proxy can do in front of it, such as 'down', or put a service in its place",
            )


def _asked_again(spec: DrillSpec, before: tuple[StepSpec, ...], step: StepSpec) -> None:
    """Whoever is asked again has to have been asked; and nobody is sent to a substitute that was not."""
    sides = (spec.primary,) if step.name == "ask_again" else (spec.primary, spec.substitute)
    missing = [f"a chat vendor of the {each.name}" for each in sides if each.chat is None]
    names = [each.name for each in before]
    missing += [f"the step '{name}' before it" for name in _AGAIN[step.name] if name not in names]
    if spec.objectives.quality_margin is None:
        missing.append("objectives.quality_margin")
    if missing:
        raise ConfigError(f"'{step.name}' needs {missing[0]}", file=spec.file, line=step.line)


def _embedding(spec: DrillSpec, before: tuple[StepSpec, ...], step: StepSpec) -> None:
    """Who embeds has to be known of both sides; and what is a way out has to come after what it leads out of."""
    for stack in (spec.primary, spec.substitute):
        if stack.embedding is None:
            raise ConfigError(
                f"'{step.name}' needs an embedding model on both sides, and {stack.name}.embedding names none",
                file=spec.file,
                line=step.line,
            )
    names = [each.name for each in before]
    wanted = ("load_golden", "baseline") if step.name == "embedding_gone" else ("embedding_gone",)
    for name in wanted:
        if name not in names:
            raise ConfigError(f"'{step.name}' needs the step '{name}' before it", file=spec.file, line=step.line)


def _deletion(spec: DrillSpec, before: tuple[StepSpec, ...], step: StepSpec, after: tuple[StepSpec, ...]) -> None:
    """Deleted is only what traffic was moved away from, and nothing may go back there or look there afterwards."""
    names = [each.name for each in before]
    if "cut_over" not in names or "way_back" in names or after:
        raise ConfigError(
            "data at the leaving vendor is deleted last of all, after a 'cut_over' that no 'way_back' follows",
            file=spec.file,
            line=step.line,
            hint="leave 'delete' away: the drill then says what would have to be deleted",
        )


def _loss(spec: DrillSpec, before: tuple[StepSpec, ...], step: StepSpec, after: tuple[StepSpec, ...]) -> None:
    """Restored is the last dump, into a substitute that is empty until then; and what is lost does not come back."""
    if not any(each.name == "dump" for each in before):
        raise ConfigError(
            "the primary's store is lost here, and there is no dump to restore",
            file=spec.file,
            line=step.line,
            hint="put the step 'dump' before it",
        )
    restored = [each for each in before if each.name == "restore"]
    if restored:
        raise ConfigError(
            "the dump is restored while the outage runs, so there can be no 'restore' before it",
            file=spec.file,
            line=restored[0].line,
            hint="leave the step away",
        )
    strange = [each for each in after if each.name not in _AFTER_THE_LOSS]
    if strange:
        raise ConfigError(
            f"'{strange[0].name}' needs the primary, which is lost for good in line {step.line}",
            file=spec.file,
            line=strange[0].line,
            hint=f"after the loss there can be: {', '.join(sorted(_AFTER_THE_LOSS))}",
        )
