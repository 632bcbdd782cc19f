"""Stages that go through their rows so many times, counted in steps.

A run counts once, when it begins, and writes the numbers into ``run.json``: rows that go bad between two starts must
not move the end of a stage, nor a learning rate that falls towards it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.types import ConfigError


def counted_steps(options: StageConfig, rows: int) -> int:
    """Steps in which a stage draws each of ``rows`` samples ``epochs`` times; a last step that is begun is a whole one.

    For a stage that is given in steps, these.
    """
    if options.epochs is None:
        return options.step_count
    # Tolerant of 0.1 * 30, which is a hair above 3.
    return max(math.ceil(options.epochs * rows / options.prompts_per_step - 1e-9), 1)


def in_steps(options: StageConfig, steps: int) -> StageConfig:
    """A stage with its length in steps, checked again: a critic's warm-up, say, has to end before the stage does.

    Raises:
        ConfigError: some option of the stage does not go with so many steps.
    """
    if options.steps == steps:
        return options
    values = {name: getattr(options, name) for name in StageConfig.model_fields}
    try:
        return StageConfig.model_validate({**values, "epochs": None, "steps": steps})
    except ValidationError as error:
        faults = "; ".join(str(fault["msg"]).removeprefix("Value error, ") for fault in error.errors())
        raise ConfigError(f"stages.{options.name}, whose epochs are {steps} steps: {faults}") from error


def with_steps(config: RunConfig, steps: Sequence[int]) -> RunConfig:
    """A configuration with the lengths of its stages in steps."""
    stages = tuple(in_steps(options, count) for options, count in zip(config.stages, steps, strict=True))
    return config.model_copy(update={"stages": stages})


def with_known_steps(config: RunConfig, status: Mapping[str, Any] | None) -> RunConfig:
    """A configuration with the lengths of its stages in steps as far as they are known; others keep their epochs."""
    known = known_steps(config, status)
    stages = tuple(in_steps(one, known[one.name]) if one.name in known else one for one in config.stages)
    return config.model_copy(update={"stages": stages})


def known_steps(config: RunConfig, status: Mapping[str, Any] | None) -> dict[str, int]:
    """Steps of stages by name, as far as they are known: given, or counted when the run of ``status`` began.

    A stage whose epochs have changed since then, or that had its length in steps then, is counted again.
    """
    counted: Mapping[str, int] = (status or {}).get("steps", {})
    epochs: Mapping[str, float] | None = (status or {}).get("epochs")  # runs of older versions have none
    known = {}
    for options in config.stages:
        # A stage that had its length in steps then is not among ``epochs``.
        same = epochs is None or epochs.get(options.name) == options.epochs
        if steps := options.steps or (counted.get(options.name) if same else None):
            known[options.name] = steps
    return known


def length_traces(options: StageConfig, config: RunConfig) -> list[str]:
    """What a stage does differently from the start where it is longer, so that a run that is extended shows it."""
    settings, hybrid = options.optimizer, options.hybrid
    found = []
    if settings.schedule != "constant" or (settings.warmup_ratio and not settings.warmup_steps):
        found.append("the learning rate follows the length of the stage (optimizer.schedule, optimizer.warmup_ratio)")
    if options.selection.generation_rounds > 1:
        found.append("further rounds draw samples that lie behind the stage (generation_rounds)")
    if config.rollout.over_sample_rate > 0 and options.trajectories == "policy":
        found.append("the samples of over-sampling lie behind the stage (rollout.over_sample_rate)")
    if hybrid is not None and hybrid.policy == "schedule" and not hybrid.fraction_steps:
        found.append("the share of offline trajectories follows the length of the stage (hybrid.fraction_steps)")
    if any(source.epochs is not None for source in config.data.train):
        found.append("the epochs of sources are shares of the stage (data.train)")
    return found


def tell_lengthened(options: StageConfig, config: RunConfig, before: int) -> str:
    """That a stage has more steps than ``before``, and whether it is as if it had always had them."""
    line = f"stage {options.name}: extended from {before} to {options.step_count} steps"
    if not (traces := length_traces(options, config)):
        return f"{line}, with the same result as if it had had them from the start"
    return f"{line}; its first {before} steps were trained as those of a shorter stage: {'; '.join(traces)}"


def tell_length(options: StageConfig, rows: int, steps: int, say: Callable[[str], None]) -> None:
    """Say what the epochs of a stage come to, if that is how its length is given."""
    if options.epochs is None:
        return
    times = f"{options.epochs:g} epoch" + ("" if options.epochs == 1 else "s")
    line = f"stage {options.name}: {times} of {rows} samples at {options.prompts_per_step} a step are {steps} steps"
    now = counted_steps(options, rows)
    say(line if now == steps else f"{line}, as counted when the run started; now they would be {now}")
