"""Score one response: built-in rules, weights, and rewards of the user."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from easyvideor1.config.schema import RewardConfig
from easyvideor1.registry import load_attribute
from easyvideor1.rewards.answer import Answer, RewardError, Verdict, cannot_judge
from easyvideor1.rewards.check import as_text, read_reference
from easyvideor1.rewards.parse import parse
from easyvideor1.rewards.rules import RULES
from easyvideor1.tasks import canonical_task
from easyvideor1.types import ConfigError, DataError, Sample, Score

#: How far sums of single precision may leave [0, 1].
_ROUNDING = 1e-6
#: A reward of the user: ``None`` means that it does not apply to this sample.
CustomReward = Callable[[Sample, str], Score | None]


def score(
    problem_type: str,
    response: str,
    answer: object,
    *,
    options: Sequence[str] | None = None,
    question: str = "",
    accuracy_weight: float = 0.9,
    format_weight: float = 0.1,
    **row: Any,
) -> Score:
    """Score one response against its reference.

    ``total = accuracy_weight * accuracy + format_weight * format``. Format is 1 for an ``<answer>`` tag outside the
    thinking whose content is of the type, in the form asked for; 0.5 if the tag holds something else; 0 without a tag
    or with an empty one. A reference or column that cannot be used gives ``applicable=False`` with the reason; what the
    response brings about (another scale, an endless comparison) is accuracy 0 with the reason.

    Args:
        problem_type: task type or an alias of one.
        response: the whole response.
        answer: the reference; text, or the JSON value it stands for.
        options: options of a choice question.
        question: the question; no built-in rule needs it.
        accuracy_weight: weight of accuracy in the total.
        format_weight: weight of format in the total.
        row: further columns of the sample: ``tests`` for code, ``mask`` for segmentation.

    Raises:
        DataError: the task type is unknown.
    """
    weights = (accuracy_weight, format_weight)
    return _score(canonical_task(problem_type), response, as_text(answer), tuple(options or ()), row, weights)


def _score(
    task: str,
    response: str,
    answer: str,
    options: tuple[str, ...],
    row: Mapping[str, Any],
    weights: tuple[float, float],
) -> Score:
    parsed = parse(task, response, options)
    form = _form(parsed)
    try:
        reference = read_reference(task, answer, options)
    except DataError as error:
        # Without the text of the reference, so that the same cause is counted under the same reason.
        reason = f"the reference cannot be used: {error.__cause__}"
        return Score(0.0, form, 0.0, parsed=_shown(parsed), applicable=False, reason=reason)
    verdict = Verdict(0.0) if parsed.value is None else RULES[task].compare(parsed.value, reference, row)
    if not verdict.applicable:
        return Score(0.0, form, 0.0, parsed=_shown(parsed), applicable=False, reason=verdict.reason)
    accuracy = min(1.0, max(0.0, verdict.accuracy))
    total = min(1.0, weights[0] * accuracy + weights[1] * form)
    return Score(accuracy, form, total, verdict.parts, _shown(parsed), reason=verdict.reason)


def _form(answer: Answer) -> float:
    if answer.found != "tag" or not answer.text:
        return 0.0
    return 1.0 if answer.value is not None and answer.canonical else 0.5


def _shown(answer: Answer) -> str:
    value = answer.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple) and all(isinstance(entry, str) for entry in value):
        return ", ".join(value)
    return str(value)


class Scorer:
    """Scores samples as a configuration says, and counts what could not be judged.

    ``counts`` maps ``(task type, reason)`` to a number of responses. Safe to call from several threads if the custom
    rewards are.
    """

    def __init__(self, config: RewardConfig) -> None:
        self.config = config
        self._custom = {_task_key(name): (target, _load(target)) for name, target in config.custom.items()}
        if len(self._custom) != len(config.custom):
            raise ConfigError(f"rewards.custom names one task type twice: {', '.join(config.custom)}")
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """How many responses could not be judged so far, by task type and reason."""
        with self._lock:
            return dict(self._counts)

    def __call__(self, sample: Sample, response: str) -> Score:
        """Score one response to one sample.

        Raises:
            RewardError: a reward raised and ``on_error`` is ``stop``, or a custom reward broke its contract.
        """
        task = canonical_task(sample.task)
        target, custom = self._custom.get(task) or self._custom.get("*") or ("", None)
        result: Score | None
        try:
            result = self._built_in(task, sample, response) if custom is None else custom(sample, response)
        except Exception as error:
            name = target or f"built-in {task}"
            if self.config.on_error == "stop":
                raise RewardError(
                    f"reward {name!r} raised {type(error).__name__}: {error} for sample {sample.id!r} "
                    f"({sample.where or 'no file'}). Correct it, or set rewards.on_error: mask to leave such "
                    "samples out."
                ) from error
            result = _masked(f"reward {name!r} raised {type(error).__name__}")
        checked = _checked(target or f"built-in {task}", result)
        if not checked.applicable:
            with self._lock:
                self._counts[task, checked.reason] += 1
        return checked

    def _built_in(self, task: str, sample: Sample, response: str) -> Score:
        weights = (self.config.accuracy_weight, self.config.format_weight)
        return _score(task, response, sample.answer, sample.options, sample.extra, weights)


def _task_key(name: str) -> str:
    if name == "*":
        return name
    try:
        return canonical_task(name)
    except DataError as error:
        raise ConfigError(f"rewards.custom: {error}") from error


def _load(target: str) -> CustomReward:
    if ":" not in target:
        raise ConfigError(f"rewards.custom: {target!r} is not of the form 'module:attr'")
    reward: CustomReward = load_attribute(target, "reward")
    if not callable(reward):
        raise ConfigError(f"rewards.custom: {target!r} is {reward!r}, which cannot be called")
    return reward


def _masked(reason: str) -> Score:
    verdict = cannot_judge(reason)
    return Score(0.0, 0.0, 0.0, applicable=verdict.applicable, reason=verdict.reason)


def _number(target: str, name: str, value: object) -> float:
    """A Python float of anything that is one number: numpy's scalars and tensors without dimensions included."""
    if not isinstance(value, str | bytes | bytearray) and not getattr(value, "ndim", 0):
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError, RuntimeError):
            pass  # said below, with the name of the reward
    raise RewardError(f"reward {target!r} returned {name}={value!r} ({type(value).__name__}), which is no number")


