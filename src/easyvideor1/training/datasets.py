"""What a run learns from and is measured on: every row checked before anything is trained or written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from easyvideor1.components import Components
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.config.paths import require_sources
from easyvideor1.data import BadRow, Loaded, SampleStream, shared_ids_note, source_weights
from easyvideor1.policy.adapters import require_peft
from easyvideor1.rollout.requests import offline_ids
from easyvideor1.seeds import derive_seed
from easyvideor1.tasks import canonical_task
from easyvideor1.training.loop import Metrics
from easyvideor1.training.names import cut_of, resolve_names
from easyvideor1.training.stage_steps import counted_steps, in_steps, tell_length
from easyvideor1.types import ConfigError, DataError, EasyVideoError, OfflineTrajectory, Sample


class Watch(Protocol):
    """Shows the progress of a run."""

    def phase(self, title: str, unit: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A progress display for a long piece of work, as a function ``(done, total)``."""
        ...

    def stage(self, name: str, done: int, steps: int) -> AbstractContextManager[None]:
        """A stage goes on from step ``done``, for the length of the block; phases within belong to it."""
        ...

    def step(self, stage: str, step: int, steps: int, metrics: Metrics) -> None:
        """A training step is done."""
        ...

    def waiting(self, stage: str, step: int, steps: int, what: str, seconds: float) -> None:
        """The current phase of a step and its duration so far; called every second from another thread."""
        ...

    def say(self, text: str) -> None:
        """Show a line of text."""
        ...


@dataclass(frozen=True, slots=True)
class Datasets:
    """Checked data: a stream of samples and the number of steps per stage, the held-out questions, and the counts for
    ``data_report.json``."""

    streams: tuple[SampleStream, ...]
    steps: tuple[int, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]
    report: dict[str, Any]


def load_datasets(config: RunConfig, components: Components, watch: Watch, counted: Mapping[str, int]) -> Datasets:
    """Check the model and all rows of all splits, down to the exact prompt length and to decoded frames.

    ``counted`` are the steps of stages by name that an earlier start of the run knew: they stay what they are.

    Raises:
        ConfigError: no such model, no training source, or a name in the configuration means nothing.
        DataError: rows are bad and ``data.on_bad_row`` is ``error``, or a stage has nothing to learn from.
    """
    _ = components.family  # first of all: without a model nothing else matters
    _check_names(config, components)
    if cut := cut_of(config.rollout):
        watch.say(
            f"warning: rollout.{cut[0]} draws from a cut distribution; ratios, KL and entropy are those of the whole "
            "one, and nothing corrects the difference (docs/engines.md). Leave it out, unless you mean it"
        )
    splits = {"train": config.data.train, "validation": config.data.validation, "test": config.data.test}
    loaded: dict[str, list[Loaded]] = {}
    for split, named in splits.items():
        with watch.phase(f"checking {split} rows", "row") as advance:
            loaded[split] = components.load_sources(named, advance) if named else []
    # Before frames are decoded: this fails in seconds, decoding may take hours.
    components.scorer.try_out(sample for sources in loaded.values() for source in sources for sample in source.samples)
    learnt = [stage_sources(options, config, components, loaded["train"], watch.say) for options in config.stages]
    for options, usable in zip(config.stages, learnt, strict=True):
        plan_stage(options, config, usable, counted)
    with watch.phase("building the frame cache", "file") as advance:
        built = components.fill_cache([source for sources in loaded.values() for source in sources], advance)
    if built.rate_note:
        watch.say(built.rate_note)
    watch.say(f"frame cache: {built.built} built, {built.present} present, {built.failed} failed")
    if built.damaged:
        (path, fault), count = built.damaged[0], len(built.damaged)
        which = "1 damaged entry was" if count == 1 else f"{count} damaged entries were"
        watch.say(f"frame cache: {which} not used; the first is {path}: {fault}")
    loaded = {split: components.without_failed(sources, built) for split, sources in loaded.items()}
    learnt = [components.without_failed(sources, built) for sources in learnt]
    report: dict[str, Any] = {split: _counts(sources) for split, sources in loaded.items()}
    for split, sources in loaded.items():
        for one in sources:
            watch.say(f"{split}: {one.path}: {len(one.samples)} samples of {one.rows} rows, {len(one.bad)} bad")
        if note := shared_ids_note(sources):
            watch.say(f"{split}: {note}")
    streams, steps = [], []
    for options, usable in zip(config.stages, learnt, strict=True):
        if options.trajectories == "offline":
            report[f"stage {options.name}"] = _counts(usable)
        planned, stream = plan_stage(options, config, usable, counted)
        streams.append(stream)
        steps.append(planned.step_count)
        tell_length(options, drawn_rows(options, config, usable), planned.step_count, watch.say)
        if options.trajectories != "rollouts":  # whose samples nobody knows yet
            watch.say(_mixture_line(planned, config, stream, usable))
    questions = _questions(loaded["validation"]), _questions(loaded["test"])
    return Datasets(tuple(streams), tuple(steps), *questions, report)


