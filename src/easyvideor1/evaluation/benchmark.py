"""A benchmark is a value: its rows, prompts, budgets, scorer and the numbers that it reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from easyvideor1.config.paths import not_found
from easyvideor1.config.schema import BaseConfig, ImageBudget, PromptConfig, RunConfig, SourceConfig, VideoBudget
from easyvideor1.data import Loaded, embedded_media, load_source
from easyvideor1.evaluation.evaluate import ScoreFunction
from easyvideor1.evaluation.result import Evaluation
from easyvideor1.registry import Registry
from easyvideor1.types import ConfigError, DataError, Sample

S = TypeVar("S", bound=BaseConfig)

_ROW_FILES = (".json", ".jsonl", ".parquet")


def accuracy_and_task_average(evaluation: Evaluation) -> dict[str, float]:
    """Greedy accuracy over all scored questions, and the mean of the accuracies of the task types."""
    by_task = [aggregate.greedy.mean for aggregate in evaluation.tasks.values() if aggregate.greedy is not None]
    if evaluation.greedy is None:
        return {}
    return {"accuracy": evaluation.greedy.mean, "task_average": sum(by_task) / len(by_task)}


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The questions of a benchmark, and how they are asked and scored.

    Change ``version`` whenever a change would change a reported number. ``columns`` overrides the column names of
    ``DataConfig`` (``{"question_key": "problem"}``). ``adapt`` completes a sample from columns of its own, which
    ``Sample.extra`` keeps. Settings that are ``None`` come from the run's configuration, the scorer included.
    ``aggregate`` gives the numbers that the benchmark is quoted by.
    """

    name: str
    version: str
    rows: str
    media_root: str | None = None
    tasks: tuple[str, ...] = ()
    columns: Mapping[str, str] | None = None
    adapt: Callable[[Sample], Sample] | None = None
    prompts: PromptConfig | None = None
    image: ImageBudget | None = None
    video: VideoBudget | None = None
    scorer: ScoreFunction | None = None
    aggregate: Callable[[Evaluation], Mapping[str, float]] = accuracy_and_task_average

    def configure(self, config: RunConfig) -> RunConfig:
        """The run's configuration with this benchmark's settings in it; ``data.test`` is its rows."""
        data: dict[str, Any] = {"test": (self.source(),), **(self.columns or {})}
        data |= {key: value for key, value in (("image", self.image), ("video", self.video)) if value is not None}
        changes: dict[str, Any] = {"data": _updated(config.data, data)}
        if self.prompts is not None:
            changes["prompts"] = self.prompts
        return _updated(config, changes)

    def source(self) -> SourceConfig:
        """The rows as a data source."""
        return SourceConfig(path=self.rows, media_root=self.media_root, tasks=self.tasks)

    def load(self, config: RunConfig) -> Loaded:
        """Read and check the rows.

        Args:
            config: A configuration that ``configure`` returned.

        Raises:
            DataError: the file is missing, or rows are bad and ``data.on_bad_row`` is ``error``.
        """
        loaded = load_source(
            self.source(),
            config.data,
            coordinates=config.rewards.coordinates,
            embedded=embedded_media(config.cache),
        )
        return loaded if self.adapt is None else replace(loaded, samples=[self.adapt(s) for s in loaded.samples])


def _updated(section: S, changes: Mapping[str, Any]) -> S:
    """A copy of a section with changes, validated (``model_copy`` would not validate)."""
    fields = {key: getattr(section, key) for key in type(section).model_fields}
    return type(section).model_validate({**fields, **changes})


#: Name -> function from a location to the benchmark at that location.
BENCHMARKS: Registry[Callable[[str], Benchmark]] = Registry("benchmark")


@BENCHMARKS.register("rows")
def published_rows(location: str) -> Benchmark:
    """Any JSON, JSONL or Parquet file of rows in the published format.

    Raises:
        DataError: no such file.
    """
    path = Path(location)
    if not path.is_file():
        raise DataError(not_found(RunConfig(), location or "no location", "data file"))
    return Benchmark(name=path.stem, version="1", rows=str(path))


def _kind_of(path: Path) -> str:
    return "a directory" if path.is_dir() else "another file"


def open_benchmark(target: str) -> Benchmark:
    """The benchmark that a command line names.

    ``DATA.jsonl`` (also ``.json``, ``.parquet``) is a file of rows. ``NAME=LOCATION`` is a registered benchmark, or
    ``module:attr`` of the user's own, at a location; ``NAME`` alone lets the benchmark choose.

    Raises:
        ConfigError: no such benchmark, or a custom function did not return a ``Benchmark``.
        DataError: the location has no rows.
    """
    if Path(target).suffix.lower() in _ROW_FILES and "=" not in target:
        return published_rows(target)
    if Path(target).exists():
        raise ConfigError(f"{target}: give the file of rows (.json, .jsonl or .parquet), not {_kind_of(Path(target))}")
    name, _, location = target.partition("=")
    benchmark = BENCHMARKS.resolve(name)(location)
    if not isinstance(benchmark, Benchmark):
        raise ConfigError(f"benchmark {name!r} returned {type(benchmark).__name__}; it must return a Benchmark")
    return benchmark
