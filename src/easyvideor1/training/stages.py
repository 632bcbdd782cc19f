"""From a stage's configuration to the values of its loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from easyvideor1.algorithms.advantages import ADVANTAGES
from easyvideor1.algorithms.objectives import OBJECTIVES
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.data import BadRow, Loaded, SampleStream
from easyvideor1.models.policy import Policy
from easyvideor1.rollout.engine import Engine
from easyvideor1.seeds import derive_seed
from easyvideor1.training.checkpoint import save_checkpoint
from easyvideor1.training.clock import Clock
from easyvideor1.training.groups import group_advantages, score_groups, select_groups
from easyvideor1.training.loop import Metrics, Stage
from easyvideor1.training.record import StageRecord
from easyvideor1.training.rollouts import generate_offline, generate_online, offline_turn
from easyvideor1.types import DataError, Group, Sample
from easyvideor1.workbench import Workbench

#: Called as ``evaluate(name, engine)`` when an evaluation is due; returns metrics.
Evaluate = Callable[[str, Engine], Metrics]
#: Called after every step with the stage's name, the step, the number of steps and the metrics.
OnStep = Callable[[str, int, int, Metrics], None]


def build_stage(
    options: StageConfig,
    config: RunConfig,
    *,
    bench: Workbench,
    policy: Policy,
    engine: Engine,
    sources: Sequence[Loaded],
    record: StageRecord,
    evaluate: Evaluate,
    on_step: OnStep,
) -> Stage:
    """Choose the parts of a stage. Every ``if`` that the loop would need is decided here."""
    advantage = ADVANTAGES.resolve(options.advantage)
    objective = OBJECTIVES.resolve(options.objective)
    seed = derive_seed(config.seed, options.name)
    sampling = bench.sampling()
    stream = SampleStream(
        _usable(options, config, bench, sources),
        [source.weight for source in config.data.train],
        seed,
        (*config.data.transforms, *options.transforms),
        options.tasks,
    )

    def generate(samples: list[Sample], step: int) -> list[Group]:
        if options.trajectories == "offline":
            limit = config.rollout.max_new_tokens
            return generate_offline(samples, step, family=policy.family, render=bench.render, max_tokens=limit)
        return generate_online(
            samples,
            step,
            engine=engine,
            render=bench.render,
            sampling=sampling,
            group_size=options.group_size,
            seed=(config.seed, options.name),
        )

    def update(used: list[Group], advantages_N: torch.Tensor, step: int) -> Metrics:
        turns = [turn for group in used for trajectory in group.trajectories for turn in trajectory.turns]
        owner = [
            n for n, trajectory in enumerate(t for group in used for t in group.trajectories) for _ in trajectory.turns
        ]
        if not turns:
            return {}  # nothing to learn from in this step; groups/used says so
        return policy.update(
            turns, advantages_N[owner], objective, step=step, temperature=sampling.temperature, load=bench.load
        )

    def due(every: int, step: int) -> bool:
        return every > 0 and step % every == 0

    def evaluate_when_due(step: int) -> Metrics:
        return evaluate(f"{options.name}-{step:06d}", engine) if due(config.evaluation.every, step) else {}

    def record_step(
        step: int, groups: list[Group], used: list[Group], advantages_N: torch.Tensor, metrics: Metrics, clock: Clock
    ) -> None:
        row = record.write(step, groups, used, advantages_N, metrics, clock)
        on_step(options.name, step, options.steps, row)

    def save(step: int) -> None:
        if due(options.save_every, step) or step == options.steps:
            state = {"stage": options.name, "seed": config.seed}
            save_checkpoint(policy, record.directory, step, state, options.keep_checkpoints)

    return Stage(
        name=options.name,
        steps=options.steps,
        sample=lambda step: stream.batch(step - 1, options.prompts_per_step),
        generate=generate,
        score=lambda groups: score_groups(groups, bench.scorer),
        select=lambda groups: select_groups(groups, drop_flat=options.drop_flat_groups),
        advantages=lambda used: group_advantages(used, advantage),
        update=update,
        sync=lambda step: engine.load_weights(step, policy.weights()),
        evaluate=lambda step: (
            evaluate(f"{options.name}-{step:06d}", engine) if due(config.evaluation.every, step) else {}
        ),
        record=record_step,
        save=save,
    )


def stage_directory(run_dir: Path, config: RunConfig, options: StageConfig) -> Path:
    """``stages/01-sft``: numbered in the order of the configuration."""
    return run_dir / "stages" / f"{config.stages.index(options) + 1:02d}-{options.name}"


def _usable(options: StageConfig, config: RunConfig, bench: Workbench, sources: Sequence[Loaded]) -> list[list[Sample]]:
    """The samples a stage can use: all of them, or those with usable offline trajectories."""
    if options.trajectories == "policy":
        return [source.samples for source in sources]
    kept = []
    for source in sources:
        bad: dict[str, BadRow] = {}
        with_offline = [sample for sample in source.samples if sample.offline]
        for sample in with_offline:
            try:
                prompt = bench.render(sample)
                for offline in sample.offline:
                    offline_turn(bench.family, prompt, offline, config.rollout.max_new_tokens)
            except DataError as error:
                what, _, remedy = str(error).partition(" - ")
                bad[sample.id] = BadRow(sample.where, "offline_output", what, remedy)
        usable = source.without(bad, config.data.on_bad_row)
        kept.append([sample for sample in usable.samples if sample.offline])
    if not any(kept):
        raise DataError(
            f"stage {options.name!r} learns from offline trajectories, but no row of "
            f"{', '.join(source.path for source in sources)} has one (columns has_offline_trajectory, offline_output)"
        )
    return kept
