"""From a stage's configuration to the values of its loop."""

from __future__ import annotations

from collections.abc import Callable

from easyvideor1.algorithms.advantages import ADVANTAGES
from easyvideor1.algorithms.token_batch import stage_needs
from easyvideor1.components import Components
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.data import SampleStream
from easyvideor1.engines.engine import Engine
from easyvideor1.policy.policy import Policy
from easyvideor1.rewards.tags import grammar_of
from easyvideor1.rollout.collector import Collected, Collector, StepCollector
from easyvideor1.rollout.samples import SamplePrefetcher, StageMedia, rounds_of
from easyvideor1.training.canary import Canary, canary_metrics
from easyvideor1.training.learner import Learner
from easyvideor1.training.loop import Metrics, Stage
from easyvideor1.training.run_directory.layout import due, validation_name
from easyvideor1.training.run_directory.run_log import StageLog
from easyvideor1.training.timings import Timings
from easyvideor1.training.train_batch import Sources, TrainBatch, make_train_batch
from easyvideor1.training.unusable_steps import UnusableStepWatch
from easyvideor1.types import Group

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
    first: int,
    record: StageLog,
    evaluate: Evaluate,
    on_step: OnStep,
    save: Callable[[int], None],
    timings: Callable[[int], Timings],
    say: Callable[[str], None] = print,
) -> Stage:
    """Choose the parts of a stage. Every ``if`` that the loop would need is decided here.

    ``first`` are the steps of the run before this stage: the version of the weights after step ``s`` is ``first + s``,
    so that versions only grow over a whole run and are the same after a resume. The engine sleeps while the policy is
    updated; it has generated everything that the step needs by then.
    """
    features = components.open_features(policy.model)
    media = StageMedia(options.name, components.load, components.ledger, features)
    collector = _collector(options, components, policy, engine, stream, media)
    learning = Learner(options, config, components, policy, media, say)
    advantage, needs = ADVANTAGES.resolve(options.advantage.name), stage_needs(options)
    sources = Sources(learning.kl, learning.values, lambda: policy.kl_weight.coefficient)
    watched = config.canary.enabled and options.trajectories == "policy"
    grammar = grammar_of(config.rewards.grammar)
    canary = Canary(config.canary, say, record.metrics(), grammar) if watched else None
    off_policy = options.objective.name if options.objective.shapes_offline else options.off_policy.name
    unusable = UnusableStepWatch(options.name, options.max_unusable_steps, options.step_count, say)

    def make(used: list[Group], step: int) -> TrainBatch:
        engine.sleep()
        return make_train_batch(used, advantage, options, config.rollout.max_new_tokens, needs, sources, step)

    def evaluate_when_due(step: int) -> Metrics:
        return evaluate(validation_name(options, step), engine) if due(config.evaluation.every, step) else {}

    def log(step: int, collected: Collected, metrics: Metrics, timings: Timings) -> None:
        groups = collected.groups
        canary_values = canary_metrics(groups, grammar) if canary else {}
        row = record.write_metrics(step, groups, collected.used, metrics | canary_values, timings)
        on_step(options.name, step, options.step_count, row)
        if canary is not None:
            warnings = canary.look(step, row, groups)
            record.write_canary(warnings)
            canary.stop(step, warnings)
        _tell_faults(step, groups, say)
        unusable.look(step, groups)

    def save_when_due(step: int) -> None:
        if unusable.saves(step) and (due(options.save_every, step) or step == options.step_count):
            save(step)

    return Stage(
        name=options.name,
        steps=options.step_count,
        timings=timings,
        collect=collector.collect,
        train_batch=make,
        write_rollouts=lambda step, collected, train_batch: record.write_rollouts(
            step, collected.groups, train_batch, off_policy
        ),
        update=learning.update,
        sync=lambda step: sync_weights(engine, first + step, policy),
        evaluate=evaluate_when_due,
        log=log,
        save=save_when_due,
    )


def _tell_faults(step: int, groups: list[Group], say: Callable[[str], None]) -> None:
    """Say which samples were left out of a step because a further turn has no prompt."""
    if faults := list(dict.fromkeys(group.fault for group in groups if group.fault)):
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        say(f"step {step}: left out: {faults[0]}{more}")


def _collector(
    options: StageConfig,
    components: Components,
    policy: Policy,
    engine: Engine,
    stream: SampleStream,
    media: StageMedia,
) -> Collector:
    """The collector of a stage; with ``cache.prefetch_steps`` it reads the media of steps to come ahead."""
    config = components.config
    draw, depth = rounds_of(options, stream), config.cache.prefetch_steps
    if depth:
        plan, prefetcher = components.plan, components.prefetcher
        draw = SamplePrefetcher(draw, plan, media.reads_frames, prefetcher, steps=options.step_count, depth=depth)
    overlap = config.rewards.overlap
    return StepCollector(
        options,
        components.sampling(),
        config.seed,
        family=policy.family,
        engine=engine,
        draw=draw,
        strategy=components.strategy,
        media=media,
        scorer=components.scorer,
        overlap=policy.device.type != "cpu" if overlap is None else overlap,
    )


def sync_weights(engine: Engine, version: int, policy: Policy) -> None:
    """Wake an engine and give it the policy's weights; adapters are merged unless it takes them."""
    engine.wake()
    engine.update_weights(version, policy.weights(merged=not getattr(engine, "takes_adapters", False)))
