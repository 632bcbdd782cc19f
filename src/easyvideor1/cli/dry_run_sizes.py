"""The parts of a dry run about sizes: media, memory, time, and bytes on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from easyvideor1.cli.dry_run_findings import DryRun
    from easyvideor1.policy.sizing.devices import Device
    from easyvideor1.policy.sizing.prediction import Problem
    from easyvideor1.types import MediaPlan

#: Bytes of a trained weight in a checkpoint: itself, and two moments of the optimiser.
_SAVED = 12


def show_media(found: DryRun) -> None:
    """Plan all media, and say what of their frames has to be decoded."""
    from easyvideor1.cli.progress import progress
    from easyvideor1.video import check_cached
    from easyvideor1.video.entry import TYPICAL_RATIO, raw_bytes

    refs = list(dict.fromkeys(ref for sample in found.samples() for ref in sample.media))
    if not refs:
        return
    components, cache = found.components, found.config.cache
    with progress("planning media", unit="file") as on_progress:
        planned = components.plan_media(refs, on_progress)
    typer.echo("media:")
    for kind in ("video", "image"):
        if plans := [plan for ref, plan in planned.items if plan.kind == kind]:
            typer.echo(f"  {len(plans)} {kind}s: {_ranges(plans)}")
    if planned.rate_note:
        typer.echo(f"  {planned.rate_note}")
    for path, reason in planned.failures:
        found.problem(f"{path} cannot be planned: {reason}; replace the file or remove its rows")
    if cache.mode == "decode_only":
        return
    there = check_cached(planned.items, components.store)
    lacking = {plan.digest: plan for _, plan in planned.items if plan.digest in there.failed_digests}
    if lacking and cache.mode == "cache_only":
        found.problem(
            f"cache.mode is cache_only, and frames of {len(lacking)} media are not in {cache.dir}; run evr1 cache "
            "build, or set cache.mode=prefer_cache"
        )
    found.frame_bytes = int(sum(map(raw_bytes, lacking.values())) * TYPICAL_RATIO[cache.codec])
    typer.echo(f"  frames of {there.present} are in {cache.dir}; those of {len(lacking)} would be decoded first")


def _ranges(plans: Sequence[MediaPlan]) -> str:
    """Frames, pixels and tokens of some media."""
    frames, sides, tokens = (
        (min(values), max(values))
        for values in (
            [len(plan.frame_indices) for plan in plans],
            [plan.width * plan.height for plan in plans],
            [plan.tokens for plan in plans],
        )
    )
    shown = [
        f"{low} to {high} {what}" if low != high else f"{low} {what}"
        for (low, high), what in zip((frames, sides, tokens), ("frames", "pixels each", "visual tokens"), strict=True)
    ]
    return ", ".join(shown[plans[0].kind == "image" :])


def show_memory(found: DryRun, device: str, memory: str) -> None:
    """Memory and time of each stage, as ``evr1 fit`` predicts them."""
    from easyvideor1.cli.fit import stage_problems, target_device
    from easyvideor1.types import ConfigError

    stages = [planned for planned, _, _ in found.planned]
    if not stages:
        return
    if (ranks := found.config.cluster.sequence_parallel) > 1:
        found.unchecked.append(f"memory and time: evr1 fit does not predict cluster.sequence_parallel={ranks}")
        return
    try:
        target = target_device(found.config, device, memory)
    except ConfigError as error:
        if device or memory:
            found.problem(str(error))
        elif str(error) not in found.problems:
            found.unchecked.append(f"memory and time: {error}; name one with --device")
        return
    try:
        problems, _ = stage_problems(found.components, stages, found.loaded["train"], target)
    except ConfigError as error:
        if str(error) not in found.problems:
            found.unchecked.append(f"memory and time: {error}")
        return
    typer.echo(f"memory and time on {target.name}, predicted (evr1 fit says more):")
    for problem in problems:
        _show_problem(found, problem, target)
    last = problems[-1]
    sizes, kept = last.sizes, max(problem.options.keep_checkpoints for problem in problems)
    frozen = sizes.all_values - sizes.trained_values
    found.checkpoint_bytes = len(problems) * kept * (sizes.trained_values * _SAVED + 4 * frozen)


def _show_problem(found: DryRun, problem: Problem, target: Device) -> None:
    from easyvideor1.cli.cache_plan import size_words
    from easyvideor1.cli.durations import clock
    from easyvideor1.policy.sizing.prediction import typical_step

    name, peak = problem.options.name, problem.peak
    _, seconds = typical_step(problem)
    whole = seconds.total * problem.options.step_count
    room = f"{size_words(peak.total)} of {size_words(target.usable)}"
    typer.echo(
        f"  {name}: {room} ({peak.phase}); {seconds.total:.3g} s a step, {clock(whole)} for all "
        f"{problem.options.step_count}, without evaluations"
    )
    if not problem.fits:
        found.problem(
            f"stages.{name} does not fit: {peak.phase} needs {size_words(peak.total)}, there are "
            f"{size_words(target.usable)} of {target.name}; evr1 fit with the same arguments says what to change"
        )
