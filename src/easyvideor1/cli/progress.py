"""What a terminal shows of long work: progress bars with rate and time left, or plain lines without a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

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

from easyvideor1.cli.durations import clock, rate_words
from easyvideor1.cli.stage_line import StageLine


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
        left = f", left {clock(seconds / fresh * (total - done))}" if fresh > 0 and done < total else ""
        rate = rate_words(fresh, seconds, unit)
        more = f", {note}" if note else ""
        console.print(f"{description}: {done}/{total}, {rate}, {clock(seconds)}{left}{more}", markup=False)

    return show


class TerminalWatch:
    """Shows a run on a console: bars for long phases, one line for a stage."""

    def __init__(self, console: Console) -> None:
        from transformers.utils import logging

        logging.disable_progress_bar()  # two bars on one terminal overwrite each other
        self.console = console
        self._line: StageLine | None = None
        self._lock = threading.Lock()  # another thread reports waiting times

    @contextmanager
    def phase(self, title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
        if self._line is None:
            with progress(title, unit=unit, console=self.console) as advance:
                yield advance
            return

        self._line.begin(title)

        def within(done: int, total: int) -> None:
            with self._lock:
                if self._line is not None:
                    self._line.working(title, done, total, unit)

        yield within

    @contextmanager
    def stage(self, name: str, done: int, steps: int) -> Iterator[None]:
        self._line = StageLine(self.console, name, done, steps)
        try:
            yield
        finally:
            self.close()

    def step(self, stage: str, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        with self._lock:
            if self._line is not None:
                self._line.step(step, metrics)

    def waiting(self, stage: str, step: int, steps: int, what: str, seconds: float) -> None:
        with self._lock:
            if self._line is not None:
                self._line.busy(step, what, seconds)

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Let the line of a stage stand as it is, if there is one."""
        with self._lock:
            if self._line is not None:
                self._line.close()
            self._line = None
