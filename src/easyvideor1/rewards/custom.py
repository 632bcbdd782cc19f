"""Custom rewards: how they are found, and what they may return."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from easyvideor1.registry import load_attribute
from easyvideor1.rewards.types import RewardError, masked
from easyvideor1.tasks import canonical_task
from easyvideor1.types import Completion, ConfigError, DataError, Sample, Score

#: The built-in rule of a task type, as a run is configured: ``(task, completion, answer, options, row) -> Score``.
BuiltInRules = Callable[[str, Completion, str, tuple[str, ...], Mapping[str, Any]], Score]
#: A custom reward. A number is accuracy and total, ``None`` means that it does not apply to this sample.
CustomReward = Callable[[Sample, Completion, BuiltInRules], Score | float | None]


def task_key(name: str) -> str:
    if name == "*":
        return name
    try:
        return canonical_task(name)
    except DataError as error:
        raise ConfigError(f"rewards.custom: {error}") from error


def load_reward(target: str) -> CustomReward:
    """The reward ``(sample, response)`` that a name stands for.

    One that takes ``trajectory`` or ``built_in_rules`` is given these, too.
    """
    reward, taken = _loaded(target), _parameters(target)

    def call(sample: Sample, completion: Completion, rules: BuiltInRules) -> Score | float | None:
        further = {"trajectory": completion.trajectory, "built_in_rules": rules}
        return reward(sample, completion.text, **{name: further[name] for name in taken & set(further)})

    return call


def takes_trajectory(target: str) -> bool:
    """Whether a reward of this name is given the trajectory of a response."""
    return "trajectory" in _parameters(target)


def _parameters(target: str) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(_loaded(target)).parameters)
    except ValueError:  # some callables of compiled modules do not say what they take
        return frozenset()


def _loaded(target: str) -> Callable[..., Score | float | None]:
    if ":" not in target:
        raise ConfigError(f"rewards.custom: {target!r} is not of the form 'module:attr'")
    reward: Callable[..., Score | float | None] = load_attribute(target, "reward")
    if not callable(reward):
        raise ConfigError(f"rewards.custom: {target!r} is {reward!r}, which cannot be called")
    return reward


#: How far sums of single precision may leave [0, 1].
_ROUNDING = 1e-6


def checked_number(target: str, name: str, value: object) -> float:
    """The Python float of a number, a numpy scalar or a tensor without dimensions.

    Raises:
        RewardError: it is not a number.
    """
    if not isinstance(value, str | bytes | bytearray) and not getattr(value, "ndim", 0):
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError, RuntimeError):
            pass  # reported below, with the name of the reward
    raise RewardError(f"reward {target!r} returned {name}={value!r} ({type(value).__name__}), which is not a number")


def checked_share(target: str, name: str, value: object) -> float:
    """A number in [0, 1]; a rounding error beyond the bounds is clipped.

    Raises:
        RewardError: it is not a number in [0, 1].
    """
    number = checked_number(target, name, value)
    if not -_ROUNDING <= number <= 1.0 + _ROUNDING:
        raise RewardError(f"reward {target!r} returned {name}={number!r}; it must lie in [0, 1]")
    return min(1.0, max(0.0, number))


def checked_score(target: str, result: object, *, form: float = 0.0, turns: int | None = None) -> Score:
    """The score that a custom reward returned. An invalid one always stops the run: masking would mask every sample.

    A number is accuracy and total; ``form`` is then the format. ``turns`` is the number of turns of the trajectory, if
    there is one.

    Raises:
        RewardError: the result is invalid.
    """
    if result is None:
        return masked(f"reward {target!r} does not apply")
    if not isinstance(result, Score):
        if not _is_number(result):
            raise RewardError(
                f"reward {target!r} returned {_brief(result)}; it must return a number from 0 to 1, "
                "easyvideor1.types.Score, or None for a sample it does not apply to"
            )
        value = checked_share(target, "accuracy", result)
        return Score(value, form, value)
    numbers = {name: checked_number(target, name, getattr(result, name)) for name in ("accuracy", "format", "total")}
    numbers = {name: checked_share(target, name, value) for name, value in numbers.items()}
    if not isinstance(result.parts, Mapping):
        raise RewardError(f"reward {target!r} returned parts={result.parts!r}; they must be named numbers, a mapping")
    parts = {str(name): checked_number(target, f"the part {name}", value) for name, value in result.parts.items()}
    for name, value in parts.items():
        if not math.isfinite(value):
            raise RewardError(f"reward {target!r} returned the part {name}={value!r}, which is not finite")
    of_turns = tuple(checked_number(target, f"turns[{place}]", value) for place, value in enumerate(result.turns))
    if not all(map(math.isfinite, of_turns)):
        raise RewardError(f"reward {target!r} returned turns={of_turns}, which are not all finite")
    check_turns(target, of_turns, turns)
    if not result.applicable and not result.reason:
        raise RewardError(f"reward {target!r} returned applicable=False without a reason")
    return replace(
        result,
        accuracy=numbers["accuracy"],
        format=numbers["format"],
        total=numbers["total"],
        parts=parts,
        applicable=bool(result.applicable),
        turns=of_turns,
    )


def check_turns(target: str, of_turns: Sequence[float], turns: int | None) -> None:
    """Check that a reward gave one number for each of so many turns, or none; ``None``: there are no turns.

    Raises:
        RewardError: it did not.
    """
    if of_turns and turns is not None and len(of_turns) != turns:
        raise RewardError(
            f"reward {target!r} returned {len(of_turns)} rewards of turns for a trajectory of {turns}; it must return "
            "one for each, or none"
        )


def _is_number(value: object) -> bool:
    try:
        checked_number("", "", value)
    except RewardError:
        return False
    return True


def _brief(value: object) -> str:
    shown = " ".join(repr(value).split())
    return f"{shown if len(shown) <= 80 else shown[:77] + '...'} ({type(value).__name__})"
