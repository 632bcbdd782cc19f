"""What a run is measured on: the held-out splits of its data, and benchmarks."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from easyvideor1.components import Components
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.engines.engine import Engine
from easyvideor1.training.loop import Metrics
from easyvideor1.types import ConfigError, Sample


class HeldOut(Protocol):
    """Questions that are asked between steps, or before and after stages."""

    @property
    def label(self) -> str:
        """The name of a benchmark, which is the directory of its evaluations; empty for a split of the data."""
        ...

    @property
    def metrics(self) -> Sequence[str]:
        """The names of all metrics that ``evaluate`` may return."""
        ...

    @property
    def digest(self) -> str:
        """Of the questions and of what decides their scores; empty for a split, whose rows are known otherwise."""
        ...

    def evaluate(self, name: str, engine: Engine, run_dir: Path) -> Metrics:
        """Ask all questions, and write ``evaluations/NAME.json`` or ``evaluations/LABEL/NAME.json``, last and at once.

        Raises:
            StoppedError: too many questions failed (``evaluation.max_failed``).
        """
        ...


class Evaluator(Protocol):
    """Makes the held-out questions of a run; given by whoever puts the run together."""

    def split(self, samples: Sequence[Sample], components: Components) -> HeldOut:
        """A split of the run's own data."""
        ...

    def benchmarks(self, components: Components) -> Sequence[HeldOut]:
        """The benchmarks of ``evaluation.benchmarks``, read and checked, with their frames made ready.

        Raises:
            ConfigError: there is no such benchmark, or two have the same name.
            DataError: its rows are not there, or cannot be used.
        """
        ...


def check_best_by(config: RunConfig, measured: Sequence[HeldOut]) -> None:
    """Make sure that evaluations between steps give the metrics that checkpoints are chosen by.

    Args:
        config: of the run, with the lengths of its stages in steps.
        measured: what is evaluated between steps.

    Raises:
        ConfigError: there is no such metric, or no evaluation in the stage.
    """
    known = [metric for one in measured for metric in one.metrics]
    for options in config.stages:
        if options.best_by:
            _check_stage(options, config.evaluation.every, known)


def _check_stage(options: StageConfig, every: int, known: Sequence[str]) -> None:
    key, metric = f"stages.{options.name}.best_by", options.best_by
    if metric not in known:
        near = difflib.get_close_matches(metric, known, n=1)
        if near:
            hint = f"did you mean {near[0]}?"
        elif known:
            hint = f"there are {', '.join(known)}"
        else:
            hint = "set data.validation or evaluation.benchmarks, which have metrics"
        raise ConfigError(f"{key}: no evaluation between steps gives the metric {metric!r}: {hint}")
    if not 0 < every <= options.step_count:
        when = f"evaluation.every is {every}" if every else "evaluation.every is 0, which is never"
        raise ConfigError(
            f"{key}: nothing is evaluated in the {options.step_count} steps of the stage ({when}): set "
            f"evaluation.every to at most {options.step_count}, or leave out best_by"
        )
