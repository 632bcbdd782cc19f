"""From a stage's configuration to the values of its loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from easyvideor1.algorithms.advantages import ADVANTAGES
from easyvideor1.algorithms.token_batch import stage_needs
from easyvideor1.components import Components
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.data import CurriculumTrack, SampleStream
from easyvideor1.data.curricula import make_curriculum
from easyvideor1.engines.engine import Engine
from easyvideor1.policy.policy import Policy
from easyvideor1.rewards.tags import grammar_of
from easyvideor1.rollout.ahead import AheadCollector, AheadOptions
from easyvideor1.rollout.collector import Collected, Collector, StepCollector, Timed
from easyvideor1.rollout.observed import ObservedCollector
from easyvideor1.rollout.samples import SamplePrefetcher, StageMedia, extra_samples, rounds_of
from easyvideor1.rollout.sharing import SharedEngine
from easyvideor1.rollout.stored import StoredGroups
from easyvideor1.training.canary import Canary, canary_metrics
from easyvideor1.training.learner import Learner
from easyvideor1.training.loop import Metrics, Stage
from easyvideor1.training.run_directory.layout import due, validation_name
from easyvideor1.training.run_directory.run_log import StageLog
from easyvideor1.training.timeline import Timeline, perf_metrics
from easyvideor1.training.timings import Timings
from easyvideor1.training.train_batch import Sources, TrainBatch, make_train_batch
from easyvideor1.training.unusable_steps import UnusableStepWatch
from easyvideor1.types import ConfigError, Group

#: Called as ``evaluate(name, engine)`` when an evaluation is due; returns metrics.
Evaluate = Callable[[str, Engine], Metrics]
#: Called after every step with the stage's name, the step, the number of steps and the metrics; those under ``perf/``,
#: of speed, differ from run to run.
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
    is_best: Callable[[int], bool],
    timeline: Timeline,
    stored: StoredGroups | None = None,
    track: CurriculumTrack | None = None,
    say: Callable[[str], None] = print,
) -> Stage:
    """Choose the parts of a stage. Every ``if`` that the loop would need is decided here.

    ``first`` are the steps of the run before this stage: the version of the weights after step ``s`` is ``first + s``,
    so that versions only grow over a run. A step that ``is_best`` is saved, too; ``stored`` makes groups of rollouts.
    """
    media = StageMedia(options.name, components.load, components.ledger, components.open_features(policy.model))
    shared = SharedEngine(engine)
    collector = _collector(options, components, policy, shared, stream, media, first, stored, track)
    learning = Learner(options, config, components, policy, media, say, first)
    advantage, needs = ADVANTAGES.resolve(options.advantage.name), stage_needs(options)
    sources = Sources(learning.kl, learning.values, lambda: policy.kl_weight.coefficient)
    grammar = grammar_of(config.rewards.grammar)
    canary = Canary(config.canary, say, record.metrics(), grammar) if _is_watched(options, config) else None
    off_policy = options.objective.name if options.objective.shapes_offline else options.off_policy.name
    unusable = UnusableStepWatch(options.name, options.max_unusable_steps, options.step_count, say)

    def make(used: list[Group], step: int) -> TrainBatch:
        if not collector.runs_ahead:  # else it generates for later steps meanwhile
            engine.sleep()
        return make_train_batch(used, advantage, options, config.rollout.max_new_tokens, needs, sources, step)

    def sync(step: int, timings: Timed) -> None:
        with collector.updating(timings), timings("sync"):
            sync_weights(engine, first + step, policy)

    def evaluate_when_due(step: int) -> Metrics:
        if not due(config.evaluation.every, step):
            return {}
        collector.settle()
        return evaluate(validation_name(options, step), shared.share())

    def log(step: int, collected: Collected, metrics: Metrics, timings: Timings) -> None:
        metrics = metrics | (canary_metrics(collected.groups, grammar) if canary else {})
        figures = timeline.figures(step, timings, samples=len(collected.used))
        row, clock = record.write_metrics(step, collected.groups, collected.used, metrics, timings, figures)
        on_step(options.name, step, options.step_count, row | perf_metrics(clock))
        if canary is not None:
            warnings = canary.look(step, row, collected.groups)
            record.write_canary(warnings)
            canary.stop(step, warnings)
        _tell_faults(step, collected.groups, say)
        unusable.look(step, collected.groups)

    def save_when_due(step: int) -> None:
        if unusable.saves(step) and (due(options.save_every, step) or step == options.step_count or is_best(step)):
            save(step)

    return Stage(
        name=options.name,
        steps=options.step_count,
        timings=timeline.timings,
        collect=collector.collect,
        train_batch=make,
        write_rollouts=lambda step, found, batch: record.write_rollouts(step, found.groups, batch, off_policy),
        update=learning.update,
        sync=sync,
        evaluate=evaluate_when_due,
        log=log,
        save=save_when_due,
        close=collector.close,
    )


def _is_watched(options: StageConfig, config: RunConfig) -> bool:
    """Whether the canary looks at a stage: at one whose responses are the policy's own."""
    return config.canary.enabled and options.trajectories == "policy"


