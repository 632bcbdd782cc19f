"""What a terminal shows of long work: progress bars with rate and time left, or plain lines without a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

#: Metrics that are shown beside the bar, and their short names.
_SHOWN = {"reward/total": "reward", "reward/accuracy": "accuracy", "loss": "loss", "response/tokens": "tokens"}

#: Seconds before the first line about a slow phase.
_FIRST_WORD = 10.0


class OnProgress(Protocol):
    """``(done, total)``, and an optional short note."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


class _Rate(ProgressColumn):
    """Items per second since the start."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        done = task.completed - task.fields["done_before"]
        return Text(rate_words(done, task.elapsed or 0.0, self.unit), style="progress.data.speed")


def rate_words(done: float, seconds: float, unit: str) -> str:
    """The rate of ``done`` items in ``seconds`` as text; slow ones as seconds per item."""
    if done <= 0 or seconds <= 0:
        return f"- {unit}/s"
    rate = done / seconds
    return f"{rate:.1f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"


@contextmanager
def progress(
    description: str, *, unit: str = "item", console: Console | None = None, every: float = 10.0, start: int = 0
) -> Iterator[OnProgress]:
    """A progress bar on stderr as a function ``(done, total)``; the total may change from call to call.

    Args:
        description: a word or two about the work.
        unit: what is counted.
        console: where to draw; stderr by default.
        every: seconds between the plain lines that replace the bar without a terminal.
        start: items that an earlier process has done; they do not count for the rate.
    """
    console = console or Console(stderr=True, soft_wrap=True, highlight=False)
    if not console.is_terminal:
        yield _lines(description, unit, console, every, start)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=None, completed=start, done_before=start, note="")

        def show(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield show


def _clock(seconds: float) -> timedelta:
    """Whole seconds, printed like the columns of the bar: ``0:02:03``."""
    return timedelta(seconds=round(seconds))


def _lines(description: str, unit: str, console: Console, every: float, start: int) -> OnProgress:
    begun = time.monotonic()
    last = begun

    def show(done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < every:
            return
        last = now
        seconds, fresh = now - begun, done - start
        left = f", left {_clock(seconds / fresh * (total - done))}" if fresh > 0 and done < total else ""
        rate = rate_words(fresh, seconds, unit)
        more = f", {note}" if note else ""
        console.print(f"{description}: {done}/{total}, {rate}, {_clock(seconds)}{left}{more}", markup=False)

    return show


class TerminalWatch:
    """Shows a run on a console: bars for long phases, one bar and a line of metrics for a stage."""

    def __init__(self, console: Console) -> None:
        from transformers.utils import logging

        logging.disable_progress_bar()  # two bars on one terminal overwrite each other
        self.console = console
        self._stage = ""
        self._bar: Any = None
        self._advance: OnProgress | None = None
        self._told = _FIRST_WORD
        self._lock = threading.Lock()  # another thread reports waiting times

    @contextmanager
    def phase(self, title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
        self.close()
        with progress(title, unit=unit, console=self.console) as advance:
            yield advance

    def step(self, stage: str, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        with self._lock:
            self._open(stage, step)  # a bar that opens only now measures its rate from here
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
            elif seconds >= self._told:  # lines cannot be overwritten: print one each time the wait has doubled
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
        """Remove the bar of the stage, if there is one."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
        self._bar = self._advance = None
