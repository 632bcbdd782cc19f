"""A canary in training: it speaks when a policy seems to be paid for something else than answering.

Every alarm compares the mean of a metric over the last ``window`` steps with that over the first ``window`` steps of
the stage. What it says is a function of the stage's metrics, so a run that was killed and resumed says the same again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from easyvideor1.config.canary import CanaryConfig
from easyvideor1.rewards.regions import find_tag, split_thinking
from easyvideor1.rollout.records import response_tokens
from easyvideor1.types import Group, Sample, Score, StoppedError, Trajectory

Metrics = Mapping[str, float]

#: Tasks with fewer responses or questions in a step say nothing about constants.
_RESPONSES, _QUESTIONS = 8, 3
#: Examples of an alarm, and characters of each response.
EXAMPLES, CHARACTERS = 3, 400
_CONSTANT = "canary/constant/"


class CanaryStopError(StoppedError):
    """The canary spoke and ``canary.action`` is ``stop``; the last checkpoint is intact."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """What is wrong: its kind (``paid_without_form``, ``constant/boolean``, ...), the numbers, and a paragraph."""

    kind: str
    now: float
    before: float
    message: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One judged response of the policy."""

    sample: Sample
    trajectory: Trajectory
    score: Score


def responses_of(groups: Sequence[Group]) -> list[Seen]:
    """The policy's own judged responses."""
    return [
        Seen(group.sample, trajectory, score)
        for group in groups
        for trajectory, score in zip(group.trajectories, group.scores, strict=True)
        if trajectory.origin == "online" and score.applicable
    ]


def canary_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """What a step's groups say: ``canary/tagless``, ``canary/paid_without_form``, ``canary/diversity`` and
    ``canary/constant/<task>``; see ``CanaryConfig``. What there is nothing to say about is left out."""
    seen = responses_of(groups)
    found: dict[str, float] = {}
    asked = [one for one in seen if one.trajectory.completion.asks_tag]
    if asked:
        found["canary/tagless"] = sum(not _has_tag(one) for one in asked) / len(asked)
    earned = sum(one.score.accuracy for one in seen)
    if earned > 0:
        loose = sum(one.score.accuracy for one in seen if one.score.found and one.score.format < 1.0)
        found["canary/paid_without_form"] = loose / earned
    shares = [share for group in groups if (share := _different(group)) is not None]
    if shares:
        found["canary/diversity"] = sum(shares) / len(shares)
    by_task: dict[str, list[Seen]] = {}
    for one in seen:
        by_task.setdefault(one.sample.task, []).append(one)
    for task, those in sorted(by_task.items()):
        references = {one.sample.id: one.sample.answer for one in those}
        if len(those) >= _RESPONSES and len(references) >= _QUESTIONS:
            given = _commonest([one.score.parsed for one in those])
            found[f"{_CONSTANT}{task}"] = max(0.0, given - _commonest(list(references.values())))
    return found


def _has_tag(one: Seen) -> bool:
    if one.score.found:
        return one.score.found == "tag"
    return find_tag(split_thinking(one.trajectory.text).body) is not None


def _different(group: Group) -> float | None:
    texts = [trajectory.text for trajectory in group.trajectories if trajectory.origin == "online"]
    return (len(set(texts)) - 1) / (len(texts) - 1) if len(texts) > 1 else None


def _commonest(answers: Sequence[str]) -> float:
    """The share of the commonest of some answers that say something."""
    counts = Counter(answer for answer in answers if answer)
    return counts.most_common(1)[0][1] / len(answers) if counts else 0.0


def alarms(rows: Sequence[Metrics], options: CanaryConfig) -> list[Alarm]:
    """What is wrong after the last of a stage's steps; ``rows`` are the metrics of all its steps, in order."""
    if len(rows) < 2 * options.window:
        return []
    found = [alarm for check in _CHECKS if (alarm := check(rows, options)) is not None]
    names = sorted({name for row in rows[-options.window :] for name in row if name.startswith(_CONSTANT)})
    return found + [alarm for name in names if (alarm := _constant(rows, options, name)) is not None]


