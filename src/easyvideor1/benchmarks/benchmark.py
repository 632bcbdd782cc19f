"""A benchmark is a value: its release, questions, video budget, scorer and the numbers that it reports."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from easyvideor1.benchmarks.metrics import Metric
from easyvideor1.benchmarks.probes import Probe
from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.release import FILE, KEY, NUMBER, Raw, Release
from easyvideor1.benchmarks.subtitles import Subtitles, with_subtitles
from easyvideor1.config.paths import not_found
from easyvideor1.config.rewards import RewardConfig
from easyvideor1.config.schema import BaseConfig, ImageBudget, PromptConfig, RunConfig, SourceConfig, VideoBudget
from easyvideor1.data import Loaded, embedded_media, load_source
from easyvideor1.registry import Registry
from easyvideor1.rewards import Scorer
from easyvideor1.types import Completion, ConfigError, DataError, MediaPlan, Sample, Score, Show

S = TypeVar("S", bound=BaseConfig)

ScoreFunction = Callable[[Sample, Completion], Score]
#: The score function under the settings of a run: its judge, its grammar, its scale of boxes.
Scoring = Callable[[RewardConfig], ScoreFunction]


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which a benchmark's annotations are distributed.

    ``files`` are patterns below the release; the first that matches any file is read. ``rows`` makes a question, or
    several, of a row; it raises ``QuestionError`` for a row that cannot be used, and gives a ``Refused`` in place of
    one question of several. ``media`` are directories below the release where videos are looked for, in this order.
    With ``needs``, a release has this layout only if something matches one of these patterns: the same annotations may
    come with whole videos, or with clips cut from them.
    ``beside`` are further JSON files: name of a column -> patterns; every row gets their content in this column, ``{}``
    where no file is there.
    """

    name: str
    files: tuple[str, ...]
    rows: Callable[[Raw], Question | Iterable[Question | Refused]]
    media: tuple[str, ...] = ("videos", "video", ".")
    needs: tuple[str, ...] = ()
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def questions(self, row: Raw) -> Iterator[Question | Refused]:
        """The questions of a row. A row that cannot be used is refused by its place, whatever ``rows`` raises: one
        damaged row does not stop the reading of the others."""
        place = f"{row[FILE]}:{row.get(KEY, row[NUMBER])}"
        try:
            made = self.rows(row)
            yield from [made] if isinstance(made, Question) else made
        except QuestionError as error:
            yield Refused(place, str(error))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            yield Refused(place, f"it cannot be read: {type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Refused:
    """A row of a release, or a question of a row, that cannot be used, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The questions of a benchmark, and how they are asked and scored.

    Change ``version`` whenever a change would change a reported number. A public benchmark has ``layouts``, and
    ``title``, ``hub`` (where users get it), ``licence`` and ``count`` (rows of the release) describe it. Once it is
    opened at a location, ``rows`` is its file of rows and ``media_root`` the directory of its media. ``columns``
    overrides the column names of ``DataConfig`` (``{"question_key": "problem"}``). ``adapt`` completes a sample from
    columns of its own, which ``Sample.extra`` keeps. Settings that are ``None`` come from the run's configuration, the
    scorer included; ``video_source`` says who set ``video``, for users. ``scoring`` makes a scorer that depends on the
    rewards of the run. ``subtitles`` says which cues of a row's subtitles are put before the question. ``probe`` is the
    way in which the questions are asked again (``probed``). ``metrics`` are the numbers that it is quoted by, the most
    important one first, and ``breakdown`` the facets that its report tells apart.
    """

    name: str
    version: str
    rows: str = ""
    media_root: str | None = None
    tasks: tuple[str, ...] = ()
    columns: Mapping[str, str] | None = None
    adapt: Callable[[Sample], Sample] | None = None
    prompts: PromptConfig | None = None
    image: ImageBudget | None = None
    video: VideoBudget | None = None
    video_source: str = ""
    scorer: ScoreFunction | None = None
    scoring: Scoring | None = None
    subtitles: Subtitles = ""
    probe: Probe | None = None
    metrics: tuple[Metric, ...] = (Metric("accuracy"),)
    breakdown: tuple[str, ...] = ()
    layouts: tuple[Layout, ...] = ()
    title: str = ""
    hub: str = ""
    licence: str = ""
    count: int | None = None

    def layout(self, release: Release) -> Layout | None:
        """The layout that a release has; ``None`` if its annotations are not there."""
        return next((one for one in self.layouts if release.files(*one.files) and release.has(*one.needs)), None)

    def read(self, location: str | Path | Release) -> Iterator[Question | Refused]:
        """The questions of a release, in its order, before the row format checks them.

        Answers are kept by id, so a question with the id of an earlier one becomes ``ID#2``.

        Raises:
            DataError: the annotations are not there, or a file cannot be read.
        """
        release = location if isinstance(location, Release) else Release(Path(location))
        layout = self.layout(release)
        if layout is None:
            wanted = "; or ".join(dict.fromkeys(", ".join(layout.files) for layout in self.layouts))
            raise DataError(
                f"{release.directory}: no annotations of {self.title or self.name}; expected {wanted} - get them from "
                f"{self.hub}, or unpack their archives with `evr1 eval prepare {self.name} --from {release.directory}`"
            )
        ids: Counter[str] = Counter()
        columns = {name: release.content(*patterns) for name, patterns in layout.beside.items()}
        for row in release.rows(*layout.files):
            for one in layout.questions({**row, **columns}):
                ids[one.id] += isinstance(one, Question)
                yield _renamed(one, ids[one.id]) if isinstance(one, Question) and ids[one.id] > 1 else one

    def configure(self, config: RunConfig) -> RunConfig:
        """The run's configuration with this benchmark's settings in it; ``data.test`` is its rows.

        With a video budget of the benchmark's own, prompts may be as long as the engine takes them, unless the run sets
        ``data.max_prompt_tokens``: protocols of hundreds of frames need more than its default.
        """
        data: dict[str, Any] = {"test": (self.source(),), **(self.columns or {})}
        data |= {key: value for key, value in (("image", self.image), ("video", self.video)) if value is not None}
        if self.video is not None and "max_prompt_tokens" not in config.data.model_fields_set:
            data["max_prompt_tokens"] = max(config.data.max_prompt_tokens, config.rollout.batch_tokens)
        changes: dict[str, Any] = {"data": _updated(config.data, data)}
        if self.prompts is not None:
            changes["prompts"] = self.prompts
        return _updated(config, changes)

    def open_scorer(self, config: RewardConfig) -> ScoreFunction:
        """What scores the responses: the benchmark's own scorer, else the rewards of the run. Thread-safe.

        Raises:
            ConfigError: the scorer cannot work with these settings, as without a judge; the benchmark is named.
        """
        if self.scoring is not None:
            try:
                return self.scoring(config)
            except ConfigError as error:
                raise ConfigError(f"benchmark {self.name}: {error}") from error
        return self.scorer or Scorer(config)

    def source(self) -> SourceConfig:
        """The rows as a data source."""
        return SourceConfig(path=self.rows, media_root=self.media_root, tasks=self.tasks)

    def load(self, config: RunConfig) -> Loaded:
        """Read and check the rows, and make the probe's questions of them.

        A question whose media are missing stays: it is asked, fails by name and counts as wrong. With
        ``data.on_bad_row=skip`` it is left out.

        Args:
            config: A configuration that ``configure`` returned.

        Raises:
            DataError: the file is missing, no row suits the probe, or rows are bad and ``data.on_bad_row`` is
                ``error``.
        """
        loaded = load_source(
            self.source(),
            config.data,
            check_media=config.data.on_bad_row == "skip",
            coordinates=config.rewards.coordinates,
            embedded=embedded_media(config.cache),
        )
        samples = loaded.samples if self.adapt is None else [self.adapt(each) for each in loaded.samples]
        if self.probe is not None:
            samples = [changed for each in samples if (changed := self.probe.sample(each)) is not None]
            if not samples:
                raise DataError(
                    f"{self.name}: the probe {self.probe.name} applies to none of {len(loaded.samples)} rows"
                )
        return replace(loaded, samples=samples)

    def probed(self, probe: Probe) -> Benchmark:
        """The benchmark whose questions are asked in the way of a probe; its results are named ``NAME-PROBE``."""
        changed = replace(self, name=f"{self.name}-{probe.name}", probe=probe)
        return changed if probe.keeps_scorer else replace(changed, scorer=None, scoring=None)

    @property
    def shown(self) -> Show | None:
        """What is changed of a sample and its plans before they become a prompt; ``None`` if nothing is."""
        probe = self.probe
        if not self.subtitles and (probe is None or probe.plan is None):
            return None
        root = Path(self.media_root if self.media_root is not None else Path(self.rows).parent)

        def show(sample: Sample, plans: tuple[MediaPlan, ...]) -> tuple[Sample, tuple[MediaPlan, ...]]:
            if probe is not None and probe.plan is not None:
                change = probe.plan
                plans = tuple(change(plan) if plan.kind == "video" else plan for plan in plans)
            return with_subtitles(sample, plans, self.subtitles, root), plans

        return show


def _renamed(question: Question, count: int) -> Question:
    repair = ", ".join(name for name in (question.repair, "repeated-id") if name)
    return replace(question, id=f"{question.id}#{count}", repair=repair)


def _updated(section: S, changes: Mapping[str, Any]) -> S:
    """A copy of a section with changes, validated (``model_copy`` would not validate)."""
    fields = {key: getattr(section, key) for key in type(section).model_fields}
    return type(section).model_validate({**fields, **changes})


Opener = Callable[[str], Benchmark]

#: Name -> benchmark, or function from a location to the benchmark at that location.
BENCHMARKS: Registry[Benchmark | Opener] = Registry("benchmark")


def public(benchmark: Benchmark) -> Benchmark:
    """Register a benchmark under its name."""
    BENCHMARKS.register(benchmark.name)(benchmark)
    return benchmark


def published_rows(location: str) -> Benchmark:
    """Any JSON, JSONL or Parquet file of rows in the published format.

    Raises:
        DataError: no such file.
    """
    path = Path(location)
    if not path.is_file():
        raise DataError(not_found(RunConfig(), location or "no location", "data file"))
    metrics = (Metric("accuracy"), Metric("task_average", macro=("task",)))
    return Benchmark(name=path.stem, version="1", rows=str(path), metrics=metrics)


BENCHMARKS.register("rows")(published_rows)


def load_definitions() -> None:
    """Import every file of ``definitions``, which registers its benchmarks."""
    package = importlib.import_module("easyvideor1.benchmarks.definitions")
    for found in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{found.name}")
