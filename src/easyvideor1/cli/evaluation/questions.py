"""The questions of a benchmark, read, checked and chosen: the same for `evr1 eval run` and for a run that trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from easyvideor1.benchmarks import ScoreFunction
    from easyvideor1.cli.progress import TerminalWatch
    from easyvideor1.components import Components
    from easyvideor1.config import RewardConfig, RunConfig
    from easyvideor1.data import Loaded
    from easyvideor1.evaluation import Benchmark
    from easyvideor1.rewards import Scorer
    from easyvideor1.types import Sample


class Judging:
    """Opens what scores benchmarks, and refuses those whose judge is not configured or does not answer; it is asked
    once.

    Args:
        rewards: those of the configuration.
    """

    def __init__(self, rewards: RewardConfig) -> None:
        self._rewards = rewards
        self._answers = False

    def check(self, targets: Iterable[str]) -> None:
        """Refuse benchmarks before anything of them is read, as far as their definitions tell.

        Raises:
            ConfigError: a judge is missing; the benchmark and the setting are named.
        """
        from easyvideor1.benchmarks.opening import definition_of

        for target in targets:
            if (known := definition_of(target)) is not None:
                self.scorer(known)

    def scorer(self, benchmark: Benchmark) -> ScoreFunction | None:
        """The scorer of a benchmark; ``None`` if the rewards of the run score it.

        Raises:
            ConfigError: its judge is missing.
        """
        from easyvideor1.benchmarks.judging import RubricScorer
        from easyvideor1.benchmarks.step_judging import StepScorer

        if not benchmark.scorer and not benchmark.scoring:
            return None
        found = benchmark.open_scorer(self._rewards)
        if isinstance(found, RubricScorer | StepScorer) and not self._answers:
            _named(benchmark.name, found.check_judge)
            self._answers = True
        return found

    def check_rewards(self, label: str, scorer: Scorer, samples: Sequence[Sample]) -> None:
        """Refuse questions that the judge of the rewards has to score, if it does not answer.

        Raises:
            ConfigError: it does not.
        """
        if not self._answers:
            _named(label, lambda: scorer.check_judge(samples))


def _named(benchmark: str, ask: Callable[[], None]) -> None:
    from easyvideor1.types import ConfigError

    try:
        ask()
    except ConfigError as error:
        raise ConfigError(f"benchmark {benchmark}: {error}") from error


@dataclass(frozen=True, slots=True)
class BenchmarkQuestions:
    """The questions that are asked, what scores the responses, and how many rows were refused."""

    samples: Sequence[Sample]
    scorer: ScoreFunction
    refused: int


def read_questions(
    label: str, benchmark: Benchmark | None, components: Components, watch: TerminalWatch, judging: Judging
) -> BenchmarkQuestions:
    """Read and check the rows of a benchmark, or of ``data.test`` for ``None``; nothing is decoded.

    Args:
        label: of the benchmark in what is shown.
        benchmark: that is asked.
        components: of the configuration that ``Benchmark.configure`` made.
        watch: shows the progress.
        judging: opens the scorer.

    Raises:
        ConfigError: there is no such model, or the scorer cannot work with the rewards of the configuration, as when
            its judge does not answer.
        DataError: rows are not there, or are bad and ``data.on_bad_row`` is ``error``.
    """
    from easyvideor1.data import shared_ids_note
    from easyvideor1.evaluation.asking import choose_samples

    _ = components.family  # before rows are read: a wrong model fails at once, and so does a missing judge
    own = None if benchmark is None else judging.scorer(benchmark)
    config = components.config
    # Questions about files that cannot be read are asked, fail by name and count, unless the user wants them left out.
    keep = config.data.on_bad_row != "skip"
    with watch.phase(f"checking rows of {label}", "row") as advance:
        loaded: list[Loaded]
        if benchmark is None:
            loaded = components.load_sources(config.data.test, advance, keep_unreadable=keep)
        else:
            loaded = components.check([benchmark.load(config)], advance, keep_unreadable=keep)
    found = [sample for source in loaded for sample in source.samples]
    if own is None:
        components.scorer.try_out(found)
        judging.check_rewards(label, components.scorer, found)
    if note := shared_ids_note(loaded):
        watch.say(note)
    samples = choose_samples(found, config.evaluation.max_samples, config.seed)
    return BenchmarkQuestions(samples, own or components.scorer, sum(len(source.bad) for source in loaded))


def benchmark_settings(benchmark: Benchmark, settings: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """The configuration that a benchmark is asked with, in `evr1 eval run`, between the steps of a run and in doctor.

    A benchmark's frames, pixels and prompts go before those of the YAML file, whose owner may not have thought of it;
    those of the command line go before the benchmark: who writes ``data.video.max_frames=16`` wants 16 frames.

    Args:
        benchmark: that is asked.
        settings: of the run, with the overrides in them.
        overrides: of the command line, as ``KEY=VALUE``.

    Raises:
        ConfigError: the overrides contradict what the benchmark says of other limits.
    """
    from pydantic import ValidationError

    from easyvideor1.types import ConfigError

    own = benchmark.configure(settings)
    named = [override.partition("=")[0].strip().split(".") for override in overrides]
    for path in (("data", "video"), ("data", "image"), ("prompts",)):
        keys = [key[len(path)] if len(key) > len(path) else "" for key in named if tuple(key[: len(path)]) == path]
        if not keys:
            continue
        wanted, section = settings, own
        for step in path:
            wanted, section = getattr(wanted, step), getattr(section, step)
        fields = {key: getattr(section, key) for key in type(section).model_fields}
        fields |= {key: getattr(wanted, key) for key in fields if key in keys or "" in keys}
        try:
            own = _replaced(own, path, type(section).model_validate(fields))
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{'.'.join(path)}: {reason}; limits that you do not set are the benchmark's") from None
    return own


def _replaced(section: Any, path: Sequence[str], value: Any) -> Any:
    """A copy of a section in which another one, at a path below it, has been replaced."""
    if not path:
        return value
    below = _replaced(getattr(section, path[0]), path[1:], value)
    return section.model_copy(update={path[0]: below})


def with_samples(settings: RunConfig, samples: int | None) -> RunConfig:
    """Greedy responses alone, unless sampled ones are asked for here or in the configuration."""
    evaluation = settings.evaluation
    if samples is None:
        samples = evaluation.samples if "samples" in evaluation.model_fields_set else 0
    return settings.model_copy(update={"evaluation": evaluation.model_copy(update={"samples": samples})})


def evaluation_names(benchmarks: Sequence[Benchmark], name: str = "") -> list[str]:
    """A name for each evaluation, ``test`` without benchmarks; they become names of directories, so they must differ.

    Raises:
        ConfigError: two names are equal, or one cannot be that of a directory.
    """
    from easyvideor1.evaluation.evaluate import check_name
    from easyvideor1.types import ConfigError

    own = [benchmark.name for benchmark in benchmarks] or ["test"]
    if name:
        own = [name] if len(own) == 1 else [f"{name}-{each}" for each in own]
    if len(set(own)) < len(own):
        raise ConfigError(f"two benchmarks have the same name: {', '.join(own)}; evaluate them one by one")
    for each in own:
        try:
            check_name(each)
        except ConfigError as error:
            raise ConfigError(f"{error}; choose one with --name") from error
    return own
