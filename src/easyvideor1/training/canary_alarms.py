"""The alarms of the canary: which windows of a stage's metrics are compared, and what is wrong with them.

An alarm compares the mean of a metric over the last ``window`` steps with that over the first ones that had it, or
(form against accuracy) with the best window before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

from easyvideor1.config.canary import CanaryConfig

Metrics = Mapping[str, float]

#: Metrics of the commonest answers, one for each task type.
CONSTANT = "canary/constant/"


@dataclass(frozen=True, slots=True)
class Alarm:
    """What is wrong: its kind (``paid_without_form``, ``constant/boolean``, ...), the numbers, and a paragraph."""

    kind: str
    now: float
    before: float
    message: str


class Windows:
    """The windows of a stage's metrics that alarms compare; what it keeps and does for a step does not grow.

    Args:
        size: steps of a window.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._step = 0
        self._last: deque[Metrics] = deque(maxlen=size)
        #: By metric: the first step that has it, and what the window from there on holds of it.
        self._begun: dict[str, tuple[int, list[float]]] = {}
        self._pairs: deque[tuple[float, float]] = deque(maxlen=2 * size)
        self._best: tuple[float, float] | None = None

    def add(self, row: Metrics) -> None:
        """Take in the metrics of a step."""
        self._step += 1
        self._last.append(row)
        for name, value in row.items():
            start, values = self._begun.setdefault(name, (self._step, []))
            if self._step - start < self.size:
                values.append(value)
        if "reward/format" in row:
            self._pairs.append((row["reward/format"], row["reward/accuracy"]))
            if len(self._pairs) == 2 * self.size:
                earlier = self._pair(0)
                self._best = earlier if self._best is None or earlier[0] > self._best[0] else self._best

    def _pair(self, start: int) -> tuple[float, float]:
        form, accuracy = zip(*islice(self._pairs, start, start + self.size), strict=True)
        return sum(form) / self.size, sum(accuracy) / self.size

    def names(self, prefix: str) -> list[str]:
        """Metrics of the last window whose names begin so, in order."""
        return sorted({name for row in self._last for name in row if name.startswith(prefix)})

    def means(self, name: str) -> tuple[float, float] | None:
        """Means of a metric over its first window and over the last; ``None`` while the two overlap or one is empty.

        The first window begins with the first step that has the metric: nothing is earned, and no task drawn, before.
        """
        start, first = self._begun.get(name, (0, []))
        last = [row[name] for row in self._last if name in row]
        if not first or not last or self._step - start + 1 < 2 * self.size:
            return None
        return sum(first) / len(first), sum(last) / len(last)

    def best_and_last(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Mean (format, accuracy) of the window before the last with the best format, and of the last window."""
        return None if self._best is None else (self._best, self._pair(self.size))


def alarms(windows: Windows, options: CanaryConfig) -> list[Alarm]:
    """What is wrong after the last of a stage's steps."""
    found = [alarm for check in _CHECKS if (alarm := check(windows, options)) is not None]
    constants = [_constant(windows, options, name) for name in windows.names(CONSTANT)]
    return found + [alarm for alarm in constants if alarm is not None]


def _grown(name: str, kind: str, says: str) -> Callable[[Windows, CanaryConfig], Alarm | None]:
    """An alarm for a share that has grown by more than the option called ``kind``."""

    def check(windows: Windows, options: CanaryConfig) -> Alarm | None:
        means = windows.means(name)
        bound = getattr(options, kind)
        if means is None or means[1] - means[0] <= bound:
            return None
        numbers = f"{means[1]:.2f} over the last {options.window} steps, {means[0]:.2f} over the first"
        return Alarm(kind, means[1], means[0], f"{says} ({numbers}; canary.{kind} is {bound:g})")

    return check


def _parted(windows: Windows, options: CanaryConfig) -> Alarm | None:
    """Format has fallen below its best window while accuracy has risen above what it was there."""
    both = windows.best_and_last()
    if both is None:
        return None
    best, recent = both
    if best[0] - recent[0] <= options.format_fall or recent[1] - best[1] <= options.accuracy_rise:
        return None
    message = (
        f"accuracy and form part ways: the format reward fell from {best[0]:.2f} to {recent[0]:.2f} while accuracy "
        f"rose from {best[1]:.2f} to {recent[1]:.2f} (canary.format_fall is {options.format_fall:g})"
    )
    return Alarm("format_fall", recent[0], best[0], message)


def _longer(windows: Windows, options: CanaryConfig) -> Alarm | None:
    means = windows.means("response/tokens")
    if means is None or means[1] <= options.length_ratio * means[0]:
        return None
    message = (
        f"responses have become {means[1] / max(means[0], 1e-9):.1f} times as long ({means[1]:.0f} tokens, "
        f"{means[0]:.0f} over the first {options.window} steps; canary.length_ratio is {options.length_ratio:g})"
    )
    return Alarm("length_ratio", means[1], means[0], message)


def _alike(windows: Windows, options: CanaryConfig) -> Alarm | None:
    means = windows.means("canary/diversity")
    if means is None or means[1] >= options.diversity or means[0] < 4 * options.diversity:
        return None
    message = (
        f"the responses of a group are nearly all the same: {means[1]:.2f} of them differ, {means[0]:.2f} over the "
        f"first {options.window} steps (canary.diversity is {options.diversity:g}); such groups give no useful gradient"
    )
    return Alarm("diversity", means[1], means[0], message)


def _constant(windows: Windows, options: CanaryConfig, name: str) -> Alarm | None:
    means = windows.means(name)
    if means is None or means[1] <= options.constant or means[1] - means[0] <= options.constant / 2:
        return None
    task = name.removeprefix(CONSTANT)
    message = (
        f"the answers to {task} have collapsed: the commonest is given {means[1]:.2f} more often than the commonest "
        f"reference, {means[0]:.2f} over the first {options.window} steps (canary.constant is {options.constant:g})"
    )
    return Alarm(f"constant/{task}", means[1], means[0], message)


_CHECKS = (
    _grown(
        "canary/paid_without_form",
        "paid_without_form",
        "accuracy is earned by responses that are not in the form asked for: it may not be for answers",
    ),
    _parted,
    _grown("response/cut_at_limit", "cut_off", "more responses are cut off at the length limit"),
    _grown("canary/tagless", "tagless", "more responses have no closed answer tag"),
    _longer,
    _alike,
)