def plan_stage(
    options: StageConfig, config: RunConfig, sources: Sequence[Loaded], counted: Mapping[str, int]
) -> tuple[StageConfig, SampleStream]:
    """A stage with its length in steps, and its samples in their order.

    Raises:
        ConfigError: an option of the stage does not go with its length, or weights and sources do not match.
        DataError: the stage has no row to draw.
    """
    rows = drawn_rows(options, config, sources)
    planned = in_steps(options, counted.get(options.name) or counted_steps(options, rows))
    return planned, _stream(planned, config, sources)


def drawn_rows(options: StageConfig, config: RunConfig, sources: Sequence[Loaded]) -> int:
    """Samples that a stage may draw: of its sources, tasks and modalities."""
    data = config.data
    parts = data.modality_shares.by_name() if data.balance == "modality" else None
    return sum(
        takes(options, source)(sample) and (parts is None or parts[sample.modality] > 0)
        for source in sources
        for sample in source.samples
    )


def _check_names(config: RunConfig, components: Components) -> None:
    """Resolve every name now, so that a wrong name in the last stage fails before the first stage is trained."""
    for fault in name_faults(config):
        raise fault
    components.scorer  # noqa: B018 - opening it resolves custom rewards


def name_faults(config: RunConfig) -> Iterator[EasyVideoError]:
    """What in a configuration means nothing: files that are not there, names, and what contradicts each other."""
    if not config.data.train:
        yield ConfigError("data.train is empty; give at least one file of rows")
    for source in (*config.data.train, *config.data.validation, *config.data.test):
        try:
            require_sources(config, [source])
        except EasyVideoError as error:
            yield error
    if config.model.lora is None and {*config.model.freeze} == {"vision", "merger", "language"}:
        yield ConfigError("model.freeze freezes the whole model; leave at least one group to train")
    if config.model.lora is not None:
        try:
            require_peft()
        except ConfigError as error:
            yield error
    for _, fault in resolve_names(config):
        if fault is not None:
            yield fault
    for options in config.stages:
        if options.kl.reference == "adapter-off" and config.model.lora is None:
            yield ConfigError(f"stages.{options.name}.kl.reference: adapter-off needs adapters; set model.lora")
        known = [source.path for source in config.data.train]
        if unknown := [path for path in options.sources if path not in known]:
            yield ConfigError(
                f"stages.{options.name}.sources: {unknown[0]!r} is not a path of data.train; its paths are "
                f"{', '.join(known)}"
            )


def _mixture_line(options: StageConfig, config: RunConfig, stream: SampleStream, sources: Sequence[Loaded]) -> str:
    """The share of each source in a stage, and the epochs that this makes."""
    draws = options.step_count * options.prompts_per_step
    parts = [
        f"{config.data.train[number].path} {share:.1%}, {share * draws / len(sources[number].samples):.2f} epochs"
        for number, share in sorted(stream.shares().items())
    ]
    return f"stage {options.name}: {draws} samples: {'; '.join(parts)}"


def _stream(options: StageConfig, config: RunConfig, sources: Sequence[Loaded]) -> SampleStream:
    named = options.sources or [source.path for source in config.data.train]
    samples = [source.samples if source.path in named else [] for source in sources]
    data = config.data
    sizes = [sum(map(takes(options, source), source.samples)) for source in sources]
    draws = options.step_count * options.prompts_per_step
    try:
        weights = source_weights(data.train, sizes, temperature=data.temperature, draws=draws)
    except ConfigError as error:
        raise ConfigError(f"stages.{options.name}: {error}") from None
    return SampleStream(
        samples,
        weights,
        derive_seed(config.seed, options.name),
        (*data.transforms, *options.transforms),
        options.tasks,
        data.modality_shares.by_name() if data.balance == "modality" else None,
        shuffle=data.shuffle,
        steps=options.step_count,
    )


def takes(options: StageConfig, source: Loaded) -> Callable[[Sample], bool]:
    """Whether a stage may draw a sample of a source: its ``sources`` and ``tasks`` say so."""
    named = not options.sources or source.path in options.sources
    tasks = {canonical_task(task) for task in options.tasks}
    return lambda sample: named and (not tasks or sample.task in tasks)


