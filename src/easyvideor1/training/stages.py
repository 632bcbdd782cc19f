"""From a stage's configuration to the values of its loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from easyvideor1.algorithms.advantages import ADVANTAGES
from easyvideor1.algorithms.objectives import OBJECTIVES
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.data import SampleStream
from easyvideor1.data.visual import VISUAL_MISMATCH
from easyvideor1.models.features import FeatureCache
from easyvideor1.models.policy import Policy
from easyvideor1.rollout.engine import Engine
from easyvideor1.seeds import derive_seed
from easyvideor1.training.ahead import SamplesAhead
from easyvideor1.training.clock import Clock
from easyvideor1.training.groups import flat_groups_teach, group_advantages, score_groups, select_groups
from easyvideor1.training.loop import Metrics, Stage
from easyvideor1.training.record import StageRecord
from easyvideor1.training.rollouts import generate_online, read_offline, ready_prompts
from easyvideor1.types import Group, MediaError, MediaPlan, MediaRef, Sample
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
    stream: SampleStream,
    record: StageRecord,
    evaluate: Evaluate,
    on_step: OnStep,
    save: Callable[[int], None],
) -> Stage:
    """Choose the parts of a stage. Every ``if`` that the loop would need is decided here."""
    advantage = ADVANTAGES.resolve(options.advantage)
    objective = OBJECTIVES.resolve(options.objective)
    drop_flat = options.drop_flat_groups and not flat_groups_teach(advantage)
    sampling = bench.sampling()
    # Offline trajectories were drawn from another distribution; supervised learning is at temperature 1.
    temperature = sampling.temperature if options.trajectories == "policy" else 1.0

    media = StageMedia(options.name, bench, bench.open_features(policy.model))

    def generate(samples: list[Sample], step: int) -> list[Group]:
        prompts = ready_prompts(samples, bench.render, media.check, media.failed)
        if options.trajectories == "offline":
            return read_offline(samples, prompts, family=policy.family, max_tokens=config.rollout.max_new_tokens)
        seed = (config.seed, options.name, step)
        return generate_online(
            samples, prompts, engine=engine, sampling=sampling, group_size=options.group_size, seed=seed
        )

    def update(used: list[Group], advantages_N: torch.Tensor, step: int) -> Metrics:
        trajectories = [trajectory for group in used for trajectory in group.trajectories]
        if not trajectories:
            return {}  # nothing to learn from in this step; groups/used says so
        # For objectives that draw, and for dropout: a resumed step has to draw the same.
        torch.manual_seed(derive_seed(config.seed, options.name, "update", step))
        turns = [turn for trajectory in trajectories for turn in trajectory.turns]
        owner = [n for n, trajectory in enumerate(trajectories) for _ in trajectory.turns]
        return policy.update(
            turns,
            advantages_N[owner],
            objective,
            step=step,
            temperature=temperature,
            load=bench.load,
            features=media.features,
        )

    def evaluate_when_due(step: int) -> Metrics:
        return evaluate(f"{options.name}-{step:06d}", engine) if due(config.evaluation.every, step) else {}

    def log(step: int, groups: list[Group], used: list[Group], metrics: Metrics, clock: Clock) -> None:
        found = metrics | {"groups/visual_mismatch": float(len(media.mismatches))}
        media.mismatches.clear()
        row = record.write_metrics(step, groups, used, found, clock)
        on_step(options.name, step, options.steps, row)

    def save_when_due(step: int) -> None:
        if due(options.save_every, step) or step == options.steps:
            save(step)

    return Stage(
        name=options.name,
        steps=options.steps,
        sample=_sampler(options, stream, media),
        generate=generate,
        score=lambda groups: score_groups(groups, bench.scorer.score_group),
        select=lambda groups: select_groups(groups, drop_flat=drop_flat),
        advantages=lambda used: group_advantages(used, advantage),
        update=update,
        sync=lambda step: engine.load_weights(step, policy.weights()),
        evaluate=evaluate_when_due,
        keep=record.write_rollouts,
        log=log,
        save=save_when_due,
    )


@dataclass(frozen=True, slots=True)
class StageMedia:
    """How the media of a stage are read; ``features``, where they are kept, stand for frames."""

    stage: str
    bench: Workbench
    features: FeatureCache | None
    #: Files of the step under way whose frames do not give one feature for each visual token.
    mismatches: list[str] = field(default_factory=list)

    def reads_frames(self, plan: MediaPlan) -> bool:
        """Whether the frames of a plan are needed at all."""
        return self.features is None or not self.features.has(plan)

    def check(self, ref: MediaRef, plan: MediaPlan) -> None:
        """Raises ``MediaError`` when a medium that is needed cannot be read."""
        if self.reads_frames(plan):
            self.bench.load(ref, plan)

    def failed(self, error: MediaError) -> None:
        """Note what costs a sample its place in a step."""
        if error.reason == VISUAL_MISMATCH:
            self.mismatches.append(error.path)
        self.bench.ledger.record(error.path, error.reason, str(error), f"left out of a step of stage {self.stage}")


def _sampler(options: StageConfig, stream: SampleStream, media: StageMedia) -> Callable[[int], list[Sample]]:
    """The samples of a step; with ``cache.prefetch_steps``, their media and those of the next steps are begun."""

    def draw(step: int) -> list[Sample]:
        return stream.batch(step - 1, options.prompts_per_step)

    bench, depth = media.bench, media.bench.config.cache.prefetch_steps
    if depth == 0:
        return draw
    return SamplesAhead(draw, bench.plan, media.reads_frames, bench.prefetcher, steps=options.steps, depth=depth)


def due(every: int, step: int) -> bool:
    """Whether something that happens every so many steps, or never (0), happens after ``step``."""
    return every > 0 and step % every == 0


def stage_directory(run_dir: Path, config: RunConfig, options: StageConfig) -> Path:
    """``stages/01-sft``: numbered in the order of the configuration."""
    return run_dir / "stages" / f"{config.stages.index(options) + 1:02d}-{options.name}"
