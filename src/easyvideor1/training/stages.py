"""From a stage's configuration to the values of its loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from easyvideor1.algorithms.advantages import ADVANTAGES, Advantage
from easyvideor1.algorithms.assembly import stage_needs
from easyvideor1.algorithms.needs import needs_of
from easyvideor1.components import Components
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.data import SampleStream
from easyvideor1.engines.engine import Engine
from easyvideor1.policy.policy import Policy
from easyvideor1.rewards.grammar import grammar_of
from easyvideor1.rollout.groups import filter_by_mean, flat_rule, is_learnt, response_rewards, select_groups
from easyvideor1.training.canary import Canary, canary_metrics
from easyvideor1.training.learner import Learner
from easyvideor1.training.loop import Metrics, Stage
from easyvideor1.training.prefetch import SamplePrefetcher
from easyvideor1.training.rollout_collection import MediaReader, RolloutCollector
from easyvideor1.training.run_log import StageLog
from easyvideor1.training.stalled import StallWatch
from easyvideor1.training.timings import Timings
from easyvideor1.training.train_batch import Sources, make_train_batch
from easyvideor1.types import Group, Sample, Trajectory

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
    clock: Callable[[int], Timings],
    say: Callable[[str], None] = print,
) -> Stage:
    """Choose the parts of a stage. Every ``if`` that the loop would need is decided here."""
    advantage = ADVANTAGES.resolve(options.advantage.name)
    media = MediaReader(options.name, components, components.open_features(policy.model))
    responses = RolloutCollector(options, config, components, policy, engine, media)
    learning = Learner(options, config, components, policy, media, say)
    needs = stage_needs(options)
    sources = Sources(responses.greedy_rewards, learning.kl, learning.values, lambda: policy.kl_weight.coefficient)
    draw = _sampler(options, stream, media)
    watched = config.canary.enabled and options.trajectories == "policy"
    grammar = grammar_of(config.rewards.grammar)
    canary = Canary(config.canary, say, record.metrics(), grammar) if watched else None
    # The objective luffy shapes offline tokens itself, with off_policy left at none.
    off_policy = "luffy" if options.objective.name == "luffy" else options.off_policy.name
    stalled = StallWatch(options.name, options.max_unusable_steps, options.step_count, say)

    def evaluate_when_due(step: int) -> Metrics:
        return evaluate(validation_name(options, step), engine) if due(config.evaluation.every, step) else {}

    def log(step: int, groups: list[Group], used: list[Group], metrics: Metrics, clock: Timings) -> None:
        found = metrics | responses.counts() | {"groups/visual_mismatch": float(len(media.mismatches))}
        media.mismatches.clear()
        row = record.write_metrics(
            step, groups, used, found | (canary_metrics(groups, grammar) if canary else {}), clock
        )
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
        wanted=options.prompts_per_step,
        rounds=options.selection.generation_rounds,
        sample=draw,
        generate=responses.generate,
        score=responses.score,
        select=_selector(options, advantage, config.rollout.max_new_tokens),
        train_batch=lambda used, step: make_train_batch(
            used, advantage, options, config.rollout.max_new_tokens, needs, sources, step
        ),
        update=learning.update,
        sync=lambda step: engine.load_weights(step, policy.weights()),
        evaluate=evaluate_when_due,
        keep=lambda step, groups, train_batch: record.write_rollouts(
            step, groups, train_batch.rows.groups, train_batch.recorded, off_policy
        ),
        log=log,
        clock=clock,
        save=save_when_due,
    )


def _selector(options: StageConfig, advantage: Advantage, max_new_tokens: int) -> Callable[[list[Group]], list[Group]]:
    """Which groups are learnt from."""
    drop_flat = flat_rule(options, advantage)
    by_parts = "parts" in needs_of(advantage)

    def signal(group: Group) -> Sequence[object]:
        rewards = response_rewards(group, options, max_new_tokens)
        if not by_parts:
            return rewards
        scores = zip(rewards, group.scores, strict=True)
        return [(reward, s.accuracy, s.format, *sorted(s.parts.items())) for reward, s in scores]

    within = filter_by_mean(options.selection) if options.selection.filters else None

    def learnt(trajectory: Trajectory) -> bool:
        return is_learnt(trajectory, overlong_filter=options.overlong.filter)

    return lambda groups: select_groups(groups, drop_flat=drop_flat, signal=signal, within=within, learnt=learnt)


def _sampler(options: StageConfig, stream: SampleStream, media: MediaReader) -> Callable[[int, int], list[Sample]]:
    """The samples of a round of a step; with ``cache.prefetch_steps``, media of steps to come are begun.

    Every step owns the samples of all its rounds, used or not, so that what is drawn depends on the step alone. Those
    of first rounds follow each other, and what further rounds draw lies behind the stage: a stage that refills nothing
    goes through its sources as often as ``epochs`` says. Later rounds are not prefetched: whether they come is not
    known before.
    """

    def draw(step: int, round_: int = 0) -> list[Sample]:
        further = options.step_count + (step - 1) * (options.selection.generation_rounds - 1) + round_ - 1
        return stream.batch(further if round_ else step - 1, options.prompts_per_step)

    components, depth = media.components, media.components.config.cache.prefetch_steps
    if depth == 0:
        return draw
    ahead = SamplePrefetcher(
        draw, components.plan, media.reads_frames, components.prefetcher, steps=options.step_count, depth=depth
    )
    return lambda step, round_: draw(step, round_) if round_ else ahead(step)


def due(every: int, step: int) -> bool:
    """Whether something that happens every so many steps, or never (0), happens after ``step``."""
    return every > 0 and step % every == 0


def validation_name(options: StageConfig, step: int) -> str:
    """What the evaluation within a stage is called, after one of its steps."""
    return f"{options.name}-{step:06d}"


def stage_directory(run_dir: Path, config: RunConfig, options: StageConfig) -> Path:
    """``stages/01-sft``: numbered in the order of the configuration."""
    return run_dir / "stages" / f"{config.stages.index(options) + 1:02d}-{options.name}"
