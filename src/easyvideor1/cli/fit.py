"""``evr1 fit``: what a run needs of memory and time, before it is launched."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from easyvideor1.cli.config import ConfigArgument, OverridesArgument

if TYPE_CHECKING:
    from easyvideor1.components import Components
    from easyvideor1.config import ModelConfig, RunConfig, StageConfig
    from easyvideor1.data import Loaded
    from easyvideor1.policy.sizing.curves import ModelSizes
    from easyvideor1.policy.sizing.devices import Device
    from easyvideor1.policy.sizing.prediction import Problem, Remedy
    from easyvideor1.policy.sizing.workload import Asked


def fit(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="Memory of the device, such as 80GiB; what is there by default.")
    ] = "",
    device: Annotated[
        str, typer.Option(metavar="NAME", help="A GPU by its name, such as H100, or cpu; this machine's by default.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Predict the memory, arithmetic and time of a run, and refuse one that does not fit.

    Reads rows, headers of media and config.json of the checkpoint. No weights are read and no frame is decoded. The
    exit status is 1 if a stage does not fit on the device; what to change is printed.
    """
    from easyvideor1.cli.progress import progress
    from easyvideor1.components import Components
    from easyvideor1.config import load_config
    from easyvideor1.policy.sizing.prediction import remedies
    from easyvideor1.types import ConfigError

    settings = load_config(config, overrides or ())
    if not settings.stages:
        raise ConfigError(f"{config} has no stage, so there is nothing to predict; add stages")
    if not settings.data.train:
        raise ConfigError(f"{config} has no training rows; set data.train")
    if (ranks := settings.cluster.sequence_parallel) > 1:
        raise ConfigError(
            f"cluster.sequence_parallel is {ranks}, and evr1 fit predicts what one device needs that computes its "
            "micro-batches alone: add cluster.sequence_parallel=1 to this command to see that"
        )
    target = target_device(settings, device, memory)
    with Components.open(settings) as components:
        with progress("checking rows", unit="row") as on_progress:
            loaded = components.load_sources(settings.data.train, on_progress)
        problems, sizes_of = stage_problems(components, components.config.stages, loaded, target)
    results = []
    for problem in problems:
        found = [] if problem.fits else remedies(problem, sizes_of)
        results.append(_as_json(problem, found))
        if not as_json:
            _show(problem, found)
    if as_json:
        typer.echo(json.dumps({"device": target.name, "memory": target.memory, "stages": results}))
    if not all(problem.fits for problem in problems):
        raise typer.Exit(1)


def target_device(settings: RunConfig, name: str, memory: str) -> Device:
    """The device that is asked for, or the one that the run would use here.

    Raises:
        ConfigError: there is no such device, its throughput is not known, or the memory is no size.
    """
    from dataclasses import replace

    from easyvideor1.cli.cache_plan import parse_size
    from easyvideor1.families.family import chosen_device
    from easyvideor1.policy.sizing.devices import named_device, this_device, this_processor
    from easyvideor1.types import ConfigError

    size = parse_size(memory) if memory else None
    if size == 0:
        raise ConfigError("--memory 0: a device needs memory; write it like 80GiB")
    if name == "cpu":
        return this_processor(size)
    if name:
        found = named_device(name)
        return replace(found, memory=size or found.memory)
    return this_device(chosen_device(settings.model), size)


def stage_problems(
    components: Components,
    stages: Sequence[StageConfig],
    loaded: Sequence[Loaded],
    target: Device,
    sizes_of: Callable[[ModelConfig], ModelSizes] | None = None,
) -> tuple[list[Problem], Callable[[ModelConfig], ModelSizes]]:
    """One problem per stage, and what measures the model under another configuration.

    ``sizes_of`` is what an earlier call returned for the same checkpoint; it remembers what it has measured.

    Raises:
        ConfigError: the memory of this model family cannot be predicted.
        DataError: a stage has no row to draw.
    """
    from functools import cache
    from pathlib import Path

    from easyvideor1.config import ModelConfig
    from easyvideor1.policy.sizing.measure import measure_model
    from easyvideor1.policy.sizing.prediction import Problem

    family = components.family

    @cache
    def measured(written: str) -> ModelSizes:
        return measure_model(family, ModelConfig.model_validate_json(written), Path(components.checkpoint))

    def measure(model: ModelConfig) -> ModelSizes:
        return measured(model.model_dump_json())

    found = sizes_of or measure
    sizes = found(components.config.model)
    return [
        Problem(components.config, stage, tuple(_asked(stage, components, loaded)), sizes, family.shares_prefix, target)
        for stage in stages
    ], found


