"""Putting a run together: training is handed the evaluation, the terminal watches, a report comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from easyvideor1.cli.progress import progress

if TYPE_CHECKING:
    from easyvideor1.config import RunConfig
    from easyvideor1.rollout.engine import Engine
    from easyvideor1.types import Sample
    from easyvideor1.workbench import Workbench

#: Metrics worth a place beside the bar, and their short names.
_SHOWN = {"reward/total": "reward", "reward/accuracy": "accuracy", "loss": "loss", "response/tokens": "tokens"}


class TerminalWatch:
    """Shows a run on a console: bars for long phases, one bar and a line of metrics for a stage."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._stage = ""
        self._bar: Any = None
        self._advance: Callable[[int, int], None] | None = None

    @contextmanager
    def phase(self, title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
        self.close()
        with progress(title, unit=unit, console=self.console) as advance:
            yield advance

    def step(self, stage: str, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        if stage != self._stage or self._advance is None:
            self.close()
            self._stage = stage
            self._bar = progress(f"stage {stage}", unit="step", console=self.console)
            self._advance = self._bar.__enter__()
        if step == 1 or step % max(1, steps // 12) == 0 or step == steps:
            shown = [f"{short} {metrics[name]:.3f}" for name, short in _SHOWN.items() if name in metrics]
            self.console.print(f"  {stage} {step}/{steps}: {', '.join(shown)}", highlight=False, markup=False)
        self._advance(step, steps)
        if step == steps:
            self.close()

    def say(self, text: str) -> None:
        self.close()
        self.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Take the stage's bar down, if one is up."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
        self._bar = self._advance = None


def train_and_report(config: RunConfig, console: Console) -> dict[str, Any]:
    """Do or finish a run, then write its summary, curves and report; returns the summary.

    Raises:
        EasyVideoError: as ``easyvideor1.training.run.run`` and the report say.
    """
    from easyvideor1.evaluation import write_curves, write_report, write_summary
    from easyvideor1.training.run import evaluation_names, run

    begun = time.monotonic()
    watch = TerminalWatch(console)
    try:
        run_dir = run(config, evaluate=lambda *given: evaluate_run(*given, watch=watch), watch=watch)
    finally:
        watch.close()
    before, after = evaluation_names(config)
    summary = write_summary(
        run_dir,
        seed=config.seed,
        steps=sum(stage.steps for stage in config.stages),
        seconds=time.monotonic() - begun,
        before=before,
        after=after,
    )
    write_curves(run_dir)
    page = write_report(run_dir)
    console.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)
    return summary


def evaluate_run(
    name: str, samples: Sequence[Sample], engine: Engine, bench: Workbench, directory: Path, *, watch: TerminalWatch
) -> dict[str, float]:
    """Evaluate, write ``directory/evaluations/NAME.json(l)``, and return the metrics that training logs."""
    from easyvideor1.evaluation import evaluate

    with watch.phase(f"evaluating {name}", "question") as advance:
        result = evaluate(
            name,
            samples,
            engine=engine,
            render=bench.render,
            scorer=bench.scorer,
            config=bench.config.evaluation,
            sampling=bench.sampling(),
            seed=bench.config.seed,
            on_progress=advance,
        )
    result.write(directory / "evaluations")
    metrics = {}
    for kind, interval in (("greedy", result.greedy), ("sampled", result.sampled)):
        if interval is not None:
            metrics[f"evaluation/{kind}"] = interval.mean
    shown = ", ".join(f"{key.removeprefix('evaluation/')} accuracy {value:.3f}" for key, value in metrics.items())
    watch.say(f"{name}: {shown} on {result.count} questions")
    return metrics
