"""The line about a stage: one that is redrawn on a terminal, and one in so many seconds in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from easyvideor1.cli.durations import clock, rate_words

#: Metrics that are shown, and their short names.
SHOWN = {"reward/total": "reward", "reward/accuracy": "accuracy", "loss": "loss", "response/tokens": "tokens"}
#: Seconds after which a phase that is still under way is named.
FIRST_WORD = 10.0
#: Least seconds between two lines of a log file.
EVERY = 30.0


class StageLine:
    """What is told of one stage between its first step and its end.

    Elapsed time and time left are those of the whole stage: evaluations and saves between steps count, and restart
    nothing. The time left follows from the mean of all steps since this start.

    Args:
        console: where to draw.
        stage: its name.
        done: steps that were done before this start; they do not count for the rate.
        steps: of the stage.
        every: least seconds between two lines where lines cannot be redrawn.
        now: the clock, in seconds.
    """

    def __init__(
        self,
        console: Console,
        stage: str,
        done: int,
        steps: int,
        *,
        every: float = EVERY,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console, self.stage, self.steps = console, stage, steps
        self._before = self._done = done
        self._every, self._now = every, now
        self._begun = self._stepped = now()
        self._printed: float | None = None
        self._metrics = self._activity = ""
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (
                TextColumn("stage {task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                _Words(self),
            )
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task(stage, total=steps, completed=done)
            self._bar.start()

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step is done."""
        self._done, self._stepped, self._activity = step, self._now(), ""
        self._metrics = ", ".join(f"{short} {metrics[name]:.3f}" for name, short in SHOWN.items() if name in metrics)
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
        elif step in (self._before + 1, self.steps) or self._is_due():
            self._print(step, self._metrics)

    def busy(self, step: int, what: str, seconds: float) -> None:
        """Something beside the usual is under way in ``step``, for so many seconds; empty when it is over."""
        late = bool(what) and seconds >= FIRST_WORD
        self._activity = f"{what}, {seconds:.0f} s" if late else ""
        if self._bar is None and late and (self._printed is None or self._is_due()):
            self._print(step, f"{what}, {seconds:.0f} s so far")

    def begin(self, title: str) -> None:
        """Work with a length of its own begins, such as an evaluation."""
        self._activity = title

    def working(self, title: str, done: int, total: int, unit: str) -> None:
        """So much of that work is done; it is over when ``done`` is ``total``."""
        self._activity = f"{title} {done}/{total}" if done < total else ""
        if self._bar is None and done < total and self._is_due():
            self._print(self._done + 1, f"{title}, {done}/{total} {unit}s")

    def close(self) -> None:
        """Let the line stand as it is."""
        self._activity = ""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def times(self) -> str:
        """Elapsed time, time left and rate."""
        now, fresh = self._now(), self._done - self._before
        words = str(clock(now - self._begun))
        if fresh <= 0:
            return words
        spent = self._stepped - self._begun
        if self._done < self.steps:
            left = max(spent / fresh * (self.steps - self._done) - (now - self._stepped), 0.0)
            words += f", left {clock(left)}"
        return f"{words}, {rate_words(fresh, spent, 'step')}"

    def words(self) -> str:
        """What stands behind the bar."""
        return "; ".join(filter(None, (self.times(), self._metrics, self._activity)))

    def _is_due(self) -> bool:
        return self._now() - (self._begun if self._printed is None else self._printed) >= self._every

    def _print(self, step: int, text: str) -> None:
        self._printed = self._now()
        words = "; ".join(filter(None, (text, self.times())))
        line = f"  {self.stage} {step}/{self.steps}: {words}"
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Words(ProgressColumn):
    """Times and metrics of a stage, made anew at each drawing."""

    max_refresh = None

    def __init__(self, line: StageLine) -> None:
        super().__init__()
        self.line = line

    def render(self, task: Task) -> Text:
        return Text(self.line.words(), overflow="ellipsis", no_wrap=True)
