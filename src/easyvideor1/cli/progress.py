"""Progress bars with rate and time left; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
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


class OnProgress(Protocol):
    """``(done, total)``, and what else there is to say in a few words."""

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
    """``done`` things of ``unit`` in ``seconds``, as a rate in words; slow ones are told as seconds for one."""
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
        description: what is going on, in a word or two.
        unit: what is counted.
        console: where to draw; stderr by default.
        every: seconds between the plain lines that take the bar's place where there is no terminal.
        start: items that were done before, by an earlier process; they say nothing of the rate.
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
    """Whole seconds, which print as the bar's own columns do: ``0:02:03``."""
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