def _means(rows: Sequence[Metrics], options: CanaryConfig, name: str) -> tuple[float, float] | None:
    """Means of a metric over the first window and the recent one; ``None`` where either has none of it."""
    first = [row[name] for row in rows[: options.window] if name in row]
    recent = [row[name] for row in rows[-options.window :] if name in row]
    return (sum(first) / len(first), sum(recent) / len(recent)) if first and recent else None


def _grown(name: str, kind: str, says: str) -> Callable[[Sequence[Metrics], CanaryConfig], Alarm | None]:
    """An alarm for a share that has grown by more than the option called ``kind``."""

    def check(rows: Sequence[Metrics], options: CanaryConfig) -> Alarm | None:
        means = _means(rows, options, name)
        bound = getattr(options, kind)
        if means is None or means[1] - means[0] <= bound:
            return None
        numbers = f"{means[1]:.2f} over the last {options.window} steps, {means[0]:.2f} over the first"
        return Alarm(kind, means[1], means[0], f"{says} ({numbers}; canary.{kind} is {bound:g})")

    return check


def _parted(rows: Sequence[Metrics], options: CanaryConfig) -> Alarm | None:
    """Format has fallen below its best window while accuracy has risen above what it was there."""
    size = options.window
    pairs = [(row["reward/format"], row["reward/accuracy"]) for row in rows if "reward/format" in row]
    if len(pairs) < 2 * size:
        return None
    sums = [(0.0, 0.0)]
    for form, accuracy in pairs:
        sums.append((sums[-1][0] + form, sums[-1][1] + accuracy))
    windows = [
        ((end[0] - begin[0]) / size, (end[1] - begin[1]) / size)
        for begin, end in zip(sums[:-size], sums[size:], strict=True)
    ]
    recent = windows[-1]
    best = max(windows[:-size], key=lambda window: window[0])
    if best[0] - recent[0] <= options.format_fall or recent[1] - best[1] <= options.accuracy_rise:
        return None
    message = (
        f"accuracy and form part ways: the format reward fell from {best[0]:.2f} to {recent[0]:.2f} while accuracy "
        f"rose from {best[1]:.2f} to {recent[1]:.2f} (canary.format_fall is {options.format_fall:g})"
    )
    return Alarm("format_fall", recent[0], best[0], message)


def _longer(rows: Sequence[Metrics], options: CanaryConfig) -> Alarm | None:
    means = _means(rows, options, "response/tokens")
    if means is None or means[1] <= options.length_ratio * means[0]:
        return None
    message = (
        f"responses have become {means[1] / max(means[0], 1e-9):.1f} times as long ({means[1]:.0f} tokens, "
        f"{means[0]:.0f} over the first {options.window} steps; canary.length_ratio is {options.length_ratio:g})"
    )
    return Alarm("length_ratio", means[1], means[0], message)


def _alike(rows: Sequence[Metrics], options: CanaryConfig) -> Alarm | None:
    means = _means(rows, options, "canary/diversity")
    if means is None or means[1] >= options.diversity or means[0] < 4 * options.diversity:
        return None
    message = (
        f"the responses of a group are nearly all the same: {means[1]:.2f} of them differ, {means[0]:.2f} over the "
        f"first {options.window} steps (canary.diversity is {options.diversity:g}); such groups teach nothing"
    )
    return Alarm("diversity", means[1], means[0], message)