def _asked(stage: StageConfig, components: Components, loaded: Sequence[Loaded]) -> list[Asked]:
    """The prompts that a stage may draw, with responses of the greatest length, or the offline ones of the rows.

    Raises:
        DataError: there are none.
    """
    from easyvideor1.policy.sizing.workload import Asked
    from easyvideor1.rollout.requests import offline_ids
    from easyvideor1.training.datasets import takes
    from easyvideor1.types import DataError

    limit = components.config.rollout.max_new_tokens
    # Of trajectories of several turns this is the first one.
    strategy = components.offline_strategy if stage.trajectories == "offline" else components.strategy
    found = []
    for source in loaded:
        for sample in filter(takes(stage, source), source.samples):
            members = stage.group_size
            if stage.trajectories == "rollouts" and stage.rollouts is not None:
                members = min(members, 2 * sum(pair.per_prompt for pair in stage.rollouts.pairs))
            lengths = (limit,) * members
            if stage.trajectories == "offline":
                lengths = tuple(
                    len(offline_ids(components.family, each, None, strict=False)) for each in sample.offline
                )
            if lengths:
                found.append(Asked(strategy.start(sample), lengths))
    if not found:
        raise DataError(f"stages.{stage.name}: no row can be drawn - correct its tasks and sources, or data.train")
    return found


def _as_json(problem: Problem, remedies: Sequence[Remedy]) -> dict[str, Any]:
    from dataclasses import asdict

    from easyvideor1.policy.sizing.prediction import (
        best_batch_tokens,
        best_micro_batch,
        best_utilisation,
        typical_step,
    )
    from easyvideor1.policy.sizing.report import cache_bytes, histogram, host_parts

    flops, seconds = typical_step(problem)
    return {
        "stage": problem.options.name,
        "fits": problem.fits,
        "histogram": histogram(problem.asked),
        "peaks": {peak.phase: {"total": peak.total, "parts": peak.parts} for peak in problem.peaks},
        "host": host_parts(problem),
        "cache_bytes": cache_bytes(problem),
        "flops": {"vision": flops.vision, "language": flops.language, **asdict(flops)},
        "seconds": {"total": seconds.total, **asdict(seconds)},
        "micro_batch_tokens": best_micro_batch(problem),
        "batch_tokens": best_batch_tokens(problem),
        "gpu_memory_utilization": best_utilisation(problem),
        "remedies": [{"set": list(one.changes), "peak": one.peak} for one in remedies],
    }


def _show(problem: Problem, remedies: Sequence[Remedy]) -> None:
    from easyvideor1.cli.cache_plan import size_words
    from easyvideor1.policy.sizing.prediction import (
        best_batch_tokens,
        best_micro_batch,
        best_utilisation,
        typical_step,
    )
    from easyvideor1.policy.sizing.report import cache_bytes, histogram, host_parts

    device, options = problem.device, problem.options
    typer.echo(f"stage {options.name}: {len(problem.asked)} prompts")
    typer.echo("  tokens per prompt:")
    for low, high, count in histogram(problem.asked):
        bar = "#" * round(40 * count / len(problem.asked))
        typer.echo(f"    {low:>7} to {high - 1:>7}  {count:>7}  {bar}".rstrip())
    ranks = problem.config.cluster.ranks
    whose = "" if ranks == 1 else f" of the first of {ranks} ranks"
    for peak in problem.peaks:
        typer.echo(f"  memory of the device{whose}, {peak.phase}: {size_words(peak.total)}")
        for name, size in peak.parts.items():
            typer.echo(f"    {name:<22} {size_words(size):>10}")
    parts = host_parts(problem)
    beside = ", beside the device's" if device.on_cpu else ""
    typer.echo(f"  memory of the host: {size_words(sum(parts.values()))}{beside}")
    for name, size in parts.items():
        typer.echo(f"    {name:<40} {size_words(size):>10}")
    typer.echo(f"  frame cache ({problem.config.cache.codec}): {size_words(cache_bytes(problem))}")
    flops, seconds = typical_step(problem)
    typer.echo(f"  operations of a step: {flops.language:.3g} language, {flops.vision:.3g} vision")
    typer.echo(
        f"  time of a step: {seconds.total:.3g} s (prefill {seconds.prefill:.3g}, decoding {seconds.decoding:.3g}, "
        f"training {seconds.trainer:.3g}) at {device.rate(problem.config.model.dtype) / 1e12:.3g} TFLOP/s, "
        f"{device.utilisation:.0%} of the peak of {device.name} ({device.source})"
    )
    micro, cache, utilisation = best_micro_batch(problem), best_batch_tokens(problem), best_utilisation(problem)
    if micro is not None:
        typer.echo(f"  largest micro-batch that fits: stages.{options.name}.micro_batch_tokens={micro}")
    if cache is not None:
        share = cache * problem.sizes.key_values / device.memory
        typer.echo(f"  largest cache of the engine that fits: rollout.batch_tokens={cache} ({share:.0%} of the memory)")
    if utilisation is not None:
        typer.echo(f"  largest share of vLLM that fits: rollout.vllm.gpu_memory_utilization={utilisation:g}")
    usable, memory, needed = (size_words(each) for each in (device.usable, device.memory, problem.peak.total))
    room = f"{usable} of {device.name}" if usable == memory else f"{usable} of the {memory} of {device.name}"
    if problem.fits:
        typer.echo(f"  it fits: {problem.peak.phase} needs {needed}; there are {room}")
        return
    typer.echo(f"  it does not fit: {problem.peak.phase} needs {needed}; there are {room}")
    if not remedies:
        typer.echo("  no change of the configuration makes it fit: use a device with more memory, or a smaller model")
    for remedy in remedies:
        typer.echo(f"  set {' '.join(remedy.changes)}: the peak is then {size_words(remedy.peak)}")
