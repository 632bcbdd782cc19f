"""A canary in training: it speaks when a policy seems to be paid for something else than answering.

What it says is a function of the stage's metrics (``canary_alarms.py``), so a run that was killed and resumed says the
same again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from easyvideor1.config.canary import CanaryConfig
from easyvideor1.rewards.extraction import parse
from easyvideor1.rewards.references import one_answer
from easyvideor1.rewards.rules import RULES
from easyvideor1.rewards.score import shown
from easyvideor1.rewards.tags import ANSWER, Grammar, find_tag, full_response, split_thinking
from easyvideor1.training.canary_alarms import CONSTANT, Alarm, Metrics, Windows, alarms
from easyvideor1.types import Group, Sample, Score, StoppedError, Trajectory

#: Tasks with fewer responses or questions in a step say nothing about constants.
_RESPONSES, _QUESTIONS = 8, 3
#: Examples of an alarm, and characters of each response.
EXAMPLES, CHARACTERS = 3, 400


class CanaryStopError(StoppedError):
    """The canary spoke and ``canary.action`` is ``stop``; the last checkpoint is intact."""


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


def canary_metrics(groups: Sequence[Group], grammar: Grammar = ANSWER) -> dict[str, float]:
    """What a step's groups say: ``canary/tagless``, ``canary/paid_without_form``, ``canary/diversity`` and
    ``canary/constant/<task>``; see ``CanaryConfig``. What there is nothing to say about is left out.

    ``grammar`` is that of the rewards: it says which tags are thinking.
    """
    seen = responses_of(groups)
    found: dict[str, float] = {}
    asked = [one for one in seen if one.trajectory.completion.asks_tag]
    if asked:
        found["canary/tagless"] = sum(not _has_tag(one, grammar) for one in asked) / len(asked)
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
        references = {one.sample.id: _as_given(task, one.sample.answer, one.sample.options) for one in those}
        if len(those) >= _RESPONSES and len(references) >= _QUESTIONS:
            given = _commonest([one.score.parsed for one in those])
            found[f"{CONSTANT}{task}"] = max(0.0, given - _commonest(list(references.values())))
    return found


@lru_cache(maxsize=8192)
def _as_given(task: str, answer: str, options: tuple[str, ...]) -> str:
    """A reference as a response that gives it is read, so that ``Yes`` and ``true`` are one; else its text."""
    if task not in RULES:
        return answer
    text = one_answer(task, answer)
    return shown(parse(task, full_response(text), options)) or text


def _has_tag(one: Seen, grammar: Grammar) -> bool:
    if one.score.found:
        return one.score.found == "tag"
    completion = one.trajectory.completion
    layout = split_thinking(completion.text, grammar, opened=completion.opens_thinking)
    return find_tag(layout.body) is not None


def _different(group: Group) -> float | None:
    texts = [trajectory.text for trajectory in group.trajectories if trajectory.origin == "online"]
    return (len(set(texts)) - 1) / (len(texts) - 1) if len(texts) > 1 else None


def _commonest(answers: Sequence[str]) -> float:
    """The share of the commonest of some answers that say something."""
    counts = Counter(answer for answer in answers if answer)
    return counts.most_common(1)[0][1] / len(answers) if counts else 0.0


def worst(alarm: Alarm, groups: Sequence[Group], grammar: Grammar = ANSWER) -> list[dict[str, Any]]:
    """The responses of a step that an alarm is about, most telling first, as rows for the record."""
    seen = responses_of(groups)
    kind, _, task = alarm.kind.partition("/")
    if kind == "constant":
        seen = [one for one in seen if one.sample.task == task]
        common = Counter(one.score.parsed for one in seen if one.score.parsed).most_common(1)
        seen = [one for one in seen if common and one.score.parsed == common[0][0]]
    elif kind == "diversity" and groups:
        least = min(groups, key=lambda group: share if (share := _different(group)) is not None else 1.0)
        seen = responses_of([least])
    keys: dict[str, Callable[[Seen], Any]] = {
        "length_ratio": lambda one: -one.trajectory.response_tokens,
        "cut_off": lambda one: (one.trajectory.finish != "length", -one.score.accuracy),
        "tagless": lambda one: (_has_tag(one, grammar), -one.score.accuracy),
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
        "tokens": one.trajectory.response_tokens,
        "finish": one.trajectory.finish,
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
        grammar: that of the rewards.
    """

    def __init__(
        self,
        options: CanaryConfig,
        say: Callable[[str], None],
        history: Sequence[Metrics] = (),
        grammar: Grammar = ANSWER,
    ) -> None:
        self.options = options
        self._say = say
        self._grammar = grammar
        self._step = 0
        self._windows = Windows(options.window)
        self._since: dict[str, int] = {}
        for row in history:
            self._due(row)

    def _due(self, row: Metrics) -> list[Alarm]:
        """Take in a step's metrics; the alarms that begin with it, or have lasted long enough to be said again."""
        self._step += 1
        self._windows.add(row)
        step = self._step
        found = alarms(self._windows, self.options) if self.options.enabled else []
        self._since = {alarm.kind: self._since.get(alarm.kind, step) for alarm in found}
        return [alarm for alarm in found if (step - self._since[alarm.kind]) % self.options.repeat_every == 0]

    def look(self, step: int, row: Metrics, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """Take in a finished step and say what is wrong; returns the rows for the stage's ``canary.jsonl``."""
        rows: list[dict[str, Any]] = []
        shown: dict[str, str] = {}
        due = self._due(row)
        for alarm in due:
            examples = worst(alarm, groups, self._grammar)
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