def _constant(rows: Sequence[Metrics], options: CanaryConfig, name: str) -> Alarm | None:
    means = _means(rows, options, name)
    if means is None or means[1] <= options.constant:
        return None
    task = name.removeprefix(_CONSTANT)
    message = (
        f"the answers to {task} have collapsed: the commonest is given {means[1]:.2f} more often than the commonest "
        f"reference is right (canary.constant is {options.constant:g})"
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


def worst(alarm: Alarm, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The responses of a step that an alarm is about, most telling first, as rows for the record."""
    seen = responses_of(groups)
    kind, _, task = alarm.kind.partition("/")
    if kind == "constant":
        seen = [one for one in seen if one.sample.task == task]
        common = Counter(one.score.parsed for one in seen if one.score.parsed).most_common(1)
        seen = [one for one in seen if common and one.score.parsed == common[0][0]]
    elif kind == "diversity":
        least = min(groups, key=lambda group: share if (share := _different(group)) is not None else 1.0)
        seen = responses_of([least])
    keys: dict[str, Callable[[Seen], Any]] = {
        "length_ratio": lambda one: -response_tokens(one.trajectory),
        "cut_off": lambda one: (one.trajectory.turns[-1].finish != "length", -one.score.accuracy),
        "tagless": lambda one: (_has_tag(one), -one.score.accuracy),
    }
    return [_example(one) for one in sorted(seen, key=keys.get(kind, _paid_without_form))[:EXAMPLES]]


def _paid_without_form(one: Seen) -> tuple[bool, float, float]:
    return (one.score.format >= 1.0, -one.score.accuracy, one.score.format)


def _example(one: Seen) -> dict[str, Any]:
    text = one.trajectory.text
    return {
        "sample": one.sample.id,
        "task": one.sample.task,
        "reference": one.sample.answer[:CHARACTERS],
        "response": text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} ...",
        "tokens": response_tokens(one.trajectory),
        "finish": one.trajectory.turns[-1].finish,
        "accuracy": one.score.accuracy,
        "format": one.score.format,
        "found": one.score.found,
    }


_ADVICE = (
    "Read the responses below and twenty more of this step. If they do not answer, the reward pays for something else: "
    "look at rewards.require_tag, at custom rewards, and at what the last checkpoints say. docs/canary.md says more."
)


class Canary:
    """Watches a stage.

    Args:
        options: thresholds and action.
        say: takes a warning.
        history: metrics of the steps that are done already, in order.
    """

    def __init__(self, options: CanaryConfig, say: Callable[[str], None], history: Sequence[Metrics] = ()) -> None:
        self.options = options
        self._say = say
        self._rows: list[Metrics] = []
        self._since: dict[str, int] = {}
        for row in history:
            self._due(row)

    def _due(self, row: Metrics) -> list[Alarm]:
        """Take in a step's metrics; the alarms that begin with it, or have lasted long enough to be said again."""
        self._rows.append(row)
        step = len(self._rows)
        found = alarms(self._rows, self.options) if self.options.enabled else []
        self._since = {alarm.kind: self._since.get(alarm.kind, step) for alarm in found}
        return [alarm for alarm in found if (step - self._since[alarm.kind]) % self.options.repeat_every == 0]

    def look(self, step: int, row: Metrics, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """Take in a finished step and say what is wrong; returns the rows for the stage's ``canary.jsonl``."""
        rows: list[dict[str, Any]] = []
        shown: dict[str, str] = {}
        due = self._due(row)
        for alarm in due:
            examples = worst(alarm, groups)
            for example in examples:
                shown[example["response"]] = (
                    f"    {example['task']}, accuracy {example['accuracy']:.2f}, format {example['format']:.1f}, "
                    f"{example['tokens']} tokens ({example['finish']}): {' '.join(example['response'].split())}"
                )
            rows.append(
                {
                    "step": step,
                    "alarm": alarm.kind,
                    "now": alarm.now,
                    "before": alarm.before,
                    "message": alarm.message,
                    "examples": examples,
                }
            )
        if due:
            self._say(f"WARNING, step {step}: {'; '.join(alarm.message for alarm in due)}. {_ADVICE}")
            for line in shown.values():
                self._say(line)
        return rows

    def stop(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Stop the stage if that is to be done.

        Raises:
            CanaryStopError: something is wrong and the action is ``stop``.
        """
        if rows and self.options.action == "stop":
            said = "; ".join(str(row["message"]) for row in rows)
            raise CanaryStopError(
                f"step {step}: {said}. The stage was stopped (canary.action: stop); its record is written and the "
                "last checkpoint is intact. Correct the reward and start a new run, or resume this one with "
                "canary.action=warn"
            )