def stage_sources(
    options: StageConfig,
    config: RunConfig,
    components: Components,
    sources: Sequence[Loaded],
    say: Callable[[str], None],
) -> list[Loaded]:
    """What a stage can learn from: everything, or the samples with usable offline trajectories.

    What the stage does not draw is not looked at.

    Raises:
        DataError: no row has a trajectory; or some cannot be used and ``data.on_bad_row`` is ``error``, or a hybrid
            stage can use none of them.
    """
    if options.trajectories == "rollouts" or (options.trajectories == "policy" and options.hybrid is None):
        return list(sources)
    drawn = [list(filter(takes(options, source), source.samples)) for source in sources]
    if not any(sample.offline for samples in drawn for sample in samples):
        raise DataError(_without_offline(options, sources))
    faults = [_offline_faults(samples, options, config, components) for samples in drawn]
    _tell_usable(options, drawn, faults, say)
    if options.trajectories == "policy":
        return list(sources)
    kept = []
    for source, samples, found in zip(sources, drawn, faults, strict=True):
        wrong = {sample.id: _bad_row(sample, found[sample.id][0]) for sample in samples if sample.id in found}
        usable = source.without(wrong, config.data.on_bad_row)
        having = [sample for sample in usable.samples if sample.offline]
        filtered = usable.filtered + len(usable.samples) - len(having)
        kept.append(replace(usable, samples=having, filtered=filtered))
    return kept


def _tell_usable(
    options: StageConfig,
    drawn: Sequence[Sequence[Sample]],
    faults: Sequence[Mapping[str, list[str]]],
    say: Callable[[str], None],
) -> None:
    """Say how many offline trajectories a stage can use.

    Raises:
        DataError: the stage is hybrid and can use none.
    """
    total = sum(len(sample.offline) for samples in drawn for sample in samples)
    reasons = [why for found in faults for each in found.values() for why in each]
    unusable = f"; {len(reasons)} are not, the first because {reasons[0]}" if reasons else ""
    say(f"stage {options.name}: {total - len(reasons)} of {total} offline trajectories are usable{unusable}")
    if options.hybrid is not None and len(reasons) == total:
        raise DataError(
            f"stage {options.name!r} is hybrid, but none of its {total} offline trajectories is usable, the first "
            f"because {reasons[0]}"
        )


def _without_offline(options: StageConfig, sources: Sequence[Loaded]) -> str:
    """What is wrong with a stage whose rows have no offline trajectory at all."""
    where = ", ".join(source.path for source in sources if not options.sources or source.path in options.sources)
    rows = f"no row of {where}" + (f" with the task {' or '.join(options.tasks)}" if options.tasks else "")
    if options.trajectories == "policy":
        return (
            f"stage {options.name!r} is hybrid, but {rows} has an offline trajectory; collect some (evr1 trajectories "
            "collect), or remove hybrid"
        )
    return (
        f"stage {options.name!r} trains on offline trajectories, but {rows} has one; fill the columns "
        "has_offline_trajectory and offline_output, or set trajectories of the stage to policy"
    )


def _offline_faults(
    samples: Sequence[Sample], options: StageConfig, config: RunConfig, components: Components
) -> dict[str, list[str]]:
    """Of every sample that has some, why offline trajectories cannot be used, one reason for each.

    A hybrid stage is lenient: it may cut what is too long, and does without log-probs that do not fit.
    """
    hybrid = options.hybrid
    limit = None if hybrid is not None and hybrid.too_long == "cut" else config.rollout.max_new_tokens
    faults: dict[str, list[str]] = {}
    for sample in samples:
        for offline in sample.offline:
            try:
                if offline.before and hybrid is not None:
                    raise DataError("hybrid takes responses of one turn - leave its other turns out, or the row")
                for turn in offline.before:
                    offline_ids(components.family, OfflineTrajectory(turn), limit)
                offline_ids(components.family, offline, limit, strict=hybrid is None)
            except DataError as error:
                faults.setdefault(sample.id, []).append(str(error))
    return faults


def _bad_row(sample: Sample, fault: str) -> BadRow:
    what, _, remedy = fault.partition(" - ")
    return BadRow(sample.where, "offline_output", what, remedy)


def _counts(sources: Sequence[Loaded]) -> list[dict[str, Any]]:
    return [source.report.to_dict() for source in sources]


def _questions(sources: Sequence[Loaded]) -> tuple[Sample, ...]:
    return tuple(sample for source in sources for sample in source.samples)
