"""Putting a run together: training is handed the evaluation, the terminal watches, a report comes out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from easyvideor1.cli.progress import OnProgress, progress

if TYPE_CHECKING:
    from easyvideor1.components import Components
    from easyvideor1.config import RunConfig
    from easyvideor1.engines.engine import Engine
    from easyvideor1.evaluation import Evaluation
    from easyvideor1.evaluation.evaluate import ScoreFunction
    from easyvideor1.types import Sample

#: Metrics worth a place beside the bar, and their short names.
_SHOWN = {"reward/total": "reward", "reward/accuracy": "accuracy", "loss": "loss", "response/tokens": "tokens"}


#: Seconds before anything is said of a phase that takes its time.
_FIRST_WORD = 10.0


class TerminalWatch:
    """Shows a run on a console: bars for long phases, one bar and a line of metrics for a stage."""

    def __init__(self, console: Console) -> None:
        from transformers.utils import logging

        logging.disable_progress_bar()  # two bars on one terminal tear each other
        self.console = console
        self._stage = ""
        self._bar: Any = None
        self._advance: OnProgress | None = None
        self._told = _FIRST_WORD
        self._lock = threading.Lock()  # what is waited for is told by another thread

    @contextmanager
    def phase(self, title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
        self.close()
        with progress(title, unit=unit, console=self.console) as advance:
            yield advance

    def step(self, stage: str, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        with self._lock:
            self._open(stage, step)  # a bar that opens only now counts its rate from here on
            self._told = _FIRST_WORD
            self._show_step(stage, step, steps, metrics)

    def waiting(self, stage: str, step: int, steps: int, what: str, seconds: float) -> None:
        with self._lock:
            if self.console.is_terminal:
                self._open(stage, step - 1)
                assert self._advance is not None
                self._advance(step - 1, steps, f"{what}, {seconds:.0f} s" if seconds >= _FIRST_WORD else "")
                return
            if seconds < _FIRST_WORD:
                self._told = _FIRST_WORD
            elif seconds >= self._told:  # lines stay: one each time that it has taken twice as long
                self._told = 2 * seconds
                self._line(f"  {stage} {step}/{steps}: {what}, {seconds:.0f} s so far")

    def _open(self, stage: str, done: int) -> None:
        if stage != self._stage or self._advance is None:
            self._close()
            self._stage = stage
            self._bar = progress(f"stage {stage}", unit="step", console=self.console, start=done)
            self._advance = self._bar.__enter__()

    def _show_step(self, stage: str, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        assert self._advance is not None
        if step == 1 or step % max(1, steps // 12) == 0 or step == steps:
            shown = [f"{short} {metrics[name]:.3f}" for name, short in _SHOWN.items() if name in metrics]
            self._line(f"  {stage} {step}/{steps}: {', '.join(shown)}")
        self._advance(step, steps)
        if step == steps:
            self._close()

    def say(self, text: str) -> None:
        self.close()
        self._line(text)

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Take the stage's bar down, if one is up."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
        self._bar = self._advance = None


def train_and_report(config: RunConfig, console: Console, *, begun: float | None = None) -> dict[str, Any]:
    """Do or finish a run, then write its summary, curves and report; returns the summary.

    Args:
        config: the run.
        console: where progress is shown.
        begun: ``time.monotonic()`` at the beginning of preparations that count as part of the run, if there were any.

    Raises:
        EasyVideoError: as ``easyvideor1.training.run.run`` and the report say.
    """
    from easyvideor1.evaluation import evaluation_fault, write_curves, write_report, write_summary
    from easyvideor1.training.lengths import known_steps
    from easyvideor1.training.run import evaluation_names, run
    from easyvideor1.training.run_directory import read_status

    prepared = 0.0 if begun is None else time.monotonic() - begun
    watch = TerminalWatch(console)

    def evaluate(
        name: str, samples: Sequence[Sample], engine: Engine, components: Components, run_dir: Path
    ) -> dict[str, float]:
        result = evaluate_and_write(name, samples, engine, components, run_dir / "evaluations", watch=watch)
        return evaluation_metrics(result)

    try:
        run_dir = run(config, evaluate=evaluate, evaluation_fault=evaluation_fault, watch=watch)
    finally:
        watch.close()
    before, after = evaluation_names(config)
    status = read_status(run_dir)
    summary = write_summary(
        run_dir,
        seed=config.seed,
        steps=sum(known_steps(config, status).values()),
        seconds=prepared + (status or {"seconds": 0.0})["seconds"],
        before=before,
        after=after,
    )
    write_curves(run_dir)
    page = write_report(run_dir)
    console.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)
    return summary


def evaluate_and_write(
    name: str,
    samples: Sequence[Sample],
    engine: Engine,
    components: Components,
    directory: Path,
    *,
    watch: TerminalWatch,
    scorer: ScoreFunction | None = None,
) -> Evaluation:
    """Evaluate and write ``directory/NAME.json`` and ``NAME.jsonl``; ``scorer`` takes the place of the configured."""
    from easyvideor1.evaluation import evaluate, form_words

    judge = components.config.rewards.judge
    with watch.phase(f"evaluating {name}", "question") as advance:
        result = evaluate(
            name,
            samples,
            engine=engine,
            render=components.render,
            scorer=scorer or components.scorer,
            config=components.config.evaluation,
            sampling=components.sampling(),
            seed=components.config.seed,
            on_progress=advance,
            # Only a judge is worth waiting for together; a custom reward need not be safe in threads without one.
            scoring_threads=judge.concurrency if judge.url else 1,
        )
    result.write(directory)
    shown = [
        f"{key.removeprefix('evaluation/')} accuracy {value:.3f}" for key, value in evaluation_metrics(result).items()
    ]
    failed = f", {result.failed} failed" if result.failed else ""
    watch.say(f"{name}: {', '.join(shown) or 'nothing could be judged'} on {result.count} questions{failed}")
    if form := result.overall.form_with_format():
        watch.say(f"{name}: {form_words(form)}")
    return result


def evaluation_metrics(result: Evaluation) -> dict[str, float]:
    """``evaluation/greedy`` and ``evaluation/sampled``: mean accuracies, as far as anything could be judged."""
    found = {"greedy": result.greedy, "sampled": result.sampled}
    return {f"evaluation/{kind}": interval.mean for kind, interval in found.items() if interval is not None}
