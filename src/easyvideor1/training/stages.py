"""From a stage's configuration to the values of its loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from easyvideor1.algorithms.advantages import ADVANTAGES
from easyvideor1.algorithms.assembly import stage_needs
from easyvideor1.components import Components
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.data import SampleStream
from easyvideor1.engines.engine import Engine
from easyvideor1.policy.policy import Policy
from easyvideor1.rewards.tags import grammar_of
from easyvideor1.rollout.collector import Collected, StepCollector
from easyvideor1.rollout.samples import Draw, SamplePrefetcher, StageMedia, rounds_of
from easyvideor1.training.canary import Canary, canary_metrics
from easyvideor1.training.learner import Learner
from easyvideor1.training.loop import Metrics, Stage
from easyvideor1.training.run_log import StageLog
from easyvideor1.training.stalled import StallWatch
from easyvideor1.training.timings import Timings
from easyvideor1.training.train_batch import Sources, make_train_batch

#: Called as ``evaluate(name, engine)`` when an evaluation is due; returns metrics.
Evaluate = Callable[[str, Engine], Metrics]
#: Called after every step with the stage's name, the step, the number of steps and the metrics.
OnStep = Callable[[str, int, int, Metrics], None]


def build_stage(
    options: StageConfig,
    config: RunConfig,
    *,
    components: Components,
    policy: Policy,
    engine: Engine,
    stream: SampleStream,
    record: StageLog,
    evaluate: Evaluate,
    on_step: OnStep,
    save: Callable[[int], None],
    timings: Callable[[int], Timings],
    say: Callable[[str], None] = print,
) -> Stage:
    """Choose the parts of a stage. Every ``if`` that the loop would need is decided here."""
    features = components.open_features(policy.model)
    media = StageMedia(options.name, components.load, components.ledger, features)
    sampling = components.sampling()
    overlap = config.rewards.overlap
    collector = StepCollector(
        options,
        sampling,
        config.seed,
        family=policy.family,
        engine=engine,
        draw=_samples(options, stream, media, components),
        strategy=components.strategy,
        media=media,
        scorer=components.scorer,
        overlap=policy.device.type != "cpu" if overlap is None else overlap,
    )
    learning = Learner(options, config, components, policy, media, say)
    advantage, needs = ADVANTAGES.resolve(options.advantage.name), stage_needs(options)
    sources = Sources(learning.kl, learning.values, lambda: policy.kl_weight.coefficient)
    watched = config.canary.enabled and options.trajectories == "policy"
    grammar = grammar_of(config.rewards.grammar)
    canary = Canary(config.canary, say, record.metrics(), grammar) if watched else None
    # The objective luffy shapes offline tokens itself, with off_policy left at none.
    off_policy = "luffy" if options.objective.name == "luffy" else options.off_policy.name
    stalled = StallWatch(options.name, options.max_unusable_steps, options.step_count, say)

    def evaluate_when_due(step: int) -> Metrics:
        return evaluate(validation_name(options, step), engine) if due(config.evaluation.every, step) else {}

    def log(step: int, collected: Collected, metrics: Metrics, timings: Timings) -> None:
        groups = collected.groups
        told = canary_metrics(groups, grammar) if canary else {}
        row = record.write_metrics(step, groups, collected.used, metrics | told, timings)
        on_step(options.name, step, options.step_count, row)
        if canary is not None:
            spoken = canary.look(step, row, groups)
            record.write_canary(spoken)
            canary.stop(step, spoken)
        stalled.look(step, groups)

    def save_when_due(step: int) -> None:
        if stalled.saves(step) and (due(options.save_every, step) or step == options.step_count):
            save(step)

    return Stage(
        name=options.name,
        steps=options.step_count,
        timings=timings,
        collect=collector.collect,
        train_batch=lambda used, step: make_train_batch(
            used, advantage, options, sampling.max_new_tokens, needs, sources, step
        ),
        keep=lambda step, collected, train_batch: record.write_rollouts(
            step, collected.groups, train_batch, off_policy
        ),
        update=learning.update,
        sync=lambda step: sync_weights(engine, step, policy),
        evaluate=evaluate_when_due,
        log=log,
        save=save_when_due,
    )


def _samples(options: StageConfig, stream: SampleStream, media: StageMedia, components: Components) -> Draw:
    """What a stage draws; with ``cache.prefetch_steps``, media of steps to come are read ahead."""
    draw, depth = rounds_of(options, stream), components.config.cache.prefetch_steps
    if depth == 0:
        return draw
    return SamplePrefetcher(
        draw, components.plan, media.reads_frames, components.prefetcher, steps=options.step_count, depth=depth
    )


def sync_weights(engine: Engine, version: int, policy: Policy) -> None:
    """Give an engine the policy's weights; adapters are merged unless it takes them."""
    engine.update_weights(version, policy.weights(merged=not getattr(engine, "takes_adapters", False)))


def due(every: int, step: int) -> bool:
    """Whether something that happens every so many steps, or never (0), happens after ``step``."""
    return every > 0 and step % every == 0


def validation_name(options: StageConfig, step: int) -> str:
    """What the evaluation within a stage is called, after one of its steps."""
    return f"{options.name}-{step:06d}"


def stage_directory(run_dir: Path, config: RunConfig, options: StageConfig) -> Path:
    """``stages/01-sft``: numbered in the order of the configuration."""
    return run_dir / "stages" / f"{config.stages.index(options) + 1:02d}-{options.name}"