def _checked(target: str, result: object) -> Score:
    """Hold a custom reward to its contract; a breach always stops: masking it would mask every sample."""
    if result is None:
        return _masked(f"reward {target!r} does not apply")
    if not isinstance(result, Score):
        raise RewardError(
            f"reward {target!r} returned {type(result).__name__}; it must return easyvideor1.types.Score, or None for "
            "a sample it does not apply to"
        )
    numbers = {name: _number(target, name, getattr(result, name)) for name in ("accuracy", "format", "total")}
    for name, value in numbers.items():
        if not -_ROUNDING <= value <= 1.0 + _ROUNDING:
            raise RewardError(f"reward {target!r} returned {name}={value!r}; it must lie in [0, 1]")
        numbers[name] = min(1.0, max(0.0, value))
    if not isinstance(result.parts, Mapping):
        raise RewardError(f"reward {target!r} returned parts={result.parts!r}; they must be named numbers, a mapping")
    parts = {str(name): _number(target, f"the part {name}", value) for name, value in result.parts.items()}
    for name, value in parts.items():
        if not math.isfinite(value):
            raise RewardError(f"reward {target!r} returned the part {name}={value!r}, which is no finite number")
    if not result.applicable and not result.reason:
        raise RewardError(f"reward {target!r} returned applicable=False without a reason")
    return replace(
        result,
        accuracy=numbers["accuracy"],
        format=numbers["format"],
        total=numbers["total"],
        parts=parts,
        applicable=bool(result.applicable),
    )