def _tell_faults(step: int, groups: list[Group], say: Callable[[str], None]) -> None:
    """Say which samples were left out of a step because a further turn has no prompt, the engine did not answer, or
    a group of an earlier stage cannot be made again."""
    if faults := list(dict.fromkeys(group.fault for group in groups if group.fault)):
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        say(f"step {step}: left out: {faults[0]}{more}")


def _collector(
    options: StageConfig,
    components: Components,
    policy: Policy,
    shared: SharedEngine,
    stream: SampleStream,
    media: StageMedia,
    first: int,
    stored: StoredGroups | None,
    track: CurriculumTrack | None,
) -> Collector:
    """The collector of a stage, which its curriculum observes; with ``cache.prefetch_steps`` it reads the media of
    steps to come ahead.

    Raises:
        ConfigError: the engine cannot run ahead as ``rollout.max_staleness`` asks.
    """
    config = components.config
    rollout, depth = config.rollout, config.cache.prefetch_steps
    generates = options.trajectories == "policy"
    ahead = rollout.max_staleness if generates else 0
    over_sample = generates and rollout.over_sample_rate > 0
    if ahead and not getattr(shared.engine, "runs_ahead", False):
        raise ConfigError(
            f"rollout.max_staleness ({ahead}) asks for responses that are generated while the policy is updated, and "
            f"engine {type(shared.engine).__name__} cannot do this: set rollout.workers to 1 or more, or "
            "rollout.max_staleness to 0"
        )
    extra = extra_samples(options, rollout.over_sample_rate) if over_sample else 0
    draw = rounds_of(options, stream, extra, track)
    if depth:
        plan, prefetcher = components.plan, components.prefetcher
        draw = SamplePrefetcher(
            *(draw, plan, media.reads_frames, prefetcher),
            steps=options.step_count,
            depth=depth,
            kept=ahead,
            redraw=track is not None,
        )
    overlap = config.rewards.overlap
    make: Callable[..., StepCollector] = StepCollector
    if ahead or over_sample:
        corrected = options.correction.name != "none" or options.old_logprobs == "engine"
        how = AheadOptions(options.step_count, first, ahead, rollout.at_update, over_sample, corrected)
        make = partial(AheadCollector, ahead=how)
    collector: Collector = make(
        options,
        components.sampling(),
        config.seed,
        family=policy.family,
        engine=shared.share() if ahead else shared.engine,
        draw=draw,
        strategy=components.strategy if generates or stored is not None else components.offline_strategy,
        media=media,
        scorer=components.scorer,
        overlap=policy.device.type != "cpu" or config.rewards.processes > 0 if overlap is None else overlap,
        stored=stored,
    )
    return collector if track is None else ObservedCollector(collector, track)


def sync_weights(engine: Engine, version: int, policy: Policy) -> None:
    """Wake an engine and give it the policy's weights.

    Adapters are merged, unless the engine takes them. It then has the weights under them once, and adapters alone
    afterwards.
    """
    engine.wake()
    if policy.config.lora is None or not getattr(engine, "takes_adapters", False):
        engine.update_weights(version, policy.weights())
        return
    base = engine not in policy.base_holders
    policy.base_holders.discard(engine)
    engine.update_weights(version, policy.weights(merged=False, base=base))
    policy.base_holders.add(engine)


def curriculum_track(options: StageConfig, config: RunConfig) -> CurriculumTrack | None:
    """The curriculum of a stage, which has observed nothing; ``None`` if it has none."""
    if options.curriculum.name == "none":
        return None
    lag = config.rollout.max_staleness if options.trajectories == "policy" else 0
    return CurriculumTrack(partial(make_curriculum, options.curriculum), lag)
